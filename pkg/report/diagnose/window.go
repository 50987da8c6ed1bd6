// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// window is the recent past of one subject.
type window struct {
	recent []tick // oldest first
	sum    tick   // of recent
}

// tick is what one Frame adds to a window. A time is the interval's share of
// something, in nanoseconds.
type tick struct {
	interval time.Duration

	// Of a listener.
	accepts, conns    uint64
	connsFor          time.Duration // while they were counted
	wakeups, eagains  uint64
	emptyNS           float64
	queued, stalled   uint64
	held              int           // ticks at which all workers were stopped by others
	waiting           uint32        // least length of the accept queue
	longest, synPeak  uint32        // peaks of the two queues
	taken             uint64        // what left the accept queue,
	takenFor          time.Duration // while that was known
	refused           sample.Refusals
	cookies           uint64
	fullNS            float64
	workNS            float64 // in which the times of workers are known:
	runNS, runnableNS float64 // on a core, without one

	// Of a core, where loadNS is its time in NET_RX, or of the host.
	loadNS, idleNS, ksoftirqdNS float64
	othersIdleNS                float64 // of all other cores
	packets                     float64
	dropped, squeezed           uint64
	steered, othersSteered      uint64 // RPS interrupts

	schedTick
}

// push adds t and drops what span no longer covers.
func (w *window) push(t tick, span time.Duration) {
	w.recent = append(w.recent, t)
	var length time.Duration
	for i := range w.recent {
		length += w.recent[i].interval
	}
	for len(w.recent) > 1 && length-w.recent[0].interval >= span {
		length -= w.recent[0].interval
		w.recent = w.recent[1:]
	}
	w.sum = w.recent[0]
	for i := range w.recent[1:] {
		w.sum.add(&w.recent[i+1])
	}
}

// last sums up what covers the last span, or all there is.
func (w *window) last(span time.Duration) *tick {
	i := len(w.recent) - 1
	sum := w.recent[i]
	for i > 0 && sum.interval < span {
		i--
		sum.add(&w.recent[i])
	}
	return &sum
}

func (t *tick) add(r *tick) {
	t.interval += r.interval
	t.accepts += r.accepts
	t.conns += r.conns
	t.connsFor += r.connsFor
	t.wakeups += r.wakeups
	t.eagains += r.eagains
	t.emptyNS += r.emptyNS
	t.queued += r.queued
	t.stalled += r.stalled
	t.held += r.held
	t.waiting = min(t.waiting, r.waiting)
	t.longest = max(t.longest, r.longest)
	t.synPeak = max(t.synPeak, r.synPeak)
	t.taken += r.taken
	t.takenFor += r.takenFor
	t.refused.AcceptQueueSYN += r.refused.AcceptQueueSYN
	t.refused.AcceptQueueACK += r.refused.AcceptQueueACK
	t.refused.AcceptQueueCookie += r.refused.AcceptQueueCookie
	t.refused.SynQueue += r.refused.SynQueue
	t.cookies += r.cookies
	t.fullNS += r.fullNS
	t.workNS += r.workNS
	t.runNS += r.runNS
	t.runnableNS += r.runnableNS
	t.loadNS += r.loadNS
	t.idleNS += r.idleNS
	t.ksoftirqdNS += r.ksoftirqdNS
	t.othersIdleNS += r.othersIdleNS
	t.packets += r.packets
	t.dropped += r.dropped
	t.squeezed += r.squeezed
	t.steered += r.steered
	t.othersSteered += r.othersSteered
	t.schedTick.add(&r.schedTick)
}

// share is what part of t's interval ns is.
func (t *tick) share(ns float64) float64 { return ns / float64(t.interval) }

// rate is n per second of the window, and of at least half of what a window
// should cover: a burst at a listener that was just seen is no rate.
func (t *tick) rate(n uint64, l *Limits) float64 {
	return float64(n) / max(t.interval.Seconds(), l.Window.Seconds()/2)
}

func listenerTick(l *model.Listener) tick {
	t := tick{
		interval: l.Interval,
		accepts:  l.Delta.AcceptsTotal,
		conns:    max(l.Delta.AcceptsTotal, l.CompletionsDelta),
		wakeups:  l.Delta.WakeupsTotal,
		eagains:  l.Delta.AcceptEAGAINTotal,
		emptyNS:  l.EmptyCPU * float64(l.Interval),
		queued:   l.QueuedChecks,
		stalled:  l.StalledChecks,
		waiting:  l.AcceptQueueLen,
	}
	if stopped(l) != nil {
		t.held = 1
	}
	if model.Known(l.AcceptsPerS) || model.Known(l.CompletionsPerS) {
		t.connsFor = l.Interval
	} else {
		t.conns = 0
	}
	if l.Spent.Workers > 0 {
		t.workNS = float64(l.Interval)
		t.runNS, t.runnableNS = l.Spent.Run*t.workNS, l.Spent.Wait*t.workNS
	}
	if q := l.Queue; q != nil {
		t.longest, t.synPeak = max(q.AcceptQueuePeak, l.AcceptQueueLen), max(q.SynQueuePeak, q.SynQueueLen)
		t.refused, t.cookies = q.Delta, q.CookiesDelta
		t.fullNS = q.AcceptFull * float64(l.Interval)
		if model.Known(q.TakenPerS) {
			t.taken, t.takenFor = q.TakenDelta, l.Interval
		}
	}
	return t
}

// coreTick is what f.CPUs[i] adds. Where the hooks do not measure NET_RX, its
// time is that of all softirqs by /proc/stat, of which it is the most on a
// machine that receives.
func coreTick(f *model.Frame, i int) tick {
	c, ns := &f.CPUs[i], float64(f.Interval)
	load := c.NetRXRatio
	if !model.Known(load) {
		load = c.SoftIRQRatio
	}
	t := tick{
		interval: f.Interval,
		loadNS:   load * ns, idleNS: c.IdleRatio * ns, ksoftirqdNS: c.KsoftirqdRatio * ns,
		dropped: c.DroppedDelta, squeezed: c.SqueezedDelta, steered: c.SteeredDelta,
	}
	for j := range f.CPUs {
		if j != i {
			t.othersIdleNS += f.CPUs[j].IdleRatio * ns
			t.othersSteered += f.CPUs[j].SteeredDelta
		}
	}
	t.runq(c)
	return t
}

func hostTick(l *Limits, f *model.Frame) tick {
	t := tick{interval: f.Interval}
	if f.NetRX != nil {
		t.dropped, t.packets = f.NetRX.DroppedDelta, f.NetRX.PacketsPerS*f.Interval.Seconds()
	}
	t.sold(l, f)
	return t
}
