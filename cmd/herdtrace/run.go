// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// interrupts cancels ctx at the first SIGINT, SIGTERM or SIGHUP and leaves the
// program at the second.
func interrupts(ctx context.Context, onFirst func(os.Signal)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for n := 0; ; n++ {
			sig := <-ch
			if n > 0 && sig == syscall.SIGINT {
				os.Exit(exitInterrupt)
			}
			if onFirst != nil {
				onFirst(sig)
				continue
			}
			cancel()
		}
	}()
	return ctx, func() { signal.Stop(ch); cancel() }
}

// pipe runs src through the sinks, and closes the screen whatever happens.
func pipe(ctx context.Context, src sample.Source, out *outputs) (*report.Summary, error) {
	ctx, done := out.untilQuit(ctx)
	defer done()
	return report.Run(ctx, src, diagnose.DefaultLimits(), out.sinks...)
}

// untilQuit is ctx up to when the user leaves the screen, if there is one. Done
// closes that: also a panic must not leave the terminal raw.
func (out *outputs) untilQuit(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	if out.live == nil {
		return ctx, cancel
	}
	go func() {
		select {
		case <-out.live.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		out.live.Close()
	}
}
