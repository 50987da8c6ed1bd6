// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/live"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// interrupts cancels ctx at the first SIGINT, SIGTERM or SIGHUP, and leaves the
// program at the next one that comes after live.Patience: timeout(1) sends its signal
// to the program and again to its group, and a terminal that is closed sends SIGHUP by
// the shell and by the kernel. With a command, which onSignal passes signals on to, its
// end is ours, and only another SIGINT leaves.
func interrupts(ctx context.Context, out *outputs, onSignal func(os.Signal)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		var first time.Time
		for sig := range ch {
			again := !first.IsZero() && time.Since(first) > live.Patience
			switch {
			case again && (sig == syscall.SIGINT || onSignal == nil):
				out.abort()
			case onSignal != nil:
				onSignal(sig)
			default:
				cancel()
			}
			if first.IsZero() {
				first = time.Now()
			}
		}
	}()
	return ctx, func() { signal.Stop(ch); cancel() }
}

// abort leaves the program although something in it hangs, and gives the terminal
// back before.
func (out *outputs) abort() {
	if out != nil && out.live != nil {
		if err := out.live.Close(); err != nil {
			complain(err)
		}
	}
	complain(errors.New("left without a summary, at the second interrupt"))
	os.Exit(exitInterrupt)
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
