// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// stallsMeet is how far apart the cores of a cgroup may be let go by the same
	// timer (kernel/sched/fair.c: distribute_cfs_runtime()).
	stallsMeet = 2 * time.Millisecond
	// stallsHeld is how long to wait for the other cores: an end is seen when the
	// core next runs a thread of the group.
	stallsHeld = 100 * time.Millisecond
	// stallsKept bounds what is held between two ticks.
	stallsKept = 1 << 14
	// stallsPerTick bounds the events of a tick.
	stallsPerTick = 1024
	// bpfStallTIDs is STALL_TIDS of sched_record.h.
	bpfStallTIDs = len(bpf.SchedStall{}.Tids)
	// stallStateIdle is after what time a run queue's state may go: a group may
	// be gone, and nothing tells.
	stallStateIdle = time.Minute
	// stallStateShort is that once half of their map is taken, for those that are
	// in no stop.
	stallStateShort = time.Second
)

// stallReader makes events of the stops of single run queues.
type stallReader struct {
	kern    *kernel
	states  *ebpf.Map
	ring    *ringbuf.Reader
	rec     ringbuf.Record
	held    []bpf.SchedStall
	dropped uint64
	swept   time.Time
	crowded bool // half of states was taken when it was swept
}

func newStallReader(k *kernel) (*stallReader, error) {
	ring, err := ringbuf.NewReader(k.mapOf("stalls"))
	if err != nil {
		return nil, fmt.Errorf("open stall ring: %w", err)
	}
	return &stallReader{kern: k, states: k.mapOf("stall_states"), ring: ring, swept: time.Now()}, nil
}

// Close unmaps the ring.
func (r *stallReader) Close() { r.ring.Close() }

// forget drops the state of all run queues, and the threads that were stopped in
// them: one that begins anew in no stop loses nothing, what happened unseen must
// not look like one long stop, and who ended unseen would stay.
func (r *stallReader) forget() error {
	if err := emptyMap[uint64, bpf.SchedStallState](r.states); err != nil {
		return fmt.Errorf("read stopped run queues: %w", err)
	}
	if err := emptyMap[uint32, bpf.SchedParked](r.kern.mapOf("parked_threads")); err != nil {
		return fmt.Errorf("read stopped threads: %w", err)
	}
	if err := emptyMap[uint32, uint64](r.kern.mapOf("woken")); err != nil {
		return fmt.Errorf("read woken threads: %w", err)
	}
	return r.kern.setVariable("parked_now", int64(0))
}

// emptyMap deletes all elements of a map that nobody writes to.
func emptyMap[K comparable, V any](m *ebpf.Map) error {
	var key K
	var value V
	var keys []K
	it := m.Iterate()
	for it.Next(&key, &value) {
		keys = append(keys, key)
	}
	for _, key := range keys {
		m.Delete(key) // it may be gone
	}
	return it.Err()
}

// drain empties the ring, without waiting.
func (r *stallReader) drain(unread *uint64) {
	raws, err := drainRing[bpf.SchedStall](r.ring, &r.rec)
	if err != nil {
		*unread++
	}
	room := max(stallsKept-len(r.held), 0)
	if n := len(raws) - room; n > 0 {
		r.dropped += uint64(n)
		raws = raws[:room]
	}
	r.held = append(r.held, raws...)
}

// events returns one event for each cgroup and period, the oldest first. Those
// of the last moment are held back, unless it is the last tick.
func (r *stallReader) events(nowNS uint64, final bool, groups *cgroupTable) []sample.Event {
	r.sweep(nowNS)
	slices.SortFunc(r.held, func(a, b bpf.SchedStall) int {
		return cmp.Or(cmp.Compare(a.CgroupId, b.CgroupId), cmp.Compare(a.MonoNs, b.MonoNs), cmp.Compare(a.Cpu, b.Cpu))
	})
	var out []sample.Event
	var later []bpf.SchedStall
	for rest := r.held; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].CgroupId == rest[0].CgroupId && rest[n].MonoNs-rest[0].MonoNs < uint64(stallsMeet) {
			n++
		}
		if !final && rest[n-1].MonoNs+uint64(stallsHeld) > nowNS {
			later = append(later, rest[:n]...)
		} else {
			out = append(out, stallEvent(rest[:n], groups))
		}
		rest = rest[n:]
	}
	r.held = later
	slices.SortStableFunc(out, func(a, b sample.Event) int { return cmp.Compare(a.MonoNS, b.MonoNS) })
	if n := len(out) - stallsPerTick; n > 0 {
		r.dropped += uint64(n)
		out = out[:stallsPerTick]
	}
	return out
}

// stallEvent merges the stops of one group that end together. Several run queues
// of one core belong to descendants: the core counts once.
func stallEvent(stalls []bpf.SchedStall, groups *cgroupTable) sample.Event {
	e := sample.Event{
		Kind:     sample.EventThrottle,
		MonoNS:   stalls[len(stalls)-1].MonoNs,
		CGroupID: groups.real(stalls[0].CgroupId),
	}
	e.CGroup = groups.path(e.CGroupID)
	byCore := make(map[uint32]uint64)
	named := true // each thread that waited is among the TIDs
	for i := range stalls {
		s := &stalls[i]
		length := s.ToNs - s.FromNs
		byCore[s.Cpu] = max(byCore[s.Cpu], length)
		e.DurationNS = max(e.DurationNS, length)
		e.Threads += s.Threads
		named = named && s.Threads <= s.TidsN
		for _, tid := range s.Tids[:min(int(s.TidsN), len(s.Tids))] {
			if len(e.TIDs) < bpfStallTIDs && !slices.Contains(e.TIDs, tid) {
				e.TIDs = append(e.TIDs, tid)
			}
		}
	}
	if n := len(e.TIDs); named && n < bpfStallTIDs {
		e.Threads = uint32(n) // one may have waited on two cores
	}
	for _, length := range byCore {
		e.ThrottledNS += length
	}
	e.Cores = uint32(len(byCore))
	return e
}

// sweep frees the states of run queues that have long been quiet; once half of
// the map is taken, at each tick. One that begins anew in no stop loses nothing.
func (r *stallReader) sweep(nowNS uint64) {
	if !r.crowded && time.Since(r.swept) < stallStateIdle/4 {
		return
	}
	r.swept = time.Now()
	var key uint64
	var s bpf.SchedStallState
	var idle, short []uint64
	n := 0
	it := r.states.Iterate()
	for it.Next(&key, &s) {
		n++
		switch quiet := time.Duration(less(nowNS, s.UsedMonoNs)); {
		case quiet > stallStateIdle:
			idle = append(idle, key)
		case quiet > stallStateShort && s.StoppedNs == 0:
			short = append(short, key)
		}
	}
	if r.crowded = 2*n > int(r.states.MaxEntries()); r.crowded {
		idle = append(idle, short...)
	}
	for _, key := range idle {
		r.states.Delete(key)
	}
}
