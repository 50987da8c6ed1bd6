// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// steps are the ticks at which every rule must hold.
var steps = []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}

// TestHealthy: false alarms are bugs of the same rank as missed ones.
func TestHealthy(t *testing.T) {
	four := func(a, b, c, d float64) []float64 { return []float64{a, b, c, d} }
	tests := []struct {
		name string
		set  func(s *scene)
	}{
		{"EPOLLEXCLUSIVE, one worker takes all at low load", func(s *scene) {
			s.idles(1.8).serves("app", sample.WaitEpollExclusive, 4).does(traffic{conns: 300, wakes: 1, shares: four(1, 0, 0, 0), run: four(0.2, 0, 0, 0)})
		}},
		{"accept mutex, one worker takes three quarters", func(s *scene) {
			s.idles(1).serves("nginx", sample.WaitEpoll, 4).does(traffic{conns: 900, wakes: 1, shares: four(0.76, 0.08, 0.08, 0.08), run: four(0.6, 0.1, 0.1, 0.1)})
		}},
		{"Go server, one EAGAIN for each accept", func(s *scene) {
			s.idles(0.5).serves("go-app", sample.WaitEpollET, 8).does(traffic{conns: 8000, wakes: 0.3, eagains: 1})
		}},
		{"blocking accept", func(s *scene) {
			s.serves("app", sample.WaitAccept, 8).does(traffic{conns: 5000, wakes: 1})
		}},
		{"SO_REUSEPORT, a socket for each worker", func(s *scene) {
			for range 4 {
				v := s.idles(0).serves("nginx", sample.WaitEpoll, 1).does(traffic{conns: 2000, wakes: 1.03, eagains: 1, run: []float64{0.5}, wait: []float64{0.4}})
				v.ReusePort = true
			}
		}},
		{"redis-like drain", func(s *scene) {
			s.idles(1).serves("redis-server", sample.WaitEpoll, 1).does(traffic{conns: 9000, wakes: 0.1, eagains: 0.1, run: []float64{1}})
		}},
		{"a queue in bursts while workers run", func(s *scene) {
			s.idles(0).serves("app", sample.WaitEpoll, 4).does(traffic{conns: 4000, wakes: 0.9, queue: 40, looks: 10, run: four(0.5, 0.5, 0.5, 0.5)})
		}},
		{"a queue while workers are blocked elsewhere", func(s *scene) {
			s.serves("app", sample.WaitEpoll, 4).does(traffic{conns: 100, wakes: 1, queue: 40, looks: 10})
		}},
		{"a queue, some looks found all asleep by chance", func(s *scene) {
			s.serves("app", sample.WaitEpoll, 4).does(traffic{conns: 4000, wakes: 1, queue: 4, looks: 10, stalled: 7})
		}},
		{"busy and balanced on a full host", func(s *scene) {
			s.idles(0).serves("app", sample.WaitEpollExclusive, 4).does(traffic{conns: 9000, wakes: 1.05, run: four(0.5, 0.5, 0.5, 0.5), wait: four(0.5, 0.5, 0.5, 0.5)})
		}},
		{"skewed on a host without idle cores", func(s *scene) {
			s.idles(0.2).serves("app", sample.WaitEpollExclusive, 4).does(traffic{conns: 9000, wakes: 1, shares: four(0.91, 0.03, 0.03, 0.03), run: four(0.97, 0.05, 0.05, 0.05)})
		}},
		{"skewed, the siblings wait for CPU", func(s *scene) {
			s.idles(1).serves("app", sample.WaitEpollExclusive, 4).does(traffic{conns: 9000, wakes: 1, shares: four(0.91, 0.03, 0.03, 0.03), run: four(0.97, 0.05, 0.05, 0.05), wait: four(0, 0.8, 0.8, 0.8)})
		}},
		{"busy worker with a fair share", func(s *scene) {
			s.idles(1).serves("app", sample.WaitEpollExclusive, 4).does(traffic{conns: 900, wakes: 1, run: four(0.97, 0.05, 0.05, 0.05)})
		}},
		{"a saturated herd wakes few", func(s *scene) {
			s.idles(0).serves("app", sample.WaitEpoll, 8).does(traffic{conns: 20000, wakes: 1.7, eagains: 0.7, burst: 10 * time.Microsecond})
		}},
		{"a herd too slow to matter", func(s *scene) {
			s.serves("app", sample.WaitEpoll, 8).does(traffic{conns: 12, wakes: 8, eagains: 1, burst: 10 * time.Microsecond})
		}},
		{"a queue that is nearly full, and taken from as fast", func(s *scene) {
			s.idles(0).serves("nginx", sample.WaitEpollExclusive, 4).does(traffic{conns: 20000, wakes: 0.9, queue: 120, looks: 10, run: four(0.9, 0.9, 0.9, 0.9)}.with(queues{peak: 129, full: 0.2}))
		}},
		{"a few cookies", func(s *scene) {
			s.serves("app", sample.WaitEpoll, 4).does(traffic{conns: 900, wakes: 1}.with(queues{cookies: 4, synPeak: 129}))
		}},
		{"no traffic", func(s *scene) { s.serves("app", sample.WaitEpoll, 8) }},
		{"no workers", func(s *scene) { s.serves("app", sample.WaitUnknown, 0).does(traffic{conns: 100, queue: 9}) }},
	}
	for _, tt := range tests {
		for _, step := range steps {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				tt.set(s)
				if got := s.plays(20 * time.Second); len(got) > 0 {
					t.Errorf("raised %v", sentences(got))
				}
			})
		}
	}
}

// TestMinimumExposure: what comes in one go, and not again, is no finding.
func TestMinimumExposure(t *testing.T) {
	tests := []struct {
		name         string
		conns, wakes float64
	}{
		{"10 connections, 8 wake-ups each", 10, 8},
		{"19 connections, 34 wake-ups each", 19, 34},
		{"40 connections, 2 wake-ups each", 40, 2},
	}
	for _, tt := range tests {
		for _, step := range steps {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				s.ticks(1)
				v := s.serves("app", sample.WaitEpoll, 8).does(traffic{conns: tt.conns / step.Seconds(), wakes: tt.wakes})
				got := s.ticks(1)
				v.does(traffic{})
				if got = append(got, s.plays(10*time.Second)...); len(got) > 0 {
					t.Errorf("raised %v", sentences(got))
				}
			})
		}
	}
}

// TestNotMeasuredRaisesNothing: without its signal, a detector is silent.
func TestNotMeasuredRaisesNothing(t *testing.T) {
	s := newScene(t)
	s.header.Signals[1].Accuracy = sample.Unavailable
	s.serves("app", sample.WaitEpoll, 8).does(traffic{conns: 1000})
	if got := s.ticks(10); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
}
