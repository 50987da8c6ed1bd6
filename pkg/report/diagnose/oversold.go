// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"math"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// spare is how many cores have nothing to do: by the scheduler, or else by
// /proc/stat, which samples.
func spare(f *model.Frame) float64 {
	sum := 0.0
	for i := range f.CPUs {
		q := f.CPUs[i].Runq
		if q == nil {
			return f.HostIdle
		}
		sum += 1 - q.BusyRatio
	}
	if len(f.CPUs) == 0 || !model.Known(sum) {
		return f.HostIdle
	}
	return sum
}

// waitShare is the part of the time in which g's threads ran or wanted to that
// they waited for others.
func waitShare(g *model.CGroup) float64 { return g.Contended / (g.Used + g.Waiting) }

// missing is how many cores of its quota g would use and does not get.
func missing(g *model.CGroup) float64 { return min(g.Used+g.Contended, g.Quota) - g.Used }

// starvedGroup is the group with a quota that misses most of it: it wants nearly
// all, waits for others, and is hardly throttled; nil where none is. One that
// weighs little was not promised much.
func starvedGroup(l *Limits, f *model.Frame) *model.CGroup {
	var worst *model.CGroup
	for _, g := range f.CGroups {
		starved := g.CFS != nil && !g.UsedAtLeast && g.Quota > 0 && g.Used >= l.SoldLeast*g.Quota && g.Used < l.SoldUse*g.Quota &&
			g.Used+g.Contended >= l.SoldWants*g.Quota && !(g.ThrottledRatio >= l.SoldThrottled) && waitShare(g) >= l.SoldWait
		if starved && !(float64(g.Weight) < l.SoldLight*medianWeight(f, g)) && (worst == nil || missing(g) > missing(worst)) {
			worst = g
		}
	}
	return worst
}

// medianWeight is of g and those that it competes with; unknown where a weight is.
func medianWeight(f *model.Frame, g *model.CGroup) float64 {
	var weights []uint32
	for _, s := range f.CGroups {
		if s.Parent != g.Parent || s.Delta.RunNS+s.Delta.WaitNS == 0 {
			continue
		}
		if s.Weight == 0 {
			return model.Unknown()
		}
		weights = append(weights, s.Weight)
	}
	if len(weights) == 0 {
		return model.Unknown()
	}
	slices.Sort(weights)
	return float64(weights[len(weights)/2])
}

// judgeOversold finds a host that has promised more cores than it has, and has
// none left: groups are at their ceiling far below their quotas, and nothing
// that is about a group by itself (its usage, its throttling) shows why.
func judgeOversold(l *Limits, past *window, _ *model.Frame, f *model.Frame) verdict {
	w, host := past.last(l.SoldSmooth), float64(f.Header.CPUs)
	sold, idle, used := w.share(w.soldNS), w.share(w.spareNS)/host, w.share(w.soldUsedNS)
	v := verdict{
		calm:   sold <= l.SoldRatio || idle > 1.5*l.SoldIdle || w.starvedNS == 0,
		after:  l.SoldFor,
		weight: w.share(w.starvedNS),
		outcome: func() string {
			return fmt.Sprintf("the host is %.0f%% idle now, and quotas sold its cores %.2f times", 100*max(idle, 0), sold)
		},
	}
	if !model.Known(sold) || !model.Known(idle) {
		return verdict{}
	}
	g := starvedGroup(l, f)
	busy := host * (1 - idle)
	v.bad = g != nil && sold > l.SoldRatio && idle < l.SoldIdle && w.share(w.starvedNS) >= 0.7 && used >= l.SoldMine*busy
	if !v.bad {
		return v
	}
	v.weight = waitShare(g)
	steal := stolen(f)
	v.finding = Finding{
		CPU:      noCPU,
		CGroupID: g.ID,
		Severity: Warn,
		Subject:  fmt.Sprintf("host (%s), first of all %s", model.Plural(f.Header.CPUs, "core"), cgroupSubject(f, g)),
		Evidence: fmt.Sprintf("the group gets %s of its quota (%s of %s cores) and is at its ceiling: quotas sold %.2f times the host's cores, host %.0f%% busy; its threads wait for others %s of the time",
			percent(g.Used/g.Quota), coresText(g.Used), coresText(g.Quota), sold, 100*(1-max(idle, 0)), percent(waitShare(g))),
		Cause:  oversoldCause(l, f, sold*host, steal),
		Remedy: oversoldRemedy(f, g, sold*host),
		Verify: "the quotas of what runs sum to no more than the cores, or cores are idle again, and the group waits for nobody",
		Values: map[string]float64{
			"cpu_sold_ratio":       sold,
			"cpu_sold_cores":       sold * host,
			"host_busy_ratio":      1 - max(idle, 0),
			"cpu_used_cores":       g.Used,
			"cpu_quota_cores":      g.Quota,
			"wait_contended_ratio": waitShare(g),
		},
	}
	if model.Known(steal) {
		v.finding.Values["steal_ratio"] = steal
	}
	if waitShare(g) >= l.SoldCritWait {
		v.finding.Severity = Crit
	}
	return v
}

// stolen is the share of all cores' time that the hypervisor took.
func stolen(f *model.Frame) float64 {
	sum := 0.0
	for i := range f.CPUs {
		sum += f.CPUs[i].StealRatio
	}
	if len(f.CPUs) == 0 {
		return model.Unknown()
	}
	return sum / float64(len(f.CPUs))
}

func oversoldCause(l *Limits, f *model.Frame, sold, steal float64) string {
	n := 0
	for _, g := range f.CGroups {
		if g.Outermost() && g.Delta.RunNS+g.Delta.WaitNS > 0 {
			n++
		}
	}
	s := fmt.Sprintf("%s that want to run were promised %s cores in all; a quota is a limit and no reservation, so their weights share out what there is", model.Plural(n, "cgroup"), coresText(sold))
	if steal >= l.SoldSteal {
		s += fmt.Sprintf("; and the hypervisor takes %s of it", percent(steal))
	}
	return s
}

func oversoldRemedy(f *model.Frame, g *model.CGroup, sold float64) string {
	s := fmt.Sprintf("move groups with %s cores of quota to other hosts, so that quotas sum to at most %d", coresText(sold-float64(f.Header.CPUs)), f.Header.CPUs)
	if part := fairShare(f, g); model.Known(part) {
		s += fmt.Sprintf("; until then plan with %s cores for this one, its share by weight", coresText(part))
	}
	return s
}

// fairShare is what g can count on among its siblings that want to run: unknown
// where a weight is not known, or it is nested and others compete above.
func fairShare(f *model.Frame, g *model.CGroup) float64 {
	if g.Parent == nil || g.Parent.Parent != nil {
		return model.Unknown()
	}
	var all, host float64 = 0, float64(f.Header.CPUs)
	for _, s := range f.CGroups {
		if s.Parent != g.Parent || s.Delta.RunNS+s.Delta.WaitNS == 0 {
			continue
		}
		if s.Weight == 0 {
			return model.Unknown()
		}
		all += float64(s.Weight)
	}
	return math.Min(host*float64(g.Weight)/all, g.Quota)
}
