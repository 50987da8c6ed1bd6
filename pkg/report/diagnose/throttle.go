// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"math"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// throttling is what a cgroup's quota did to it.
type throttling struct {
	*tick           // what it is judged over
	ratio   float64 // of the periods that were throttled
	use     float64 // mean use, of the quota
	stopped float64 // share of the time
	bad     bool
	below   bool // bad, at a mean use far below the quota
	burst   bool // bad, at a mean use below it
}

// throttlingOf judges the recent past of g. Of its periods the kernel counts
// those in which it had something to run: the mean use is of all the time, as a
// dashboard shows it. At the begin of a load that is not yet what it will be, so
// a use below the quota must be seen after that, or in the active periods alone.
func throttlingOf(l *Limits, past *window, g *model.CGroup) throttling {
	w := past.last(l.throttleSpan(g))
	t := throttling{
		tick:    w,
		ratio:   float64(w.throttled) / float64(max(w.periods, 1)),
		use:     w.usedNS / (float64(w.interval) * g.Quota),
		stopped: min(w.share(w.stoppedNS), 1),
	}
	if w.worstNS == 0 && w.throttled > 0 { // no stop was seen
		t.stopped = model.Unknown()
	}
	waits := w.haltedNS / w.wantedNS
	lost := t.stopped >= l.ThrottleLost || w.share(w.haltedNS) >= l.ThrottleLost
	costs := lost && (waits >= l.ThrottleCost || w.worstNS >= l.ThrottleStallNS)
	if !model.Known(waits) && w.worstNS == 0 { // neither is measured: by cpu.stat
		costs = w.kernelStoppedNS/max(w.throttled, 1) >= l.ThrottleStallNS && w.share(float64(w.kernelStoppedNS)) >= l.ThrottleLost
	}
	t.bad = g.Quota > 0 && w.periods >= l.ThrottlePeriods && w.throttled >= 2 && t.ratio >= l.ThrottleShare && costs
	if !t.bad {
		return t
	}
	recent := past.last(max(time.Second, 5*periodOf(g)))
	now := recent.usedNS / (float64(recent.interval) * g.Quota)
	active := recent.usedNS / (float64(max(recent.periods, 1)) * float64(periodOf(g)) * g.Quota)
	begun := past.sum.periods > recent.periods
	t.below = now < l.BelowUse && (begun || active < l.BelowUse)
	// Neither is certain while the load begins.
	t.bad = t.below || !(now < l.BelowUse)
	t.use = max(t.use, now)
	t.burst = active < l.BurstUse || begun && t.use < l.BurstUse
	return t
}

// judgeThrottle finds a cgroup whose quota stops it in a part of its periods.
func judgeThrottle(l *Limits, past *window, f *model.Frame, now *model.CGroup) verdict {
	t := throttlingOf(l, past, now)
	v := t.verdict(l)
	if v.bad = t.bad && !t.below && binding(l, f, now) == now; !v.bad {
		return v
	}
	cause := "it wants more than its quota nearly all the time"
	switch {
	case !model.Known(t.use) && t.ratio < l.ThrottleSustained:
		cause = "in a part of its periods it wants more than its quota; how much it uses is not measured"
	case !t.burst && t.ratio < l.ThrottleSustained:
		cause = "its mean use is so near the quota that every burst goes beyond it"
	case t.burst:
		cause = fmt.Sprintf("it works in bursts: the quota is used up early in a period and its threads wait for the next one; the average hides it (%s of its quota)", percent(t.use))
	}
	t.finding(l, f, now, &v, cause+victim(f, now))
	return v
}

// judgeBelowQuota finds a cgroup that is throttled though it uses far less than
// its quota: by bursts, or because parts of the quota are out of its reach.
func judgeBelowQuota(l *Limits, past *window, f *model.Frame, now *model.CGroup) verdict {
	t := throttlingOf(l, past, now)
	v := t.verdict(l)
	v.bad, v.calm = t.below && binding(l, f, now) == now, v.calm || t.use >= l.BelowUse+0.1
	if !v.bad {
		return v
	}
	if t.stranded(l, now) {
		t.finding(l, f, now, &v, strandedCause(f)+victim(f, now))
		v.finding.Remedy = strandedRemedy(f) + "; or " + v.finding.Remedy
		return v
	}
	t.finding(l, f, now, &v, "bursts: in the periods that are throttled all of the quota is used, and next to nothing in the others; the average hides it"+victim(f, now))
	return v
}

func (t *throttling) verdict(l *Limits) verdict {
	return verdict{
		calm:   float64(t.throttled) < l.ThrottleShare/2*float64(max(t.periods, 1)),
		weight: t.ratio,
		stays:  l.ThrottleStays,
		outcome: func() string {
			if t.periods == 0 {
				return "it has nothing to run now"
			}
			return fmt.Sprintf("it is throttled in %d of its last %d periods", t.throttled, t.periods)
		},
	}
}

// stranded reports whether the throttled periods cannot have used their quota,
// even if nothing was used in others. The first of them may have been used
// before the window began.
func (t *throttling) stranded(l *Limits, g *model.CGroup) bool {
	quotaNS := g.Quota * float64(periodOf(g))
	return t.usedNS < l.BelowStranded*quotaNS*float64(max(t.throttled, 1)-1)
}

// finding fills in what both findings say.
func (t *throttling) finding(l *Limits, f *model.Frame, g *model.CGroup, v *verdict, cause string) {
	worst := float64(t.worstNS) / 1e9
	if t.worstNS == 0 {
		worst = model.Unknown()
	}
	v.finding = Finding{
		Severity: Warn,
		Subject:  cgroupSubject(f, g),
		Evidence: t.evidence(f, g),
		Cause:    cause,
		Remedy:   quotaRemedy(l, f, g),
		Verify:   "nr_throttled in " + statFile(f, g) + " stops rising",
		Values: map[string]float64{
			"cfs_throttled_ratio": t.ratio,
			"cpu_quota_cores":     g.Quota,
		},
	}
	for name, n := range map[string]float64{
		"cpu_used_cores": t.use * g.Quota, "cpu_demand_cores": g.Demand, "stopped_ratio": t.stopped,
		"worst_stall_seconds": worst, "wait_throttled_threads": t.share(t.haltedNS),
	} {
		if model.Known(n) && !math.IsInf(n, 0) {
			v.finding.Values[name] = n
		}
	}
	// What was just seen is no share of the time yet.
	span := float64(max(t.interval, l.throttleSpan(g)/2))
	active := float64(t.periods) * float64(periodOf(g)) / span
	if t.stoppedNS/span >= l.ThrottleCritStop || t.ratio >= l.ThrottleCrit && active >= l.ThrottleActive {
		v.finding.Severity = Crit
	}
}

func (t *throttling) evidence(f *model.Frame, g *model.CGroup) string {
	s := fmt.Sprintf("throttled in %d of its last %d periods", t.throttled, t.periods)
	if model.Known(t.use) {
		s += fmt.Sprintf(" while it uses %s of %s cores", coresText(t.use*g.Quota), coresText(g.Quota))
	} else {
		s += fmt.Sprintf(" (quota %s cores)", coresText(g.Quota))
	}
	if t.worstNS == 0 {
		return s
	}
	s += fmt.Sprintf("; stopped for up to %s at a time", durationText(float64(t.worstNS)))
	// The worst stall in the Frame at hand has its threads.
	var threads, cores uint32
	for i := range f.Events {
		if e := &f.Events[i]; e.CGroupID == g.ID && e.DurationNS > 0 {
			threads, cores = max(threads, e.Threads), max(cores, e.Cores)
		}
	}
	if threads > 0 {
		s += fmt.Sprintf(", %s on %s", model.Plural(int(threads), "thread"), model.Plural(int(cores), "core"))
	}
	return s
}

// victim names the descendant whose threads wait most for g's quota, "" where
// they are g's own.
func victim(f *model.Frame, g *model.CGroup) string {
	var worst *model.CGroup
	for _, c := range f.CGroups {
		leaf := c != g && c.Throttled > 0 && inside(c, g.ID)
		if leaf && (worst == nil || inside(c, worst.ID) || c.Throttled > worst.Throttled && !inside(worst, c.ID)) {
			worst = c
		}
	}
	if worst == nil {
		return ""
	}
	return fmt.Sprintf("; the quota is this group's, and those that wait are mostly in %s below it", cgroupName(worst))
}

// The kernels before 5.4 let a slice of quota that a core had taken expire at
// the end of the period, and newer ones still keep up to a millisecond on each
// core that had any (kernel/sched/fair.c: min_cfs_rq_runtime).
func strandedCause(f *model.Frame) string {
	s := "quota is left over when it is throttled: slices of it stay on cores that need them no more"
	if older, ok := kernelBefore(f, 5, 4); ok && older {
		return s + " and expire there, as kernels before 5.4 do (fixed by de53fd7aedb1)"
	}
	return s + " (kernels before 5.4 let them expire there, fixed by de53fd7aedb1; later ones keep up to 1 ms on each)"
}

func strandedRemedy(f *model.Frame) string {
	if older, ok := kernelBefore(f, 5, 4); ok && older {
		return "a kernel with de53fd7aedb1 (5.4 and later)"
	}
	return "smaller slices: sysctl -w kernel.sched_cfs_bandwidth_slice_us=1000"
}

// kernelBefore compares the release in the Header; not ok where it has none.
func kernelBefore(f *model.Frame, major, minor int) (before, ok bool) {
	var a, b int
	if n, _ := fmt.Sscanf(f.Header.Kernel, "%d.%d", &a, &b); n != 2 {
		return false, false
	}
	return a < major || a == major && b < minor, true
}

// durationText is "33 us", "0.3 ms", "62 ms", "1.8 s".
func durationText(ns float64) string {
	switch ms := ns / 1e6; {
	case ms < 0.095:
		return fmt.Sprintf("%.0f us", ns/1e3)
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%s s", model.Num(ms/1e3))
	}
}
