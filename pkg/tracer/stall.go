// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"time"

	"github.com/herdtrace/herdtrace/bpf"
)

const (
	// stallThreads bounds how many threads one check looks at.
	stallThreads = 256
	// peeksPerListener bounds how often the workers of a listener are looked
	// at between ticks.
	peeksPerListener = 10
	// maxLookCost bounds what one look is taken to cost: a single slow one, on
	// a machine that had no time for us, must not put off the next for long.
	maxLookCost = 3 * time.Millisecond
)

// checkQueues looks, between ticks, for connections that wait in an accept queue
// while every worker sleeps in its wait for connections: what an edge-triggered
// worker without a drain loop leaves behind. A healthy server shows a queue in
// bursts, but never with all of its workers asleep: a look at one that does is
// taken twice, and counts only if nothing was accepted in between.
//
// With many listeners it looks less often, and so stays within about 1 % of a core.
func (r *acceptReader) checkQueues() error {
	start := time.Now()
	if start.Sub(r.looked) < 100*r.lookCost {
		return nil
	}
	defer func() { r.looked, r.lookCost = start, min(time.Since(start), r.mostLookCost()) }()
	raws, err := r.dumpListeners()
	if err != nil {
		return err
	}
	var suspects []*bpf.AcceptListener
	var fresh []*listenerState
	for i := range raws {
		raw := &raws[i]
		if raw.Live == 0 {
			continue // the tick sees to it
		}
		ls := r.listener(raw)
		if raw.Ready > 0 && ls.peeks < peeksPerListener {
			ls.peeks++
			fresh = append(fresh, ls)
		}
		if raw.AcceptQueueLen == 0 || !r.isSelected(ls) {
			continue
		}
		ls.queued++
		if r.allAsleep(ls) {
			suspects = append(suspects, raw)
		}
	}
	if _, err := r.drainRetired(); err != nil {
		return err
	}
	if r.listen != nil {
		r.listen.arm(r)
	}
	if len(suspects) > 0 {
		if err := r.confirmStalls(suspects); err != nil {
			return err
		}
	}
	if err := r.refreshHolders(); err != nil {
		return err
	}
	return r.peek(fresh)
}

// mostLookCost bounds what one look is taken to cost. Without BPF it is what it
// is: sock_diag goes through all sockets for it.
func (r *acceptReader) mostLookCost() time.Duration {
	if r.polled != nil {
		return time.Second
	}
	return maxLookCost
}

// peek looks at the workers of listeners that have just begun to take
// connections: what only /proc knows of them must be read while they live, and
// a run may be shorter than the interval.
func (r *acceptReader) peek(fresh []*listenerState) error {
	if len(fresh) == 0 {
		return nil
	}
	workers, err := r.dumpWorkers()
	if err != nil {
		return err
	}
	r.takeWorkers(workers, false)
	for _, ls := range fresh {
		for _, w := range ls.workers {
			r.resolve(ls, w)
		}
	}
	return nil
}

func (r *acceptReader) confirmStalls(suspects []*bpf.AcceptListener) error {
	raws, err := r.dumpListeners()
	if err != nil {
		return err
	}
	again := make(map[uint64]*bpf.AcceptListener, len(raws))
	for i := range raws {
		again[raws[i].Ino] = &raws[i]
		if ls := r.byInode[raws[i].Ino]; ls != nil && raws[i].Protocol != 0 {
			ls.queues.notePeaks(ls, &raws[i])
		}
	}
	taken := func(l *bpf.AcceptListener) uint64 { return l.Ready - uint64(l.AcceptQueueLen) }
	for _, s := range suspects {
		if l := again[s.Ino]; l != nil && l.AcceptQueueLen > 0 && taken(l) == taken(s) {
			r.byInode[s.Ino].stalled++
		}
	}
	return nil
}

// allAsleep reports whether every thread that may take a connection from ls
// sleeps, at least one of them in a wait for ls, and no worker anywhere else (a
// worker that sleeps in a read or a lock is busy with a client), unless it is held
// there by others, as of the last tick and now.
func (r *acceptReader) allAsleep(ls *listenerState) bool {
	waiting, looked := false, 0
	seen := make(map[uint32]bool)
	for _, w := range ls.workers {
		if w.ended || r.isStranger(ls, w) {
			continue
		}
		seen[w.raw.Tgid] = true
		if looked++; looked > stallThreads {
			return false
		}
		held := w.raw.State&stoppedStates != 0 && isHeld(w.raw.Tgid)
		if !held && !r.waitsFor(ls.raw.Ino, w.raw.Tgid, w.raw.Tid) {
			return false
		}
		waiting = true
	}
	for pid := range r.holders.of[ls.raw.Ino] {
		if seen[pid] {
			continue
		}
		if looked++; looked > stallThreads {
			return false
		}
		if _, asleep := sleepsIn(pid, pid); !asleep {
			return false
		}
		waiting = waiting || r.waitsFor(ls.raw.Ino, pid, pid)
	}
	return waiting
}
