// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// subject names a listener and who sits at it.
func subject(l *model.Listener) string {
	workers := "no worker seen"
	if n := liveThreads(l); n > 0 {
		workers = model.Plural(n, "worker")
	}
	return fmt.Sprintf("listener %s (%s, %s)", model.Printable(l.Name), model.Printable(l.Program), workers)
}

// liveThreads counts the workers; of a closed listener, all that it had. Where all
// have ended and the listener is not known to be closed yet, they are those that
// did something since the last tick.
func liveThreads(l *model.Listener) int {
	live, last := 0, 0
	for i := range l.Threads {
		w := &l.Threads[i]
		if !w.Ended || l.Closed {
			live++
		}
		if d := &w.Delta; d.AcceptsTotal+d.AcceptEAGAINTotal+d.WakeupsTotal > 0 {
			last++
		}
	}
	if live == 0 {
		return last
	}
	return live
}

// estimate prints a share that was extrapolated.
func estimate(v float64) string {
	if !model.Known(v) {
		return "an unknown share"
	}
	return fmt.Sprintf("~%.1f%%", 100*v)
}

// percent prints a share that is not nothing.
func percent(v float64) string {
	if v < 0.01 {
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", 100*v)
}

// roughly prints a rate or a count that is not nothing, and whether it was
// inferred.
func roughly(inferred bool, v float64) string {
	s := model.Num(v)
	if v < 0.05 {
		s = "<0.1"
	}
	if inferred {
		return "~" + s
	}
	return s
}
