// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// skew is one of four workers that has no time left while the others sleep.
var skew = traffic{conns: 1000, wakes: 1, shares: []float64{0.7, 0.1, 0.1, 0.1},
	run: []float64{0.97, 0.1, 0.12, 0.1}, wait: []float64{0.01, 0.01, 0.01, 0.01}}

func TestSkewIsRaisedAfterSkewFor(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step).idles(0.7)
			s.serves("nginx", sample.WaitEpollExclusive, 4).does(skew)
			s.ticks(1)
			after := int((DefaultLimits().SkewFor + step - 1) / step)
			if got := s.ticks(after - 1); len(got) > 0 {
				t.Errorf("raised too early: %v", sentences(got))
			}
			// At 100 ms the first ticks see fewer than SkewMinConns connections.
			s.wantChange(s.ticks(1+int(300*time.Millisecond/step)), "accept-skew", Raised)
		})
	}
}

func TestSkewEvidence(t *testing.T) {
	s := newScene(t).idles(0.7)
	s.serves("nginx", sample.WaitEpollExclusive, 4).does(skew)
	s.ticks(1)
	f := s.wantChange(s.ticks(3), "accept-skew", Raised)
	want := "worker 1000 took 70% of the connections since attach (fair 25%) and runs 97% of a core, the median of its 3 siblings 11%, while 0.7 cores are idle: its clients wait for it alone"
	if f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	wantValues(t, f, map[string]float64{"top_tid": 1000, "top_share_ratio": 0.7, "fair_share_ratio": 0.25, "top_run_ratio": 0.97,
		"siblings_busy_ratio": 0.11, "host_idle_cores": 0.7})
	if f.Severity != Warn || !strings.Contains(f.Cause, "went to sleep last") || !strings.HasPrefix(f.Remedy, "listen ... reuseport") {
		t.Errorf("finding %+v", f)
	}
}

func TestSkewWords(t *testing.T) {
	for _, tt := range []struct{ wait, cause string }{
		{sample.WaitEpoll, "went to sleep last"}, {sample.WaitEpollET, "went to sleep last"},
		{sample.WaitAccept, "nothing evens out"}, {sample.WaitUnknown, "nothing evens out"},
	} {
		s := newScene(t).idles(0.7)
		s.serves("app", tt.wait, 4).does(skew)
		s.ticks(1)
		f := s.wantChange(s.ticks(4), "accept-skew", Raised)
		if !strings.Contains(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, "a socket per worker with SO_REUSEPORT") {
			t.Errorf("%s: cause %q, remedy %q", tt.wait, f.Cause, f.Remedy)
		}
	}
}

// TestSkewMustLast: a busy moment is not a finding.
func TestSkewMustLast(t *testing.T) {
	s := newScene(t).idles(0.7)
	v := s.serves("app", sample.WaitEpoll, 4)
	calm := skew
	calm.run = []float64{0.6, 0.1, 0.1, 0.1}
	var got []Finding
	for range 6 {
		got = append(got, s.ticks(1)...)
		v.does(skew)
		got = append(got, s.ticks(2)...)
		v.does(calm)
	}
	if len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
}

// TestSkewForgetsTheDead: who ended is neither the busiest nor a sibling.
func TestSkewForgetsTheDead(t *testing.T) {
	for _, dead := range [][]int{{0}, {1, 2, 3}} {
		s := newScene(t).idles(1)
		v := s.serves("app", sample.WaitEpoll, 4).does(skew)
		for _, i := range dead {
			v.Workers[i].Ended = true
		}
		if got := s.ticks(8); len(got) > 0 {
			t.Errorf("raised %v", sentences(got))
		}
	}
}

func TestSkewClears(t *testing.T) {
	s := newScene(t).idles(0.7)
	v := s.serves("app", sample.WaitEpoll, 4).does(skew)
	s.ticks(5)
	s.wantIDs("accept-skew")
	even := skew
	even.run = []float64{0.35, 0.3, 0.3, 0.3}
	v.does(even)
	if got := s.ticks(2); len(got) > 0 {
		t.Errorf("cleared too early: %v", sentences(got))
	}
	s.wantChange(s.ticks(1), "accept-skew", Cleared)
}

// TestSkewClearsWithItsSiblings: who is alone is not skewed. What is not measured
// clears nothing.
func TestSkewClearsWithItsSiblings(t *testing.T) {
	s := newScene(t).idles(0.7)
	v := s.serves("app", sample.WaitEpoll, 4).does(skew)
	s.ticks(5)
	s.wantIDs("accept-skew")
	for range 5 {
		blind := s.sample()
		blind.Host = nil
		if got := s.set.Update(s.builder.Build(blind)); len(got) > 0 {
			t.Errorf("changed: %v", sentences(got))
		}
	}
	for i := range 3 {
		v.Workers[i+1].Ended = true
	}
	if c := s.wantChange(s.ticks(6), "accept-skew", Cleared); c.Outcome != "its busiest worker has no siblings now, or sits at another socket" {
		t.Errorf("outcome %q", c.Outcome)
	}
}
