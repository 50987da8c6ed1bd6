// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const ms = uint64(time.Millisecond)

// busy is a host with these processes at so many seconds.
func busy(seconds uint64, ps ...sample.Process) *sample.Sample {
	return &sample.Sample{MonoNS: seconds * second, Sched: &sample.Sched{Processes: ps}}
}

// proc is a process that has run and waited for so many milliseconds.
func proc(pid uint32, run, wait uint64, top ...sample.Thread) sample.Process {
	return sample.Process{PID: pid, StartNS: uint64(pid), RunTimes: sample.RunTimes{RunNS: run * ms, WaitNS: wait * ms}, Top: top}
}

func thread(tid uint32, run, wait uint64) sample.Thread {
	return sample.Thread{TID: tid, RunTimes: sample.RunTimes{RunNS: run * ms, WaitNS: wait * ms}}
}

func runqAt(seconds uint64, q *sample.Runq) *sample.Sample {
	return &sample.Sample{MonoNS: seconds * second, CPUs: []sample.CPU{{CPU: 0, Runq: q}}}
}

func TestRunq(t *testing.T) {
	steal := func(n uint64) *uint64 { return &n }
	was := &sample.Runq{BusyNS: second, IdleNS: second, Switches: 10, WaitNS: second, Waits: 5, ThrottledNS: second, UnclaimedNS: second,
		Wait: []uint64{1, 0, 4}, StealNS: steal(second)}
	now := &sample.Runq{BusyNS: 2 * second, IdleNS: 2 * second, Switches: 30, WaitNS: 7 * second, Waits: 105, ThrottledNS: 3 * second, UnclaimedNS: 2 * second,
		Wait: []uint64{1, 0, 104}, StealNS: steal(second + second/2), Peak: 7}
	r := frames(runqAt(1, was), runqAt(3, now))[1].CPUs[0].Runq
	want(t, "BusyRatio", r.BusyRatio, 0.5)
	want(t, "Waiting", r.Waiting, 2)
	want(t, "ThrottledWaiting", r.ThrottledWaiting, 1)
	want(t, "UnclaimedRatio", r.UnclaimedRatio, 0.5)
	want(t, "SwitchesPerS", r.SwitchesPerS, 10)
	want(t, "WaitP99NS", r.WaitP99NS, 8)
	want(t, "StealRatio", r.StealRatio, 0.25)
	if r.WaitNS != 6*second || r.ThrottledNS != 2*second || r.Runq != now || r.Peak != 7 {
		t.Errorf("%+v", r)
	}
}

// TestRunqUnknown: at first, after a reset of any counter, at a core that was
// not there before; and nothing at all where it is not measured.
func TestRunqUnknown(t *testing.T) {
	was := sample.Runq{BusyNS: 9, IdleNS: 9, Switches: 9, WaitNS: 9, Waits: 9, ThrottledNS: 9, UnclaimedNS: 9}
	less := map[string]func(*sample.Runq){
		"busy": func(q *sample.Runq) { q.BusyNS-- }, "idle": func(q *sample.Runq) { q.IdleNS-- },
		"switches": func(q *sample.Runq) { q.Switches-- }, "wait": func(q *sample.Runq) { q.WaitNS-- },
		"waits": func(q *sample.Runq) { q.Waits-- }, "throttled": func(q *sample.Runq) { q.ThrottledNS-- },
		"unclaimed": func(q *sample.Runq) { q.UnclaimedNS-- },
	}
	rs := map[string]*Runq{
		"first": frames(runqAt(1, &was))[0].CPUs[0].Runq,
		"new":   frames(&sample.Sample{MonoNS: second}, runqAt(2, &was))[1].CPUs[0].Runq,
		"bare":  frames(runqAt(1, nil), runqAt(2, &was))[1].CPUs[0].Runq,
	}
	for name, f := range less {
		now := was
		f(&now)
		rs[name] = frames(runqAt(1, &was), runqAt(2, &now))[1].CPUs[0].Runq
	}
	for name, r := range rs {
		for what, v := range map[string]float64{"BusyRatio": r.BusyRatio, "Waiting": r.Waiting, "ThrottledWaiting": r.ThrottledWaiting,
			"UnclaimedRatio": r.UnclaimedRatio, "SwitchesPerS": r.SwitchesPerS, "WaitP99NS": r.WaitP99NS, "StealRatio": r.StealRatio} {
			want(t, name+": "+what, v, Unknown())
		}
		if r.WaitNS != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if q := frames(runqAt(1, &was), runqAt(2, nil))[1].CPUs[0].Runq; q != nil {
		t.Errorf("not measured, and yet %+v", q)
	}
	r := frames(runqAt(1, &sample.Runq{}), runqAt(2, &sample.Runq{BusyNS: 5 * second, WaitNS: 1, ThrottledNS: 5, UnclaimedNS: 9 * second}))[1].CPUs[0].Runq
	want(t, "BusyRatio of a clock that runs ahead", r.BusyRatio, 1)
	want(t, "UnclaimedRatio likewise", r.UnclaimedRatio, 1)
	want(t, "Waiting, all of it throttled", r.Waiting, 0)
	want(t, "StealRatio, not built in", r.StealRatio, Unknown())
}

// TestWaitingIsBounded by how many threads there were.
func TestWaitingIsBounded(t *testing.T) {
	for _, tt := range []struct {
		peak, length uint32
		want         float64
	}{{0, 0, 5}, {2, 1, 1}, {1, 1, 1}, {4, 3, 3}, {3, 4, 3}, {9, 9, 5}} {
		q := &sample.Runq{WaitNS: 5 * second, Peak: tt.peak, Len: tt.length}
		want(t, "Waiting", frames(runqAt(1, &sample.Runq{}), runqAt(2, q))[1].CPUs[0].Runq.Waiting, tt.want)
	}
}

// TestPendingWaits: who gets no core at all waits, too.
func TestPendingWaits(t *testing.T) {
	at := func(seconds, pending uint64, throttled uint64) *sample.Sample {
		s := runqAt(seconds, &sample.Runq{Len: 4, Peak: 4})
		p := proc(1, 0, 0)
		p.CGroupID = 2
		for tid := range uint32(5) {
			p.Top = append(p.Top, sample.Thread{TID: tid, CPU: int(tid / 4), PendingNS: pending})
		}
		s.Sched = &sample.Sched{Processes: []sample.Process{p}}
		s.CGroups = []sample.CGroup{limited(group(1, 0, 0, 0), 5, 10*seconds, throttled), group(2, 1, 0, 0)}
		return s
	}
	for name, tt := range map[string]struct {
		now  *sample.Sample
		want float64
	}{
		"starved": {at(2, second, 0), 3}, "a while": {at(2, second/2, 0), 0}, "throttled": {at(2, second, 5), 0},
	} {
		want(t, name, frames(at(1, 0, 0), tt.now)[1].CPUs[0].Runq.Waiting, tt.want)
	}
}

func TestProcesses(t *testing.T) {
	a := proc(1, 100, 0, thread(1, 60, 0), thread(2, 40, 0))
	b := proc(2, 100, 100)
	a2 := proc(1, 300, 200, thread(1, 60, 0), thread(2, 240, 200))
	a2.Switches = sample.Switches{Voluntary: 5, Involuntary: 6, Wakes: 7, Migrations: 8}
	b2 := proc(2, 1100, 600)
	c2 := proc(3, 400, 0, thread(3, 400, 0))
	f := frames(busy(1, a, b), busy(3, a2, b2, c2))[1]
	ps := f.Sched.Processes
	if len(ps) != 3 || ps[0].PID != 2 || ps[1].PID != 1 || ps[2].PID != 3 {
		t.Fatalf("order: %+v", ps)
	}
	want(t, "Run", ps[0].Run, 0.5)
	want(t, "Wait", ps[0].Wait, 0.25)
	want(t, "Run of a new one", ps[2].Run, 0.2)
	if ps[1].Delta != (sample.RunTimes{RunNS: 200 * ms, WaitNS: 200 * ms}) || ps[1].Switched != a2.Switches {
		t.Errorf("deltas %+v, %+v", ps[1].Delta, ps[1].Switched)
	}
	top := ps[1].Top
	if len(top) != 2 || top[0].TID != 2 {
		t.Fatalf("threads: %+v", top)
	}
	want(t, "thread's Run", top[0].Run, 0.1)
	want(t, "thread's Wait", top[0].Wait, 0.1)
	want(t, "Run of a new thread", ps[2].Top[0].Run, 0.2)
}

// TestProcessesUnknown: at first, after a reset, and after a tick in which
// nothing was measured.
func TestProcessesUnknown(t *testing.T) {
	a, less := proc(1, 100, 0, thread(1, 100, 0)), proc(1, 50, 0, thread(1, 50, 0))
	switched := proc(1, 200, 0, thread(1, 90, 0))
	switched.Wakes = 1
	backwards := proc(1, 300, 0)
	none := &sample.Sample{MonoNS: 2 * second}
	for name, p := range map[string]Process{
		"first":             frames(busy(1, a))[0].Sched.Processes[0],
		"reset":             frames(busy(1, a), busy(2, less))[1].Sched.Processes[0],
		"switches reset":    frames(busy(1, switched), busy(2, backwards))[1].Sched.Processes[0],
		"after a gap":       frames(busy(1, a), none, busy(3, a))[2].Sched.Processes[0],
		"new after a gap":   frames(busy(1), none, busy(3, a))[2].Sched.Processes[0],
		"first of its time": frames(none, busy(3, a))[1].Sched.Processes[0],
		"no time passed":    frames(busy(1, a), busy(1, a))[1].Sched.Processes[0],
	} {
		want(t, name+": Run", p.Run, Unknown())
		want(t, name+": Wait", p.Wait, Unknown())
		want(t, name+": Claimed", p.Claimed, Unknown())
		if p.Delta != (sample.RunTimes{}) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if f := frames(busy(1, a), none)[1]; f.Sched != nil {
		t.Errorf("not measured, and yet %+v", f.Sched)
	}
}

// TestLastKnownTotals: what was not listed for a while did nothing meanwhile;
// the base is what it had then.
func TestLastKnownTotals(t *testing.T) {
	fs := frames(busy(1, proc(1, 100, 0, thread(1, 100, 0))), busy(2), busy(3), busy(4, proc(1, 600, 0, thread(1, 600, 0))))
	p := fs[3].Sched.Processes[0]
	want(t, "Run", p.Run, 0.5)
	want(t, "thread's Run", p.Top[0].Run, 0.5)
}

// TestFullList: what a full list left out may have done something.
func TestFullList(t *testing.T) {
	full := func(seconds uint64) *sample.Sample {
		s := busy(seconds)
		for i := range sample.MaxProcesses {
			s.Sched.Processes = append(s.Sched.Processes, proc(1000+uint32(i), seconds, 0))
		}
		return s
	}
	last := func(s *sample.Sample, ps ...sample.Process) *sample.Sample {
		s.Sched.Processes = append(s.Sched.Processes[len(ps):], ps...)
		return s
	}
	a := proc(1, 100, 0)
	fs := frames(busy(1, a), full(2), last(full(3), a, proc(2, 5, 0)), last(full(4), a, proc(2, 8, 0)))
	for _, p := range fs[2].Sched.Processes {
		if p.PID < 3 {
			want(t, "Run of what was left out", p.Run, Unknown())
		} else {
			want(t, "Run of what was listed", p.Run, 0.001)
		}
	}
	began := proc(7, 500, 0)
	began.StartNS = 2*second + second/2
	if p := frames(busy(1), full(2), last(full(3), began))[2].Sched.Processes[0]; p.PID != 7 {
		t.Errorf("first: %+v", p)
	} else {
		want(t, "Run of one that began since", p.Run, 0.5)
	}
	for _, p := range fs[3].Sched.Processes {
		if p.PID == 2 {
			want(t, "Run, listed twice", p.Run, 0.003)
		}
	}
}

// TestImpossibleIsUnknown: a first sight of what cannot have happened in one
// interval: a recording that was cut, or a list of threads.
func TestImpossibleIsUnknown(t *testing.T) {
	h := &sample.Header{CPUs: 2}
	p := framesOf(h, busy(1), busy(2, proc(1, 9000, 0, thread(1, 9000, 0), thread(2, 900, 90000))))[1].Sched.Processes[0]
	want(t, "Run of a process", p.Run, Unknown())
	for _, th := range p.Top {
		want(t, "Run of a thread of what is not known", th.Run, Unknown())
	}
	p = framesOf(h, busy(1), busy(2, proc(1, 2010, 0)))[1].Sched.Processes[0]
	want(t, "Run of two cores", p.Run, 2.01)
}

// TestNewThread: its totals are of the interval only where they can be: the list
// may have left it out until now.
func TestNewThread(t *testing.T) {
	for name, tt := range map[string]struct {
		now  sample.Thread
		want float64
	}{
		"new":                       {thread(2, 300, 200), 0.3},
		"ran more than its process": {thread(2, 500, 0), Unknown()},
		"waited more than that":     {thread(2, 300, 900), Unknown()},
		"not in one interval":       {thread(2, 400, 800), Unknown()},
	} {
		f := framesOf(&sample.Header{CPUs: 4}, busy(1, proc(1, 9000, 9000)), busy(2, proc(1, 9400, 9800, tt.now)))[1]
		want(t, name, f.Sched.Processes[0].Top[0].Run, tt.want)
	}
	late := proc(1, 400, 3000, thread(1, 0, 0))
	f := frames(busy(1, proc(1, 0, 0, thread(1, 0, 0))), busy(2, late), busy(3, proc(1, 500, 8000, thread(1, 100, 5000))))[2]
	want(t, "a long wait of a known one", f.Sched.Processes[0].Top[0].Wait, 5)
}

// TestLastTick lists what ended long ago.
func TestLastTick(t *testing.T) {
	dead := proc(1, 100, 0)
	dead.Ended = true
	forgotten := proc(2, 100, 0)
	forgotten.Ended = true
	last := busy(4, dead, forgotten)
	last.Final = true
	fs := frames(busy(1), busy(2, dead), busy(3), last)
	want(t, "Run as it ended", fs[1].Sched.Processes[0].Run, 0.1)
	for _, p := range fs[3].Sched.Processes {
		if p.PID == 1 {
			want(t, "Run of the dead", p.Run, 0)
		} else {
			want(t, "Run of the forgotten", p.Run, Unknown())
		}
	}
}

func TestPIDIsUsedAgain(t *testing.T) {
	again := proc(1, 50, 0)
	again.StartNS = 77
	p := frames(busy(1, proc(1, 100, 0)), busy(2, again))[1].Sched.Processes[0]
	want(t, "Run", p.Run, 0.05)
	if p.Key() != (ProcessKey{1, 77}) {
		t.Errorf("key %+v", p.Key())
	}
}

// TestStartFoundLater: until its main thread is seen, when it began is not known.
func TestStartFoundLater(t *testing.T) {
	early := proc(1, 100, 0)
	early.StartNS = 0
	fs := frames(busy(1), busy(2, early), busy(3, proc(1, 300, 0)), busy(4, proc(1, 400, 0)))
	for i, w := range []float64{0.1, 0.2, 0.1} {
		want(t, "Run", fs[i+1].Sched.Processes[0].Run, w)
	}
}

func TestClaimed(t *testing.T) {
	says := func(run, claimed uint64) sample.Process {
		p := proc(1, run, 0)
		claimed *= ms
		p.ClaimedNS = &claimed
		return p
	}
	fs := frames(busy(1, says(100, 100)), busy(2, says(400, 390)), busy(3, proc(1, 500, 0)), busy(4, says(600, 600)), busy(5, says(700, 590)))
	for i, w := range []float64{Unknown(), 0.29, Unknown(), Unknown(), Unknown()} {
		want(t, "Claimed", fs[i].Sched.Processes[0].Claimed, w)
	}
	// What it did over two intervals is no rate of one.
	fs = frames(busy(1, says(100, 100)), busy(2), busy(3, says(400, 390)))
	want(t, "Claimed after a pause", fs[2].Sched.Processes[0].Claimed, Unknown())
	want(t, "Run after a pause", fs[2].Sched.Processes[0].Run, 0.3)
}

func TestContended(t *testing.T) {
	at := func(seconds uint64, cs ...sample.Contention) *sample.Sample {
		return &sample.Sample{MonoNS: seconds * second, Sched: &sample.Sched{Contended: cs}}
	}
	pair := func(pid, holder uint32, ns uint64) sample.Contention {
		return sample.Contention{PID: pid, Holder: holder, HolderComm: "x", WaitNS: ns}
	}
	fs := frames(at(1, pair(1, 2, 50), pair(1, 3, 100)), at(2, pair(1, 2, 60), pair(1, 3, 100), pair(4, 5, 30)), at(3, pair(1, 2, 5), pair(1, 3, 101)))
	if c := fs[0].Sched.Contended; c != nil {
		t.Errorf("first: %+v", c)
	}
	if c := fs[1].Sched.Contended; len(c) != 2 || c[0].PID != 4 || c[0].Delta != 30 || c[1].Holder != 2 || c[1].Delta != 10 {
		t.Errorf("%+v", c)
	}
	if c := fs[2].Sched.Contended; len(c) != 1 || c[0].Holder != 3 || c[0].Delta != 1 {
		t.Errorf("after a reset: %+v", c)
	}
}

func TestContendedNS(t *testing.T) {
	for _, tt := range []struct {
		t    sample.RunTimes
		want uint64
	}{
		{sample.RunTimes{WaitNS: 10, ThrottledNS: 3, MaskNS: 2, StolenNS: 1}, 4},
		{sample.RunTimes{WaitNS: 10, ThrottledNS: 30, MaskNS: 2}, 0},
		{sample.RunTimes{WaitNS: 10, MaskNS: math.MaxUint64, StolenNS: math.MaxUint64}, 0},
	} {
		if got := ContendedNS(tt.t); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.t, got, tt.want)
		}
	}
}

// TestSchedIsBounded: what the Builder remembers does not grow with the trace,
// and processes that come and go do not make others unknown.
func TestSchedIsBounded(t *testing.T) {
	b := NewBuilder(&sample.Header{CPUs: 2})
	b.Build(busy(1))
	for i := range uint64(400) {
		s := busy(2 + i)
		for j := range uint32(100) {
			p := proc(uint32(i)*100+j, 1, 0, thread(j, 1, 0))
			p.Ended = true
			s.Sched.Processes = append(s.Sched.Processes, p)
			s.Sched.Contended = append(s.Sched.Contended, sample.Contention{PID: p.PID, WaitNS: 1})
		}
		for _, p := range b.Build(s).Sched.Processes {
			if !Known(p.Run) {
				t.Fatalf("tick %d: unknown", i)
			}
		}
	}
	if n := len(b.sched.processes.known); n > mostProcesses {
		t.Errorf("%d processes are kept", n)
	}
	if n := len(b.sched.threads.known); n > mostThreads {
		t.Errorf("%d threads are kept", n)
	}
	if n := len(b.sched.contended.known); n > mostContended {
		t.Errorf("%d pairs are kept", n)
	}
}

// TestBases: what lives and was forgotten makes what seems new unknown; what is
// listed now is never forgotten.
func TestBases(t *testing.T) {
	b := newBases[int, int](4)
	for i := range 6 {
		b.begin()
		b.set(i, i, i == 0)
		b.set(100, i, false)
		b.end(false)
	}
	if len(b.known) > 4 || b.known[100].totals != 5 || !b.lost {
		t.Errorf("%+v", b)
	}
	b.begin()
	if _, isNew, ok := b.of(1); !isNew || ok {
		t.Error("what was forgotten has a base")
	}
	if v, isNew, ok := b.of(100); v != 5 || isNew || !ok {
		t.Error("what was listed has none")
	}
	for i := range 50 {
		b.set(200+i, i, false)
	}
	b.end(false)
	if _, ok := b.known[249]; !ok || len(b.known) != 50 {
		t.Errorf("%d are kept", len(b.known))
	}
}

// TestSchedKeepsItsInput: see TestBuildKeepsItsInput.
func TestSchedKeepsItsInput(t *testing.T) {
	s := busy(2, proc(1, 1, 0, thread(1, 0, 0), thread(2, 1, 0)), proc(2, 5, 0))
	s.CGroups = []sample.CGroup{{ID: 1, Path: "b"}, {ID: 2, Path: "a"}}
	s.Events = []sample.Event{{Kind: sample.EventThrottle, MonoNS: 9}, {Kind: sample.EventThrottle, MonoNS: 3}}
	frames(busy(1), s)
	ids := []uint64{s.CGroups[0].ID, s.CGroups[1].ID, s.Events[0].MonoNS, uint64(s.Sched.Processes[0].PID), uint64(s.Sched.Processes[0].Top[0].TID)}
	if !slices.Equal(ids, []uint64{1, 2, 9, 1, 1}) {
		t.Errorf("the Sample was reordered: %v", ids)
	}
}
