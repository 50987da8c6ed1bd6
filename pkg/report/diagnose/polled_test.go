// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// withoutBPF takes from a scene what only BPF tells.
func withoutBPF(t *testing.T) *scene {
	s := newScene(t)
	s.header.Rung = sample.RungProcFS
	s.header.Signals = []sample.Signal{
		{Name: model.SignalAccept, Accuracy: sample.Unavailable},
		{Name: model.SignalWake, Accuracy: sample.Unavailable},
		{Name: model.SignalListen, Variant: "sock_diag", Accuracy: sample.Approximate},
		{Name: model.SignalRunq, Variant: "schedstat", Accuracy: sample.Approximate},
		{Name: model.SignalThrottle, Variant: "cpu_stat", Accuracy: sample.Approximate},
		{Name: model.SignalCPUTime, Variant: "proc_stat", Accuracy: sample.Approximate},
	}
	return s
}

// TestOverflowWithoutBPF: nobody counts connections, so no share of them is known,
// and nothing is made of there being none.
func TestOverflowWithoutBPF(t *testing.T) {
	s := withoutBPF(t)
	v := s.listens("gunicorn", 0, 128).does(traffic{queue: 129}.with(queues{atSYN: 6, full: 1, peak: 129}))
	v.Queues.NoSynLen = true
	s.ticks(3)
	f := s.wantIDs("accept-queue-overflow")[0]
	wantTexts(t, &f)
	for _, key := range []string{"refused_ratio", "refused_clients_total"} {
		if n, ok := f.Values[key]; ok {
			t.Errorf("%s is %v, and is not measured", key, n)
		}
	}
	if strings.Contains(f.Cause, "nobody accepted") || f.Severity != Warn {
		t.Errorf("%s: %s", f.Severity, f.Cause)
	}
}

// TestSynQueueWithoutBPF: whether the handshakes are completed is not known.
func TestSynQueueWithoutBPF(t *testing.T) {
	s := withoutBPF(t)
	s.listens("gunicorn", 0, 128).does(traffic{}.with(queues{cookies: 5000}))
	s.ticks(4)
	f := s.wantIDs("syn-queue-overflow")[0]
	if strings.Contains(f.Cause, "none of these") || !strings.Contains(f.Cause, "not measured") {
		t.Errorf("cause %q", f.Cause)
	}
	if _, ok := f.Values["connections_per_s"]; ok {
		t.Error("connections that nobody counted have a rate")
	}
}

// TestThrottleWithoutBPF: by cpu.stat alone. What its threads ran is at least what
// it used: nothing is concluded from that, until its usage is known.
func TestThrottleWithoutBPF(t *testing.T) {
	s := withoutBPF(t)
	s.queuesOf(equal(4, queue{busy: 0.5})...)
	g := s.group("/api", nil, 2)
	g.run, g.wait, g.throttled, g.stall, g.noEvents = 0.1, 2, 0.9, 60*time.Millisecond, true
	for range 4 {
		out := s.sample()
		out.CGroups[0].CFS.UsageNS = nil // cgroup v1 without cpuacct
		s.set.Update(s.builder.Build(out))
	}
	f := s.wantIDs("cfs-throttle")[0]
	wantTexts(t, &f)
	if strings.Contains(f.Evidence, "uses") || strings.Contains(f.Evidence, "stopped for") {
		t.Errorf("evidence %q", f.Evidence)
	}
	for _, key := range []string{"cpu_used_cores", "stopped_ratio", "worst_stall_seconds", "wait_throttled_threads"} {
		if n, ok := f.Values[key]; ok {
			t.Errorf("%s is %v, and is not measured", key, n)
		}
	}
}

// TestPileWithoutBPF: waits cannot be told apart, nor idle cores beside them seen.
func TestPileWithoutBPF(t *testing.T) {
	s := withoutBPF(t)
	for _, q := range s.queuesOf(queue{busy: 1, waiting: 12}, queue{busy: 0.05}) {
		q.unclaimed = 0
	}
	s.runs("api", 0, th{cpu: 0, run: 0.1, wait: 0.9}, th{cpu: 0, run: 0.1, wait: 0.9})
	for range 8 {
		out := s.sample()
		for i := range out.CPUs {
			out.CPUs[i].Runq.Partial = true
		}
		s.set.Update(s.builder.Build(out))
	}
	s.wantIDs()
}

// TestClaimsWithoutBPF: threads that ended unseen are in the claims alone, so more
// than what was seen to run is no lie, and less is one.
func TestClaimsWithoutBPF(t *testing.T) {
	for _, tt := range []struct {
		claims float64
		want   []string
	}{{0.9, nil}, {0, []string{"cputime-frozen"}}, {0.4, nil}} {
		s := withoutBPF(t)
		s.queuesOf(queue{busy: 0.5}, queue{})
		p := s.runs("api", 0, th{run: 0.4})
		p.claims = tt.claims
		s.ticks(20)
		s.wantIDs(tt.want...)
	}
}

// TestContentionWithoutBPF: of a group that no quota stopped, its own or another
// one's on the way up or down, all waits are contention.
func TestContentionWithoutBPF(t *testing.T) {
	s := withoutBPF(t)
	s.queuesOf(equal(2, queue{busy: 1})...)
	root := s.group("/", nil, 0)
	quiet, halted := s.group("/quiet", root, 1), s.group("/halted", root, 1)
	child := s.group("/halted/child", halted, 0)
	for _, g := range []*group{root, quiet, halted, child} {
		g.run, g.wait, g.noEvents = 0.5, 1, true
	}
	halted.throttled = 0.5
	var f *model.Frame
	for range 3 {
		f = s.builder.Build(s.sample())
	}
	for _, g := range f.CGroups {
		if known := model.Known(g.Contended); known != (g.Path == "/quiet") {
			t.Errorf("%s: contended %v", g.Path, g.Contended)
		}
	}
}

// TestEndsUnseen: a process whose threads come and go claims a little more in
// each tick than was seen to run, and is sound all the same.
func TestEndsUnseen(t *testing.T) {
	for _, sampled := range []bool{false, true} {
		s, _ := claiming(t, 0.005, 0.026)
		if sampled {
			s.header.Signals = []sample.Signal{{Name: model.SignalRunq, Variant: "sched_info", Accuracy: sample.Exact}}
		} else {
			s.header.Signals = withoutBPF(t).header.Signals
		}
		for range 12 {
			now := s.sample()
			if sampled {
				now.Self.Budget = &sample.Budget{Shed: []sample.Shed{{What: model.SignalRunq, How: sample.ShedSampled, Now: true}}}
			}
			if got := s.set.Update(s.builder.Build(now)); len(got) > 0 {
				t.Fatalf("sampled %v: %v", sampled, sentences(got))
			}
		}
	}
}
