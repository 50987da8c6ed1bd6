// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// grouped is a host with these cgroups at so many seconds.
func grouped(seconds uint64, gs ...sample.CGroup) *sample.Sample {
	return &sample.Sample{MonoNS: seconds * second, Sched: &sample.Sched{}, CGroups: gs}
}

// limited gives g a quota of so many tenths of a core, in periods of 100 ms.
func limited(g sample.CGroup, tenths, periods, throttled uint64) sample.CGroup {
	g.CFS = &sample.Bandwidth{QuotaUS: tenths * 10000, PeriodUS: 100000, Periods: periods, Throttled: throttled, ThrottledNS: throttled * 50 * ms}
	return g
}

// group has run and waited for so many milliseconds.
func group(id, parent, run, wait uint64) sample.CGroup {
	return sample.CGroup{ID: id, ParentID: parent, Path: "/" + string(rune('a'+id)), RunTimes: sample.RunTimes{RunNS: run * ms, WaitNS: wait * ms}}
}

func byID(f *Frame, id uint64) *CGroup {
	for _, g := range f.CGroups {
		if g.ID == id {
			return g
		}
	}
	return nil
}

func TestCGroups(t *testing.T) {
	b1, b2 := limited(group(2, 1, 100, 100), 20, 100, 10), limited(group(2, 1, 2100, 4100), 20, 120, 20)
	b2.ThrottledNS, b2.MaskNS, b2.StolenNS = 2000*ms, 600*ms, 400*ms
	fs := frames(grouped(1, group(1, 0, 0, 0), b1, group(3, 1, 0, 0)), grouped(3, group(3, 1, 900, 500), group(1, 0, 3000, 0), b2, group(4, 1, 200, 0)))
	order := ""
	for _, g := range fs[1].CGroups {
		order += g.Path
	}
	if order != "/c/d/b/e" {
		t.Errorf("order %s", order)
	}
	g := byID(fs[1], 2)
	want(t, "Used", g.Used, 1)
	want(t, "Waiting", g.Waiting, 2)
	want(t, "Throttled", g.Throttled, 1)
	want(t, "Contended", g.Contended, 0.5)
	want(t, "Quota", g.Quota, 2)
	want(t, "ThrottledRatio", g.ThrottledRatio, 0.5)
	if g.PeriodsDelta != 20 || g.ThrottledPeriods != 10 || g.ThrottledNSDelta != 500*ms || g.Parent != byID(fs[1], 1) || g.Delta.RunNS != 2000*ms {
		t.Errorf("%+v", g)
	}
	want(t, "Used by a new one", byID(fs[1], 4).Used, 0.1)
	if r := byID(fs[1], 1); r.Quota != 0 || r.Parent != nil {
		t.Errorf("the root: %+v", r)
	}
}

func TestCGroupsUnknown(t *testing.T) {
	a := limited(group(1, 0, 100, 0), 5, 10, 1)
	less := limited(group(1, 0, 50, 0), 5, 5, 0)
	bare := grouped(2, a)
	bare.Sched = nil
	late := grouped(3, limited(group(1, 0, 300, 0), 5, 10, 1))
	for name, g := range map[string]*CGroup{
		"first":           frames(grouped(1, a))[0].CGroups[0],
		"reset":           frames(grouped(1, a), grouped(2, less))[1].CGroups[0],
		"not measured":    frames(grouped(1, a), bare)[1].CGroups[0],
		"not before":      frames(grouped(1, a), bare, late)[2].CGroups[0],
		"none before":     frames(&sample.Sample{MonoNS: second, Sched: &sample.Sched{}}, grouped(2, a))[1].CGroups[0],
		"cannot be":       framesOf(&sample.Header{CPUs: 1}, grouped(1), grouped(2, group(1, 0, 9000, 0)))[1].CGroups[0],
		"no time passed":  frames(grouped(1, a), grouped(1, a))[1].CGroups[0],
		"after something": frames(grouped(1, a), &sample.Sample{MonoNS: 2 * second}, grouped(3, a))[2].CGroups[0],
	} {
		for what, v := range map[string]float64{"Used": g.Used, "Waiting": g.Waiting, "Throttled": g.Throttled, "Contended": g.Contended} {
			want(t, name+": "+what, v, Unknown())
		}
		if g.Delta != (sample.RunTimes{}) {
			t.Errorf("%s: %+v", name, g)
		}
	}
	r := frames(grouped(1, a), grouped(2, less))[1].CGroups[0]
	want(t, "ThrottledRatio after a reset", r.ThrottledRatio, Unknown())
	if r.PeriodsDelta != 0 || r.ThrottledPeriods != 0 {
		t.Errorf("%+v", r)
	}
	want(t, "quota of no period", frames(grouped(1, sample.CGroup{CFS: &sample.Bandwidth{QuotaUS: 5}}))[0].CGroups[0].Quota, Unknown())
	if f := frames(&sample.Sample{MonoNS: second})[0]; f.CGroups != nil {
		t.Errorf("%+v", f.CGroups)
	}
}

// TestQuotaAppears: its counters did not begin with the interval.
func TestQuotaAppears(t *testing.T) {
	g := frames(grouped(1, group(1, 0, 0, 0)), grouped(2, limited(group(1, 0, 500, 0), 5, 900, 400)))[1].CGroups[0]
	want(t, "Used", g.Used, 0.5)
	want(t, "ThrottledRatio", g.ThrottledRatio, Unknown())
	if g.PeriodsDelta != 0 {
		t.Errorf("%+v", g)
	}
	// A group that appears with a quota had none of them before.
	g = frames(grouped(1, group(9, 0, 0, 0)), grouped(2, limited(group(1, 0, 500, 0), 5, 10, 4)))[1].CGroups[0]
	want(t, "ThrottledRatio of a new group", g.ThrottledRatio, 0.4)
}

// TestUsageWithoutRunq: what the controller says is better than nothing.
func TestUsageWithoutRunq(t *testing.T) {
	at := func(seconds, usage uint64) *sample.Sample {
		g := limited(group(1, 0, 0, 0), 5, seconds*10, 0)
		usage *= ms
		g.CFS.UsageNS = &usage
		s := grouped(seconds, g)
		s.Sched = nil
		return s
	}
	f := framesOf(&sample.Header{CPUs: 2}, at(1, 0), at(3, 900))[1]
	want(t, "Used", f.CGroups[0].Used, 0.45)
	want(t, "Waiting", f.CGroups[0].Waiting, Unknown())
	want(t, "sold", f.Sold.Cores, 0.5)
}

func TestParents(t *testing.T) {
	a, b := group(1, 2, 0, 0), group(2, 1, 0, 0)
	self := group(3, 3, 0, 0)
	f := frames(grouped(1, a, b, self))[0] // a recording may say so
	for _, g := range f.CGroups {
		n := 0
		for p := g.Parent; p != nil; p = p.Parent {
			if n++; n > 3 {
				t.Fatal("parents go round")
			}
		}
	}
}

func TestSold(t *testing.T) {
	at := func(seconds, run uint64) *sample.Sample {
		return grouped(seconds,
			group(1, 0, 9*run, 0),
			limited(group(2, 1, 4*run, 0), 60, 0, 0),                 // 6 cores
			limited(group(3, 2, 4*run, 0), 90, 0, 0),                 // inside it
			limited(group(4, 1, 0, 5*run), 40, 0, 0),                 // waits only
			limited(group(5, 1, 0, 0), 70, 0, 0),                     // idle
			limited(group(6, 1, 100, 100), 70, 0, 0),                 // idle by now
			limited(group(7, 1, run/2, 0), 0, 0, 0),                  // hostile: no quota
			sample.CGroup{ID: 8, CFS: &sample.Bandwidth{QuotaUS: 1}}, // hostile: no period
		)
	}
	fs := framesOf(&sample.Header{CPUs: 6}, at(1, 0), at(2, 1000))
	s := fs[1].Sold
	want(t, "Cores", s.Cores, 10)
	want(t, "Ratio", s.Ratio, 10./6)
	want(t, "Used", s.Used, 4.5)
	for name, f := range map[string]*Frame{"first": fs[0], "not measured": frames(busy(1), busy(2))[1]} {
		want(t, name, f.Sold.Cores, Unknown())
		want(t, name, f.Sold.Ratio, Unknown())
	}
	want(t, "nothing has a quota", framesOf(&sample.Header{CPUs: 2}, grouped(1, group(1, 0, 0, 0)), grouped(2, group(1, 0, 5, 0)))[1].Sold.Ratio, 0)
}

// stall is a throttled period that ends at so many milliseconds.
func stall(id, atMS uint64, threads uint32) sample.Event {
	return sample.Event{Kind: sample.EventThrottle, CGroupID: id, MonoNS: atMS * ms, DurationNS: 60 * ms, Cores: 1, Threads: threads}
}

// TestDemand: what would have covered 99 of 100 periods.
func TestDemand(t *testing.T) {
	tests := []struct {
		name      string
		host      int
		quota     uint64 // tenths of a core
		periods   uint64
		throttled uint64
		stalls    []sample.Event
		want      float64
	}{
		{"nothing throttled", 4, 10, 100, 0, nil, Unknown()},
		{"no period", 4, 10, 0, 0, nil, Unknown()},
		{"no event tells", 4, 10, 100, 50, nil, Unknown()},
		{"1 of 100", 4, 10, 100, 1, []sample.Event{stall(1, 500, 9)}, 1},
		{"2 of 100, apart", 4, 10, 100, 2, []sample.Event{stall(1, 500, 9), stall(1, 900, 9)}, 2},
		{"2 in a row", 4, 10, 100, 2, []sample.Event{stall(1, 500, 9), stall(1, 620, 9)}, 3},
		{"2 in a row and 1 apart", 4, 10, 300, 3, []sample.Event{stall(1, 500, 9), stall(1, 600, 9), stall(1, 900, 9)}, 1},
		{"3 in a row and 1 apart", 8, 10, 300, 4, []sample.Event{stall(1, 900, 9), stall(1, 300, 9), stall(1, 400, 9), stall(1, 500, 9)}, 2},
		{"bounded by its threads", 8, 5, 10, 3, []sample.Event{stall(1, 300, 1), stall(1, 400, 1), stall(1, 500, 1)}, 1},
		{"bounded by the host", 2, 10, 10, 3, []sample.Event{stall(1, 300, 9), stall(1, 400, 9), stall(1, 500, 9)}, 2},
		{"the host has less than the quota", 2, 50, 10, 1, []sample.Event{stall(1, 300, 9)}, 5},
		{"some events are missing", 64, 10, 200, 8, []sample.Event{stall(1, 300, 9), stall(1, 500, 9), stall(1, 600, 9), stall(1, 900, 9)}, 3},
		{"another group's", 4, 10, 100, 0, []sample.Event{stall(7, 500, 9)}, Unknown()},
		{"another kind", 4, 10, 100, 0, []sample.Event{{Kind: sample.EventRefusal, CGroupID: 1, MonoNS: 500 * ms}}, Unknown()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := grouped(2, limited(group(1, 0, 10, 0), tt.quota, tt.periods, tt.throttled))
			s.Events = tt.stalls
			f := framesOf(&sample.Header{CPUs: tt.host}, grouped(1, limited(group(1, 0, 0, 0), tt.quota, 0, 0)), s)[1]
			want(t, "Demand", f.CGroups[0].Demand, tt.want)
			if f.CGroups[0].DemandPeriods != tt.periods {
				t.Errorf("of %d periods, want %d", f.CGroups[0].DemandPeriods, tt.periods)
			}
			if own := len(tt.stalls) > 0 && tt.stalls[0].CGroupID == 1 && tt.stalls[0].Kind == sample.EventThrottle; own != (f.CGroups[0].WorstStallNS == 60*ms) {
				t.Errorf("worst stall %d", f.CGroups[0].WorstStallNS)
			}
		})
	}
}

// TestDemandLooksBack 30 seconds, over ticks, and begins anew with another quota.
func TestDemandLooksBack(t *testing.T) {
	var samples []*sample.Sample
	at := func(tenths, seconds, throttled uint64, stalls ...sample.Event) {
		s := grouped(seconds, limited(group(1, 0, seconds, 0), tenths, 10*seconds, throttled))
		s.Events = stalls
		samples = append(samples, s)
	}
	at(10, 1, 0)
	at(10, 2, 2, stall(1, 1900, 9), stall(1, 2000, 9))
	at(10, 3, 4, stall(1, 2100, 9), stall(1, 2200, 9)) // it went on: 4 in a row
	for s := uint64(4); s < 40; s++ {
		at(10, s, 4)
	}
	at(20, 40, 5, stall(1, 39500, 9))
	at(20, 41, 5)
	fs := framesOf(&sample.Header{CPUs: 16}, samples...)
	want(t, "as it was", fs[2].CGroups[0].Demand, 5)
	want(t, "lately", float64(fs[2].CGroups[0].LatelyThrottled)/float64(fs[2].CGroups[0].LatelyPeriods), 0.2)
	if g := fs[5].CGroups[0]; g.LatelyThrottled != 0 || g.LatelyPeriods != 20 {
		t.Errorf("%+v", g)
	}
	want(t, "20 s later", fs[22].CGroups[0].Demand, 5)
	want(t, "past", fs[38].CGroups[0].Demand, Unknown())
	want(t, "of another quota", fs[40].CGroups[0].Demand, 4)
	if n := fs[38].CGroups[0].DemandPeriods; n < 290 || n > 310 {
		t.Errorf("of %d periods", n)
	}
	if w := fs[3].CGroups[0].WorstStallNS; w != 0 {
		t.Errorf("worst stall of a quiet interval: %d", w)
	}
}

// TestDemandIsBounded however many stalls there are, and goes with its group.
func TestDemandIsBounded(t *testing.T) {
	b := NewBuilder(&sample.Header{CPUs: 2})
	for i := range uint64(4000) { // 40 s
		s := grouped(0, limited(group(1, 0, i, 0), 5, i, i))
		s.MonoNS = second + i*10*ms
		for j := range uint64(10) {
			s.Events = append(s.Events, stall(1, s.MonoNS/ms+j*500, 2))
		}
		b.Build(s)
	}
	d := b.sched.demands[1]
	if len(d.episodes) > mostEpisodes || len(d.past) > 100 {
		t.Errorf("%d episodes, %d spans are kept", len(d.episodes), len(d.past))
	}
	b.Build(grouped(99, group(1, 0, 5000, 0)))
	if len(b.sched.demands) > 0 {
		t.Error("a group without a quota keeps its demand")
	}
}
