// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// buildRunq is nil where the core's run queue is not measured.
func buildRunq(now, p *sample.Runq, interval time.Duration) *Runq {
	if now == nil {
		return nil
	}
	r := &Runq{
		Runq: now, BusyRatio: Unknown(), Waiting: Unknown(), ThrottledWaiting: Unknown(),
		UnclaimedRatio: Unknown(), SwitchesPerS: Unknown(), WaitP99NS: Unknown(), StealRatio: Unknown(),
	}
	if p == nil || interval <= 0 || now.BusyNS < p.BusyNS || now.IdleNS < p.IdleNS || now.Switches < p.Switches ||
		now.WaitNS < p.WaitNS || now.Waits < p.Waits || now.ThrottledNS < p.ThrottledNS || now.UnclaimedNS < p.UnclaimedNS {
		return r
	}
	r.WaitNS = now.WaitNS - p.WaitNS
	r.ThrottledNS = min(now.ThrottledNS-p.ThrottledNS, r.WaitNS)
	r.BusyRatio = min(cores(now.BusyNS-p.BusyNS, interval), 1)
	r.Waiting = min(cores(r.WaitNS-r.ThrottledNS, interval), mostWaiting(now))
	r.ThrottledWaiting = cores(r.ThrottledNS, interval)
	r.UnclaimedRatio = min(cores(now.UnclaimedNS-p.UnclaimedNS, interval), 1)
	if now.Partial {
		r.UnclaimedRatio, r.ThrottledWaiting = Unknown(), Unknown()
	}
	r.SwitchesPerS = perSecond(now.Switches, p.Switches, interval)
	r.WaitP99NS = Quantile99(now.Wait, p.Wait)
	r.Waited = grown(now.Wait, p.Wait)
	if now.StealNS != nil && p.StealNS != nil {
		r.StealRatio = min(perSecond(*now.StealNS, *p.StealNS, interval)/1e9, 1)
	}
	return r
}

// mostWaiting bounds how many threads waited on average: a long wait counts as a
// whole where it ends, and is no more threads for that. A core whose length is not
// measured has no bound.
func mostWaiting(q *sample.Runq) float64 {
	n := max(q.Peak, q.Len)
	if n == 0 {
		return math.Inf(1)
	}
	return max(float64(n)-1, 1)
}

// addPending counts those as waiting that are listed and got no core for the
// whole interval: a wait is in WaitNS when it ends. Where a quota stops their
// group, it is for that.
func addPending(f *Frame) {
	if f.Sched == nil || f.Interval <= 0 {
		return
	}
	byCPU, byID := make(map[int]*CPU, len(f.CPUs)), make(map[uint64]*CGroup, len(f.CGroups))
	for i := range f.CPUs {
		byCPU[f.CPUs[i].CPU.CPU] = &f.CPUs[i]
	}
	for _, g := range f.CGroups {
		byID[g.ID] = g
	}
	for i := range f.Sched.Processes {
		p := &f.Sched.Processes[i]
		for k := range p.Top {
			t := &p.Top[k]
			c := byCPU[t.CPU]
			if t.PendingNS < uint64(f.Interval) || c == nil || c.Runq == nil || byID[p.CGroupID].halted() {
				continue
			}
			c.Runq.Waiting = min(c.Runq.Waiting+1, max(c.Runq.Waiting, mostWaiting(c.Runq.Runq)))
		}
	}
}

// halted reports whether a quota stopped g in the interval.
func (g *CGroup) halted() bool {
	for ; g != nil; g = g.Parent {
		if g.ThrottledPeriods > 0 || g.WorstStallNS > 0 {
			return true
		}
	}
	return false
}

// cores is a time of the interval as a mean: of cores, or of threads.
func cores(ns uint64, interval time.Duration) float64 { return float64(ns) / float64(interval) }
