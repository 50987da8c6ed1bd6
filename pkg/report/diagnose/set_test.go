// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestHysteresis: a ratio that swings around a threshold raises one finding.
func TestHysteresis(t *testing.T) {
	for _, swing := range [][2]float64{{1.7, 2.1}, {1.4, 1.9}, {1.4, 1.6}, {1.75, 1.85}} {
		for _, step := range steps[:2] {
			s := newScene(t).every(step)
			v := s.serves("app", sample.WaitEpoll, 4).does(traffic{conns: 2000, wakes: 4})
			got := s.plays(4 * time.Second)
			for i := range 60 {
				v.does(traffic{conns: 2000, wakes: swing[i%2]})
				got = append(got, s.plays(time.Second)...)
			}
			raised := 0
			for _, f := range got {
				if f.State == Raised {
					raised++
				}
			}
			if raised != 1 || len(got) > 2 {
				t.Errorf("swing %v every %s: %v", swing, step, sentences(got))
			}
		}
	}
}

// TestHysteresisFromBelow: nor does one that was never raised flap.
func TestHysteresisFromBelow(t *testing.T) {
	s := newScene(t)
	v := s.serves("app", sample.WaitEpoll, 4)
	var got []Finding
	for i := range 60 {
		v.does(traffic{conns: 2000, wakes: []float64{1.2, 2.2}[i%2]})
		got = append(got, s.ticks(1)...)
	}
	if len(got) > 1 {
		t.Errorf("flaps: %v", sentences(got))
	}
}

// TestClearsAfterCalm: not before ClearAfter, and soon after.
func TestClearsAfterCalm(t *testing.T) {
	limits := DefaultLimits()
	tests := []struct {
		id        string
		sick, fit traffic
	}{
		{"accept-herd", herd, traffic{conns: 200, wakes: 1}},
		{"accept-herd", herd, traffic{}},
		{"accept-stall", stall, traffic{conns: 20, wakes: 1, queue: 1, looks: 2}},
	}
	for _, tt := range tests {
		for _, step := range steps {
			s := newScene(t).every(step)
			v := s.serves("app", sample.WaitEpollET, 2).does(tt.sick)
			s.ticks(1)
			s.plays(3 * time.Second)
			s.wantIDs(tt.id)
			raised := s.set.Active()[0]
			v.does(tt.fit)
			if early := int(limits.ClearAfter/step) - 1; early > 0 {
				if got := s.ticks(early); len(got) > 0 {
					t.Errorf("%s every %s: cleared too early: %v", tt.id, step, sentences(got))
				}
			}
			c := s.wantChange(s.plays(limits.Window+step), tt.id, Cleared)
			s.wantIDs()
			if c.Since != raised.Since || !c.Until.After(c.Since) || c.Elapsed <= raised.Elapsed || c.Outcome == "" ||
				c.Values["wakeups_per_accept"] < 0.9*raised.Values["wakeups_per_accept"] {
				t.Errorf("cleared %+v, raised %+v", c, raised)
			}
			if all := s.set.All(); len(all) != 1 || all[0].State != Cleared {
				t.Errorf("all: %+v", all)
			}
			v.does(tt.sick)
			s.plays(3 * time.Second)
			if s.wantIDs(tt.id); len(s.set.All()) != 2 {
				t.Errorf("not raised again: %v", sentences(s.set.All()))
			}
		}
	}
}

// TestClearsWithItsListener: at once, whether the listener was seen to close or
// is gone.
func TestClearsWithItsListener(t *testing.T) {
	for _, closes := range []bool{true, false} {
		s := newScene(t)
		v := s.serves("app", sample.WaitEpollET, 2).does(herd)
		s.ticks(3)
		s.wantIDs("accept-herd")
		if closes {
			v.Closed = true
			v.does(traffic{})
		} else {
			s.vanishes(v)
		}
		s.wantChange(s.ticks(1), "accept-herd", Cleared)
		s.wantIDs()
		if len(s.set.watches) > 0 {
			t.Errorf("tracks are left: %v", s.set.watches)
		}
		if got := s.ticks(3); len(got) > 0 || len(s.set.watches) > 0 {
			t.Errorf("later: %v", sentences(got))
		}
	}
}

// TestClosingIsJudged: by what it did until then; what was raised before is over.
func TestClosingIsJudged(t *testing.T) {
	s := newScene(t)
	v := s.serves("app", sample.WaitEpoll, 8).does(herd)
	s.ticks(3)
	s.wantIDs("accept-herd")
	v.does(herd.with(queues{atSYN: 50}))
	v.Closed = true
	got := s.ticks(1)
	if len(got) != 2 || got[0].ID != "accept-queue-overflow" || got[0].State != Raised || got[1].ID != "accept-herd" || got[1].State != Cleared {
		t.Errorf("at its close: %v", sentences(got))
	}
	if c := s.wantChange(s.ticks(1), "accept-queue-overflow", Cleared); c.Outcome != outcomeClosed {
		t.Errorf("outcome %q", c.Outcome)
	}
	if got := s.ticks(3); len(got) > 0 || len(s.set.watches) > 0 {
		t.Errorf("later: %v", sentences(got))
	}
}

// TestNotMeasuredIsNotGone: a tick without the signal changes nothing.
func TestNotMeasuredIsNotGone(t *testing.T) {
	s := newScene(t)
	s.serves("app", sample.WaitEpoll, 8).does(herd)
	s.ticks(3)
	blind := s.sample()
	blind.Accept = nil
	if got := s.set.Update(s.builder.Build(blind)); len(got) > 0 {
		t.Errorf("changed: %v", sentences(got))
	}
	s.wantIDs("accept-herd")
	if got := s.ticks(4); len(got) > 0 {
		t.Errorf("later: %v", sentences(got))
	}
}

// TestCounterResetRaisesNothing, and clears nothing by itself.
func TestCounterResetRaisesNothing(t *testing.T) {
	s := newScene(t)
	v := s.serves("app", sample.WaitEpoll, 8).does(traffic{conns: 1000, wakes: 1})
	got := s.ticks(5)
	clear(v.sum)
	v.completions = 0
	if got = append(got, s.ticks(5)...); len(got) > 0 {
		t.Errorf("changed: %v", sentences(got))
	}
}

// TestTwoListeners: each has its own state; the worst comes first.
func TestTwoListeners(t *testing.T) {
	s := newScene(t)
	s.serves("app", sample.WaitEpoll, 8).does(herd)
	s.serves("fit", sample.WaitEpollExclusive, 8).does(traffic{conns: 1000, wakes: 1})
	both := stall
	both.conns, both.wakes = 200, 8
	s.serves("et", sample.WaitEpollET, 8).does(both)
	s.ticks(4)
	got := s.wantIDs("accept-stall", "accept-herd", "accept-herd")
	if got[0].Inode != 3 || got[1].Inode != 1 || got[2].Inode != 3 {
		t.Errorf("order: %v", sentences(got))
	}
}

// TestStateIsBounded: 10,000 listeners that come, are a herd and go leave no
// track, and no more findings than are kept, the critical one among them.
func TestStateIsBounded(t *testing.T) {
	s := newScene(t)
	bad := s.serves("app", sample.WaitEpollET, 2).does(stall)
	s.ticks(3)
	s.vanishes(bad)
	raised := 1
	for i := range 100 {
		for range 100 {
			s.serves("app", sample.WaitEpoll, 1).does(herd)
		}
		s.ticks(1) // the first sight of a listener counts from its opening
		s.ticks(1)
		raised += 100
		for _, v := range s.servers {
			v.Closed = i%2 == 0
		}
		if i%2 == 0 {
			s.ticks(1)
		}
		s.servers = nil
		s.ticks(1)
	}
	if len(s.set.watches) != 0 || len(s.set.Active()) != 0 {
		t.Errorf("%d tracks, %d active findings are left", len(s.set.watches), len(s.set.Active()))
	}
	all := s.set.All()
	if len(all) != maxFindings || s.set.Dropped() != raised-maxFindings {
		t.Errorf("%d findings kept, %d dropped, %d raised", len(all), s.set.Dropped(), raised)
	}
	if all[0].ID != "accept-stall" || all[len(all)-1].Inode != s.inode {
		t.Errorf("kept from %v to %v", sentences(all[:1]), sentences(all[len(all)-1:]))
	}
}

// TestRaisedIsNotDropped: room is made by what is over.
func TestRaisedIsNotDropped(t *testing.T) {
	s := NewSet(DefaultLimits())
	for i := range 2 * maxFindings {
		f := &Finding{ID: "accept-herd", Inode: uint64(i), State: Cleared, Severity: Crit}
		if i == 0 {
			f.State, f.Severity = Raised, Warn
		}
		s.keep(f)
	}
	if all := s.All(); len(all) != maxFindings || all[0].Inode != 0 || all[1].Inode != maxFindings+1 || s.Dropped() != maxFindings {
		t.Errorf("%d kept, the first two of listeners %d and %d, %d dropped", len(all), all[0].Inode, all[1].Inode, s.Dropped())
	}
}

// TestWindowIsBounded however short the tick is.
func TestWindowIsBounded(t *testing.T) {
	s := newScene(t).every(10 * time.Millisecond)
	s.serves("app", sample.WaitEpoll, 1).does(traffic{conns: 100, wakes: 1})
	s.ticks(1000)
	for on, w := range s.set.watches {
		if len(w.recent) > 201 || w.sum.interval < s.set.limits.Window {
			t.Errorf("%v: %d ticks over %s", on, len(w.recent), w.sum.interval)
		}
	}
}

// TestFindingsAreCopies: what a sink was given does not change under it.
func TestFindingsAreCopies(t *testing.T) {
	s := newScene(t)
	v := s.serves("app", sample.WaitEpoll, 8).does(herd)
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-herd", Raised)
	was, values := f.Evidence, f.Values["wakeups_per_s"]
	v.does(traffic{conns: 900, wakes: 8})
	s.ticks(5)
	if f.Evidence != was || f.Values["wakeups_per_s"] != values || f.State != Raised {
		t.Errorf("changed to %+v", f)
	}
}

func TestSeverityText(t *testing.T) {
	for s, want := range map[Severity]string{Warn: "warn", Crit: "crit"} {
		if b, err := s.MarshalText(); string(b) != want || err != nil {
			t.Errorf("%d: %q, %v", s, b, err)
		}
	}
	f := Finding{Subject: "a", Evidence: "b"}
	if got := f.Sentence(); got != "a: b" {
		t.Errorf("sentence %q", got)
	}
	if f.Cause = "c"; f.Sentence() != "a: b; c" || !model.Known(float64(f.Severity)) {
		t.Errorf("sentence %q", f.Sentence())
	}
}
