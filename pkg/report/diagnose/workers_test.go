// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestWorkersAreToBlame: the true cause of a full queue, by what the workers
// did; the queue alone is to blame only where they kept up.
func TestWorkersAreToBlame(t *testing.T) {
	each := func(v float64) []float64 { return []float64{v, v, v, v} }
	full := queues{atSYN: 50, full: 1, peak: 129}
	tests := []struct {
		name          string
		do            traffic
		idle          float64
		cause, remedy string
	}{
		{"saturated, cores idle", traffic{conns: 900, queue: 129, run: each(0.97), wait: each(0.01)}.with(full), 1.2,
			"; its 4 workers are busy 98% of the time while 1.2 cores are idle", "more workers (gunicorn --workers); only then"},
		{"saturated, no core idle", traffic{conns: 900, queue: 129, run: each(0.75), wait: each(0.2)}.with(full), 0.1,
			"; its 4 workers are busy 95% of the time, and no core is idle", "less work for each connection, or more cores; only then"},
		{"starved, cores idle", traffic{conns: 900, queue: 129, run: each(0.2), wait: each(0.7)}.with(full), 1.2,
			"; its 4 workers are runnable 70% of the time without a core while 1.2 cores are idle: throttled by a CPU quota, or pinned",
			"raise its CPU quota (cpu.max, CPUQuota=, --cpus, limits.cpu) or undo its pinning (taskset -cp 1000 shows it); only then"},
		{"starved, no core idle", traffic{conns: 900, queue: 129, run: each(0.2), wait: each(0.7)}.with(full), 0,
			"70% of the time without a core: the host has too few", "fewer runnable threads on this host, or more cores; only then"},
		{"blocked", traffic{conns: 900, queue: 129, looks: 10, run: each(0.1), wait: each(0.1)}.with(full), 2,
			"; its 4 workers sleep 80% of the time, and not in the wait for connections", "find what they wait for (cat /proc/1000/stack)"},
		{"blocked, in pulses", traffic{conns: 900, queue: 100, looks: 10, run: each(0.1)}.with(queues{atSYN: 50, full: 0.3}), 2,
			"; its 4 workers sleep 90% of the time", "find what"},
		{"bursts", traffic{conns: 900, queue: 3, looks: 1, run: each(0.1)}.with(queues{atSYN: 50, full: 0.03}), 2,
			"; the queue is full in bursts and has room between them", "gunicorn --backlog 256"},
		{"nobody accepts, asleep", traffic{conns: 50, unseen: 1, queue: 129, looks: 10, run: each(0)}.with(full), 2,
			"; nobody accepted a connection in the last 1.0 s, its 4 workers sleep 100% of the time", "look where the worker is stuck (cat /proc/1000/stack); only then"},
		{"nobody accepts, running", traffic{conns: 50, unseen: 1, queue: 129, looks: 10, run: each(1)}.with(full), 1,
			"; nobody accepted a connection in the last 1.0 s, its 4 workers run 100% of the time", "look where"},
		{"not known what they do", traffic{conns: 900, queue: 129, run: each(0.4), wait: each(0.2)}.with(full), 1, "raising net.core.somaxconn (4096) will not help", "gunicorn --backlog 256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t).idles(tt.idle)
			v := s.listens("gunicorn", 4, 128).does(tt.do)
			if tt.do.unseen == 1 {
				v.sum[0].accepts = 10 // before: it is not that accepts are not seen
			}
			s.ticks(1)
			f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
			wantTexts(t, f)
			if !strings.HasSuffix(f.Cause, tt.cause) && !strings.Contains(f.Cause, tt.cause+":") && !strings.Contains(f.Cause, tt.cause+",") || !strings.HasPrefix(f.Remedy, tt.remedy) {
				t.Errorf("cause %q, want %q; remedy %q, want %q", f.Cause, tt.cause, f.Remedy, tt.remedy)
			}
		})
	}
}

// TestOneWorker is about the words only; so is TestNoWorker.
func TestOneWorker(t *testing.T) {
	for _, tt := range []struct {
		do    traffic
		cause string
	}{
		{traffic{conns: 900, queue: 129, run: []float64{0.97}}, "its worker is busy 97%"},
		{traffic{conns: 900, queue: 129, wait: []float64{0.97}}, "its worker is runnable 97%"},
		{traffic{conns: 900, queue: 129, looks: 10}, "its worker sleeps 100%"},
	} {
		s := newScene(t).idles(1)
		s.listens("node", 1, 128).does(tt.do.with(queues{atSYN: 50, full: 1}))
		s.ticks(1)
		f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
		wantTexts(t, f)
		if !strings.Contains(f.Cause, tt.cause) {
			t.Errorf("cause %q, want %q", f.Cause, tt.cause)
		}
	}
}

func TestNoWorker(t *testing.T) {
	s := newScene(t)
	v := s.listens("app", 0, 128).does(traffic{queue: 129, looks: 10}.with(queues{atSYN: 50, full: 1}))
	v.completions = 129
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
	wantTexts(t, f)
	if !strings.HasSuffix(f.Cause, "nobody accepted a connection in the last 1.0 s") || !strings.HasPrefix(f.Remedy, "find out why nobody accepts: is the program still starting, or stopped;") {
		t.Errorf("cause %q, remedy %q", f.Cause, f.Remedy)
	}
	if _, ok := f.Values["workers_run_ratio"]; ok {
		t.Errorf("values %v", f.Values)
	}
}

// TestStalledWorkers: accept-stall says why, and how to cure it.
func TestStalledWorkers(t *testing.T) {
	s := newScene(t)
	s.serves("app", sample.WaitEpollET, 2).does(traffic{conns: 20, wakes: 1, queue: 129, looks: 10, stalled: 10}.with(queues{atSYN: 50, full: 1}))
	s.ticks(4)
	got := s.wantIDs("accept-queue-overflow", "accept-stall")
	if !strings.HasSuffix(got[0].Cause, "connections wait while all 2 workers sleep in epoll_wait() (see accept-stall)") || !strings.HasPrefix(got[0].Remedy, "call accept4() in a loop") {
		t.Errorf("cause %q, remedy %q", got[0].Cause, got[0].Remedy)
	}
}

// TestWhatWorkersWaitFor: where the scheduler is looked at, there is no guess.
func TestWhatWorkersWaitFor(t *testing.T) {
	host := func(idle, piledUp float64) func(*scene) {
		return func(s *scene) {
			s.queuesOf(queue{busy: 1, shown: 1, waiting: piledUp, unclaimed: piledUp / 10}, queue{busy: 1 - idle, shown: 1 - idle})
		}
	}
	tests := []struct {
		name          string
		host          func(*scene)
		idle          float64
		thread        th
		cause, remedy string
	}{
		{"throttled", host(1, 1), 1, th{run: 0.2, wait: 0.7, throttled: 0.6},
			" while 1.0 cores are idle: throttled by the CPU quota of cgroup api, 1.0 cores (in 80% of its periods)", "it can use all 2 cores of the host: a quota of that many (echo '200000 100000' > /sys/fs/cgroup/api/cpu.max"},
		{"masked", host(1, 4), 1, th{run: 0.2, wait: 0.7, mask: 0.6, allowed: []int{0}},
			": their affinity mask allows core 0 only (taskset, sched_setaffinity, CPUAffinity=), where they pile up (see runq-pile of core 0)", "taskset -pc 0-1 1000; taskset -pc 0-1 1001; "},
		{"cpuset", host(1, 1), 1, th{run: 0.2, wait: 0.7, mask: 0.6, allowed: []int{0}, cpuset: true}, ": their cpuset allows core 0 only", "echo 0-1 > /sys/fs/cgroup/api/cpuset.cpus"},
		{"masked, by what is not listed", host(1, 1), 1, th{run: 0.2, wait: 0.7, mask: 0.6}, ": their affinity mask or cpuset forbids the cores that are idle", "undo their pinning"},
		{"stolen", host(1, 1), 1, th{run: 0.2, wait: 0.7, stolen: 0.6}, ": the hypervisor runs others meanwhile (steal)", "more CPU time for this virtual machine"},
		{"piled up", host(1, 4), 1, th{run: 0.2, wait: 0.7}, ": they pile up on core 0 (see runq-pile)", "see the remedy of runq-pile at core 0"},
		{"contended", host(0, 1), 0, th{run: 0.2, wait: 0.7}, " without a core: most of it for build (pid 9)", "fewer runnable threads on this host, or more cores"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t).idles(tt.idle)
			tt.host(s)
			root := s.group("/", nil, 0)
			g := s.group("/api", root, 1)
			g.stopped(0.99, 0.8)
			four := []float64{0.7, 0.7, 0.7, 0.7}
			s.listens("gunicorn", 4, 128).does(traffic{conns: 900, queue: 129, run: []float64{0.2, 0.2, 0.2, 0.2}, wait: four}.with(queues{atSYN: 50, full: 1, peak: 129}))
			for i := range uint32(4) {
				p := s.runs("gunicorn", g.ID, tt.thread)
				p.PID = 1000 + i
			}
			s.rivals = []sample.Contention{{PID: 1000, Holder: 9, HolderComm: "build", WaitNS: 5e8}, {PID: 1001, Holder: 1002, WaitNS: 3e8}, {PID: 5, Holder: 6, WaitNS: 9e9}}
			s.ticks(3)
			all := s.set.All()
			i := slices.IndexFunc(all, func(f Finding) bool { return f.ID == "accept-queue-overflow" })
			if i < 0 {
				t.Fatalf("raised %v", sentences(all))
			}
			f := &all[i]
			wantTexts(t, f)
			if !strings.Contains(f.Cause, "its 4 workers are runnable 70% of the time without a core") || !strings.Contains(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, tt.remedy) {
				t.Errorf("cause %q, want %q; remedy %q, want %q", f.Cause, tt.cause, f.Remedy, tt.remedy)
			}
		})
	}
}
