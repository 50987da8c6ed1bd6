// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// stall is a queue that every look finds unattended.
var stall = traffic{conns: 20, wakes: 1, queue: 3, looks: 10, stalled: 10}

func TestStallIsRaisedWithinTwoTicks(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			s.serves("app", sample.WaitEpollET, 2).does(stall)
			s.ticks(1)
			s.wantChange(s.ticks(max(2, int(time.Second/step))), "accept-stall", Raised)
		})
	}
}

func TestStallEvidence(t *testing.T) {
	s := newScene(t)
	s.serves("app", sample.WaitEpollET, 2).does(stall)
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-stall", Raised)
	want := "3 connections wait in the accept queue while all 2 workers sleep in epoll_wait(); so at 10 of the last 10 looks at the queue, 20 accepts a second meanwhile"
	if f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	wantValues(t, f, map[string]float64{"accept_queue_len": 3, "stalled_looks": 10, "queued_looks": 10, "accepts_per_s": 20, "workers": 2})
	if f.Severity != Crit {
		t.Errorf("severity %s, want crit: clients wait", f.Severity)
	}
}

// TestStallOfStoppedWorkers: who is held by others does not lack a loop.
func TestStallOfStoppedWorkers(t *testing.T) {
	for _, tt := range []struct {
		stopped         int
		evidence, cause string
	}{
		{2, "while all 2 workers are stopped; so at", "holds them"},
		{1, "while all 2 workers sleep in epoll_wait(); so at", "the listener is watched edge-triggered"},
	} {
		s := newScene(t)
		server := s.serves("app", sample.WaitEpollET, 2).does(stall)
		for i := range tt.stopped {
			server.Workers[i].Stopped = true
		}
		s.ticks(1)
		f := s.wantChange(s.ticks(1), "accept-stall", Raised)
		if !strings.Contains(f.Evidence, tt.evidence) || !strings.Contains(f.Cause, tt.cause) {
			t.Errorf("%d stopped: %q, %q", tt.stopped, f.Evidence, f.Cause)
		}
		if cont := strings.HasPrefix(f.Remedy, fmt.Sprintf("kill -CONT %d %d, ", server.Workers[0].PID, server.Workers[1].PID)); cont != (tt.stopped == 2) {
			t.Errorf("%d stopped: remedy %q", tt.stopped, f.Remedy)
		}
	}
}

// TestStallAfterStoppedWorkers: the looks of before do not tell against those that
// run again.
func TestStallAfterStoppedWorkers(t *testing.T) {
	s := newScene(t)
	server := s.serves("app", sample.WaitEpollET, 1).does(stall)
	server.Workers[0].Stopped = true
	s.ticks(1)
	s.wantChange(s.ticks(1), "accept-stall", Raised)
	server.Workers[0].Stopped = false
	s.ticks(1)
	server.does(traffic{conns: 20, wakes: 1})
	f := s.wantChange(s.ticks(8), "accept-stall", Cleared)
	if !strings.HasPrefix(f.Remedy, "kill -CONT ") {
		t.Errorf("the remedy became %q", f.Remedy)
	}
}

func TestStallThresholds(t *testing.T) {
	tests := []struct {
		name string
		do   traffic
		want bool
	}{
		{"8 of 10 looks", traffic{queue: 1, looks: 10, stalled: 8}, true},
		{"7 of 10 looks", traffic{queue: 1, looks: 10, stalled: 7}, false},
		{"4 looks in the window", traffic{queue: 1, looks: 2, stalled: 2}, false},
		{"the queue is empty now", traffic{queue: 0, looks: 10, stalled: 10}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.serves("app", sample.WaitEpollET, 2).does(tt.do)
			if got := s.ticks(6); len(got) > 0 != tt.want {
				t.Errorf("raised %v, want %v", sentences(got), tt.want)
			}
		})
	}
}

func TestStallWords(t *testing.T) {
	tests := []struct {
		wait                    string
		workers                 int
		evidence, cause, remedy string
	}{
		{sample.WaitEpollET, 2, "all 2 workers sleep in epoll_wait()", "EPOLLET", "accept4() in a loop until it says EAGAIN"},
		{sample.WaitEpoll, 1, "the worker sleeps in epoll_wait()", "EPOLLONESHOT", "re-arm the listener"},
		{sample.WaitEpollExclusive, 1, "epoll_wait()", "EPOLLONESHOT", "re-arm"},
		{sample.WaitPoll, 2, "poll()", "did not take them", "accept4()"},
		{sample.WaitSelect, 2, "select()", "did not take them", "accept4()"},
		{sample.WaitAccept, 2, "in accept()", "did not take them", "accept4()"},
		{sample.WaitUnknown, 2, "all 2 workers sleep;", "did not take them", "accept4()"},
	}
	for _, tt := range tests {
		t.Run(tt.wait, func(t *testing.T) {
			s := newScene(t)
			s.serves("app", tt.wait, tt.workers).does(stall)
			s.ticks(1)
			f := s.wantChange(s.ticks(1), "accept-stall", Raised)
			if !strings.Contains(f.Evidence, tt.evidence) || !strings.Contains(f.Cause, tt.cause) || !strings.Contains(f.Remedy, tt.remedy) {
				t.Errorf("evidence %q, cause %q, remedy %q", f.Evidence, f.Cause, f.Remedy)
			}
		})
	}
}

// TestStallOfOneConnection is about the words only.
func TestStallOfOneConnection(t *testing.T) {
	s := newScene(t)
	one := stall
	one.queue = 1
	s.serves("app", sample.WaitEpollET, 1).does(one)
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-stall", Raised)
	if !strings.HasPrefix(f.Evidence, "1 connection waits in the accept queue while the worker sleeps") {
		t.Errorf("evidence %q", f.Evidence)
	}
}
