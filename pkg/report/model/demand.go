// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// demandNS is how far back a demand looks.
	demandNS = 30e9
	// mostEpisodes bounds what is remembered of a group: 30 s of periods of
	// 100 ms, every other one throttled, are 150.
	mostEpisodes = 1024
	// tallyNS is how finely the periods of the past are kept.
	tallyNS  = 500e6
	latelyNS = 2e9
)

// demand estimates the quota that a cgroup would have needed.
//
// The kernel tells of a period whether it was throttled, not how much was
// wanted. But throttled periods follow each other for as long as work is left
// over, and the first one that is not throttled had enough for the rest. So in
// an episode of n of them, no more than n whole quotas and the one after were
// wanted; and at the worst all of it at once, at the begin, so that one period
// had to have room for it. Nor can more be used in a period than so many cores
// as had threads waiting. The lesser of the two bounds is taken as the demand of
// each period of the episode: what would have covered it for certain. A period
// that was not throttled wanted no more than the quota.
type demand struct {
	quotaUS, periodUS uint64
	episodes          []episode // oldest first; the last may go on
	past              []tallied // likewise
}

type episode struct {
	endNS   uint64 // when its last period ended
	n       uint64 // throttled periods
	threads uint32 // most that waited
}

type tallied struct{ fromNS, untilNS, periods, throttled uint64 }

// demand fills in what the stalls of the interval tell of the groups.
func (b *schedState) demand(f *Frame, byID map[uint64]*CGroup) {
	stalls := make(map[uint64][]*sample.Event)
	for i := range f.Sample.Events {
		e := &f.Sample.Events[i]
		g := byID[e.CGroupID]
		if e.Kind != sample.EventThrottle || g == nil {
			continue
		}
		g.WorstStallNS = max(g.WorstStallNS, e.DurationNS)
		stalls[g.ID] = append(stalls[g.ID], e)
	}
	for id := range b.demands {
		if g := byID[id]; g == nil || g.CFS == nil {
			delete(b.demands, id)
		}
	}
	for id, g := range byID {
		if g.CFS == nil || g.CFS.PeriodUS == 0 {
			continue
		}
		d := b.demands[id]
		if d == nil || d.quotaUS != g.CFS.QuotaUS || d.periodUS != g.CFS.PeriodUS {
			d = &demand{quotaUS: g.CFS.QuotaUS, periodUS: g.CFS.PeriodUS}
			b.demands[id] = d
		}
		d.add(stalls[id], g, f.Sample.MonoNS)
		g.Demand, g.DemandPeriods = d.estimate(f.Header.CPUs)
		for _, t := range d.past {
			if since(f.Sample.MonoNS, t.untilNS) < latelyNS {
				g.LatelyPeriods, g.LatelyThrottled = g.LatelyPeriods+t.periods, g.LatelyThrottled+t.throttled
			}
		}
	}
}

// add takes the stalls of g in the interval that ends at now.
func (d *demand) add(stalls []*sample.Event, g *CGroup, now uint64) {
	slices.SortFunc(stalls, func(x, y *sample.Event) int { return cmp.Compare(x.MonoNS, y.MonoNS) })
	period := d.periodUS * 1000
	for _, e := range stalls {
		threads := max(e.Threads, e.Cores, 1)
		if k := len(d.episodes) - 1; k >= 0 && since(e.MonoNS, d.episodes[k].endNS) <= period+period/2 {
			last := &d.episodes[k]
			if since(e.MonoNS, last.endNS) > period/2 { // else it was let go twice in one period
				last.n++
			}
			last.endNS, last.threads = max(e.MonoNS, last.endNS), max(threads, last.threads)
			continue
		}
		d.episodes = append(d.episodes, episode{e.MonoNS, 1, threads})
	}
	if k := len(d.past) - 1; k >= 0 && since(now, d.past[k].fromNS) < tallyNS {
		d.past[k].untilNS = now
		d.past[k].periods += g.PeriodsDelta
		d.past[k].throttled += g.ThrottledPeriods
	} else {
		d.past = append(d.past, tallied{now, now, g.PeriodsDelta, g.ThrottledPeriods})
	}
	from := since(now, demandNS)
	d.past = slices.DeleteFunc(d.past, func(t tallied) bool { return t.untilNS < from })
	d.episodes = slices.DeleteFunc(d.episodes, func(e episode) bool { return e.endNS < from })
	if extra := len(d.episodes) - mostEpisodes; extra > 0 {
		d.episodes = slices.Delete(d.episodes, 0, extra)
	}
}

// estimate is the demand, in cores, that covers 99 % of the periods; unknown
// where none of them was throttled, or nothing is known of those that were.
func (d *demand) estimate(host int) (demandCores float64, periods uint64) {
	var throttled, told uint64
	for _, t := range d.past {
		periods += t.periods
		throttled += t.throttled
	}
	for i := range d.episodes {
		told += d.episodes[i].n
	}
	throttled = max(throttled, told)
	quota := float64(d.quotaUS) / float64(d.periodUS)
	rest := float64(periods / 100) // so many may be above it
	switch {
	case periods == 0 || throttled == 0:
		return Unknown(), periods
	case float64(throttled) <= rest:
		return quota, periods
	case told == 0:
		return Unknown(), periods
	}
	// Events are rate-bounded: those that are missing were like the others.
	rest *= float64(told) / float64(throttled)
	wanted := slices.Clone(d.episodes)
	slices.SortFunc(wanted, func(x, y episode) int {
		return cmp.Compare(y.cores(quota, host), x.cores(quota, host))
	})
	for _, e := range wanted {
		if rest -= float64(e.n); rest < 0 {
			return max(e.cores(quota, host), quota), periods
		}
	}
	return quota, periods
}

// cores is what each period of the episode wanted, at the most.
func (e *episode) cores(quota float64, host int) float64 {
	p := float64(e.threads)
	if host > 0 {
		p = min(p, float64(host))
	}
	return min(float64(e.n+1)*quota, p)
}
