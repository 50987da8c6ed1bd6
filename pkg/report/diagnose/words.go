// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// subject names a listener and who sits at it.
func subject(l *model.Listener) string {
	return fmt.Sprintf("listener %s (%s, %s)", model.Printable(l.Name), model.Printable(l.Program), plural(liveThreads(l), "worker"))
}

// liveThreads counts the workers; of a closed listener, all that it had.
func liveThreads(l *model.Listener) int {
	n := 0
	for i := range l.Threads {
		if !l.Threads[i].Ended || l.Closed {
			n++
		}
	}
	return n
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// estimate prints a share that was extrapolated.
func estimate(v float64) string {
	if !model.Known(v) {
		return "an unknown share"
	}
	return fmt.Sprintf("~%.1f%%", 100*v)
}
