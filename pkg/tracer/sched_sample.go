// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// threadsPerProcess bounds the threads that a process is listed with.
	threadsPerProcess = 64
	// threadMinActive is what a thread must have run or waited to be listed: in
	// the tick, and on the last one since attach.
	threadMinActive = time.Millisecond
	// claimsPerTick is how many of the busiest processes are asked what they claim.
	claimsPerTick = 32
)

func threadComm(b []uint8) string { return unix.ByteSliceToString(b) }

// sample lists who was active. The tracer leaves itself out.
func (r *schedBase) sample(final bool) *sample.Sched {
	out := &sample.Sched{ThreadsTotal: r.threadsTotal}
	procs := r.active(final)
	r.masks.nextTick()
	var all map[*processState][]*threadState
	if final {
		all = r.table.byProcess()
	}
	room := sample.MaxThreads
	for i, p := range procs {
		s := r.processSample(p)
		if final {
			s.Top = r.threadSamples(all[p], (*threadState).did, &room)
		} else {
			s.Top = r.threadSamples(p.active, (*threadState).busy, &room)
		}
		if i < claimsPerTick && !p.kernel {
			s.ClaimedNS = r.claims.of(p.pid, p.startNS)
		}
		out.Processes = append(out.Processes, s)
	}
	out.Contended = r.contention()
	for _, p := range r.table.procs {
		p.reported = p.ended
	}
	return out
}

// active are the processes to list, the most active first.
func (r *schedBase) active(final bool) []*processState {
	self := uint32(os.Getpid())
	var procs []*processState
	weight := func(p *processState) uint64 {
		if final {
			return p.total.RunNS + p.total.WaitNS
		}
		return p.tick.RunNS + p.tick.WaitNS
	}
	for _, p := range r.table.procs {
		if p.pid != self && (weight(p) > 0 || p.tick != (sample.RunTimes{})) {
			procs = append(procs, p)
		}
	}
	if final {
		procs = append(procs, r.table.ended...)
	}
	slices.SortFunc(procs, func(a, b *processState) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a.pid, b.pid))
	})
	return procs[:min(len(procs), sample.MaxProcesses)]
}

func (r *schedBase) processSample(p *processState) sample.Process {
	s := sample.Process{
		PID: p.pid, StartNS: p.startNS, Comm: p.comm, CGroupID: r.groups.real(p.cgroupID), Kernel: p.kernel,
		RunTimes: p.total, Switches: p.switched, Threads: len(p.active), Ended: p.ended,
	}
	if !p.kernel && !p.ended {
		s.Program = r.procs.program(p.pid)
	}
	return s
}

// threadSamples lists a process's threads that did most.
func (r *schedBase) threadSamples(threads []*threadState, did func(*threadState) uint64, room *int) (out []sample.Thread) {
	most := slices.Clone(threads)
	slices.SortFunc(most, func(a, b *threadState) int {
		return cmp.Or(cmp.Compare(did(b), did(a)), cmp.Compare(a.raw.Tid, b.raw.Tid))
	})
	for _, st := range most[:min(len(most), threadsPerProcess)] {
		if *room == 0 || did(st) < uint64(threadMinActive) {
			break
		}
		*room--
		out = append(out, r.threadSample(st))
	}
	return out
}

// busy is how much it ran or waited in the tick, or waits by now.
func (st *threadState) busy() uint64 {
	return st.tick.RunNS + max(st.tick.WaitNS, st.raw.PendingNs)
}

// did is how much it ran or waited since attach.
func (st *threadState) did() uint64 { return st.total.RunNS + st.total.WaitNS }

func (r *schedBase) threadSample(st *threadState) sample.Thread {
	s := sample.Thread{
		TID: st.raw.Tid, Comm: threadComm(st.raw.Comm[:]), CPU: int(st.raw.Cpu),
		RunTimes: st.total, Switches: st.switched, PendingNS: st.raw.PendingNs,
		Nice: int(st.raw.Nice), Policy: policyName(st.raw.Policy),
	}
	if int(st.raw.Allowed) < len(r.online) && r.table.threads[st.raw.Task] == st {
		s.Allowed, s.CPUSet = r.masks.of(st.raw.Tgid, st.raw.Tid, st.raw.StartNs)
	}
	return s
}

// contention lists the longest. There may be thousands of pairs: only those that
// are listed are worth a name.
func (r *schedBase) contention() []sample.Contention {
	self := uint32(os.Getpid())
	longest := make([]*bpf.SchedContention, 0, len(r.contended))
	for i := range r.contended {
		if c := &r.contended[i]; c.Who.Tgid != self {
			longest = append(longest, c)
		}
	}
	slices.SortFunc(longest, func(a, b *bpf.SchedContention) int {
		return cmp.Or(cmp.Compare(b.WaitNs, a.WaitNs), cmp.Compare(a.Who.Tgid, b.Who.Tgid), cmp.Compare(a.Who.Holder, b.Who.Holder))
	})
	longest = longest[:min(len(longest), sample.MaxContended)]
	out := make([]sample.Contention, 0, len(longest))
	for _, c := range longest {
		out = append(out, sample.Contention{PID: c.Who.Tgid, Holder: c.Who.Holder, HolderComm: threadComm(c.Comm[:]), WaitNS: c.WaitNs})
	}
	return out
}
