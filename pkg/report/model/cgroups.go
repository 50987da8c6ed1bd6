// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// mostCGroups is how many are remembered while they are idle.
const mostCGroups = 4096

type cgroupTotals struct {
	sample.RunTimes
	measured bool // they are
	cfs      *sample.Bandwidth
	path     string
	title    string
}

// buildCGroups is nil where no cpu controller is to be seen.
func (b *schedState) buildCGroups(f *Frame) []*CGroup {
	now := f.Sample.CGroups
	if f.Sample.Sched != nil {
		b.ran = make(map[uint64]CGroup, len(now))
	}
	b.cgroups.begin()
	var out []*CGroup
	byID := make(map[uint64]*CGroup, len(now))
	for i := range now {
		g := b.buildCGroup(f, &now[i])
		out = append(out, g)
		byID[g.ID] = g
	}
	for _, g := range out {
		if p := byID[g.ParentID]; p != nil && !under(p, g) {
			g.Parent = p
		}
	}
	titles(out)
	for _, g := range out {
		was := b.cgroups.known[g.ID].totals
		was.path, was.title = g.Path, g.title
		b.cgroups.set(g.ID, was, false)
	}
	if f.WaitsKnown() && !f.StallsKnown() && f.Measured(SignalThrottle) {
		contendedUnlessHalted(out, f.Interval)
	}
	b.cgroups.end(now == nil || len(now) >= sample.MaxCGroups)
	b.demand(f, byID)
	slices.SortStableFunc(out, func(x, y *CGroup) int {
		return cmp.Or(
			cmp.Compare(known0(y.ThrottledRatio), known0(x.ThrottledRatio)),
			cmp.Compare(known0(y.Contended), known0(x.Contended)),
			cmp.Compare(known0(y.Used), known0(x.Used)),
			cmp.Compare(x.Path, y.Path),
			cmp.Compare(x.ID, y.ID),
		)
	})
	return out
}

// titleOf is what the group of an event is called, or was when it was seen last: by
// the time that its last events come it may be gone, and its id another's.
func (b *schedState) titleOf(e *sample.Event) string {
	g, ok := b.cgroups.known[e.CGroupID]
	switch {
	case ok && (g.tick == b.cgroups.tick || e.CGroup == "" || e.CGroup == g.totals.path):
		return g.totals.title
	case e.CGroup == "":
		return ""
	}
	return (&CGroup{CGroup: sample.CGroup{Path: e.CGroup}}).Title()
}

// contendedUnlessHalted takes the waits of those for contention that no quota
// stopped: not theirs, nor one above them, nor one of those whose waits they sum up.
func contendedUnlessHalted(groups []*CGroup, interval time.Duration) {
	stopped := make(map[*CGroup]bool) // a group in it was
	for _, g := range groups {
		if g.ThrottledPeriods == 0 {
			continue
		}
		for p := g; p != nil && !stopped[p]; p = p.Parent {
			stopped[p] = true
		}
	}
	for _, g := range groups {
		if Known(g.Waiting) && !stopped[g] && !g.halted() {
			g.Throttled, g.Contended = 0, cores(ContendedNS(g.Delta), interval)
		}
	}
}

// under reports whether p is g or below it: a recording may say so.
func under(p, g *CGroup) bool {
	for ; p != nil; p = p.Parent {
		if p == g {
			return true
		}
	}
	return false
}

func (b *schedState) buildCGroup(f *Frame, g *sample.CGroup) *CGroup {
	out := &CGroup{
		CGroup: *g, Used: Unknown(), Waiting: Unknown(),
		Throttled: Unknown(), Contended: Unknown(),
		ThrottledRatio: Unknown(), Demand: Unknown(),
	}
	if c := g.CFS; c != nil {
		out.Quota = ratio(float64(c.QuotaUS), float64(c.PeriodUS))
	}
	was, isNew, ok := b.cgroups.of(g.ID)
	b.cgroups.set(g.ID, cgroupTotals{RunTimes: g.RunTimes, measured: f.Sched != nil, cfs: g.CFS}, false)
	if !ok || f.Interval <= 0 {
		return out
	}
	if f.Sample.Sched == nil && f.Sched != nil {
		out.holds(b.ran[g.ID], float64(f.Interval)/float64(b.span))
	} else {
		d, grew := minus(g.RunTimes, was.RunTimes)
		counted := was.measured || isNew && possible(d.RunNS, f.Header.CPUs, b.span)
		if f.Sched != nil && grew && counted {
			out.ranIn(f, b.span, d)
			b.ran[g.ID] = *out
			out.Delta = scaledTimes(d, float64(f.Interval)/float64(b.span))
		}
	}
	out.UsedAtLeast = !f.EndsKnown()
	if isNew {
		was.cfs = &sample.Bandwidth{UsageNS: new(uint64)} // it was not there, or had no quota
	}
	out.bandwidth(f, was.cfs)
	return out
}

// ranIn is what g's threads did in a span.
func (g *CGroup) ranIn(f *Frame, span time.Duration, d sample.RunTimes) {
	g.Delta = d
	g.Used, g.Waiting = cores(d.RunNS, span), cores(d.WaitNS, span)
	if f.QuotaWaitsKnown() {
		g.Throttled, g.Contended = cores(d.ThrottledNS, span), cores(ContendedNS(d), span)
	}
}

// holds goes on at the rates of the last look at the threads; an interval is
// such a part of what that covers.
func (g *CGroup) holds(last CGroup, part float64) {
	if last.ID != g.ID {
		return // it was not there then
	}
	g.Delta = scaledTimes(last.Delta, part)
	g.Used, g.Waiting, g.Throttled, g.Contended = last.Used, last.Waiting, last.Throttled, last.Contended
}

// bandwidth fills in what g's quota did, where it had one before as well.
func (g *CGroup) bandwidth(f *Frame, was *sample.Bandwidth) {
	now := g.CFS
	if now == nil || was == nil {
		return
	}
	if (f.Sched == nil || !f.EndsKnown()) && now.UsageNS != nil && was.UsageNS != nil {
		g.Used, g.UsedAtLeast = perSecond(*now.UsageNS, *was.UsageNS, f.Interval)/1e9, false
	}
	if now.Periods < was.Periods || now.Throttled < was.Throttled || now.ThrottledNS < was.ThrottledNS {
		return
	}
	g.PeriodsDelta, g.ThrottledPeriods = now.Periods-was.Periods, now.Throttled-was.Throttled
	g.ThrottledNSDelta = now.ThrottledNS - was.ThrottledNS
	g.ThrottledRatio = ratio(float64(g.ThrottledPeriods), float64(g.PeriodsDelta))
}

// active reports whether g ran or wanted to.
func (g *CGroup) active() bool {
	return g.Delta.RunNS > 0 || g.Delta.WaitNS > 0 || g.Used > 0 || g.PeriodsDelta > 0
}

// Outermost reports whether g has a quota and no ancestor has one, which would
// bound what g can have. Of the quotas that nest, it is the one that was promised.
func (g *CGroup) Outermost() bool {
	if g.CFS == nil {
		return false
	}
	for p := g.Parent; p != nil; p = p.Parent {
		if p.CFS != nil {
			return false
		}
	}
	return true
}

// buildSold sums up the promises to the groups that wanted something.
func buildSold(f *Frame) Sold {
	if f.Sample.CGroups == nil || f.Interval <= 0 {
		return Sold{Unknown(), Unknown(), Unknown()}
	}
	var s Sold
	for _, g := range f.CGroups {
		if g.Outermost() && g.active() {
			s.Cores += known0(g.Quota)
			s.Used += known0(g.Used)
		}
	}
	s.Ratio = ratio(s.Cores, float64(f.Header.CPUs))
	return s
}
