// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"time"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// pacedNetRX is the netrx signal: a core's counters are its count, run time,
// latency sum and latency slots.
type pacedNetRX struct{ *netrxReader }

func softirqVector(raw *bpf.NetrxNetRx) []uint64 {
	return append([]uint64{raw.Count, raw.RunNs, raw.LatencyNs}, raw.Latency[:]...)
}

// readSoftirqs returns nil where the hooks did not attach.
func (r *netrxReader) readSoftirqs() (counts []bpf.NetrxNetRx, err error) {
	if err := r.softirqs.Lookup(uint32(0), &counts); err != nil {
		return nil, fmt.Errorf("read NET_RX counters: %w", err)
	}
	return counts, nil
}

// estimated replaces a core's counters by what they come to.
func (r *netrxReader) estimated(cpu int, raw *bpf.NetrxNetRx, now time.Time) {
	if r.est == nil {
		return
	}
	v := r.est.see(cpu, softirqVector(raw), now)
	raw.Count, raw.RunNs, raw.LatencyNs = v[0], v[1], v[2]
	copy(raw.Latency[:], v[3:])
}

func (r pacedNetRX) settle(now time.Time) error {
	if r.est == nil {
		r.est = newEstimates[int](now)
	}
	counts, err := r.readSoftirqs()
	for cpu := range counts {
		r.est.see(cpu, softirqVector(&counts[cpu]), now)
	}
	return err
}

func (r pacedNetRX) mark(now time.Time) { r.est.mark(now) }

func (r pacedNetRX) pause(now time.Time, guess bool) {
	r.latency.pause()
	r.est.pause(now, guess)
}

// resume: an entry whose exit was not seen would look like one long softirq.
func (r pacedNetRX) resume(now time.Time) error {
	r.est.resume(now)
	counts, err := r.readSoftirqs()
	if err != nil {
		return err
	}
	for cpu := range counts {
		counts[cpu].EnteredNs, counts[cpu].RaisedNs = 0, 0
	}
	if err := r.softirqs.Put(uint32(0), counts); err != nil {
		return fmt.Errorf("reset NET_RX counters: %w", err)
	}
	return nil
}

func (r pacedNetRX) resumed() { r.latency.resume() }

// workerID is one worker thread of one listener.
type workerID struct {
	ino, startNS uint64
	tid          uint32
}

// pacedWake is the wake signal: the counters of a worker that follow from its
// wake-ups, and how often a listener became ready. What accept returned is
// counted by another signal, and goes on.
type pacedWake struct{ *acceptReader }

// wakeEstimates are nil as long as nothing was sampled.
type wakeEstimates struct {
	workers *estimates[workerID]
	ready   *estimates[uint64] // by inode
	settled int
}

func wakeVector(w *bpf.AcceptWorker) []uint64 {
	return []uint64{w.Wakeups, w.Wasted, w.Drains, w.EmptyWakeups, w.EmptyBursts, w.EmptyNs}
}

// estimated replaces the worker's counters by what they come to.
func (e *wakeEstimates) estimated(w *bpf.AcceptWorker, now time.Time) {
	v := e.workers.see(workerID{w.Ino, w.StartNs, w.Tid}, wakeVector(w), now)
	w.Wakeups, w.Wasted, w.Drains, w.EmptyWakeups, w.EmptyBursts, w.EmptyNs = v[0], v[1], v[2], v[3], v[4], v[5]
}

// estimateWorkers does so for all, where the signal is or was sampled.
func (r *acceptReader) estimateWorkers(raws []bpf.AcceptWorker) {
	if r.est == nil {
		return
	}
	now := time.Now()
	for i := range raws {
		r.est.estimated(&raws[i], now)
	}
}

// ready is how often the listener's socket became ready.
func (r *acceptReader) ready(raw *bpf.AcceptListener) uint64 {
	if r.est == nil {
		return raw.Ready
	}
	return r.est.ready.see(raw.Ino, []uint64{raw.Ready}, time.Now())[0]
}

func (r pacedWake) settle(now time.Time) error {
	if r.est == nil {
		r.acceptReader.est = &wakeEstimates{workers: newEstimates[workerID](now), ready: newEstimates[uint64](now)}
	}
	workers, err := readIter[bpf.AcceptWorker](r.itWorkers)
	if err != nil {
		return fmt.Errorf("read worker map: %w", err)
	}
	listeners, err := readIter[bpf.AcceptListener](r.itListeners)
	if err != nil {
		return fmt.Errorf("read listener map: %w", err)
	}
	r.estimateWorkers(workers)
	for i := range listeners {
		r.ready(&listeners[i])
	}
	if r.est.settled++; r.est.settled%64 == 0 {
		r.est.workers.sweep()
		r.est.ready.sweep()
	}
	return nil
}

func (r pacedWake) mark(now time.Time) {
	r.est.workers.mark(now)
	r.est.ready.mark(now)
}

func (r pacedWake) pause(now time.Time, guess bool) {
	r.est.workers.pause(now, guess)
	r.est.ready.pause(now, guess)
}

// resume clears nothing: a window that was open is closed by the first socket
// that becomes ready, and what is said of a thread holds until it is woken.
func (r pacedWake) resume(now time.Time) error {
	r.est.workers.resume(now)
	r.est.ready.resume(now)
	return nil
}

func (r pacedWake) resumed() {}

// pacedRunq is the runq signal: a core's counters. What threads ran and waited
// is the kernel's own count; what the waits were for is extrapolated.
type pacedRunq struct{ *schedReader }

func runqVector(q *sample.Runq) []uint64 {
	return append([]uint64{q.BusyNS, q.IdleNS, q.Switches, q.WaitNS, q.Waits, q.ThrottledNS, q.UnclaimedNS}, q.Wait...)
}

// estimated replaces a core's counters by what they come to.
func (r *schedReader) estimated(cpu int, q *sample.Runq, now time.Time) {
	if r.est == nil {
		return
	}
	v := r.est.see(cpu, runqVector(q), now)
	q.BusyNS, q.IdleNS, q.Switches, q.WaitNS, q.Waits, q.ThrottledNS, q.UnclaimedNS = v[0], v[1], v[2], v[3], v[4], v[5], v[6]
	copy(q.Wait, v[7:])
	if r.est.paused {
		q.Len, q.Peak = 0, 0 // of when the hook was there
	}
}

// rqClock is about now, on the run queues' clock.
func (r *schedReader) rqClock() uint64 { return uint64(int64(monoNS()) + r.clockAhead) }

func (r pacedRunq) settle(now time.Time) error {
	if r.est == nil {
		r.schedReader.est = newEstimates[int](now)
	}
	var raw bpf.SchedCore
	for _, cpu := range r.online {
		if err := r.cores.Lookup(uint32(cpu), &raw); err != nil {
			return fmt.Errorf("read core %d: %w", cpu, err)
		}
		r.est.see(cpu, runqVector(runqOf(&raw, r.epoch, r.rqClock())), now)
	}
	return nil
}

func (r pacedRunq) mark(now time.Time) {
	r.est.mark(now)
	r.span = now
	r.times = hostTimes()
}

// pause gives a core that did not switch in the whole span the turn that
// /proc/stat saw there.
func (r pacedRunq) pause(now time.Time, guess bool) {
	if r.est.paused {
		r.est.pause(now, guess)
		return
	}
	span := uint64(now.Sub(r.est.at))
	after := hostTimes()
	for cpu, x := range r.est.of {
		known := less(x.total[0], x.opened[0]) + less(x.total[1], x.opened[1])
		was, is := r.times[cpu], after[cpu]
		if known >= span/2 || was == nil || is == nil {
			continue
		}
		if less(is.BusyNS, was.BusyNS) > less(is.IdleNS, was.IdleNS) {
			x.total[0] += span - known
		} else {
			x.total[1] += span - known
		}
	}
	r.est.pause(now, guess)
	r.attachedFor += now.Sub(r.span)
}

func hostTimes() map[int]*sample.CPUTimes {
	_, cpus := readHost()
	out := make(map[int]*sample.CPUTimes, len(cpus))
	for i := range cpus {
		out[cpus[i].CPU] = cpus[i].Times
	}
	return out
}

// resume forgets which turn each core was in: it may have had many since.
func (r pacedRunq) resume(now time.Time) error {
	r.est.resume(now)
	r.span, r.times = now, hostTimes()
	var raw bpf.SchedCore
	for cpu := range uint32(r.possible) {
		if err := r.cores.Lookup(cpu, &raw); err != nil {
			return fmt.Errorf("read core %d: %w", cpu, err)
		}
		raw.SwitchedNs, raw.IdleSinceNs, raw.Runnable = 0, 0, 0
		raw.WaitedNs, raw.LookedNs, raw.OthersIdleNs = 0, 0, 0
		if err := r.cores.Put(cpu, &raw); err != nil {
			return fmt.Errorf("reset core %d: %w", cpu, err)
		}
	}
	return nil
}

func (r pacedRunq) resumed() {}

// waitScale is by how much the waits that were taken apart since the last call
// stand for more.
func (r *schedReader) waitScale() float64 {
	if r.est == nil {
		return 1
	}
	now := time.Now()
	all, seen := now.Sub(r.scaledAt), r.attachedFor
	if !r.est.paused {
		seen += now.Sub(r.span)
		r.span = now
	}
	r.scaledAt, r.attachedFor = now, 0
	if seen <= 0 || all <= seen {
		return 1
	}
	return min(float64(all)/float64(seen), 2/paceShare)
}
