// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"maps"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// herd is 8 workers that all wake for each of 200 connections a second.
var herd = traffic{conns: 200, wakes: 8, eagains: 0.4, burst: 5 * time.Microsecond}

func TestHerdIsRaisedWithinTwoTicks(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			s.serves("app", sample.WaitEpoll, 8).does(herd)
			s.ticks(1)
			n := max(2, int(time.Second/step))
			s.wantChange(s.ticks(n), "accept-herd", Raised)
		})
	}
}

func TestHerdEvidence(t *testing.T) {
	s := newScene(t)
	s.serves("app\x1b[2J", sample.WaitEpoll, 8).does(herd)
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-herd", Raised)
	if want := "listener 0.0.0.0:8080 (app?[2J, 8 workers)"; f.Subject != want {
		t.Errorf("subject %q, want %q", f.Subject, want)
	}
	want := "8.0 wake-ups per connection (1.6k wake-ups for 200 connections a second), 29% of accepts said EAGAIN, ~0.7% of one core spent on wake-ups for nothing"
	if f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	wantValues(t, f, map[string]float64{
		"wakeups_per_accept": 8, "wakeups_per_s": 1600, "connections_per_s": 200, "useless_wakeups_per_s": 1400,
		"accept_eagain_ratio": 80. / 280, "empty_wakeups_cpu_ratio": 0.007, "workers": 8, "sockets": 1,
	})
	if f.Severity != Warn || f.Inode != 1 || f.Elapsed != time.Second || f.Since != time.Unix(2, 0) || f.Verify == "" {
		t.Errorf("finding %+v", f)
	}
}

// TestHerdOfWorkersThatEnded: they did it, also where they have ended since and the
// listener is not known to be closed yet.
func TestHerdOfWorkersThatEnded(t *testing.T) {
	s := newScene(t)
	server := s.serves("app", sample.WaitEpoll, 8).does(herd)
	s.ticks(1)
	for i := range server.Workers {
		server.Workers[i].Ended = true
	}
	f := s.wantChange(s.ticks(1), "accept-herd", Raised)
	if want := "listener 0.0.0.0:8080 (app, 8 workers)"; f.Subject != want || !strings.HasPrefix(f.Cause, "8 workers share one socket") {
		t.Errorf("subject %q, want %q; cause %q", f.Subject, want, f.Cause)
	}
}

// wantValues checks f's numbers, to within a millionth.
func wantValues(t *testing.T, f *Finding, want map[string]float64) {
	t.Helper()
	ok := maps.EqualFunc(f.Values, want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(b)) })
	if !ok {
		t.Errorf("values %v, want %v", f.Values, want)
	}
}

// TestHerdWithoutSignals: what is not measured is not claimed.
func TestHerdWithoutSignals(t *testing.T) {
	s := newScene(t)
	s.header.Signals[0].Accuracy = sample.Unavailable
	h := traffic{conns: 200, wakes: 8, unseen: 1} // and not one could be timed
	s.serves("app", sample.WaitURing, 8).does(h)
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-herd", Raised)
	want := "8.0 wake-ups per connection (1.6k wake-ups for 200 connections a second), an unknown share of one core spent on wake-ups for nothing"
	if f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	wantValues(t, f, map[string]float64{
		"wakeups_per_accept": 8, "wakeups_per_s": 1600, "connections_per_s": 200, "useless_wakeups_per_s": 1400, "workers": 8, "sockets": 1,
	})
}

func TestHerdSeverity(t *testing.T) {
	tests := []struct {
		name string
		do   traffic
		want Severity
	}{
		{"mild", traffic{conns: 400, wakes: 2, burst: 5 * time.Microsecond}, Warn},
		{"many wake-ups, cheap", traffic{conns: 200, wakes: 8, burst: 5 * time.Microsecond}, Warn},
		{"many wake-ups, dear", traffic{conns: 200, wakes: 8, burst: 20 * time.Microsecond}, Crit},
		{"few wake-ups, dear", traffic{conns: 2000, wakes: 3, burst: 20 * time.Microsecond}, Warn},
		{"cost unknown", traffic{conns: 2000, wakes: 8}, Warn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.serves("app", sample.WaitEpoll, 8).does(tt.do)
			s.ticks(1)
			if f := s.wantChange(s.ticks(3), "accept-herd", Raised); f.Severity != tt.want {
				t.Errorf("severity %s, want %s: %s", f.Severity, tt.want, f.Evidence)
			}
		})
	}
}

// TestHerdKeepsItsWorst: while raised, severity and numbers only get worse.
func TestHerdKeepsItsWorst(t *testing.T) {
	s := newScene(t)
	v := s.serves("app", sample.WaitEpoll, 8).does(traffic{conns: 200, wakes: 4, burst: 5 * time.Microsecond})
	s.ticks(3)
	if f := s.wantIDs("accept-herd"); f[0].Severity != Warn {
		t.Errorf("severity %s", f[0].Severity)
	}
	v.does(traffic{conns: 1000, wakes: 8, burst: 5 * time.Microsecond})
	s.ticks(3)
	worst := s.wantIDs("accept-herd")[0]
	if worst.Severity != Crit || !strings.HasPrefix(worst.Evidence, "8.0 wake-ups") {
		t.Errorf("finding %+v", worst)
	}
	v.does(traffic{conns: 200, wakes: 3, burst: 5 * time.Microsecond})
	s.ticks(5)
	if f := s.wantIDs("accept-herd")[0]; f.Severity != Crit || f.Evidence != worst.Evidence {
		t.Errorf("worst moment forgotten: %+v", f)
	}
}

// placeholder is what stands for a number in a remedy.
var placeholder = regexp.MustCompile(`\b(ALL|HALF|QUARTER)\b`)

func TestHerdWords(t *testing.T) {
	tests := []struct {
		program, wait string
		workers       int
		cause, remedy string
	}{
		{"gunicorn", sample.WaitSelect, 34, "34 workers share one socket and wait in select()", "gunicorn -k gthread --workers 2 --threads 17;"},
		{"gunicorn", sample.WaitEpoll, 3, "level-triggered", "--workers 2 --threads 2;"},
		{"uwsgi", sample.WaitEpoll, 8, "level-triggered epoll, without EPOLLEXCLUSIVE", "thunder-lock = true"},
		{"nginx", sample.WaitEpoll, 8, "level-triggered", "listen ... reuseport"},
		{"unicorn", sample.WaitSelect, 8, "select()", "worker_processes 2"},
		{"apache2", sample.WaitPoll, 8, "poll()", "ListenCoresBucketsRatio"},
		{"app", sample.WaitEpoll, 8, "level-triggered", "EPOLLEXCLUSIVE (epoll_ctl, Linux 4.5), or let each worker bind"},
		{"app", sample.WaitEpollET, 8, "edge-triggered epoll, without EPOLLEXCLUSIVE", "EPOLLEXCLUSIVE"},
		{"app", sample.WaitSelect, 8, "select()", "block in accept() instead of select()"},
		{"app", sample.WaitPoll, 8, "poll()", "block in accept() instead of poll()"},
		{"app", sample.WaitURing, 8, "io_uring", "SO_REUSEPORT after the fork"},
		{"app", model.WaitMixed, 8, "in different ways", "SO_REUSEPORT after the fork"},
		{"app", sample.WaitUnknown, 8, "could not be seen", "SO_REUSEPORT after the fork"},
		{"app", "\x1b[2J", 8, "could not be seen", "SO_REUSEPORT after the fork"},
	}
	for _, tt := range tests {
		t.Run(tt.program+"/"+tt.wait, func(t *testing.T) {
			s := newScene(t)
			v := s.serves(tt.program, tt.wait, tt.workers).does(traffic{conns: 200, wakes: 8})
			if tt.wait == model.WaitMixed {
				v.Workers[0].Wait, v.Workers[1].Wait = sample.WaitEpoll, sample.WaitEpollExclusive
			}
			s.ticks(1)
			f := s.wantChange(s.ticks(1), "accept-herd", Raised)
			if !strings.Contains(f.Cause, tt.cause) || !strings.Contains(f.Remedy, tt.remedy) {
				t.Errorf("cause %q, want %q in it; remedy %q, want %q in it", f.Cause, tt.cause, f.Remedy, tt.remedy)
			}
			for _, text := range []string{f.Subject, f.Evidence, f.Cause, f.Remedy, f.Verify} {
				if text == "" || text != model.Printable(text) || placeholder.MatchString(text) {
					t.Errorf("text %q", text)
				}
			}
		})
	}
}

// TestHerdCountsTheLiving: the dead neither share a socket nor need threads.
func TestHerdCountsTheLiving(t *testing.T) {
	s := newScene(t)
	v := s.serves("gunicorn", sample.WaitSelect, 12).does(traffic{conns: 200, wakes: 8})
	for i := range 4 {
		v.Workers[i].Ended = true
	}
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-herd", Raised)
	if !strings.Contains(f.Subject, "8 workers") || !strings.Contains(f.Remedy, "--workers 2 --threads 4;") {
		t.Errorf("subject %q, remedy %q", f.Subject, f.Remedy)
	}
}

// TestHerdWakeGivenUp: that nobody counts wake-ups any more, to save the cost, does
// not end a herd.
func TestHerdWakeGivenUp(t *testing.T) {
	s := newScene(t)
	v := s.serves("app", sample.WaitEpoll, 8).does(herd)
	s.ticks(3)
	s.wantIDs("accept-herd")
	v.does(traffic{conns: 200})
	for range 12 {
		now := s.sample()
		now.Self.Budget = &sample.Budget{Shed: []sample.Shed{{What: model.SignalWake, How: sample.ShedOff, Now: true}}}
		if got := s.set.Update(s.builder.Build(now)); len(got) > 0 {
			t.Fatalf("%v", sentences(got))
		}
	}
	s.wantIDs("accept-herd")
}
