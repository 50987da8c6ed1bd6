// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// load is a machine on which tracing costs so much, in cores.
type load struct {
	user, events, threads float64
	signals               map[string]float64
}

// cost is what it comes to with what b sheds.
func (l *load) cost(b *budget) *costs {
	c := &costs{total: l.user, events: l.events, threads: l.threads, signals: l.signals}
	if !b.taken(sample.ShedEvents, paceFull) {
		c.total += l.events
	}
	if !b.taken(sample.ShedThreads, paceFull) {
		c.total += l.threads
	}
	for signal, full := range l.signals {
		switch b.mode(signal) {
		case paceFull:
			c.total += full
		case paceSampled:
			c.total += full * paceShare
		}
	}
	return c
}

// shed names what is shed now.
func shedNow(b *budget) (names []string) {
	for _, s := range b.steps {
		if s.taken {
			names = append(names, s.what+" "+s.how)
		}
	}
	return names
}

// run judges l for so many seconds and returns what was shed at each.
func run(b *budget, l *load, now *time.Time, seconds int) (history [][]string) {
	for range seconds {
		*now = now.Add(time.Second)
		b.judge(l.cost(b), *now)
		history = append(history, shedNow(b))
	}
	return history
}

func TestBudgetSheds(t *testing.T) {
	const netrxSampled, wakeSampled, runqSampled = "netrx sampled", "wake sampled", "runq sampled"
	for _, c := range []struct {
		name string
		load load
		want []string
	}{
		{"nothing where there is room", load{user: 0.005, signals: map[string]float64{SignalRunq: 0.01}}, nil},
		{"only what is worth it, in order", load{user: 0.005, threads: 0.0001, signals: map[string]float64{SignalNetRX: 0.025, SignalWake: 0.008}}, []string{netrxSampled}},
		{"events first", load{user: 0.005, events: 0.03}, []string{"events off"}},
		{"then threads", load{user: 0.005, events: 0.01, threads: 0.05}, []string{"events off", "threads sampled"}},
		{"then signals, by their order", load{user: 0.005, signals: map[string]float64{SignalNetRX: 0.02, SignalWake: 0.03, SignalRunq: 0.001}}, []string{netrxSampled, wakeSampled}},
		{"and then all of a signal", load{user: 0.005, signals: map[string]float64{SignalNetRX: 0.3, SignalWake: 0.01, SignalRunq: 0.01}},
			[]string{netrxSampled, wakeSampled, runqSampled, "netrx off"}},
	} {
		now := time.Unix(1000, 0)
		b := newBudget(1, 2, now)
		h := run(b, &c.load, &now, 20)
		if got := h[len(h)-1]; !slices.Equal(got, c.want) {
			t.Errorf("%s: shed %q, want %q", c.name, got, c.want)
		}
		if cost := c.load.cost(b).total; cost > b.limit {
			t.Errorf("%s: it still costs %.4f cores of %.4f", c.name, cost, b.limit)
		}
		if b.stuck {
			t.Errorf("%s: it says that nothing is left to shed", c.name)
		}
		for i := 5; i < len(h); i++ {
			if !slices.Equal(h[i], h[i-1]) && c.name != "and then all of a signal" {
				t.Errorf("%s: under an even load it changed its mind after %d s: %q, %q", c.name, i, h[i-1], h[i])
			}
		}
	}
}

func TestBudgetSaysWhenNothingIsLeft(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(1, 2, now)
	run(b, &load{user: 0.1}, &now, 10)
	if !b.stuck || len(shedNow(b)) > 0 {
		t.Errorf("over by what cannot be shed: stuck %v, shed %q", b.stuck, shedNow(b))
	}
	if s := b.sample(now); !s.Exceeded || s.Limit != 0.01 || s.Cost < 0.049 || s.Cost > 0.051 {
		t.Errorf("the sample says %+v", s)
	}
}

// A second of noise sheds nothing, and what was shed comes back when there is
// room for a while, the last first.
func TestBudgetRestores(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(1, 2, now)
	quiet := load{user: 0.004, signals: map[string]float64{SignalNetRX: 0.002, SignalWake: 0.001}}
	busy := load{user: 0.004, signals: map[string]float64{SignalNetRX: 0.02, SignalWake: 0.02}}
	run(b, &quiet, &now, 5)
	run(b, &busy, &now, 1)
	run(b, &quiet, &now, 1)
	if got := shedNow(b); got != nil {
		t.Fatalf("one second over budget shed %q", got)
	}
	run(b, &busy, &now, 5)
	if got := shedNow(b); !slices.Equal(got, []string{"netrx sampled", "wake sampled"}) {
		t.Fatalf("shed %q", got)
	}
	h := run(b, &quiet, &now, 20)
	if got := h[len(h)-1]; got != nil {
		t.Fatalf("with room, %q is still shed", got)
	}
	i := slices.IndexFunc(h, func(s []string) bool { return len(s) == 1 })
	if i < 0 || h[i][0] != "netrx sampled" {
		t.Errorf("after %d s of calm %q is left", i+1, h[i])
	}
	s := b.sample(now)
	for _, x := range s.Shed {
		if x.Now || x.TimesTotal != 1 || x.ForNS == 0 {
			t.Errorf("the sample says %+v", x)
		}
	}
	if s.Degraded(SignalNetRX) != "" {
		t.Error("netrx is still said to be shed")
	}
}

func TestNoBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(0, 2, now)
	if b.due(now.Add(time.Hour)) || b.sample(now) != nil {
		t.Error("without a limit, the cost is judged")
	}
}
