// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"maps"
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
func (r *netrxReader) estimated(cpu int, raw *bpf.NetrxNetRx) {
	if r.est == nil {
		return
	}
	v := r.est.see(cpu, softirqVector(raw), float64(monoNS()))
	raw.Count, raw.RunNs, raw.LatencyNs = v[0], v[1], v[2]
	copy(raw.Latency[:], v[3:])
}

func (r pacedNetRX) settle() error {
	if r.est == nil {
		r.est = newEstimates[int]()
	}
	counts, err := r.readSoftirqs()
	for cpu := range counts {
		r.est.see(cpu, softirqVector(&counts[cpu]), float64(monoNS()))
	}
	return err
}

func (r pacedNetRX) mark() { r.est.mark() }

func (r pacedNetRX) pause(guess bool) {
	r.latency.pause()
	r.est.pause(guess)
}

// resume: an entry whose exit was not seen would look like one long softirq.
func (r pacedNetRX) resume() error {
	r.est.resume()
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

func idOf(w *bpf.AcceptWorker) workerID { return workerID{w.Ino, w.StartNs, w.Tid} }

// wakeEstimates are nil as long as nothing was sampled. They go on with what was
// accepted, which is always counted, so that wake-ups per connection hold also
// where connections come in bursts; where that is not measured, with the time.
type wakeEstimates struct {
	workers *estimates[workerID]
	ready   *estimates[uint64] // by inode
	byTime  bool
	took    map[workerID]uint64 // accepts, as last seen
	clock   map[uint64]float64  // accepts of a listener, those of ended workers included
	ticks   int
}

func wakeVector(w *bpf.AcceptWorker) []uint64 {
	return []uint64{w.Wakeups, w.Wasted, w.Drains, w.EmptyWakeups, w.EmptyBursts, w.EmptyNs}
}

// estimateWorkers replaces the counters of workers by what they come to, where the
// signal is or was sampled. They are all that there are.
func (r *acceptReader) estimateWorkers(raws []bpf.AcceptWorker) {
	if r.est == nil {
		return
	}
	clocks := r.est.clocks(raws)
	for i := range raws {
		w := &raws[i]
		v := r.est.workers.see(idOf(w), wakeVector(w), clocks(w.Ino))
		w.Wakeups, w.Wasted, w.Drains, w.EmptyWakeups, w.EmptyBursts, w.EmptyNs = v[0], v[1], v[2], v[3], v[4], v[5]
	}
}

// clocks returns what goes on at each listener.
func (e *wakeEstimates) clocks(raws []bpf.AcceptWorker) func(ino uint64) float64 {
	if e.byTime {
		now := float64(monoNS())
		return func(uint64) float64 { return now }
	}
	for i := range raws {
		w := &raws[i]
		id := idOf(w)
		e.clock[w.Ino] += float64(less(w.Accepts, e.took[id]))
		e.took[id] = w.Accepts
	}
	return func(ino uint64) float64 { return e.clock[ino] }
}

// ready is how often the listener's socket became ready; of use where what was
// accepted is not known.
func (r *acceptReader) ready(raw *bpf.AcceptListener) uint64 {
	if r.est == nil {
		return raw.Ready
	}
	return r.est.ready.see(raw.Ino, []uint64{raw.Ready}, float64(monoNS()))[0]
}

// sweepEstimates is called at each tick, when all were seen.
func (r *acceptReader) sweepEstimates() {
	if r.est == nil {
		return
	}
	for _, ls := range r.byInode {
		r.ready(&ls.raw)
	}
	if r.est.ticks++; r.est.ticks%64 == 0 {
		r.est.workers.sweep()
		r.est.ready.sweep()
		maps.DeleteFunc(r.est.took, func(id workerID, _ uint64) bool { return r.est.workers.of[id] == nil })
		maps.DeleteFunc(r.est.clock, func(ino uint64, _ float64) bool { return r.byInode[ino] == nil })
	}
}

// forget is for a worker whose element was deleted: another one begins at 0.
func (e *wakeEstimates) forget(w *bpf.AcceptWorker) {
	if e == nil {
		return
	}
	delete(e.workers.of, idOf(w))
	delete(e.took, idOf(w))
}

func (r pacedWake) settle() error {
	if r.est == nil {
		r.acceptReader.est = &wakeEstimates{
			workers: newEstimates[workerID](), ready: newEstimates[uint64](), byTime: !r.acceptsCounted,
			took: make(map[workerID]uint64), clock: make(map[uint64]float64),
		}
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
	return nil
}

func (r pacedWake) mark() {
	r.est.workers.mark()
	r.est.ready.mark()
}

func (r pacedWake) pause(guess bool) {
	r.est.workers.pause(guess)
	r.est.ready.pause(guess)
}

// resume clears nothing: a window that was open is closed by the first socket
// that becomes ready, and what is said of a thread holds until it is woken.
func (r pacedWake) resume() error {
	r.est.workers.resume()
	r.est.ready.resume()
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
func (r *schedReader) estimated(cpu int, q *sample.Runq) {
	if r.est == nil {
		return
	}
	v := r.est.see(cpu, runqVector(q), float64(monoNS()))
	q.BusyNS, q.IdleNS, q.Switches, q.WaitNS, q.Waits, q.ThrottledNS, q.UnclaimedNS = v[0], v[1], v[2], v[3], v[4], v[5], v[6]
	copy(q.Wait, v[7:])
	if r.est.paused {
		q.Len, q.Peak = 0, 0 // of when the hook was there
	}
}

// rqClock is about now, on the run queues' clock.
func (r *schedReader) rqClock() uint64 { return uint64(int64(monoNS()) + r.clockAhead) }

func (r pacedRunq) settle() error {
	if r.est == nil {
		r.schedReader.est = newEstimates[int]()
	}
	var raw bpf.SchedCore
	for _, cpu := range r.online {
		if err := r.cores.Lookup(uint32(cpu), &raw); err != nil {
			return fmt.Errorf("read core %d: %w", cpu, err)
		}
		r.est.see(cpu, runqVector(runqOf(&raw, r.epoch, r.rqClock())), float64(monoNS()))
	}
	return nil
}

func (r pacedRunq) mark() {
	r.est.mark()
	r.span, r.times = time.Now(), hostTimes()
}

// pause gives a core that did not switch in the whole span the turn that
// /proc/stat saw there.
func (r pacedRunq) pause(guess bool) {
	if r.est.paused {
		r.est.pause(guess)
		return
	}
	after := hostTimes()
	for cpu, x := range r.est.of {
		span := uint64(max(x.reached-x.openedAt, 0))
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
	r.est.pause(guess)
	r.attachedFor += time.Since(r.span)
}

func hostTimes() map[int]*sample.CPUTimes {
	_, cpus := readHost()
	out := make(map[int]*sample.CPUTimes, len(cpus))
	for i := range cpus {
		out[cpus[i].CPU] = cpus[i].Times
	}
	return out
}

// resume forgets which turn each core was in, and which run queue was stopped:
// there may have been many since.
func (r pacedRunq) resume() error {
	now := time.Now()
	if r.est.off {
		r.scaledAt, r.attachedFor = now, 0
	}
	r.est.resume()
	r.span, r.times = now, hostTimes()
	if err := r.stalls.forget(); err != nil {
		return err
	}
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
		r.scaledAt = time.Now()
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

// isOff reports whether the hook was detached to save its cost.
func (r *schedReader) isOff() bool { return r.est != nil && r.est.off }

// lookCost is what looking at threads costs at each tick, in cores, beyond what
// is left of it when it is shed.
func (r *schedReader) lookCost(interval time.Duration) float64 {
	if r == nil || interval >= threadsShedEvery {
		return 0
	}
	return float64(r.lookCPU) * (1/float64(interval) - 1/float64(threadsShedEvery))
}

func (r *schedReader) setThreadsShed(shed bool) {
	if r != nil {
		r.threadsShed = shed
	}
}

func (r *schedReader) looksShed() uint64 {
	if r == nil {
		return 0
	}
	return r.skipped
}
