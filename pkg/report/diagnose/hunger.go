// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// hunger is what a listener's workers wait for when they are runnable without a
// core: "" where that is not measured. The zero hunger is that.
type hunger struct{ cause, cure string }

// worker is a live worker of a listener among the host's threads.
type worker struct {
	process *model.Process
	thread  *model.Thread // nil: not listed
}

func (w *worker) delta() sample.RunTimes {
	if w.thread != nil {
		return w.thread.Delta
	}
	return w.process.Delta
}

// workersOf finds a listener's workers among the host's processes. A process of
// which no thread is listed stands for its workers.
func workersOf(f *model.Frame, l *model.Listener) []worker {
	if f.Sched == nil {
		return nil
	}
	tids := make(map[uint32][]uint32) // by process
	for i := range l.Threads {
		if w := &l.Threads[i]; !w.Ended {
			tids[w.PID] = append(tids[w.PID], w.TID)
		}
	}
	var out []worker
	for i := range f.Sched.Processes {
		p := &f.Sched.Processes[i]
		own, found := tids[p.PID], false
		if own == nil || !model.Known(p.Wait) {
			continue
		}
		for k := range p.Top {
			if t := &p.Top[k]; slices.Contains(own, t.TID) && model.Known(t.Wait) {
				out, found = append(out, worker{p, t}), true
			}
		}
		if !found {
			out = append(out, worker{process: p})
		}
	}
	return out
}

// hungerOf names the greatest part of the workers' wait.
func hungerOf(l *Limits, f *model.Frame, now *model.Listener) hunger {
	if !f.CausesKnown() || !f.QuotaWaitsKnown() {
		return hunger{}
	}
	workers := workersOf(f, now)
	var sum sample.RunTimes
	for i := range workers {
		sum.Add(workers[i].delta())
	}
	contended := model.ContendedNS(sum)
	switch max(sum.ThrottledNS, sum.MaskNS, sum.StolenNS, contended) {
	case 0:
		return hunger{}
	case sum.ThrottledNS:
		return throttledHunger(l, f, workers)
	case sum.MaskNS:
		return maskedHunger(l, f, workers)
	case sum.StolenNS:
		return hunger{"the hypervisor runs others meanwhile (steal)", "more CPU time for this virtual machine, whose host is short of it"}
	}
	return contendedHunger(l, f, workers)
}

// throttledHunger names the group whose quota it is.
func throttledHunger(l *Limits, f *model.Frame, workers []worker) hunger {
	all := groups(f)
	for i := range workers {
		for g := all[workers[i].process.CGroupID]; g != nil; g = g.Parent {
			if g.CFS != nil && g.ThrottledPeriods > 0 {
				return hunger{
					fmt.Sprintf("throttled by the CPU quota of cgroup %s, %s cores (in %s of its periods)", cgroupName(g), coresText(g.Quota), percent(g.ThrottledRatio)),
					quotaRemedy(l, f, g),
				}
			}
		}
	}
	return hunger{"throttled by a CPU quota", "raise its CPU quota (cpu.max, CPUQuota=, --cpus, limits.cpu)"}
}

// maskedHunger names the cores that the workers are held to.
func maskedHunger(l *Limits, f *model.Frame, workers []worker) hunger {
	held := &pile{f: f, why: byMask}
	for i := range f.CPUs {
		if c := &f.CPUs[i]; c.Runq != nil && 1-c.Runq.BusyRatio >= l.PileIdle {
			held.idle = append(held.idle, c.CPU.CPU)
		}
	}
	for i := range workers {
		w := waiter{Thread: workers[i].thread, process: workers[i].process}
		if w.Thread == nil || len(w.Allowed) == 0 || w.MaskNS == 0 {
			continue
		}
		held.threads = append(held.threads, w)
		held.allowed = append(held.allowed, w.Allowed...)
		if w.CPUSet {
			held.why = byCPUSet
		}
	}
	if len(held.threads) == 0 {
		return hunger{"their affinity mask or cpuset forbids the cores that are idle", "undo their pinning (taskset -pc TID shows it)"}
	}
	slices.Sort(held.allowed)
	held.allowed = slices.Compact(held.allowed)
	// The cores that are idle by now may be others than those that were.
	held.idle = slices.DeleteFunc(held.idle, func(c int) bool { return slices.Contains(held.allowed, c) })
	h := hunger{held.cause(), held.remedy()}
	if c := piledCore(l, f, workers); c >= 0 {
		h.cause += fmt.Sprintf(", where they pile up (see runq-pile of core %d)", c)
	}
	return h
}

// contendedHunger names who has the cores.
func contendedHunger(l *Limits, f *model.Frame, workers []worker) hunger {
	if c := piledCore(l, f, workers); c >= 0 {
		return hunger{fmt.Sprintf("they pile up on core %d (see runq-pile)", c), fmt.Sprintf("see the remedy of runq-pile at core %d", c)}
	}
	own := func(pid uint32) bool {
		return slices.ContainsFunc(workers, func(w worker) bool { return w.process.PID == pid })
	}
	rivals, most := make(map[uint32]uint64), model.Contention{}
	for _, c := range f.Sched.Contended { // the longest first
		if !own(c.PID) {
			continue
		}
		if rivals[c.Holder] += c.Delta; rivals[c.Holder] > most.Delta {
			most, most.Delta = c, rivals[c.Holder]
		}
	}
	const cure = "fewer runnable threads on this host, or more cores"
	switch {
	case most.Delta == 0:
		return hunger{"others have the cores", cure}
	case own(most.Holder):
		return hunger{"they are more than the cores that they may use, and wait for each other", cure}
	}
	return hunger{fmt.Sprintf("most of it for %s (pid %d)", model.Printable(most.HolderComm), most.Holder), cure}
}

// piledCore is the core where most workers wait beside an idle one, -1 where
// there is none.
func piledCore(l *Limits, f *model.Frame, workers []worker) int {
	best, most := noCPU, uint64(0)
	wait := make(map[int]uint64)
	for i := range workers {
		if t := workers[i].thread; t != nil {
			wait[t.CPU] += t.Delta.WaitNS
		}
	}
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.Runq == nil || !(c.Runq.Waiting >= l.PileWaiting && c.Runq.UnclaimedRatio >= l.PileUnclaimed) {
			continue
		}
		if n := wait[c.CPU.CPU]; n > most {
			best, most = c.CPU.CPU, n
		}
	}
	return best
}
