// SPDX-License-Identifier: Apache-2.0

package live

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const ms = uint64(time.Millisecond)

func schedHeader() *sample.Header {
	h := fullHeader()
	for _, name := range []string{model.SignalRunq, model.SignalThrottle, model.SignalCPUTime} {
		h.Signals = append(h.Signals, sample.Signal{Name: name, Variant: "v", Accuracy: sample.Exact})
	}
	return h
}

// runqAt is a core's run queue after t seconds, in each of which it is busy for
// so many milliseconds, threads wait for so many, some of them for a quota, and
// for so many a thread waits beside an idle core.
func runqAt(t, busy, waits, throttled, unclaimed uint64, peak uint32) *sample.Runq {
	return &sample.Runq{
		BusyNS: t * busy * ms, IdleNS: t * (1000 - busy) * ms, Switches: t * (busy + waits), Waits: t * waits,
		WaitNS: t * waits * ms, ThrottledNS: t * throttled * ms, UnclaimedNS: t * unclaimed * ms,
		Wait: []uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, t * (900 + 1000/(1+waits)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, t * waits / 10}, Len: peak, Peak: peak,
	}
}

// taskAt is a thread after t seconds, in each of which it runs and waits for so
// many milliseconds.
func taskAt(tid uint32, comm string, cpu int, t, run, wait uint64) sample.Thread {
	return sample.Thread{TID: tid, Comm: comm, CPU: cpu, RunTimes: sample.RunTimes{RunNS: t * run * ms, WaitNS: t * wait * ms},
		Switches: sample.Switches{Voluntary: t * 10, Involuntary: t * 80, Wakes: t * 10}}
}

// processOf is a process of these threads.
func processOf(pid uint32, program string, cgroup uint64, threads ...sample.Thread) sample.Process {
	p := sample.Process{PID: pid, StartNS: uint64(pid), Comm: program, Program: program, CGroupID: cgroup, Threads: len(threads), Top: threads}
	for _, t := range threads {
		p.RunTimes.Add(t.RunTimes)
		p.Switches.Add(t.Switches)
	}
	claimed := p.RunNS
	p.ClaimedNS = &claimed
	return p
}

// bandwidthAt is a quota, of which so many thousandths of the periods and so
// many milliseconds a second are throttled.
func bandwidthAt(t, quota, throttled, stopped uint64) *sample.Bandwidth {
	return &sample.Bandwidth{QuotaUS: quota, PeriodUS: 100_000, Periods: t * 10, Throttled: t * throttled / 100, ThrottledNS: t * stopped * ms}
}

// pileAt is a host where ten of gunicorn's workers may run on core 3 only.
func pileAt(t uint64, s *sample.Sample) {
	for i, q := range []*sample.Runq{runqAt(t, 410, 30, 0, 0, 2), runqAt(t, 520, 60, 0, 10, 3), runqAt(t, 20, 0, 0, 0, 1), runqAt(t, 1000, 9200, 0, 980, 11)} {
		c := coreAt(i, t, uint64(i), 1500, 0)
		c.Times.BusyNS, c.Times.IdleNS, c.Runq = q.BusyNS, q.IdleNS, q
		s.CPUs = append(s.CPUs, c)
	}
	var workers []sample.Thread
	for i := range uint32(12) {
		w := taskAt(21873+i, "gunicorn", 3, t, 90, 880)
		w.Allowed, w.MaskNS = []int{3}, t*850*ms
		if i >= 10 {
			w = taskAt(21873+i, "gunicorn", int(i)%2, t, 300, 4)
		}
		workers = append(workers, w)
	}
	pinned := workers[9]
	pinned.CPUSet, pinned.Allowed, pinned.PendingNS, pinned.Nice, pinned.Policy = true, []int{0, 1, 3}, 120*ms, 10, "batch"
	workers[9] = pinned
	s.Sched = &sample.Sched{ThreadsTotal: 812, Processes: []sample.Process{
		processOf(21873, "gunicorn", 7001, workers...),
		processOf(812, "nginx", 7002, taskAt(812, "nginx", 1, t, 95, 2)),
		{PID: 24, StartNS: 24, Comm: "ksoftirqd/3", Kernel: true, RunTimes: sample.RunTimes{RunNS: t * ms, WaitNS: t * 4 * ms}, Threads: 1},
		{PID: 900, StartNS: 900, Comm: "\x1b[2J", Program: "日本語\u202e\x1b]0;x\a", CGroupID: 7003, Ended: true},
	}}
	s.Sched.Contended = []sample.Contention{
		{PID: 21873, Holder: 21873, HolderComm: "gunicorn", WaitNS: t * 310 * ms},
		{PID: 21873, Holder: 24, HolderComm: "ksoft\x1birqd/3", WaitNS: t * 12 * ms},
	}
	s.CGroups = []sample.CGroup{{ID: 1, Path: "/"}, {ID: 7001, ParentID: 1, Path: "/system.slice/api.service", RunTimes: s.Sched.Processes[0].RunTimes, Threads: 12}}
}

// pileView is the CPU panel of that host.
func pileView() View {
	v := play(schedHeader(), 60, func(t uint64, s *sample.Sample) {
		s.Accept.Listeners = []sample.Listener{queued(nginx, t, 0, 0, 0, 0, 0)}
		pileAt(t, s)
	})
	v.UI.Panel = CPUs
	v.Active = []diagnose.Finding{
		{ID: "runq-pile", CPU: 3, State: diagnose.Raised, Severity: diagnose.Crit, Subject: "core 3",
			Evidence: "10 threads wait for it while 2.9 other cores are idle", Cause: "10 threads of gunicorn may run only there", Remedy: "taskset -apc 0-15 21873"},
		{ID: "cputime-frozen", CPU: -1, PID: 812, State: diagnose.Raised, Severity: diagnose.Warn, Subject: "process 812 (nginx)", Evidence: "/proc claims no CPU time"},
	}
	return v
}

// throttleAt is a host of cgroups, of which one is stopped in 40 % of its periods.
func throttleAt(t uint64, s *sample.Sample) {
	for i := range 2 {
		c := coreAt(i, t, 0, 0, 0)
		c.Runq = runqAt(t, 960, 5200, 4100, 0, 9)
		c.Times.BusyNS, c.Times.IdleNS = c.Runq.BusyNS, c.Runq.IdleNS
		s.CPUs = append(s.CPUs, c)
	}
	times := func(run, wait, throttled, mask, stolen uint64) sample.RunTimes {
		return sample.RunTimes{RunNS: t * run * ms, WaitNS: t * wait * ms, ThrottledNS: t * throttled * ms, MaskNS: t * mask * ms, StolenNS: t * stolen * ms}
	}
	p := processOf(21873, "api", 7001, taskAt(21873, "api", 0, t, 1000, 0), taskAt(21874, "api-worker", 1, t, 900, 8200))
	p.RunTimes = times(1900, 8200, 8100, 10, 0)
	s.Sched = &sample.Sched{Processes: []sample.Process{p, processOf(31000, "cart", 7003, taskAt(31000, "cart", 1, t, 210, 900))}}
	s.CGroups = []sample.CGroup{
		{ID: 1, Path: "/", RunTimes: times(2400, 10400, 8100, 10, 90), Threads: 40},
		{ID: 7000, ParentID: 1, Path: "/system.slice", RunTimes: times(1950, 8400, 8100, 10, 0), Threads: 36, Weight: 100},
		{ID: 7001, ParentID: 7000, Path: "/system.slice/api.service", RunTimes: times(1900, 8200, 8100, 10, 0), Threads: 34, Weight: 100, CFS: bandwidthAt(t, 200_000, 400, 310)},
		{ID: 7002, ParentID: 1, Path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6d9f0c1e.slice", CFS: bandwidthAt(t, 150_000, 0, 0), Weight: 39},
		{ID: 7003, ParentID: 7002, Path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6d9f0c1e.slice/cri-containerd-9e1c.scope",
			RunTimes: times(210, 900, 0, 0, 90), Threads: 3, Weight: 39, CFS: bandwidthAt(t, 50_000, 0, 0)},
		{ID: 7004, ParentID: 1, Path: "/evil\x1b[2J\u202e名前\nslice"},
	}
	s.CGroups[2].CFS.BurstUS = 50_000
	if t > 0 {
		s.Events = []sample.Event{
			{Kind: sample.EventThrottle, MonoNS: t*second - 400*ms, CGroupID: 7001, CGroup: "/system.slice/api.service", DurationNS: 62 * ms, ThrottledNS: 110 * ms, Cores: 2, Threads: 34},
			{Kind: sample.EventThrottle, MonoNS: t*second - 300*ms, CGroupID: 7004, CGroup: "/evil\x1b[2J\u202e名前\nslice", DurationNS: 900_000, ThrottledNS: 900_000, Cores: 1, Threads: 1},
		}
	}
}

// throttleView is the cgroup panel of that host.
func throttleView() View {
	h := schedHeader()
	h.CPUs = 2
	v := play(h, 60, func(t uint64, s *sample.Sample) {
		s.Accept.Listeners = []sample.Listener{queued(gunicorn, t, 0, 0, 0, 0, 0)}
		throttleAt(t, s)
	})
	v.UI.Panel = CGroups
	v.Events = v.Frame.Events
	v.Active = []diagnose.Finding{
		{ID: "cfs-throttle", CPU: -1, CGroupID: 7001, State: diagnose.Raised, Severity: diagnose.Crit, Subject: "cgroup /system.slice/api.service",
			Evidence: "throttled in 40% of its periods, worst stall 62 ms", Cause: "34 threads use the quota of 2.0 cores up in bursts", Remedy: "CPUQuota=400%"},
		{ID: "cpu-oversold", CPU: -1, State: diagnose.Raised, Severity: diagnose.Warn, Subject: "host", Evidence: "quotas sold its 2 cores 1.75 times"},
	}
	return v
}

// noRunq is the same where only cpu.stat tells.
func noRunq() View {
	v := throttleView()
	for i := range v.Header.Signals {
		if s := &v.Header.Signals[i]; s.Name == model.SignalRunq || s.Name == model.SignalCPUTime {
			*s = sample.Signal{Name: s.Name, Accuracy: sample.Unavailable, Rejected: []sample.Rejection{{Variant: "switch", Error: "tp_btf/sched_switch: not supported\x1b[2J"}}}
		}
	}
	v.Frame.Sched, v.Active, v.Events = nil, nil, nil
	for i := range v.Frame.CPUs {
		v.Frame.CPUs[i].Runq = nil
	}
	for _, g := range v.Frame.CGroups {
		g.Delta, g.Used, g.Waiting, g.WorstStallNS = sample.RunTimes{}, model.Unknown(), model.Unknown(), 0
	}
	return v
}
