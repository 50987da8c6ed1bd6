// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// longWait is from when on a wait is taken apart: it costs some 400 ns, and
	// what is shorter hurts nobody. It is part of the wait all the same, as
	// contention.
	longWait = 100 * time.Microsecond
	// lookGap is how often a core on which threads wait looks at each other one.
	lookGap = 500 * time.Microsecond
	// clockSlack is what the run queues' clocks may differ by, and be behind:
	// that of a core that runs one thread moves at its tick.
	clockSlack = 20 * time.Millisecond
	// allThreadsEvery is how often every thread is looked at, so that one whose
	// end was lost does not stay for ever.
	allThreadsEvery = 30 * time.Second
)

// schedBase is what both readers of the scheduler have.
type schedBase struct {
	kern         *kernel
	table        *threadTable
	groups       *cgroupTable
	procs        *procCache
	claims       *claims
	masks        *affinities
	online       []int
	contended    []bpf.SchedContention
	steal        map[int]uint64 // of each core, at attach
	allAt        time.Time      // when every thread was looked at last
	threadsTotal int
	unread       uint64 // how often something could not be read
}

func newSchedBase(k *kernel, o *Options) schedBase {
	groups := newCGroupTable(o.HostRoot)
	return schedBase{
		kern: k, groups: groups, table: newThreadTable(groups), procs: newProcCache(), claims: newClaims(),
		masks: newAffinities(), steal: make(map[int]uint64),
	}
}

// schedReader turns the scheduler's maps and files into Sample.Sched,
// Sample.CGroups and the Runq of Sample.CPUs.
type schedReader struct {
	schedBase
	cores       *ebpf.Map
	itThreads   *link.Iter
	itWaits     *link.Iter // of threads
	itCGroups   *link.Iter // the waits of cgroups
	itRivals    *link.Iter
	exits       *ringbuf.Reader
	rec         ringbuf.Record
	stalls      *stallReader
	possible    int
	epoch       uint32
	threadsShed bool          // look at threads every threadsShedEvery
	lookedAt    time.Time     // at threads
	lookCPU     time.Duration // what that cost
	skipped     uint64        // ticks at which they were not looked at

	clockAhead  int64           // the run queues' clock, of CLOCK_MONOTONIC
	est         *estimates[int] // by core; nil as long as the hook was always there
	span        time.Time       // since when the hook is there
	times       map[int]*sample.CPUTimes
	attachedFor time.Duration // since scaledAt, in spans that are over
	scaledAt    time.Time
}

// newSchedReader returns nil where the runq signal is not measured. What it
// counts begins now. Where it fails, nothing is left open.
func newSchedReader(k *kernel, o *Options) (r *schedReader, err error) {
	if k.chosen[SignalRunq] == nil {
		return nil, nil
	}
	r = &schedReader{schedBase: newSchedBase(k, o), cores: k.mapOf("cores")}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	r.possible = ebpfCPUs()
	for _, it := range []struct {
		at            **link.Iter
		program, over string
	}{
		{&r.itThreads, "dump_threads", ""},
		{&r.itWaits, "dump_waits", "thread_waits"},
		{&r.itCGroups, "dump_waits", "cgroup_waits"},
		{&r.itRivals, "dump_contended", "contended"},
	} {
		var over *ebpf.Map
		if it.over != "" {
			over = k.mapOf(it.over)
		}
		if *it.at, err = k.iterator(it.program, over); err != nil {
			return r, err
		}
	}
	if r.exits, err = ringbuf.NewReader(k.mapOf("exits")); err != nil {
		return r, fmt.Errorf("open exit ring: %w", err)
	}
	if r.stalls, err = newStallReader(k); err != nil {
		return r, err
	}
	_, cpus := readHost()
	r.noteBorn(cpus)
	return r, r.begin()
}

// begin looks at every thread: what they have done by now does not count.
func (r *schedReader) begin() error {
	raws, err := r.threads(true)
	if err != nil {
		return err
	}
	r.seed(raws)
	return r.seedWaits()
}

// noteBorn notes what there was at attach.
func (r *schedBase) noteBorn(cpus []sample.CPU) {
	for i := range cpus {
		if cpus[i].Times != nil {
			r.steal[cpus[i].CPU] = cpus[i].Times.StealNS
		}
	}
	r.table.bornNS = bootNS()
}

// seed takes in every thread as it is at attach.
func (r *schedBase) seed(raws []bpf.SchedThread) {
	var pids []uint32
	for i := range raws {
		r.table.seed(&raws[i])
		if raws[i].Tid == raws[i].Tgid && raws[i].Kernel == 0 {
			pids = append(pids, raws[i].Tgid)
		}
	}
	r.claims.seed(pids)
}

// seedWaits leaves out the waits that ended between the attaching of the hook
// and the look at the threads.
func (r *schedReader) seedWaits() error {
	byThread, err := readIter[bpf.SchedWaits](r.itWaits)
	if err != nil {
		return fmt.Errorf("read waits of threads: %w", err)
	}
	for i := range byThread {
		if st := r.table.threads[byThread[i].Task]; st != nil && st.raw.StartNs == byThread[i].StartNs {
			st.waits = byThread[i]
		}
	}
	byGroup, err := readIter[bpf.SchedWaits](r.itCGroups)
	if err != nil {
		return fmt.Errorf("read waits of cgroups: %w", err)
	}
	for i := range byGroup {
		r.groups.waits[byGroup[i].CgroupId] = byGroup[i]
	}
	return nil
}

// noteHierarchy says in the Header which of the two the cgroups are in, or that
// they cannot be seen.
func (r *schedBase) noteHierarchy() {
	if r.groups.files == nil {
		r.kern.withdraw(r.groups.why, SignalThrottle)
		return
	}
	note := "cgroup v1"
	if r.groups.files.tree.v2 {
		note = "cgroup v2"
	}
	for i := range r.kern.signals {
		s := &r.kern.signals[i]
		if s.Name != SignalThrottle || s.Accuracy == sample.Unavailable {
			continue
		}
		if s.Note != "" {
			note += "; " + s.Note
		}
		s.Note = note
	}
}

// Close detaches the iterators and unmaps the rings.
func (r *schedReader) Close() {
	if r == nil {
		return
	}
	for _, it := range []*link.Iter{r.itThreads, r.itWaits, r.itCGroups, r.itRivals} {
		if it != nil {
			it.Close()
		}
	}
	if r.exits != nil {
		r.exits.Close()
	}
	if r.stalls != nil {
		r.stalls.Close()
	}
	r.schedBase.Close()
}

// Close closes files.
func (r *schedBase) Close() {
	r.groups.Close()
	r.masks.Close()
}

func ebpfCPUs() int {
	n, err := ebpf.PossibleCPU()
	if err != nil || n > bpfMaxCores {
		return bpfMaxCores
	}
	return n
}

// bpfMaxCores is MAX_CORES of sched_record.h.
const bpfMaxCores = 512

// bootNS is now, on the clock that threads' start times are on.
func bootNS() uint64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with a valid pointer
	return uint64(ts.Nano())
}

// threads returns those that were active since the last call, or all.
func (r *schedReader) threads(all bool) ([]bpf.SchedThread, error) {
	var since uint64
	if !all {
		if err := r.kern.variable("seen_at_ns", &since); err != nil {
			return nil, err
		}
		since -= min(since, uint64(clockSlack))
	}
	if err := r.kern.setVariable("active_since_ns", since); err != nil {
		return nil, err
	}
	at := monoNS()
	raws, err := readIter[bpf.SchedThread](r.itThreads)
	if err != nil {
		return nil, fmt.Errorf("read threads: %w", err)
	}
	var seen uint64
	if err := r.kern.variable("seen_at_ns", &seen); err != nil {
		return nil, err
	}
	r.clockAhead = int64(seen) - int64(at)
	return raws, nil
}

// between is called between ticks: the rings must not fill up.
func (r *schedReader) between() {
	if r == nil {
		return
	}
	r.takeExits()
	r.stalls.drain(&r.unread)
}

// takeExits takes in the threads that ended.
func (r *schedReader) takeExits() {
	raws, err := drainRing[bpf.SchedThread](r.exits, &r.rec)
	for i := range raws {
		r.table.end(&raws[i])
	}
	r.count(err)
}

// count counts an error: the scheduler alone must not end the trace.
func (r *schedBase) count(err error) {
	if err != nil {
		r.unread++
	}
}

// fill completes s and returns the events since the last call. What cannot be
// read is absent from s, and counted.
func (r *schedReader) fill(s *sample.Sample) []sample.Event {
	if r == nil {
		return nil
	}
	r.takeExits() // before: an address may have gone to a new thread
	looked := true
	switch {
	case r.isOff():
		// What threads waited for cannot be told, nor what became of those that ended.
		r.fillCores(s)
	case r.threadsShed && !s.Final && time.Since(r.lookedAt) < threadsShedEvery:
		r.skipped++
		r.fillCores(s)
		looked = false
	default:
		began := processTime()
		r.fillThreads(s)
		r.lookCPU = processTime() - began
		r.lookedAt = time.Now()
	}
	s.CGroups = r.groups.samples(looked, s.Final)
	for _, id := range r.groups.dropped {
		r.kern.mapOf("cgroup_waits").Delete(id)
	}
	r.groups.dropped = nil
	r.stalls.drain(&r.unread)
	return r.stalls.events(s.MonoNS, s.Final, r.groups)
}

// fillThreads looks at the threads, and the cores.
func (r *schedReader) fillThreads(s *sample.Sample) {
	all := s.Final || time.Since(r.allAt) >= allThreadsEvery
	raws, err := r.threads(all)
	r.count(err)
	r.table.take(raws)
	r.fillCores(s)
	r.takeExits()
	if all && err == nil {
		r.table.sweep(raws)
		r.allAt = time.Now()
	}
	r.takeWaits()
	// What processes claim is compared with what their threads did by now.
	var total uint32
	r.count(r.kern.variable("threads_total", &total))
	r.threadsTotal = int(total)
	s.Sched = r.sample(s.Final)
	r.groups.addRivals(r.contended, r.table)
	r.procs.nextTick()
	r.table.nextTick() // what ends from now on is of the next one
}

// takeWaits reads what of the waits is no contention, and who contends.
func (r *schedReader) takeWaits() {
	byThread, err := readIter[bpf.SchedWaits](r.itWaits)
	r.count(err)
	scale := r.waitScale()
	gone, waits := r.table.takeWaits(byThread, scale), r.kern.mapOf("thread_waits")
	if nearlyFull(waits, len(byThread)) {
		gone = append(gone, r.table.dropWaits(byThread)...)
	}
	for _, tid := range gone {
		waits.Delete(tid)
	}
	byGroup, err := readIter[bpf.SchedWaits](r.itCGroups)
	r.count(err)
	for i := range byGroup {
		r.groups.setWaits(&byGroup[i], scale)
	}
	if r.contended, err = readIter[bpf.SchedContention](r.itRivals); err != nil {
		r.count(err)
		return
	}
	r.trimContended()
}

// nearlyFull reports whether three quarters of the map are taken.
func nearlyFull(m *ebpf.Map, n int) bool { return n >= int(m.MaxEntries())/4*3 }

// trimContended makes room among the pairs: those of processes that are gone, and
// the shortest of the others.
func (r *schedReader) trimContended() {
	m := r.kern.mapOf("contended")
	if !nearlyFull(m, len(r.contended)) {
		return
	}
	slices.SortFunc(r.contended, func(a, b bpf.SchedContention) int { return cmp.Compare(b.WaitNs, a.WaitNs) })
	for i := range r.contended {
		if who := r.contended[i].Who; i >= len(r.contended)/2 || !r.table.has(who.Tgid) || !r.table.has(who.Holder) {
			m.Delete(who)
		}
	}
}

// fillCores reads each core's counters. The peaks of the interval end here.
func (r *schedReader) fillCores(s *sample.Sample) {
	r.epoch++
	r.count(r.kern.setVariable("peak_epoch", r.epoch))
	if online := numbersOf(s.CPUs); !slices.Equal(online, r.online) && len(online) > 0 {
		r.online = online
		r.count(r.kern.setOnline(online))
	}
	var raw bpf.SchedCore
	now := r.rqClock()
	for i := range s.CPUs {
		c := &s.CPUs[i]
		if c.CPU >= r.possible {
			continue
		}
		if err := r.cores.Lookup(uint32(c.CPU), &raw); err != nil {
			r.count(err)
			continue
		}
		if r.isOff() {
			continue
		}
		c.Runq = runqOf(&raw, r.epoch, now)
		r.estimated(c.CPU, c.Runq)
		if c.Times != nil {
			steal := less(c.Times.StealNS, r.steal[c.CPU])
			c.Runq.StealNS = &steal
		}
	}
}

// runqOf counts the present turn up to now, a time of this tick.
func runqOf(raw *bpf.SchedCore, epoch uint32, now uint64) *sample.Runq {
	q := &sample.Runq{
		BusyNS:      raw.BusyNs,
		IdleNS:      raw.IdleNs,
		Switches:    raw.Switches,
		WaitNS:      raw.WaitNs,
		Waits:       raw.Waits,
		Wait:        slices.Clone(raw.Wait[:]),
		ThrottledNS: raw.ThrottledNs,
		Len:         raw.Runnable,
		UnclaimedNS: raw.UnclaimedNs,
	}
	if raw.SwitchedNs > 0 && raw.IdleSinceNs > 0 {
		q.IdleNS += less(now, raw.IdleSinceNs)
	} else if raw.SwitchedNs > 0 {
		q.BusyNS += less(now, raw.SwitchedNs)
	}
	// A core is in the new epoch once it has switched since.
	switch raw.Epoch {
	case epoch:
		q.Peak = raw.PeakBefore
	case epoch - 1:
		q.Peak = raw.Peak
	}
	q.Peak = max(q.Peak, q.Len)
	return q
}

// addLost says what found no place.
func (r *schedReader) addLost(lost map[string]uint64) {
	if r == nil {
		return
	}
	if n := r.stalls.dropped; n > 0 {
		lost["stalls_untold"] = n
	}
	r.schedBase.addLost(lost)
}

// addLost says what found no place.
func (r *schedBase) addLost(lost map[string]uint64) {
	for name, n := range map[string]uint64{"sched_unread": r.unread, "thread_table_full": uint64(len(r.table.evicted))} {
		if n > 0 {
			lost[name] = n
		}
	}
	if r.groups.files != nil {
		r.groups.files.addLost(lost)
	}
}
