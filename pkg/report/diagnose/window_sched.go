// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// schedTick is what one Frame adds of the scheduler. A time in nanoseconds is
// unknown (NaN) where it was not measured.
type schedTick struct {
	// Of a core: threads waiting, time in which one waited while another core was
	// idle, time in which it ran threads by the scheduler and by /proc/stat (with
	// what the hypervisor took), context switches.
	waitingNS, unclaimedNS float64
	exactNS, shownNS       float64
	switches               float64

	// Of a cgroup: its periods, CPU time, what its threads ran and waited, of
	// that for its quota, how long it was stopped: the longest core of each
	// period, in sum and the worst; what the kernel says that all cores were.
	periods, throttled uint64
	usedNS             float64
	wantedNS, haltedNS float64
	stoppedNS          float64
	worstNS            uint64
	kernelStoppedNS    uint64

	// Of a process, in the ticks for which both are known: CPU time by
	// /proc/PID/stat and by the scheduler.
	claims              int
	claimedNS, ranForNS float64

	// Of the host: cores sold, time in which a cgroup did not get its quota, what
	// those use that were promised one.
	soldNS, starvedNS float64
	soldUsedNS        float64
	spareNS           float64 // of all cores
}

func (t *schedTick) add(r *schedTick) {
	t.waitingNS += r.waitingNS
	t.unclaimedNS += r.unclaimedNS
	t.exactNS += r.exactNS
	t.shownNS += r.shownNS
	t.switches += r.switches
	t.periods += r.periods
	t.throttled += r.throttled
	t.usedNS += r.usedNS
	t.wantedNS += r.wantedNS
	t.haltedNS += r.haltedNS
	t.stoppedNS += r.stoppedNS
	t.worstNS = max(t.worstNS, r.worstNS)
	t.kernelStoppedNS += r.kernelStoppedNS
	t.claims += r.claims
	t.claimedNS += r.claimedNS
	t.ranForNS += r.ranForNS
	t.soldNS += r.soldNS
	t.soldUsedNS += r.soldUsedNS
	t.starvedNS += r.starvedNS
	t.spareNS += r.spareNS
}

// runq adds a core's run queue.
func (t *tick) runq(c *model.CPU) {
	q, ns := c.Runq, float64(t.interval)
	if q == nil {
		q = &unknownRunq
	}
	t.waitingNS, t.unclaimedNS = q.Waiting*ns, q.UnclaimedRatio*ns
	t.exactNS, t.shownNS = q.BusyRatio*ns, (c.BusyRatio+c.StealRatio)*ns
	t.switches = q.SwitchesPerS * t.interval.Seconds()
}

var unknownRunq = model.Runq{
	BusyRatio: model.Unknown(), Waiting: model.Unknown(), ThrottledWaiting: model.Unknown(),
	UnclaimedRatio: model.Unknown(), SwitchesPerS: model.Unknown(),
}

func cgroupTick(f *model.Frame, g *model.CGroup) tick {
	ns := float64(f.Interval)
	t := tick{interval: f.Interval, schedTick: schedTick{
		periods: g.PeriodsDelta, throttled: g.ThrottledPeriods,
		usedNS: g.Used * ns, wantedNS: (g.Used + g.Waiting) * ns, haltedNS: g.Throttled * ns,
		worstNS: g.WorstStallNS, kernelStoppedNS: g.ThrottledNSDelta,
	}}
	if g.UsedAtLeast {
		t.usedNS, t.wantedNS = model.Unknown(), model.Unknown()
	}
	for i := range f.Events {
		if e := &f.Events[i]; e.Kind == sample.EventThrottle && e.CGroupID == g.ID {
			t.stoppedNS += float64(e.DurationNS)
		}
	}
	return t
}

// processTick leaves out what cannot be compared: where something was lost, the
// scheduler's count may be what is short.
func processTick(f *model.Frame, p *model.Process) tick {
	t := tick{interval: f.Interval}
	if ns := float64(f.Interval); model.Known(p.Claimed) && model.Known(p.Run) && f.Cost.LostDelta == 0 && f.Claims(p.Claimed*ns, p.Run*ns) {
		t.claims, t.claimedNS, t.ranForNS = 1, p.Claimed*ns, p.Run*ns
	}
	return t
}

// sold adds what the host's quotas promise, and whether one is broken.
func (t *tick) sold(l *Limits, f *model.Frame) {
	ns := float64(t.interval)
	t.soldNS, t.soldUsedNS, t.spareNS = f.Sold.Ratio*ns, f.Sold.Used*ns, spare(f)*ns
	if starvedGroup(l, f) != nil {
		t.starvedNS = ns
	}
}
