// SPDX-License-Identifier: Apache-2.0

// Package model turns two Samples into one Frame: counters into rates, workers
// into shares, sockets into rows. It judges nothing and draws nothing.
package model

import (
	"math"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Frame is what happened between two ticks, and the totals so far.
//
// Rates are per second of the interval; ratios are 0..1 unless a comment says
// otherwise; a value that cannot be known (first tick, a counter that was
// reset, nothing to divide by) is NaN: ask Known.
type Frame struct {
	Header   *sample.Header
	Sample   *sample.Sample
	Wall     time.Time     // of the Sample
	Elapsed  time.Duration // since the first Sample
	Interval time.Duration // since the previous one; 0 in the first Frame
	Cost     Cost
	CostMean Cost    // since the first Sample
	HostIdle float64 // cores that had nothing to do, of Header.CPUs; approximate
	Accept   *Accept // nil: not measured
	Queues   *Queues // nil: not measured
	CPUs     []CPU   // by number; empty: not measured
	NetRX    *NetRX  // nil: not measured
	Sched    *Sched  // nil: not measured
	// CGroups are those of the cpu controller, most troubled first; Sold sums up
	// their quotas.
	CGroups []*CGroup
	Sold    Sold
	Events  []Event
}

// Asked is the Interval that was asked for: it may be changed while the trace runs.
func (f *Frame) Asked() time.Duration {
	ns := f.Header.IntervalNS
	if changed := f.Sample.Self.IntervalNS; changed > 0 {
		ns = changed
	}
	return time.Duration(min(ns, math.MaxInt64))
}

// Measured reports whether the header's signal of that name could attach, and was
// not given up to save its cost. What it counts is unknown where it was not,
// though the Sample says 0.
func (f *Frame) Measured(signal string) bool {
	return measured(f.Header, signal) && f.budget().Degraded(signal) != sample.ShedOff
}

// MeasuredAt is Measured for one listener: a variant may see some and not others.
func (f *Frame) MeasuredAt(l *Listener, signal string) bool {
	return f.Measured(signal) && !(l.NoWakeups && signal == SignalWake)
}

func measured(h *sample.Header, signal string) bool {
	for _, s := range h.Signals {
		if s.Name == signal {
			return s.Accuracy != sample.Unavailable
		}
	}
	return true
}

// The signals of the accept panel, as the Header names them.
const (
	SignalAccept = "accept" // what accept(2) returned, to whom
	SignalWake   = "wake"   // which threads a listener's readiness woke
)

// Known reports whether v is a number.
func Known(v float64) bool { return !math.IsNaN(v) }

// Unknown is the value that is none.
func Unknown() float64 { return math.NaN() }

// Cost is what the tracer itself took during the interval.
type Cost struct {
	UserRatio   float64 // of one core
	BPFRatio    float64 // of one core, extrapolated
	MemoryBytes uint64
	LostTotal   uint64 // since attach
	LostDelta   uint64 // in the interval
}

// Accept is the accept signal: the rows of the herd panel and their sums.
type Accept struct {
	// Listeners are in the order of their need for attention: most useless
	// wake-ups first, then most accepts, then by name.
	Listeners   []*Listener
	ConnsPerS   float64 // completed or accepted, whichever is more: io_uring's accepts may not be seen
	AcceptsPerS float64
	WakeupsPerS float64
	EAGAINPerS  float64
	WastedPerS  float64 // wasted wake-ups
	EmptyCPU    float64 // of one core
	Accuracy    string  // sample.Exact or sample.Approximate
}

// Listener is one listening socket during the interval.
type Listener struct {
	sample.Listener // the totals since attach

	Name    string // "0.0.0.0:8080", "[::]:80", "unix:/run/app.sock"
	Program string // of its workers: "gunicorn"; "?" while unknown
	Wait    string // how its workers wait; "mixed" where they differ
	Sockets int    // on the same address in the same namespace: the SO_REUSEPORT group
	New     bool   // not in the previous Sample
	Closing bool   // closed since the previous Sample

	Interval         time.Duration   // that the deltas cover
	Delta            sample.Counters // in the interval
	CompletionsDelta uint64
	QueuedChecks     uint64 // in the interval
	StalledChecks    uint64
	AcceptsPerS      float64
	CompletionsPerS  float64
	WakeupsPerS      float64
	EAGAINPerS       float64
	WastedPerS       float64
	// UselessPerS is the rate of wake-ups beyond one per accept: the herd.
	UselessPerS      float64
	WakeupsPerAccept float64 // in the interval: the herd factor
	EAGAINRatio      float64 // of all accept calls that ended in a connection or EAGAIN
	EmptyCPU         float64 // of one core, spent on wake-ups for nothing; extrapolated from the timed ones

	// Queue is nil where the listen signal is not measured, and for unix sockets.
	Queue *Queue

	Threads []Worker // busiest acceptor first
	Spent   Spent
	// Group is what the open listeners of a SO_REUSEPORT group share; a socket
	// of its own is a group of one. It is nil for a closed listener.
	Group *Group
}

// Spent is how a listener's live workers spent the interval: means over those
// whose times are known, unknown where there are none. The three add up to 1.
type Spent struct {
	Workers int     // whose times are known
	Run     float64 // on a core
	Wait    float64 // runnable, without one: contended, throttled or stolen
	Sleep   float64 // for connections, or for anything else
}

// Group is the listeners on one address in one namespace.
type Group struct {
	Accepts uint64    // since attach
	Top     *Worker   // the live worker that ran most in the interval; nil where none is known
	TopAt   *Listener // where it is
	Others  []float64 // how busy the other live workers were, sorted
}

// Worker is one thread at a listener during the interval.
type Worker struct {
	sample.Worker
	Delta            sample.Counters
	Share            float64 // of the listener's accepts since attach
	RunRatio         float64 // of one core, in the interval
	WaitRatio        float64 // share of the interval spent runnable but not running
	SleepsPerS       float64 // how often it had nothing to do
	WakeupsPerS      float64
	AcceptsPerS      float64
	EAGAINPerS       float64
	WakeupsPerAccept float64
}

// Busy is the share of the interval in which the worker ran or wanted to.
func (w *Worker) Busy() float64 { return w.RunRatio + w.WaitRatio }

// Event is a sample.Event with the names of what it happened to.
type Event struct {
	sample.Event
	Wall     time.Time
	Listener string
	Program  string
	Group    string // the Title of its cgroup, "" for none
}
