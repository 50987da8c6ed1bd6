// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// longWait is two workers that take 40 connections a second of a queue of 100.
var longWait = traffic{conns: 40, queue: 100, looks: 10, run: []float64{0.05, 0.05}}

func TestQueueWaitIsRaisedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			s.listens("gunicorn", 2, 2048).does(longWait)
			f := s.wantWithin2s("accept-queue-wait")
			wantTexts(t, f)
			if want := "a connection waits ~2.5 s in the accept queue before it is accepted (100 wait, of at most 2049, and 40 a second are accepted)"; f.Evidence != want {
				t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
			}
			if want := "its 2 workers sleep 95% of the time, and not in the wait for connections: blocked elsewhere, on a backend, a lock, a disk or a timer"; f.Cause != want {
				t.Errorf("cause %q, want %q", f.Cause, want)
			}
			if f.Severity != Warn || !strings.HasSuffix(f.Remedy, "a longer queue would only make them wait longer, a shorter one refuses early what cannot be served in time") {
				t.Errorf("%s, remedy %q", f.Severity, f.Remedy)
			}
			wantValues(t, f, map[string]float64{"accept_queue_len": 100, "accept_queue_max": 2048, "accepted_per_s": 40, "accept_queue_wait_seconds": 2.5,
				"workers": 2, "workers_run_ratio": 0.05, "workers_wait_ratio": 0, "host_idle_cores": 2})
		})
	}
}

func TestQueueWaitThresholds(t *testing.T) {
	tests := []struct {
		name  string
		conns float64
		queue uint32
		want  Severity
	}{
		{"short wait", 200, 150, 0},
		{"a second", 100, 100, Warn},
		{"nearly three", 100, 299, Warn},
		{"three", 100, 300, Crit},
		{"few", 1, 7, 0},
		{"enough", 1, 8, Crit},
		{"full speed", 20000, 511, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.listens("app", 2, 4096).does(traffic{conns: tt.conns, queue: tt.queue, looks: 10})
			got := s.ticks(6)
			if len(got) > 0 != (tt.want > 0) || len(got) > 0 && (got[0].ID != "accept-queue-wait" || got[0].Severity != tt.want) {
				t.Errorf("raised %v, want %v", sentences(got), tt.want)
			}
		})
	}
}

// TestQueueWaitHealthy: what drains between two looks is a burst.
func TestQueueWaitHealthy(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			v := s.listens("app", 2, 4096)
			for i := range 20 {
				v.does(traffic{conns: 40, queue: []uint32{200, 3}[i%2], looks: 10})
				s.ticks(1)
			}
			// One look is not enough, however long the tick.
			s.listens("once", 2, 4096).does(traffic{conns: 1, queue: 100, looks: 10})
			s.ticks(1)
			if got := s.set.All(); len(got) > 0 {
				t.Errorf("raised %v", sentences(got))
			}
		})
	}
}

// TestQueueWaitNobodyAccepts: a wait without end is no number.
func TestQueueWaitNobodyAccepts(t *testing.T) {
	for _, step := range steadily {
		s := newScene(t).every(step)
		v := s.listens("app", 1, 128).does(traffic{queue: 20, looks: 10})
		v.completions, v.sum[0].accepts = 120, 100
		f := s.wantWithin2s("accept-queue-wait")
		wantTexts(t, f)
		if !strings.HasPrefix(f.Evidence, "20 connections wait in the accept queue (of at most 129) and none was accepted in the last ") || f.Severity != Crit {
			t.Errorf("%s %s", f.Severity, f.Evidence)
		}
		if !strings.HasSuffix(f.Cause, "its worker sleeps 100% of the time: the clients are connected, and get no answer") {
			t.Errorf("cause %q", f.Cause)
		}
		if _, ok := f.Values["accept_queue_wait_seconds"]; ok {
			t.Errorf("values %v", f.Values)
		}
	}
}

// TestQueueWaitIsOthers: a stall and an overflow have findings of their own, and
// what cannot be seen is not claimed.
func TestQueueWaitIsOthers(t *testing.T) {
	tests := []struct {
		name string
		set  func(s *scene) *server
		want string
	}{
		{"stall", func(s *scene) *server {
			return s.listens("app", 2, 2048).does(traffic{conns: 4, queue: 100, looks: 10, stalled: 9})
		}, "accept-stall"},
		{"overflow", func(s *scene) *server {
			return s.listens("app", 2, 64).does(longWait.with(queues{atSYN: 10}))
		}, "accept-queue-overflow"},
		{"nothing seen", func(s *scene) *server {
			s.header.Signals[0].Accuracy, s.header.Signals[1].Accuracy = sample.Unavailable, sample.Unavailable
			return s.listens("app", 2, 2048).does(longWait)
		}, ""},
		{"io_uring, and nothing seen", func(s *scene) *server {
			s.header.Signals[1].Accuracy = sample.Unavailable
			return s.listens("app", 2, 2048).does(traffic{conns: 900, unseen: 1, queue: 100})
		}, ""},
		{"io_uring", func(s *scene) *server {
			return s.listens("app", 2, 2048).does(traffic{conns: 900, unseen: 1, queue: 100})
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			tt.set(s)
			for _, f := range s.ticks(6) {
				if f.ID != tt.want {
					t.Errorf("raised %v, want %q", sentences([]Finding{f}), tt.want)
				}
			}
		})
	}
}

func TestQueueWaitClears(t *testing.T) {
	s := newScene(t)
	v := s.listens("app", 2, 2048).does(longWait)
	s.ticks(4)
	s.wantIDs("accept-queue-wait")
	v.does(traffic{conns: 400, queue: 100})
	c := s.wantChange(s.plays(6*time.Second), "accept-queue-wait", Cleared)
	if !strings.HasPrefix(c.Outcome, "accept queue 100 of 2048 now, ") {
		t.Errorf("outcome %q", c.Outcome)
	}
}

// TestQueueWaitBesideStall: while workers that sleep are what is wrong, the wait
// is no finding of its own, however the looks fall.
func TestQueueWaitBesideStall(t *testing.T) {
	s := newScene(t)
	v := s.listens("app", 2, 2048).does(traffic{conns: 4, queue: 100, looks: 10, stalled: 9})
	s.ticks(4)
	s.wantIDs("accept-stall")
	v.does(traffic{conns: 40, queue: 100, looks: 10, stalled: 3})
	if got := s.ticks(6); len(got) > 0 {
		t.Errorf("%v", sentences(got))
	}
	v.does(traffic{conns: 40, queue: 100, looks: 10})
	got := s.ticks(8)
	if len(got) != 2 || got[0].ID != "accept-stall" || got[0].State != Cleared || got[1].ID != "accept-queue-wait" {
		t.Errorf("%v", sentences(got))
	}
	v.does(traffic{conns: 4, queue: 100, looks: 10, stalled: 10})
	got = s.ticks(2)
	if len(got) != 2 || got[0].ID != "accept-stall" || got[0].State != Raised || got[1].ID != "accept-queue-wait" || got[1].Outcome != "see accept-stall" {
		t.Errorf("%v", sentences(got))
	}
}

// TestQueueWaitWithoutCause: nothing is known of the workers.
func TestQueueWaitWithoutCause(t *testing.T) {
	s := newScene(t)
	s.listens("app", 2, 2048).does(traffic{conns: 40, queue: 100, run: []float64{0.6, 0.6}})
	f := s.wantWithin2s("accept-queue-wait")
	wantTexts(t, f)
	if f.Cause != "connections come faster than they are accepted, or did so until now" || !strings.HasPrefix(f.Remedy, "more workers, or less work between two accepts; a longer queue") {
		t.Errorf("cause %q, remedy %q", f.Cause, f.Remedy)
	}
}
