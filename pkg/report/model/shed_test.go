// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func shedding(what, how string) *sample.Budget {
	return &sample.Budget{Limit: 0.01, Shed: []sample.Shed{{What: what, How: how, Now: true, TimesTotal: 1}}}
}

// Where threads are looked at every few ticks, each tick shows the rates of the
// last look, and the deltas add up to what was done.
func TestThreadsLookedAtLessOften(t *testing.T) {
	h := &sample.Header{CPUs: 2, Signals: []sample.Signal{{Name: SignalRunq, Accuracy: sample.Exact}}}
	b := NewBuilder(h)
	var run, sum uint64
	for tick := range 21 {
		s := &sample.Sample{MonoNS: uint64(tick+1) * 1e9}
		s.Self.Budget = shedding(sample.ShedThreads, sample.ShedSampled)
		run = uint64(tick) * 3e8
		if tick%5 == 0 {
			s.Sched = &sample.Sched{Processes: []sample.Process{{
				PID: 7, StartNS: 1, RunTimes: sample.RunTimes{RunNS: run},
				Top: []sample.Thread{{TID: 7, RunTimes: sample.RunTimes{RunNS: run}}},
			}}}
		}
		s.CGroups = []sample.CGroup{{ID: 3, Path: "/x", RunTimes: sample.RunTimes{RunNS: run / 15e8 * 15e8}}}
		f := b.Build(s)
		if f.Interval > 0 && f.Interval != time.Second {
			t.Fatalf("tick %d: the interval became %s", tick, f.Interval)
		}
		if tick < 5 {
			continue
		}
		if f.Sched == nil || len(f.Sched.Processes) != 1 {
			t.Fatalf("tick %d: no processes", tick)
		}
		p := f.Sched.Processes[0]
		if p.Run < 0.29 || p.Run > 0.31 || p.Top[0].Run < 0.29 || p.Top[0].Run > 0.31 {
			t.Errorf("tick %d: the process ran on %.2f cores, its thread on %.2f, want 0.30", tick, p.Run, p.Top[0].Run)
		}
		if g := f.CGroups[0]; g.Used < 0.29 || g.Used > 0.31 {
			t.Errorf("tick %d: the cgroup used %.2f cores, want 0.30", tick, g.Used)
		}
		sum += p.Delta.RunNS
	}
	if want := uint64(16 * 3e8); sum != want {
		t.Errorf("the deltas of 16 ticks add up to %d, want %d", sum, want)
	}
}

func TestShedWords(t *testing.T) {
	b := &sample.Budget{Limit: 0.01, EventsShedTotal: 12, Exceeded: true, Shed: []sample.Shed{
		{What: sample.ShedEvents, How: sample.ShedOff, TimesTotal: 1, ForNS: 3e9},
		{What: sample.ShedThreads, How: sample.ShedSampled, Now: true, TimesTotal: 1, ForNS: 2e9},
		{What: SignalNetRX, How: sample.ShedSampled, Now: true, TimesTotal: 2, ForNS: 9e9},
		{What: SignalNetRX, How: sample.ShedOff, Now: true, TimesTotal: 1, ForNS: 4e9},
	}}
	if got, want := ShedNow(b), "threads every 5 s, netrx off, and nothing is left to shed"; got != want {
		t.Errorf("now: %q, want %q", got, want)
	}
	if got, want := ShedEver(b), "no events for 3 s, threads every 5 s for 2 s, netrx a tenth of the time for 9 s, netrx off for 4 s, 12 events not sent"; got != want {
		t.Errorf("ever: %q, want %q", got, want)
	}
	if ShedNow(nil) != "" || ShedEver(&sample.Budget{}) != "" {
		t.Error("nothing is shed, and there are words for it")
	}
}

func TestAccuracyFollowsTheBudget(t *testing.T) {
	h := &sample.Header{Signals: []sample.Signal{{Name: SignalNetRX, Accuracy: sample.Exact}, {Name: SignalWake, Accuracy: sample.Unavailable}}}
	for _, c := range []struct {
		budget *sample.Budget
		want   string
	}{
		{nil, sample.Exact},
		{shedding(SignalRunq, sample.ShedOff), sample.Exact},
		{shedding(SignalNetRX, sample.ShedSampled), sample.Approximate},
		{shedding(SignalNetRX, sample.ShedOff), sample.Unavailable},
	} {
		f := &Frame{Header: h, Sample: &sample.Sample{Self: sample.Self{Budget: c.budget}}}
		if got := f.Accuracy(SignalNetRX); got != c.want {
			t.Errorf("with %+v it is %q, want %q", c.budget, got, c.want)
		}
		if f.Accuracy(SignalWake) != sample.Unavailable || f.Accuracy("no such") != "" {
			t.Error("others are wrong")
		}
	}
}
