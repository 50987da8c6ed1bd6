// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// cgroupName is a title; of a path without its first slash, but the root's is only that.
func cgroupName(title string) string {
	if name := strings.TrimPrefix(title, "/"); name != "" {
		return safe(name)
	}
	return "/"
}

// cutCGroup keeps the end of a path, which tells the groups apart.
func cutCGroup(s string, w int) string {
	if width(s) <= w {
		return s
	}
	if w < 1 {
		return ""
	}
	return "…" + foot(s, w-1)
}

// ofQuota is a value of a cgroup that has a quota of its own, else unknown.
func ofQuota(of func(*model.CGroup) float64) func(*model.CGroup) float64 {
	return func(g *model.CGroup) float64 {
		if g.CFS == nil {
			return model.Unknown()
		}
		return of(g)
	}
}

// unseen reports whether none of g's threads was looked at: what /proc does not
// show may run all the same.
func unseen(g *model.CGroup) bool { return g.UsedAtLeast && g.RunNS+g.WaitNS == 0 }

// atLeast marks what is known of some of g's threads alone.
func atLeast(g *model.CGroup, s string) string {
	if !g.UsedAtLeast || s == none || s == "?" {
		return s
	}
	return ">" + s
}

// throttledPerS is for how many ns, over all cores, g was stopped in a second.
func throttledPerS(f *model.Frame, g *model.CGroup) float64 {
	if g.CFS == nil || f.Interval <= 0 {
		return model.Unknown()
	}
	return float64(g.ThrottledNSDelta) / f.Interval.Seconds()
}

// cgroupColumns are those of the cgroup panel.
func (v *View) cgroupColumns() []column[*model.CGroup] {
	type c = *model.CGroup
	runq := func(form func(float64) string) func(float64) string {
		return func(x float64) string { return v.measured(model.SignalRunq, form(x)) }
	}
	quota := func(title string, keep, min int, of func(c) float64, form func(float64) string) column[c] {
		return number(title, keep, min, ofQuota(of), func(x float64) string { return v.measured(model.SignalThrottle, form(x)) })
	}
	worst := func(g c) float64 {
		if g.WorstStallNS == 0 && g.ThrottledPeriods > 0 {
			return model.Unknown() // no event told of it
		}
		return float64(g.WorstStallNS)
	}
	stalls := (*model.Frame).StallsKnown
	if v.Frame != nil && !v.Frame.Measured(model.SignalThrottle) {
		stalls = func(*model.Frame) bool { return true } // and quota says so
	}
	demand := func(x float64) string {
		if s := cores(x); s != none {
			return "~" + s
		}
		return none
	}
	return slices.Concat([]column[c]{
		{title: "CGROUP", keep: 12, min: 16, max: 48, text: func(g c) string { return cgroupName(g.Title()) }, cut: cutCGroup},
		quota("QUOTA", 9, 5, func(g c) float64 { return g.Quota }, cores),
		{title: "USED", keep: 8, min: v.wide(5), num: func(g c) float64 { return g.Used }, text: func(g c) string {
			s := runq(cores)(g.Used)
			if unseen(g) {
				return "?"
			}
			return atLeast(g, s)
		}},
		quota("PERIODS", 11, 7, func(g c) float64 { return g.ThrottledRatio }, percent),
		quota("WORST", 10, 5, worst, v.onlyBy(stalls, nanoseconds)),
		quota("THR/s", 7, 5, func(g c) float64 { return throttledPerS(v.Frame, g) }, nanoseconds),
		quota("DEMAND", 1, 6, func(g c) float64 { return g.Demand }, v.onlyBy(stalls, demand)),
		{title: "WAIT", keep: 6, min: v.wide(4), num: func(g c) float64 { return g.Waiting }, text: func(g c) string {
			if unseen(g) {
				return "?"
			}
			return atLeast(g, v.waits(factor)(g.Waiting))
		}},
	}, causeColumns(v, 5, func(g c) *sample.RunTimes { return &g.Delta }), []column[c]{
		{title: "THREADS", keep: 0, min: 7, num: func(g c) float64 { return float64(g.Threads) }, text: func(g c) string {
			if unseen(g) {
				return "?"
			}
			return runq(whole)(float64(g.Threads))
		}},
	})
}

func (v *View) cgroups() []*model.CGroup {
	if v.Frame == nil {
		return nil
	}
	return v.Frame.CGroups
}

func (v *View) cgroupTable() *table[*model.CGroup] {
	worst := worstBy(v, func(f *diagnose.Finding) uint64 { return f.CGroupID })
	return filtered(v, &table[*model.CGroup]{
		cols: withTrail(v, v.cgroupColumns(), 4, &cgroupMeters[gPeriods].gauge,
			func(g *model.CGroup) trail { return v.History.trail(rowID{CGroups, g.ID}, gPeriods) }),
		rows:  v.cgroups(),
		id:    func(g *model.CGroup) uint64 { return g.ID },
		place: v.UI.CGroup, panel: CGroups, held: v.held[CGroups], span: v.History.span,
		mark: func(g *model.CGroup) (string, Style) { return marked(worst[g.ID]) },
	}, v.cgroupTraits, byPID)
}

// cgroupFacts is the line over the cgroup panel: what was promised to whom.
func (v *View) cgroupFacts() []string {
	if len(v.cgroups()) == 0 {
		return nil
	}
	n := 0
	for _, g := range v.Frame.CGroups {
		n += b2i(g.CFS != nil)
	}
	out := fmt.Sprintf("%s, %d with a quota", model.Plural(len(v.Frame.CGroups), "cgroup"), n)
	if s := v.Frame.Sold; s.Cores > 0 {
		used := cores(s.Used)
		if slices.ContainsFunc(v.Frame.CGroups, func(g *model.CGroup) bool { return g.CFS != nil && g.UsedAtLeast }) {
			used = "at least " + used
		}
		out += fmt.Sprintf("; %s cores sold (%sx), %s used", cores(s.Cores), cores(s.Ratio), used)
	}
	if n, _ := report.Throttled(v.Frame); n > 0 {
		out += fmt.Sprintf("; %d throttled now", n)
	}
	return []string{out}
}

// openedCGroup is what is behind a cgroup: its processes, and those of the
// groups in it.
func (v *View) openedCGroup() *drill {
	i := slices.IndexFunc(v.cgroups(), func(g *model.CGroup) bool { return g.ID == v.UI.Opened })
	if i < 0 || v.Frame.Sched == nil {
		return nil
	}
	g := v.Frame.CGroups[i]
	inside := make(map[uint64]bool)
	for _, c := range v.Frame.CGroups {
		for p := c; p != nil; p = p.Parent {
			inside[c.ID] = inside[c.ID] || p == g
		}
	}
	t := v.processTable()
	t.place, t.drill, t.panel, t.held, t.match = v.UI.Threads, true, CGroups, v.held[drillKey], nil
	t.rows = slices.DeleteFunc(t.rows, func(p *model.Process) bool { return !inside[p.CGroupID] })
	return &drill{
		title: "CGROUP " + cgroupName(g.Title()), what: "cgroup", about: both(texts(quotaFacts(g)...), v.stopLines(g)), table: t,
		of: func(f *diagnose.Finding) bool { return f.CGroupID == g.ID },
	}
}

// quotaFacts are the lines about an opened cgroup.
func quotaFacts(g *model.CGroup) []string {
	out := "no quota of its own"
	if b := g.CFS; b != nil {
		out = fmt.Sprintf("quota %d us in each %d us (%s cores)", b.QuotaUS, b.PeriodUS, cores(g.Quota))
		if b.BurstUS > 0 {
			out += fmt.Sprintf(", burst %d us", b.BurstUS)
		}
	}
	if g.Weight > 0 {
		out += fmt.Sprintf("  weight %d", g.Weight)
	}
	for p := g.Parent; p != nil; p = p.Parent {
		if p.CFS != nil {
			out += fmt.Sprintf("  inside %s with %s cores", clip(cgroupName(p.Title()), 32), cores(p.Quota))
			break
		}
	}
	lines := []string{out}
	if b := g.CFS; b != nil && b.Throttled > 0 {
		out = fmt.Sprintf("since attach: throttled in %d of %d periods, %s over all cores", b.Throttled, b.Periods, nanoseconds(float64(b.ThrottledNS)))
		if model.Known(g.Demand) {
			out += fmt.Sprintf("; ~%s cores would have covered 99%% of the periods", cores(g.Demand))
		}
		lines = append(lines, out)
	}
	return lines
}
