// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var (
	idleCore = queue{busy: 0.05, shown: 0.05, slot: 17}
	fullCore = queue{busy: 1, shown: 1, slot: 20}
	piled    = queue{busy: 1, shown: 1, waiting: 12, unclaimed: 0.97, slot: 25, switches: 300}
)

// pinnedPile is 13 workers held to core 3 of 4.
func pinnedPile(t testing.TB) *scene {
	s := newScene(t)
	s.queuesOf(idleCore, idleCore, fullCore, piled)
	root := s.group("/", nil, 0)
	s.runs("gunicorn", root.ID, many(13, th{cpu: 3, run: 1. / 13, wait: 12. / 13, mask: 0.9, allowed: []int{3}})...)
	s.runs("nginx", root.ID, th{cpu: 2, run: 1})
	return s
}

func TestPileIsNamedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			f := pinnedPile(t).every(step).wantWithin2s("runq-pile")
			wantTexts(t, f)
			if f.CPU != 3 || f.Severity != Warn || f.Subject != "core 3 (gunicorn)" {
				t.Errorf("%+v", f)
			}
			if want := "has 13 runnable threads on average while 2 cores are idle (0-1): 13 of gunicorn; wait p99 up to 67 ms, elsewhere 2.1 ms"; f.Evidence != want {
				t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
			}
			if want := "their affinity mask allows core 3 only (taskset, sched_setaffinity, CPUAffinity=)"; f.Cause != want {
				t.Errorf("cause %q, want %q", f.Cause, want)
			}
			if want := "taskset -pc 0-1,3 100; taskset -pc 0-1,3 101; taskset -pc 0-1,3 102; "; !strings.HasPrefix(f.Remedy, want) || !strings.HasSuffix(f.Remedy, "taskset -pc 0-1,3 107 and so on for 5 more; and undo what pins them") {
				t.Errorf("remedy %q", f.Remedy)
			}
			wantValues(t, f, map[string]float64{"waiting_threads": 12, "unclaimed_ratio": 0.97, "idle_cores": 1.9, "wait_p99_seconds": 0.067108864})
		})
	}
}

// TestPileBeginsBetweenTicks: in the second interval of it, at the latest.
func TestPileBeginsBetweenTicks(t *testing.T) {
	s := pinnedPile(t)
	q := s.queues[3]
	*q = idleCore
	s.ticks(3)
	*q = queue{sum: q.sum, busy: 0.1, shown: 0.1, waiting: 1.2, unclaimed: 0.1, slot: 25}
	got := s.ticks(1)
	*q = queue{sum: q.sum, busy: 1, shown: 1, waiting: 12, unclaimed: 0.97, slot: 25}
	s.wantChange(append(got, s.ticks(1)...), "runq-pile", Raised)
}

func TestPileClears(t *testing.T) {
	s := pinnedPile(t)
	s.ticks(4)
	s.wantIDs("runq-pile")
	q := s.queues[3]
	*q = queue{sum: q.sum, busy: 0.9, shown: 0.9, waiting: 0.4, unclaimed: 0.02, slot: 25}
	if got := s.ticks(2); len(got) > 0 {
		t.Errorf("cleared too early: %v", sentences(got))
	}
	c := s.wantChange(s.ticks(2), "runq-pile", Cleared)
	if c.Outcome != "0.4 threads wait there now, and for 2% of the time another core is idle meanwhile" {
		t.Errorf("outcome %q", c.Outcome)
	}
}

// TestPileWhy: a mask of several cores is one finding; a cpuset needs another
// remedy; and what is not known is not claimed.
func TestPileWhy(t *testing.T) {
	two := queue{busy: 1, shown: 1, waiting: 5, unclaimed: 0.9, slot: 25}
	worker := th{run: 0.15, wait: 0.85}
	with := func(cpu int, f func(*th)) th {
		w := worker
		w.cpu = cpu
		f(&w)
		return w
	}
	tests := []struct {
		name                     string
		set                      func(s *scene)
		subject, evidence, cause string
		remedy                   string
	}{
		{"mask of two cores", func(s *scene) {
			s.queuesOf(idleCore, two, two, idleCore)
			for i := range 13 {
				s.runs("uwsgi", 0, with(1+i%2, func(w *th) { w.allowed = []int{1, 2} }))
			}
		}, "cores 1-2 (uwsgi)", "have 6 runnable threads each on average while 2 cores are idle (0,3): 7 of uwsgi; wait p99 up to 67 ms, elsewhere 0.3 ms", "their affinity mask allows cores 1-2 only", "taskset -pc 0-3 100; "},
		{"cpuset", func(s *scene) {
			s.queuesOf(two, idleCore)
			g := s.group("/system.slice/api.service", s.group("/", nil, 0), 0)
			s.runs("java", g.ID, many(6, with(0, func(w *th) { w.allowed, w.cpuset = []int{0}, true }))...)
		}, "core 0 (java)", "has 6 runnable", "their cpuset allows core 0 only",
			"echo 0-1 > /sys/fs/cgroup/system.slice/api.service/cpuset.cpus (cgroup v1: echo 0-1 > /sys/fs/cgroup/cpuset/system.slice/api.service/cpuset.cpus); to keep it: systemctl set-property api.service AllowedCPUs=0-1; or"},
		{"cpuset of an unknown group", func(s *scene) {
			s.queuesOf(two, idleCore)
			s.runs("java", 77, many(6, with(0, func(w *th) { w.allowed, w.cpuset = []int{0}, true }))...)
		}, "core 0 (java)", "has 6 runnable", "their cpuset allows", "widen their cpuset to 0-1 (cat /proc/100/cpuset names it)"},
		{"no mask", func(s *scene) {
			s.queuesOf(two, idleCore)
			s.runs("a", 0, many(2, with(0, func(*th) {}))...)
			s.runs("b\x1b[2J", 0, many(4, with(0, func(*th) {}))...)
		}, "core 0 (b?[2J, a)", "has 6 runnable threads on average while 1 core is idle (1): 4 of b?[2J, 2 of a", "no affinity mask or cpuset holds them there", "cat /sys/devices/system/cpu/isolated; pinning is the last resort, one thread to each idle core: taskset -pc 1 200"},
		{"the mask allows an idle core", func(s *scene) {
			s.queuesOf(two, idleCore, idleCore)
			s.runs("a", 0, many(6, with(0, func(w *th) { w.allowed = []int{0, 1} }))...)
		}, "core 0 (a)", "has 6 runnable", "no affinity mask or cpuset holds them there", "cat"},
		{"idle by turns", func(s *scene) {
			s.queuesOf(two, queue{busy: 0.8, shown: 0.8, waiting: 0.3}, queue{busy: 0.71, shown: 0.71, waiting: 0.3})
			s.runs("a", 0, many(6, with(0, func(w *th) { w.allowed = []int{0} }))...)
		}, "core 0 (a)", "has 6 runnable threads on average while 2 cores are idle by turns, 0.5 of them at a time: 6 of a", "their affinity mask allows core 0 only", "taskset -pc 0-2 100; "},
		{"threads not listed", func(s *scene) { s.queuesOf(two, idleCore) }, "core 0", "has 6 runnable", "what holds them there could not be seen", "find them (ps -eLo tid,psr,comm | awk '$2 == 0')"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			tt.set(s)
			f := s.wantWithin2s("runq-pile")
			wantTexts(t, f)
			if f.Subject != tt.subject || !strings.HasPrefix(f.Evidence, tt.evidence) || !strings.HasPrefix(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, tt.remedy) {
				t.Errorf("%q: %q; %q; %q", f.Subject, f.Evidence, f.Cause, f.Remedy)
			}
		})
	}
}

// TestPileLead: of the cores of one mask, the first that has a pile tells, and for
// those that have one.
func TestPileLead(t *testing.T) {
	s := newScene(t)
	some := queue{busy: 1, shown: 1, waiting: 1.5, unclaimed: 0.9, slot: 25}
	many := queue{busy: 1, shown: 1, waiting: 9, unclaimed: 0.9, slot: 25}
	most := queue{busy: 1, shown: 1, waiting: 12, unclaimed: 0.9, slot: 25}
	s.queuesOf(some, many, most, idleCore)
	for i := range 20 {
		s.runs("uwsgi", 0, th{cpu: 1 + i%2, run: 0.1, wait: 0.9, allowed: []int{0, 1, 2}})
	}
	f := s.wantWithin2s("runq-pile")
	if f.CPU != 1 || !strings.HasPrefix(f.Evidence, "have up to 13 runnable threads on average (2 of them) while 1 core is idle (3)") {
		t.Errorf("core %d: %q", f.CPU, f.Evidence)
	}
	s = newScene(t)
	s.queuesOf(many, most, idleCore)
	for i := range 20 {
		s.runs("uwsgi", 0, th{cpu: i % 2, run: 0.1, wait: 0.9, allowed: []int{0, 1}})
	}
	if f := s.wantWithin2s("runq-pile"); f.CPU != 0 || !strings.HasPrefix(f.Evidence, "have 10 to 13 runnable threads each on average") {
		t.Errorf("core %d: %q", f.CPU, f.Evidence)
	}
}

// TestPileRemedies that depend on who it is.
func TestPileRemedies(t *testing.T) {
	held := th{cpu: 0, run: 0.15, wait: 0.85, allowed: []int{0}}
	inSet := held
	inSet.cpuset = true
	for name, tt := range map[string]struct {
		set           func(s *scene)
		cause, remedy string
	}{
		"many programs": {func(s *scene) {
			s.runs("a", 0, many(3, held)...)
			s.runs("b", 0, many(3, held)...)
		}, "their affinity mask allows core 0 only (isolcpus=, CPUAffinity=, taskset)", "taskset -pc 0-2 100; "},
		"another has no cpuset": {func(s *scene) {
			root := s.group("/", nil, 0)
			free := held
			free.allowed, free.wait = nil, 0.9
			s.runs("a", s.group("/a", root, 0).ID, free)
			s.runs("b", s.group("/b", root, 0).ID, many(5, inSet)...)
		}, "their cpuset allows core 0 only", "echo 0-2 > /sys/fs/cgroup/b/cpuset.cpus"},
		"a pod": {func(s *scene) {
			s.runs("a", s.group("/kubepods.slice/kubepods-pod1.slice", s.group("/", nil, 0), 0).ID, many(6, inSet)...)
		}, "their cpuset allows core 0 only", "give kubepods-pod1.slice more whole CPUs in the pod's spec"},
		"two idle cores": {func(s *scene) {
			free := held
			free.allowed = nil
			s.runs("a", 0, many(6, free)...)
		}, "no affinity mask", "cat /sys/devices/system/cpu/isolated; pinning is the last resort, one thread to each idle core: taskset -pc 1 100; taskset -pc 2 101"},
	} {
		s := newScene(t)
		s.queuesOf(queue{busy: 1, shown: 1, waiting: 5, unclaimed: 0.9, slot: 25}, idleCore, idleCore)
		tt.set(s)
		f := s.wantWithin2s("runq-pile")
		wantTexts(t, f)
		if !strings.HasPrefix(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, tt.remedy) {
			t.Errorf("%s: %q; %q", name, f.Cause, f.Remedy)
		}
	}
}

// TestNoPile: who waits has no right to more, or no core could help.
func TestNoPile(t *testing.T) {
	pin := th{cpu: 0, run: 0.1, wait: 0.9, allowed: []int{0}}
	with := func(f func(*th)) []th {
		w := pin
		f(&w)
		return many(9, w)
	}
	for name, set := range map[string]func(s *scene){
		"kernel threads":   func(s *scene) { s.runs("kworker", 0, many(9, pin)...).Kernel = true },
		"a confined batch": func(s *scene) { s.runs("a", 0, with(func(w *th) { w.nice = 10 })...) },
		"policy idle":      func(s *scene) { s.runs("a", 0, with(func(w *th) { w.policy = "idle" })...) },
		"policy batch":     func(s *scene) { s.runs("a", 0, with(func(w *th) { w.policy = "batch" })...) },
		"stolen":           func(s *scene) { s.runs("a", 0, with(func(w *th) { w.stolen = 0.85 })...) },
		"a stolen core": func(s *scene) {
			s.queues[0].waiting, s.queues[0].steal, s.queues[0].shown = 2.5, 0.5, 0.5
			s.runs("a", 0, many(9, pin)...)
		},
	} {
		s := newScene(t)
		s.queuesOf(queue{busy: 1, shown: 1, waiting: 9, unclaimed: 0.9}, idleCore)
		set(s)
		if got := s.ticks(9); len(got) > 0 {
			t.Errorf("%s: %v", name, sentences(got))
		}
	}
	s := newScene(t) // one of many is idle at any moment
	s.queuesOf(append([]queue{{busy: 1, shown: 1, waiting: 3, unclaimed: 0.9}}, equal(63, queue{busy: 0.95, shown: 0.95, waiting: 0.3})...)...)
	s.runs("a", 0, many(9, th{cpu: 0, run: 0.2, wait: 0.5})...)
	if got := s.ticks(9); len(got) > 0 {
		t.Errorf("by turns: %v", sentences(got))
	}
}

// TestPileStarved: no wait ever ends.
func TestPileStarved(t *testing.T) {
	s := newScene(t)
	s.queuesOf(queue{busy: 1, shown: 1, unclaimed: 0.9}, idleCore)
	s.runs("a", 0, many(5, th{cpu: 0, pending: true, allowed: []int{0}})...)
	if f := s.wantWithin2s("runq-pile"); !strings.HasPrefix(f.Evidence, "has 6 runnable threads") {
		t.Errorf("%q", f.Evidence)
	}
}

func TestPileSteal(t *testing.T) {
	s := pinnedPile(t)
	s.queues[3].steal, s.queues[3].shown = 0.2, 0.8
	if f := s.wantWithin2s("runq-pile"); !strings.Contains(f.Evidence, "; the hypervisor takes 20% of the core") {
		t.Errorf("%q", f.Evidence)
	}
}

// TestPileMarginal: just not enough of one of the two.
func TestPileMarginal(t *testing.T) {
	for name, q := range map[string]queue{
		"few wait":               {busy: 1, shown: 1, waiting: 1.9, unclaimed: 0.9},
		"others are hardly idle": {busy: 1, shown: 1, waiting: 9, unclaimed: 0.29},
		"they wait for a quota":  {busy: 1, shown: 1, waiting: 1, throttled: 20, unclaimed: 0.9},
	} {
		s := newScene(t)
		s.queuesOf(q, idleCore)
		s.runs("a", 0, many(9, th{cpu: 0, run: 0.1, wait: 0.9, allowed: []int{0}})...)
		if got := s.ticks(9); len(got) > 0 {
			t.Errorf("%s: %v", name, sentences(got))
		}
	}
	s := newScene(t) // a second is over before it is one
	s.queuesOf(idleCore, idleCore)
	for range 9 {
		s.queues[0].waiting, s.queues[0].unclaimed = 5, 0.9
		got := s.every(500 * time.Millisecond).ticks(1)
		s.queues[0].waiting, s.queues[0].unclaimed = 0, 0
		if got = append(got, s.ticks(1)...); len(got) > 0 {
			t.Fatalf("a moment's pile: %v", sentences(got))
		}
	}
}

func TestCPUList(t *testing.T) {
	for _, tt := range []struct {
		cores []int
		want  string
	}{{nil, ""}, {[]int{3}, "3"}, {[]int{1, 0}, "0-1"}, {[]int{7, 0, 1, 2, 2, 5, 6}, "0-2,5-7"}, {[]int{0, 2, 4}, "0,2,4"}, {[]int{-1, 1, math.MaxInt}, "1"}} {
		if got := cpuList(tt.cores); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.cores, got, tt.want)
		}
	}
}

// TestPileUnknown: without the hooks, and at a first sight.
func TestPileUnknown(t *testing.T) {
	s := pinnedPile(t)
	s.noSched = true
	if got := s.ticks(9); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
	b := model.NewBuilder(s.header)
	if got := NewSet(DefaultLimits()).Update(b.Build(&sample.Sample{MonoNS: 1, CPUs: []sample.CPU{{Runq: &sample.Runq{WaitNS: 1 << 60}}}})); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
}
