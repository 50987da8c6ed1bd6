// SPDX-License-Identifier: Apache-2.0

package model

import (
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
	r.WaitNS, r.WaitsDelta = now.WaitNS-p.WaitNS, now.Waits-p.Waits
	r.ThrottledNS = min(now.ThrottledNS-p.ThrottledNS, r.WaitNS)
	r.BusyRatio = min(cores(now.BusyNS-p.BusyNS, interval), 1)
	r.Waiting = cores(r.WaitNS-r.ThrottledNS, interval)
	r.ThrottledWaiting = cores(r.ThrottledNS, interval)
	r.UnclaimedRatio = min(cores(now.UnclaimedNS-p.UnclaimedNS, interval), 1)
	r.SwitchesPerS = perSecond(now.Switches, p.Switches, interval)
	r.WaitP99NS = quantile99(now.Wait, p.Wait)
	if now.StealNS != nil && p.StealNS != nil {
		r.StealRatio = min(perSecond(*now.StealNS, *p.StealNS, interval)/1e9, 1)
	}
	return r
}

// cores is a time of the interval as a mean: of cores, or of threads.
func cores(ns uint64, interval time.Duration) float64 { return float64(ns) / float64(interval) }
