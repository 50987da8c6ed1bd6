// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

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

// pipe runs src through the sinks, which stay open for report.End. But a panic
// gives the terminal back first, so that its text can be read.
func pipe(ctx context.Context, src sample.Source, out *outputs) (*report.Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	returned := false
	if out.live != nil {
		defer func() {
			if !returned {
				out.live.Close()
			}
		}()
		go func() {
			select {
			case <-out.live.Done():
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	sum, err := report.Run(ctx, src, diagnose.DefaultLimits(), out.sinks...)
	returned = true
	return sum, err
}

// replay is the subcommand: the same sinks, fed by a recording.
func replay(o *options, args []string) error {
	if len(args) != 1 {
		return usagef("herdtrace replay takes one recording: herdtrace replay FILE")
	}
	if o.output != "" {
		return usagef("herdtrace replay does not record (drop -o)")
	}
	r, err := sample.Open(args[0])
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := newOutputs(o)
	if err != nil {
		return err
	}
	ctx, stop := interrupts(context.Background(), nil)
	defer stop()
	var src sample.Source = r
	if out.live != nil {
		src = &paced{Source: r}
	}
	sum, err := pipe(ctx, src, out)
	if out.live != nil && err == nil && ctx.Err() == nil {
		out.live.SetMessage("end of the recording, q quits")
		select {
		case <-out.live.Done():
		case <-ctx.Done():
		}
	}
	if endErr := report.End(sum, out.sinks...); err == nil {
		err = endErr
	}
	if err == nil && r.Truncated() {
		fmt.Fprintf(os.Stderr, "herdtrace: %s ends in the middle of a line: its recorder was killed, all before that was used\n", args[0])
	}
	return err
}

// paced yields a recording's Samples at the pace at which they were taken.
type paced struct {
	sample.Source
	first uint64
	start time.Time
}

// Next implements sample.Source.
func (p *paced) Next(ctx context.Context) (*sample.Sample, error) {
	s, err := p.Source.Next(ctx)
	if err != nil {
		return nil, err
	}
	if p.start.IsZero() {
		p.first, p.start = s.MonoNS, time.Now()
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Until(p.start.Add(time.Duration(s.MonoNS - p.first)))):
		return s, nil
	}
}
