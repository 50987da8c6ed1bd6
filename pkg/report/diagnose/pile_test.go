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
			if want := "taskset -pc 0-3 100; taskset -pc 0-3 101; taskset -pc 0-3 102; "; !strings.HasPrefix(f.Remedy, want) || !strings.HasSuffix(f.Remedy, "taskset -pc 0-3 107 and so on for 5 more; and undo what pins them") {
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
		}, "core 0 (b?[2J, a)", "has 6 runnable threads on average while 1 core is idle (1): 4 of b?[2J, 2 of a", "no affinity mask or cpuset holds them there", "cat /sys/devices/system/cpu/isolated, and move some: taskset -pc 1 200; taskset -pc 1 201; taskset"},
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

// crowd is 8 workers of one cgroup on core 0 while core 1 runs one thread of
// another.
func crowd(t testing.TB) (s *scene, workers, rival *process) {
	s = newScene(t).idles(0)
	s.queuesOf(queue{busy: 1, shown: 1, waiting: 7, unclaimed: 0.01, slot: 25}, queue{busy: 1, shown: 1, waiting: 0.1, slot: 17})
	root := s.group("/", nil, 0)
	web, batch := s.group("/system.slice/web.service", root, 0), s.group("/system.slice/batch.service", root, 0)
	workers = s.runs("gunicorn", web.ID, many(8, th{cpu: 0, run: 0.125, wait: 0.875})...)
	rival = s.runs("convert", batch.ID, th{cpu: 1, run: 0.98})
	return s, workers, rival
}

func TestCrowd(t *testing.T) {
	s, _, _ := crowd(t)
	s.ticks(1)
	if got := s.ticks(2); len(got) > 0 {
		t.Errorf("raised too early: %v", sentences(got))
	}
	f := s.wantChange(s.ticks(1), "runq-pile", Raised)
	wantTexts(t, f)
	if want := "has 8 runnable threads on average while core 1 runs hardly anything but one, convert (pid 200): 8 of gunicorn; wait p99 up to 67 ms, elsewhere 0.3 ms"; f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	if want := "the load balancer evens out the weight of cgroups, not the number of threads: all of system.slice/web.service weigh as much as that one thread of system.slice/batch.service"; f.Cause != want {
		t.Errorf("cause %q, want %q", f.Cause, want)
	}
	if want := "echo 800 > /sys/fs/cgroup/system.slice/web.service/cpu.weight (cgroup v1: echo 8192 > /sys/fs/cgroup/cpu/system.slice/web.service/cpu.shares); to keep it: systemctl set-property web.service CPUWeight=800"; f.Remedy != want {
		t.Errorf("remedy %q, want %q", f.Remedy, want)
	}
}

func TestCrowdInAutogroups(t *testing.T) {
	s, workers, rival := crowd(t)
	workers.CGroupID, rival.CGroupID = 1, 1
	s.ticks(4)
	f := s.wantIDs("runq-pile")[0]
	if !strings.Contains(f.Cause, "(autogroup)") || f.Remedy != "sysctl -w kernel.sched_autogroup_enabled=0" {
		t.Errorf("%q; %q", f.Cause, f.Remedy)
	}
}

// TestCrowdTwins: what is meant to be so, or has another reason.
func TestCrowdTwins(t *testing.T) {
	tests := map[string]func(s *scene, workers, rival *process){
		"a pinned spinner":          func(_ *scene, _, r *process) { r.threads[0].allowed = []int{1} },
		"a real-time rival":         func(_ *scene, _, r *process) { r.threads[0].policy = "fifo" },
		"a kernel thread":           func(_ *scene, _, r *process) { r.Kernel = true },
		"a nice'd batch waits":      func(_ *scene, w, _ *process) { each(w, func(t *th) { t.nice = 19 }) },
		"a batch that may be late":  func(_ *scene, w, _ *process) { each(w, func(t *th) { t.policy = "idle" }) },
		"a light group waits":       func(s *scene, _, _ *process) { s.cgroups[1].Weight = 20 },
		"the same cgroup":           func(_ *scene, w, r *process) { r.CGroupID = w.CGroupID },
		"the rival is below":        func(s *scene, _, r *process) { s.cgroups[2].ParentID = s.cgroups[1].ID },
		"others wait there, too":    func(s *scene, _, _ *process) { s.queues[1].waiting = 1.6 },
		"nobody has it for himself": func(_ *scene, _, r *process) { r.threads[0].run = 0.5 },
		"pinned, and no core idle":  func(_ *scene, w, _ *process) { each(w, func(t *th) { t.allowed = []int{0} }) },
		"few wait":                  func(s *scene, _, _ *process) { s.queues[0].waiting = 3.9 },
		"not listed":                func(s *scene, _, _ *process) { s.procs = nil },
		"groups are not known":      func(s *scene, _, _ *process) { s.cgroups = nil },
	}
	for name, change := range tests {
		s, workers, rival := crowd(t)
		change(s, workers, rival)
		if got := s.ticks(8); len(got) > 0 {
			t.Errorf("%s: %v", name, sentences(got))
		}
	}
}

func each(p *process, f func(*th)) {
	for i := range p.threads {
		f(&p.threads[i])
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
