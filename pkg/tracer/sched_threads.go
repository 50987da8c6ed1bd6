// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"slices"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// tableThreads bounds the threads that are known one by one.
const tableThreads = 1 << 18

// threadTable adds up what threads did, by process and by cgroup. The kernel
// keeps each thread's sums; the table keeps what they were when it looked last.
type threadTable struct {
	bornNS  uint64 // CLOCK_BOOTTIME of attach: what began later began at 0
	threads map[uint32]*threadState
	procs   map[uint32]*processState
	ended   []*processState // of those that were listed as ended, the ones that did most
	groups  *cgroupTable
	seen    map[uint32]bool         // threads of this tick
	gone    map[uint32]*threadState // ended in this tick
	bound   int
	evicted uint64 // threads that found no place
}

// threadState is one live thread.
type threadState struct {
	raw      bpf.SchedThread // as last seen
	proc     *processState
	waits    bpf.SchedWaits // as last seen
	total    sample.RunTimes
	switched sample.Switches
	tick     sample.RunTimes // in this tick
	active   bool            // in this tick
}

// processState is one process, live or just ended.
type processState struct {
	pid      uint32
	startNS  uint64 // of its main thread; 0 while not seen
	comm     string
	kernel   bool
	cgroupID uint64
	live     int // threads
	active   []*threadState
	tick     sample.RunTimes
	total    sample.RunTimes
	switched sample.Switches
	ended    bool
	reported bool // that it ended
}

func newThreadTable(groups *cgroupTable) *threadTable {
	return &threadTable{
		threads: make(map[uint32]*threadState),
		procs:   make(map[uint32]*processState),
		seen:    make(map[uint32]bool),
		gone:    make(map[uint32]*threadState),
		groups:  groups,
		bound:   tableThreads,
	}
}

// has reports whether the process is known.
func (t *threadTable) has(pid uint32) bool { return pid == 0 || t.procs[pid] != nil }

// seed takes in a thread as it is at attach.
func (t *threadTable) seed(raw *bpf.SchedThread) {
	if st := t.add(raw); st != nil {
		st.raw = *raw
	}
}

// add makes a place for a thread that begins at 0, nil where there is none.
func (t *threadTable) add(raw *bpf.SchedThread) *threadState {
	if len(t.threads) >= t.bound {
		t.evicted++
		return nil
	}
	p := t.procs[raw.Tgid]
	if p != nil && p.ended {
		t.bury(p) // its number is another's now
		p = nil
	}
	if p == nil {
		p = &processState{pid: raw.Tgid, kernel: raw.Kernel != 0, cgroupID: raw.CgroupId, comm: threadComm(raw.Comm[:])}
		t.procs[raw.Tgid] = p
	}
	if raw.Tid == raw.Tgid {
		p.startNS = raw.StartNs
	}
	p.live++
	st := &threadState{proc: p, raw: bpf.SchedThread{StartNs: raw.StartNs, Tid: raw.Tid, Tgid: raw.Tgid}}
	t.threads[raw.Tid] = st
	return st
}

// bury keeps the ended processes that did most.
func (t *threadTable) bury(p *processState) {
	p.active, p.tick = nil, sample.RunTimes{}
	t.ended = append(t.ended, p)
	if len(t.ended) < 2*sample.MaxProcesses {
		return
	}
	slices.SortFunc(t.ended, func(a, b *processState) int {
		return cmp.Compare(b.total.RunNS+b.total.WaitNS, a.total.RunNS+a.total.WaitNS)
	})
	clear(t.ended[sample.MaxProcesses:])
	t.ended = t.ended[:sample.MaxProcesses]
}

// nextTick forgets what was of the last one.
func (t *threadTable) nextTick() {
	for pid, p := range t.procs {
		if p.reported {
			delete(t.procs, pid)
			t.bury(p)
			continue
		}
		p.tick = sample.RunTimes{}
		for _, st := range p.active {
			st.active, st.tick = false, sample.RunTimes{}
		}
		p.active = p.active[:0]
	}
}

// take takes in live threads. Where these are all, others are gone.
func (t *threadTable) take(raws []bpf.SchedThread, all bool) {
	for i := range raws {
		raw := &raws[i]
		st := t.threads[raw.Tid]
		if st != nil && st.raw.StartNs != raw.StartNs {
			t.remove(st) // its end was lost
			st = nil
		}
		if st == nil {
			if st = t.add(raw); st == nil {
				continue
			}
			if raw.StartNs < t.bornNS && t.evicted > 0 {
				st.raw = *raw // it had no place at attach: what it did is not known
			}
		}
		t.update(st, raw)
	}
	if !all {
		return
	}
	clear(t.seen)
	for i := range raws {
		t.seen[raws[i].Tid] = true
	}
	for tid, st := range t.threads {
		if !t.seen[tid] {
			t.remove(st)
		}
	}
}

// update adds what st did since it was seen last.
func (t *threadTable) update(st *threadState, raw *bpf.SchedThread) {
	old, p := &st.raw, st.proc
	d := sample.RunTimes{RunNS: less(raw.RunNs, old.RunNs), WaitNS: less(raw.WaitNs, old.WaitNs)}
	s := sample.Switches{
		Voluntary:   less(raw.Voluntary, old.Voluntary),
		Involuntary: less(raw.Involuntary, old.Involuntary),
		Migrations:  less(raw.Migrations, old.Migrations),
	}
	// It runs when it was woken, or goes on after it was preempted.
	s.Wakes = less(less(raw.Arrivals, old.Arrivals), s.Involuntary)
	st.raw = *raw
	st.total.Add(d)
	st.switched.Add(s)
	p.total.Add(d)
	p.switched.Add(s)
	if raw.Tid == raw.Tgid {
		p.startNS, p.comm, p.cgroupID = raw.StartNs, threadComm(raw.Comm[:]), raw.CgroupId
	}
	t.groups.add(raw.CgroupId, d)
	t.note(st, d)
}

// note counts d in this tick.
func (t *threadTable) note(st *threadState, d sample.RunTimes) {
	st.tick.Add(d)
	st.proc.tick.Add(d)
	if !st.active {
		st.active = true
		st.proc.active = append(st.proc.active, st)
		t.groups.active(st.raw.CgroupId)
	}
}

// end takes in a thread's last word.
func (t *threadTable) end(raw *bpf.SchedThread) {
	st := t.threads[raw.Tid]
	if st != nil && st.raw.StartNs != raw.StartNs {
		return // the number is another's by now, and the end was found out otherwise
	}
	if st == nil {
		if raw.StartNs < t.bornNS {
			return // it had ended before it could be looked at
		}
		if st = t.add(raw); st == nil {
			return
		}
	}
	t.update(st, raw)
	t.remove(st)
}

// remove forgets a thread that is gone; its sums stay with its process.
func (t *threadTable) remove(st *threadState) {
	t.gone[st.raw.Tid] = st
	delete(t.threads, st.raw.Tid)
	st.proc.live--
	if st.proc.live <= 0 {
		st.proc.ended = true
	}
}

// byProcess groups the live threads.
func (t *threadTable) byProcess() map[*processState][]*threadState {
	out := make(map[*processState][]*threadState)
	for _, st := range t.threads {
		out[st.proc] = append(out[st.proc], st)
	}
	return out
}

// takeWaits takes in what of the threads' waits is no contention, and returns
// the threads whose element may go.
func (t *threadTable) takeWaits(raws []bpf.SchedWaits) (gone []uint32) {
	for i := range raws {
		raw := &raws[i]
		if st := t.threads[raw.Tid]; st != nil && st.raw.StartNs == raw.StartNs {
			t.addWaits(st, raw)
			continue
		}
		if st := t.gone[raw.Tid]; st != nil && st.raw.StartNs == raw.StartNs {
			t.addWaits(st, raw)
		}
		if t.threads[raw.Tid] == nil { // else the number is used again, and so is the element
			gone = append(gone, raw.Tid)
		}
	}
	clear(t.gone)
	return gone
}

func (t *threadTable) addWaits(st *threadState, raw *bpf.SchedWaits) {
	d := sample.RunTimes{
		ThrottledNS: less(raw.ThrottledNs, st.waits.ThrottledNs),
		MaskNS:      less(raw.MaskNs, st.waits.MaskNs),
		StolenNS:    less(raw.StolenNs, st.waits.StolenNs),
	}
	st.waits = *raw
	if d == (sample.RunTimes{}) {
		return
	}
	st.total.Add(d)
	st.proc.total.Add(d)
	t.note(st, d)
}
