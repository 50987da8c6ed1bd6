// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/live"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// replay is the subcommand: the same sinks, fed by a recording. On the live screen
// it is played, else it is read as fast as possible.
func replay(o *options, args []string) error {
	if len(args) != 1 {
		return usagef("herdtrace replay takes one recording: herdtrace replay FILE")
	}
	return replayFile(o, "replay", args[0])
}

// replayFile feeds the sinks from the recording at path.
func replayFile(o *options, name, path string) error {
	if o.output != "" {
		return usagef("herdtrace %s does not record (drop -o)", name)
	}
	r, err := sample.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := newOutputs(o, nil)
	if err != nil {
		return err
	}
	if name := o.replayOnly(); name != "" && out.live == nil {
		complain(fmt.Errorf("--%s has no effect without the live screen: all of %s is read, at once", name, path))
	}
	ctx, stop := interrupts(context.Background(), out, nil)
	defer stop()
	var sum *report.Summary
	if out.live != nil {
		sum, err = play(ctx, o, opener(path, r), out)
	} else {
		sum, err = pipe(ctx, r, out)
	}
	if out.baseline != nil {
		out.baseline.Truncated = r.Truncated()
	}
	if endErr := report.End(sum, out.sinks...); err == nil {
		err = endErr
	}
	if err == nil && r.Truncated() {
		fmt.Fprintf(os.Stderr, "herdtrace: %s ends in the middle of a line: its recorder was killed, all before that was used\n", path)
	}
	if err == nil {
		err = out.verdict(sum)
	}
	return err
}

// play lets the user move in the recording until he quits.
func play(ctx context.Context, o *options, open func() (live.Recording, error), out *outputs) (*report.Summary, error) {
	ctx, done := out.untilQuit(ctx)
	defer done()
	return live.NewPlayer(out.live, live.PlayerOptions{
		Open:   open,
		Limits: diagnose.DefaultLimits(),
		Sinks:  slices.DeleteFunc(slices.Clone(out.sinks), func(k report.Sink) bool { return k == out.live }),
		Speed:  o.speed,
		From:   o.from,
	}).Run(ctx)
}

// opener opens the recording at path again and again, r being the first time: if
// it is no pipe.
func opener(path string, r *sample.Reader) func() (live.Recording, error) {
	var again atomic.Bool
	return func() (live.Recording, error) {
		if !again.Swap(true) {
			return r, nil
		}
		if info, err := os.Stat(path); path == "-" || err == nil && !info.Mode().IsRegular() {
			return nil, live.ErrOneWay
		}
		next, err := sample.Open(path)
		if err != nil {
			return nil, err
		}
		return next, nil
	}
}
