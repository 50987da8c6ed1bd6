// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"math"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// waiter is a thread that waits at a core, and how much: of the interval.
type waiter struct {
	*model.Thread
	process *model.Process
	wait    float64
}

// waitersAt are the threads that wait at a core and should not have to, and for
// how long all of these wait at the most, in threads. The listed ones are the most
// active; where that is not all of them, or their waits are not known, there is no
// telling.
func waitersAt(f *model.Frame, cpu int) (out []waiter, most float64) {
	// What waits less is there by and by, as everybody.
	const least = 0.05
	if f.Sched == nil {
		return nil, math.Inf(1)
	}
	threads := 0
	for i := range f.Sched.Processes {
		proc := &f.Sched.Processes[i]
		threads += len(proc.Top)
		for k := range proc.Top {
			t := &proc.Top[k]
			switch {
			case t.CPU != cpu || proc.Kernel || mayWait(t):
				continue
			case !model.Known(t.Wait):
				most++
				continue
			}
			if wait := waitOf(f, t); wait >= least {
				out = append(out, waiter{t, proc, wait})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b waiter) int { return cmp.Compare(b.wait, a.wait) })
	if threads == 0 || threads >= sample.MaxThreads {
		return out, math.Inf(1)
	}
	return out, most + sumOf(out)
}

// mayWait reports whether t was told to stand back.
func mayWait(t *model.Thread) bool {
	return t.Nice > 0 || t.Policy == "batch" || t.Policy == "idle"
}

// waitOf is the share of the interval for which t waited, for anything but a
// quota or a hypervisor.
func waitOf(f *model.Frame, t *model.Thread) float64 {
	d, ns := &t.Delta, float64(f.Interval)
	wait := d.WaitNS - min(d.ThrottledNS+d.StolenNS, d.WaitNS)
	if d.ThrottledNS == 0 { // else the wait that goes on may be for that
		wait += t.PendingNS
	}
	return min(float64(wait)/ns, 1)
}

// heldBy is what keeps w from all of these cores.
func (w *waiter) heldBy(cores []int) why {
	switch {
	case len(w.Allowed) == 0 || slices.ContainsFunc(cores, w.mayUse):
		return byChoice
	case w.CPUSet:
		return byCPUSet
	}
	return byMask
}

func (w *waiter) mayUse(core int) bool {
	return len(w.Allowed) == 0 || slices.Contains(w.Allowed, core)
}

// sumOf is for how long they wait, in threads.
func sumOf(ws []waiter) (sum float64) {
	for i := range ws {
		sum += ws[i].wait
	}
	return sum
}

// runnerAt is the thread that runs most on a core.
func runnerAt(f *model.Frame, cpu int) (best waiter, ok bool) {
	for i := range f.Sched.Processes {
		proc := &f.Sched.Processes[i]
		for k := range proc.Top {
			if t := &proc.Top[k]; t.CPU == cpu && t.Run > 0 && (!ok || t.Run > best.Run) {
				best, ok = waiter{Thread: t, process: proc}, true
			}
		}
	}
	return best, ok
}
