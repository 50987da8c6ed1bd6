// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const bornNS = 1000

func newTestTable() *threadTable {
	t := newThreadTable(&cgroupTable{groups: make(map[uint64]*groupState)})
	t.bornNS = bornNS
	return t
}

// aThread is thread tid of process tgid, which began at start and had run and
// waited so much by then. Its address is its number.
func aThread(tid, tgid uint32, start, run, wait uint64) bpf.SchedThread {
	raw := bpf.SchedThread{Task: uint64(tid), Tid: tid, Tgid: tgid, StartNs: start, RunNs: run, WaitNs: wait, CgroupId: 9}
	if tid == tgid {
		raw.LeaderNs = start
	}
	return raw
}

// of makes it one of the process whose main thread began at leader.
func of(leader uint64, raw bpf.SchedThread) bpf.SchedThread {
	raw.LeaderNs = leader
	return raw
}

func (t *threadTable) tickOf(raws ...bpf.SchedThread) {
	t.nextTick()
	t.take(raws)
}

func want(t *testing.T, what string, got sample.RunTimes, run, wait uint64) {
	t.Helper()
	if got.RunNS != run || got.WaitNS != wait {
		t.Errorf("%s: ran %d and waited %d, want %d and %d", what, got.RunNS, got.WaitNS, run, wait)
	}
}

// TestThreadsSinceAttach: what was before attach does not count, what began
// later counts from its begin, and an end is counted once.
func TestThreadsSinceAttach(t *testing.T) {
	tab := newTestTable()
	old := aThread(7, 7, 500, 100, 10)
	tab.seed(&old)
	tab.tickOf(aThread(7, 7, 500, 130, 15), of(500, aThread(8, 7, 2000, 20, 2)))
	want(t, "process", tab.procs[7].total, 50, 7)
	want(t, "new thread", tab.threads[8].total, 20, 2)
	want(t, "cgroup", tab.groups.groups[9].own.RunTimes, 50, 7)

	tab.nextTick()
	end := of(500, aThread(8, 7, 2000, 25, 2))
	tab.end(&end)
	tab.end(&end) // told twice it would be a new one, which began after attach
	if p := tab.procs[7]; p.live != 1 || p.ended {
		t.Errorf("%d live threads, ended %v", p.live, p.ended)
	}
	last := aThread(7, 7, 500, 140, 15)
	tab.end(&last)
	if !tab.procs[7].ended {
		t.Error("a process without threads is not ended")
	}
}

// TestThreadEndedUnseen: one that lived between two ticks counts in full; one
// that ended while herdtrace attached does not.
func TestThreadEndedUnseen(t *testing.T) {
	tab := newTestTable()
	tab.nextTick()
	short, before := aThread(5, 5, 3000, 40, 4), aThread(6, 6, 900, 77, 7)
	tab.end(&short)
	tab.end(&before)
	want(t, "short-lived", tab.procs[5].total, 40, 4)
	if !tab.procs[5].ended || tab.procs[6] != nil {
		t.Errorf("processes %v", tab.procs)
	}
}

// TestThreadNumberReused: the number of a thread whose end was lost is another's,
// and so is that of a process.
func TestThreadNumberReused(t *testing.T) {
	tab := newTestTable()
	tab.tickOf(aThread(5, 5, 3000, 40, 4))
	tab.tickOf(aThread(5, 5, 4000, 6, 1))
	want(t, "the new one", tab.procs[5].total, 6, 1)
	if len(tab.ended) != 1 || tab.ended[0].total.RunNS != 40 {
		t.Errorf("the old one is not kept: %+v", tab.ended)
	}
	want(t, "cgroup", tab.groups.groups[9].own.RunTimes, 46, 5)
	late := aThread(5, 5, 3000, 41, 4)
	tab.end(&late)
	if tab.threads[5] == nil || tab.procs[5].ended {
		t.Error("the end of the old one ended the new one")
	}
}

// TestThreadExec: a thread that execs takes the number and the start of the main
// thread, which has ended, and counts on; what it was is gone.
func TestThreadExec(t *testing.T) {
	tab := newTestTable()
	tab.tickOf(aThread(7, 7, 2000, 10, 1), of(2000, aThread(8, 7, 2100, 20, 2)))
	main := aThread(7, 7, 2000, 11, 1)
	tab.end(&main)
	after := aThread(7, 7, 2000, 25, 3)
	after.Task = 8
	tab.tickOf(after)
	want(t, "process", tab.procs[7].total, 36, 4)
	if len(tab.threads) != 1 || tab.procs[7].live != 1 {
		t.Errorf("%d threads, %d live", len(tab.threads), tab.procs[7].live)
	}
}

// TestShortProcess: one whose threads begin and end within a tick is one process.
func TestShortProcess(t *testing.T) {
	tab := newTestTable()
	for tid := uint32(6); tid >= 4; tid-- {
		end := of(3000, aThread(tid, 4, 3000+uint64(tid), 10, 1))
		tab.end(&end)
	}
	want(t, "process", tab.procs[4].total, 30, 3)
	if len(tab.ended) != 0 || !tab.procs[4].ended || tab.procs[4].startNS != 3000 {
		t.Errorf("ended %v, %+v", tab.ended, tab.procs[4])
	}
}

// TestAllThreads: passes over all find those whose end was lost; one that is on
// its way out is not counted twice.
func TestAllThreads(t *testing.T) {
	tab := newTestTable()
	tab.tickOf(aThread(1, 1, 2000, 1, 0), of(2000, aThread(2, 1, 2000, 1, 0)), aThread(3, 3, 2000, 1, 0))
	all := []bpf.SchedThread{aThread(1, 1, 2000, 2, 0)}
	tab.sweep(all)
	late := aThread(3, 3, 2000, 5, 0)
	tab.end(&late)
	want(t, "late", tab.procs[3].total, 5, 0)
	tab.sweep(all)
	if len(tab.threads) != 1 || tab.procs[1].live != 1 || !tab.procs[3].ended {
		t.Errorf("%d threads, %+v", len(tab.threads), tab.procs)
	}
}

// TestThreadTableFull: what finds no place is counted, and the rest goes on.
func TestThreadTableFull(t *testing.T) {
	tab := newTestTable()
	tab.bound = 2
	tab.tickOf(aThread(1, 1, 2000, 1, 0), aThread(2, 2, 2000, 1, 0), aThread(3, 3, 2000, 1, 0))
	if len(tab.evicted) != 1 || len(tab.threads) != 2 {
		t.Errorf("%d evicted, %d kept", len(tab.evicted), len(tab.threads))
	}
}

// TestWaitParts: what was throttled of a thread's waits counts once, also when
// it ended meanwhile or its number went to another.
func TestWaitParts(t *testing.T) {
	tab := newTestTable()
	part := func(tid uint32, start, throttled uint64) bpf.SchedWaits {
		return bpf.SchedWaits{Task: uint64(tid), Tid: tid, StartNs: start, ThrottledNs: throttled}
	}
	tab.tickOf(aThread(1, 1, 2000, 1, 100), aThread(2, 2, 2000, 1, 100))
	if gone := tab.takeWaits([]bpf.SchedWaits{part(1, 2000, 30), part(2, 2000, 40)}, 1); gone != nil {
		t.Errorf("%v are gone", gone)
	}
	tab.nextTick()
	end := aThread(1, 1, 2000, 1, 150)
	tab.end(&end)
	gone := tab.takeWaits([]bpf.SchedWaits{part(1, 2000, 35), part(2, 2000, 40)}, 1)
	if !slices.Equal(gone, []uint32{1}) {
		t.Errorf("%v are gone, want 1", gone)
	}
	if a, b := tab.procs[1].total.ThrottledNS, tab.procs[2].total.ThrottledNS; a != 35 || b != 40 {
		t.Errorf("throttled %d and %d, want 35 and 40", a, b)
	}
	tab.tickOf(aThread(2, 2, 5000, 1, 10))
	tab.takeWaits([]bpf.SchedWaits{part(2, 2000, 40)}, 1)
	if tab.procs[2].total.ThrottledNS != 0 {
		t.Errorf("the new owner of an address got the old one's waits: %+v", tab.procs[2].total)
	}
	// One that is not known yet keeps its element, for a tick.
	if gone := tab.takeWaits([]bpf.SchedWaits{part(9, 6000, 40)}, 1); gone != nil {
		t.Errorf("%v are gone", gone)
	}
	if gone := tab.takeWaits([]bpf.SchedWaits{part(9, 6000, 40)}, 1); !slices.Equal(gone, []uint32{9}) {
		t.Errorf("%v are gone, want 9", gone)
	}
}

// TestStallsOfOnePeriod: cores that are let go together make one event; those of
// the last moment wait for others.
func TestStallsOfOnePeriod(t *testing.T) {
	const ms = 1_000_000
	stall := func(group uint64, cpu uint32, end, length uint64, tids ...uint32) bpf.SchedStall {
		s := bpf.SchedStall{CgroupId: group, Cpu: cpu, MonoNs: end, FromNs: end - length, ToNs: end, Threads: uint32(len(tids)), TidsN: uint32(len(tids))}
		copy(s.Tids[:], tids)
		return s
	}
	groups := &cgroupTable{groups: map[uint64]*groupState{4: {id: 4, named: true, path: "/a"}}}
	r := &stallReader{swept: time.Now(), held: []bpf.SchedStall{
		stall(4, 1, 1000*ms+5, 60*ms, 11),
		stall(4, 0, 1000*ms, 80*ms, 12, 13),
		stall(4, 0, 1000*ms+1, 70*ms, 14), // another leaf of it on core 0
		stall(5, 0, 1000*ms, 10*ms),
		stall(4, 0, 1100*ms, 20*ms, 12),
		stall(4, 0, 1990*ms, 90*ms, 12),
	}}
	got := r.events(2000*ms, false, groups)
	if len(got) != 3 || len(r.held) != 1 {
		t.Fatalf("%d events and %d held, want 3 and 1: %+v", len(got), len(r.held), got)
	}
	i := slices.IndexFunc(got, func(e sample.Event) bool { return e.CGroupID == 4 })
	e := got[i]
	if e.CGroup != "/a" || e.Cores != 2 || e.DurationNS != 80*ms || e.ThrottledNS != 140*ms || e.Threads != 4 || len(e.TIDs) != 4 || e.MonoNS != 1000*ms+5 {
		t.Errorf("event %+v", e)
	}
	if got = r.events(2001*ms, true, groups); len(got) != 1 {
		t.Errorf("the last tick holds events back: %+v", got)
	}
}

// TestRunqPeak: a core that has not switched since the last tick has no peak but
// what is there.
func TestRunqPeak(t *testing.T) {
	for _, tt := range []struct {
		raw  bpf.SchedCore
		want uint32
	}{
		{bpf.SchedCore{Epoch: 5, Peak: 2, PeakBefore: 7, Runnable: 1}, 7},
		{bpf.SchedCore{Epoch: 4, Peak: 6, PeakBefore: 9, Runnable: 1}, 6},
		{bpf.SchedCore{Epoch: 3, Peak: 6, PeakBefore: 9, Runnable: 3}, 3},
	} {
		if q := runqOf(&tt.raw, 5, 0); q.Peak != tt.want {
			t.Errorf("peak %d, want %d: %+v", q.Peak, tt.want, tt.raw)
		}
	}
	q := runqOf(&bpf.SchedCore{SwitchedNs: 100, BusyNs: 7}, 1, 150)
	if q.BusyNS != 57 || q.IdleNS != 0 {
		t.Errorf("the present turn is missing: %+v", q)
	}
	q = runqOf(&bpf.SchedCore{SwitchedNs: 100, IdleSinceNs: 100, IdleNs: 7}, 1, 150)
	if q.IdleNS != 57 || q.BusyNS != 0 {
		t.Errorf("the present idle spell is missing: %+v", q)
	}
}
