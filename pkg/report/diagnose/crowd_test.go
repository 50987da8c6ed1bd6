// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
)

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
	if want := "the load balancer evens out the weight of cgroups, not the number of threads: all of web.service weigh as much as that one thread of batch.service"; f.Cause != want {
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
		"a rival with a right to it": func(_ *scene, w, r *process) {
			w.CGroupID, r.CGroupID = 1, 1
			r.threads[0].nice = -5
		},
		"it has cores enough":      func(s *scene, _, _ *process) { s.cgroups[1].run = 2.1 },
		"its slice is a light one": func(s *scene, w, _ *process) { inSlice(s, w, 20) },
		"groups are not known":     func(s *scene, _, _ *process) { s.cgroups = nil },
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

// inSlice puts p in a heavy group of a slice that weighs so much.
func inSlice(s *scene, p *process, weight uint32) {
	slice := s.group("/light.slice", s.cgroups[0], 0)
	in := s.group("/light.slice/web.service", slice, 0)
	slice.Weight, in.Weight, p.CGroupID = weight, 1000, in.ID
}

// TestCrowdWeights: those of the siblings that hold the two are weighed, and set.
func TestCrowdWeights(t *testing.T) {
	s, workers, _ := crowd(t)
	inSlice(s, workers, 100)
	s.ticks(4)
	f := s.wantIDs("runq-pile")[0]
	if !strings.Contains(f.Cause, "all of light.slice weigh as much as that one thread of batch.service") ||
		!strings.HasPrefix(f.Remedy, "echo 800 > /sys/fs/cgroup/light.slice/cpu.weight") || strings.Contains(f.Remedy, "docker") {
		t.Errorf("%q; %q", f.Cause, f.Remedy)
	}
}

// compileBeside is make -j beside one busy thread of another group, which has a
// core of its own.
func compileBeside(t testing.TB, cores int, together bool) *scene {
	s := newScene(t).idles(0)
	qs := equal(cores, queue{busy: 1, shown: 1, waiting: 5, unclaimed: 0.01, slot: 25})
	qs[1].waiting = 0.1
	s.queuesOf(qs...)
	root := s.group("/", nil, 0)
	build, other := s.group("/user.slice", root, 0), s.group("/system.slice", root, 0)
	build.run, build.wait, other.run = float64(cores-1), float64(5*cores), 1
	if together {
		build, other = root, root
	}
	for core := range cores {
		if core != 1 {
			s.runs("cc1", build.ID, many(6, th{cpu: core, run: 1. / 6, wait: 5. / 6})...)
		}
	}
	s.runs("convert", other.ID, th{cpu: 1, run: 0.98})
	return s
}

// TestCompileBesideARival: it has more threads than cores, and cores enough.
func TestCompileBesideARival(t *testing.T) {
	for _, cores := range []int{4, 8, 48} {
		for _, together := range []bool{false, true} {
			if got := compileBeside(t, cores, together).ticks(10); len(got) > 0 {
				t.Errorf("%d cores, same group %v: %v", cores, together, sentences(got))
			}
		}
	}
}

// TestCrowdOnce: two crowded cores of one group are one finding.
func TestCrowdOnce(t *testing.T) {
	s := newScene(t).idles(0)
	qs := equal(16, queue{busy: 1, shown: 1, waiting: 0.1, slot: 17})
	qs[4].waiting, qs[9].waiting = 7, 9
	s.queuesOf(qs...)
	root := s.group("/", nil, 0)
	web := s.group("/web", root, 0)
	web.run = 1.9
	for _, cpu := range []int{4, 9} {
		s.runs("gunicorn", web.ID, many(8, th{cpu: cpu, run: 0.12, wait: 0.875})...)
	}
	for cpu := range 16 {
		if cpu != 4 && cpu != 9 {
			s.runs("convert", s.group("/batch-"+string(rune('a'+cpu)), root, 0).ID, th{cpu: cpu, run: 0.98})
		}
	}
	s.ticks(6)
	if f := s.wantIDs("runq-pile")[0]; f.CPU != 4 {
		t.Errorf("%+v", f)
	}
}

// TestWaitersUnknown: a list that was cut, or waits that are not known, prove no
// absence of waiters.
func TestWaitersUnknown(t *testing.T) {
	s := newScene(t)
	s.queuesOf(queue{busy: 1, shown: 1, waiting: 9, unclaimed: 0.9, slot: 25}, idleCore)
	s.runs("kworker", 0, many(520, th{cpu: 0, wait: 0.5})...).Kernel = true
	s.ticks(2)
	s.wantIDs("runq-pile")
	s = newScene(t)
	s.queuesOf(queue{busy: 1, shown: 1, waiting: 9, unclaimed: 0.9, slot: 25}, idleCore)
	for i := range 6 {
		s.ticks(1)
		for range 2 { // new ones, which have waited for longer than there was time
			s.runs("a", 0, th{cpu: 0, wait: 0.5}).sum[0][1] = 1e12
		}
		if n := len(s.set.Active()); i > 0 && n != 1 {
			t.Errorf("tick %d: %v", i, sentences(s.set.Active()))
		}
	}
}
