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
	bornNS  uint64                  // CLOCK_BOOTTIME of attach: what began later began at 0
	threads map[uint64]*threadState // by address: a thread that execs keeps it, not its number
	procs   map[uint32]*processState
	ended   []*processState // of those that were listed as ended, the ones that did most
	groups  *cgroupTable
	seen    map[uint32]bool         // threads of this tick
	gone    map[uint64]*threadState // ended in this tick
	orphans map[uint32]bool         // elements of unknown threads, at the last tick
	bound   int
	evicted map[uint64]bool // threads that found no place
}

// threadState is one live thread.
type threadState struct {
	missed   int             // passes over all threads in a row that did not find it
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
	startNS  uint64 // of its main thread
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
		threads: make(map[uint64]*threadState),
		procs:   make(map[uint32]*processState),
		gone:    make(map[uint64]*threadState),
		evicted: make(map[uint64]bool),
		groups:  groups,
		bound:   tableThreads,
	}
}

// has reports whether the process is known.
func (t *threadTable) has(pid uint32) bool { return pid == 0 || t.procs[pid] != nil }

// seed takes in a thread as it is at attach. A wait that goes on is not all ours.
func (t *threadTable) seed(raw *bpf.SchedThread) {
	if st := t.add(raw); st != nil {
		st.raw = *raw
		st.raw.WaitNs += raw.PendingNs
	}
}

// add makes a place for a thread that begins at 0, nil where there is none.
func (t *threadTable) add(raw *bpf.SchedThread) *threadState {
	if len(t.threads) >= t.bound {
		if len(t.evicted) < t.bound {
			t.evicted[raw.Task] = true
		}
		return nil
	}
	p := t.procs[raw.Tgid]
	if p != nil && p.ended && p.startNS != raw.LeaderNs {
		t.bury(p) // its number is another's now
		p = nil
	}
	if p == nil {
		p = &processState{pid: raw.Tgid, startNS: raw.LeaderNs, kernel: raw.Kernel != 0, cgroupID: raw.CgroupId, comm: threadComm(raw.Comm[:])}
		t.procs[raw.Tgid] = p
	}
	p.ended = false // it may end and begin within a tick, thread by thread
	p.live++
	st := &threadState{proc: p, raw: bpf.SchedThread{Task: raw.Task, StartNs: raw.StartNs, Tid: raw.Tid, Tgid: raw.Tgid}}
	t.threads[raw.Task] = st
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

// find returns the thread as it is known, nil where it is new.
func (t *threadTable) find(raw *bpf.SchedThread) *threadState {
	st := t.threads[raw.Task]
	switch {
	case st == nil:
		return nil
	case st.raw.StartNs == raw.StartNs && st.raw.Tid == raw.Tid:
		return st
	case st.execed(raw):
		st.waits = bpf.SchedWaits{} // which are counted anew, under its new number
		return st
	}
	t.remove(st) // the address is another's, and the end of that one was lost
	return nil
}

// execed reports whether raw is the same thread after an exec: it has become the
// main thread of its process, with that one's number and start (fs/exec.c:
// de_thread()), and counts on.
func (st *threadState) execed(raw *bpf.SchedThread) bool {
	return raw.Tid == raw.Tgid && st.raw.Tgid == raw.Tgid && st.raw.Tid != raw.Tid
}

// take takes in live threads.
func (t *threadTable) take(raws []bpf.SchedThread) {
	for i := range raws {
		raw := &raws[i]
		st := t.find(raw)
		if st == nil {
			if st = t.add(raw); st == nil {
				continue
			}
			if raw.StartNs < t.bornNS && len(t.evicted) > 0 {
				st.raw = *raw // it had no place at attach: what it did is not known
			}
		}
		t.update(st, raw)
	}
}

// sweep forgets threads that two passes over all of them did not find: one may
// be on its way out, and not have said so yet.
func (t *threadTable) sweep(raws []bpf.SchedThread) {
	seen := make(map[uint64]bool, len(raws))
	for i := range raws {
		seen[raws[i].Task] = true
	}
	for task, st := range t.threads {
		if st.missed++; seen[task] {
			st.missed = 0
		} else if st.missed > 1 {
			t.remove(st)
		}
	}
	clear(t.evicted)
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
		p.comm, p.cgroupID = threadComm(raw.Comm[:]), raw.CgroupId
	}
	t.groups.add(raw.CgroupId, &activity{d, s})
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
	if st := t.threads[raw.Task]; st != nil && raw.StartNs < st.raw.StartNs && !st.execed(raw) {
		return // the address is a younger one's: this end was found out otherwise
	}
	st := t.find(raw)
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
	t.gone[st.raw.Task] = st
	delete(t.threads, st.raw.Task)
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

// takeWaits takes in what of the threads' waits is no contention, times scale,
// and returns the threads whose element may go: they are gone, or were unknown twice.
func (t *threadTable) takeWaits(raws []bpf.SchedWaits, scale float64) (gone []uint32) {
	orphans := make(map[uint32]bool)
	for i := range raws {
		raw := &raws[i]
		if st := t.threads[raw.Task]; st != nil && st.raw.StartNs == raw.StartNs && st.raw.Tid == raw.Tid {
			t.addWaits(st, raw, scale)
			continue
		}
		st := t.gone[raw.Task]
		if st != nil && st.raw.StartNs == raw.StartNs {
			t.addWaits(st, raw, scale)
			gone = append(gone, raw.Tid)
		} else if t.orphans[raw.Tid] {
			gone = append(gone, raw.Tid)
		} else {
			orphans[raw.Tid] = true
		}
	}
	t.orphans = orphans
	clear(t.gone)
	return gone
}

// dropWaits chooses elements to free when the map is nearly full: those that did
// not change since the last tick. If they do, they begin anew.
func (t *threadTable) dropWaits(raws []bpf.SchedWaits) (tids []uint32) {
	for i := range raws {
		raw := &raws[i]
		if st := t.threads[raw.Task]; st != nil && !st.active {
			st.waits = bpf.SchedWaits{}
			tids = append(tids, raw.Tid)
		}
	}
	return tids
}

func (t *threadTable) addWaits(st *threadState, raw *bpf.SchedWaits, scale float64) {
	d := waitsSince(raw, &st.waits, scale)
	st.waits = *raw
	if d == (sample.RunTimes{}) {
		return
	}
	st.total.Add(d)
	st.proc.total.Add(d)
	t.note(st, d)
}

// waitsSince is what was taken apart since old, times scale where the hook was
// not always there.
func waitsSince(raw, old *bpf.SchedWaits, scale float64) sample.RunTimes {
	d := sample.RunTimes{
		ThrottledNS: less(raw.ThrottledNs, old.ThrottledNs),
		MaskNS:      less(raw.MaskNs, old.MaskNs),
		StolenNS:    less(raw.StolenNs, old.StolenNs),
	}
	if scale > 1 {
		d.ThrottledNS = uint64(scale * float64(d.ThrottledNS))
		d.MaskNS = uint64(scale * float64(d.MaskNS))
		d.StolenNS = uint64(scale * float64(d.StolenNS))
	}
	return d
}
