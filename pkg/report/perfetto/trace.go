// SPDX-License-Identifier: Apache-2.0

// Package perfetto writes what was traced as a native Perfetto trace: counters
// and slices on a time axis, to be looked at in ui.perfetto.dev, asked in SQL by
// trace_processor, and laid beside other traces of the same host.
//
// Times are those of the Samples: CLOCK_MONOTONIC, which is one of the trace
// format's builtin clocks. The trace names it as its own, and ties it to
// CLOCK_REALTIME by the header's pair.
package perfetto

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// flushBytes is how much is collected before it is handed on.
const flushBytes = 64 << 10

// Trace is the sink that writes a Perfetto trace as it goes: it keeps the state
// of each track, no more than maxTracks of them, and a few kilobytes.
//
// A counter is written where its value changes, and keeps it until the next one.
// What is a mean or a rate of an interval stands at the interval's beginning,
// where its line is drawn from. What is not known is not written.
type Trace struct {
	w   io.Writer
	err error // of the first Write that failed
	buf proto

	header   *sample.Header // nil before Begin
	sequence uint64
	firstID  uint64 // of the tracks
	tracks   int    // so far
	named    map[nameKey]bool
	groups   [groupCount]uint64
	rows     map[rowKey]uint64
	counters map[counterKey]*counter
	order    []*counter // as they came
	slices   map[sliceKey]*lanes
	ruleRows map[string]*lanes

	budget budget
	begun  bool   // there was a Step
	ticks  uint64 // so far
	first  uint64 // when the first Sample was taken
	last   uint64 // and the last one
	from   uint64 // when the interval of the last one began
	looked [groupCount]bool
	open   []diagnose.Finding
	gaps   []gap
}

// New returns a sink that writes to w, many tracks' values in each Write.
func New(w io.Writer) *Trace {
	return &Trace{
		w: w, budget: newBudget(MaxEvents), named: make(map[nameKey]bool), rows: make(map[rowKey]uint64),
		counters: make(map[counterKey]*counter), slices: make(map[sliceKey]*lanes), ruleRows: make(map[string]*lanes),
	}
}

// Begin implements report.Sink.
func (t *Trace) Begin(h *sample.Header) error {
	if err := t.identify(h); err != nil {
		return err
	}
	t.header, t.last = h, h.MonoNS
	t.snapshotClocks(h)
	t.describeRoot()
	t.gaps = make([]gap, min(len(h.Signals), maxGaps))
	return t.flush()
}

// identify chooses numbers for the tracks and the packet sequence that no other
// trace is likely to use, but the same one always: they must differ where traces
// are merged. Perfetto itself numbers sequences from 1 on.
func (t *Trace) identify(h *sample.Header) error {
	sum := fnv.New64a()
	if err := json.NewEncoder(sum).Encode(h); err != nil {
		return fmt.Errorf("identify Perfetto trace: %w", err)
	}
	id := sum.Sum64()
	t.firstID = id >> 22
	t.sequence = 1<<27 | id&(1<<27-1)
	return nil
}

// Step implements report.Sink.
func (t *Trace) Step(s *report.Step) error {
	if t.header == nil || t.err != nil {
		return t.err
	}
	f := s.Frame
	t.last = f.Sample.MonoNS
	t.from = t.last - min(t.last, uint64(max(f.Interval, 0)))
	if !t.begun {
		t.begun, t.first = true, t.last
		t.noteHost()
	}
	for i := range s.Changed {
		if s.Changed[i].State == diagnose.Cleared {
			t.finding(&s.Changed[i])
		}
	}
	t.open = s.Active
	t.watchGaps(f)
	t.events(f)
	if f.Interval > 0 { // the first Frame is the zero point
		t.count(f)
	}
	return t.flush()
}

// count writes the counters of one interval.
func (t *Trace) count(f *model.Frame) {
	t.ticks++
	clear(t.looked[:])
	t.runQueues(f)
	t.receive(f)
	t.listeners(f)
	t.cgroups(f)
	t.cost(f)
	t.endTick()
}

// End implements report.Sink: what is still open ends with the last tick.
func (t *Trace) End(s *report.Summary) error {
	if t.header == nil || t.err != nil {
		return t.err // never begun, or broken: a sink before this one may have failed
	}
	t.flushCounters()
	for _, f := range sorted(t.open) {
		t.finding(&f)
	}
	t.closeGaps()
	t.command(s.Command)
	t.noteLeftOut()
	return t.flush()
}

// emit closes a packet that packet opened, and hands on what there is if it is much.
func (t *Trace) emit(start int) {
	t.buf.end(start)
	if len(t.buf) >= flushBytes {
		_ = t.flush() // the caller of Begin, Step or End hears of it
	}
}

// flush hands on what there is. It returns the first error that there ever was.
func (t *Trace) flush() error {
	if t.err == nil && len(t.buf) > 0 {
		if _, err := t.w.Write(t.buf); err != nil {
			t.err = fmt.Errorf("write Perfetto trace: %w", err)
		}
	}
	t.buf = t.buf[:0]
	return t.err
}

// packet opens a packet.
func (t *Trace) packet() int {
	start := t.buf.begin(tracePacket)
	t.buf.uint(packetSequenceID, t.sequence)
	return start
}

// packetAt opens a packet that has a time. It names the clock each time, not
// once as the sequence's default, so that the packet can stand alone.
func (t *Trace) packetAt(monoNS uint64) int {
	start := t.packet()
	t.buf.uint(packetTimestamp, monoNS)
	t.buf.uint(packetTimestampClockID, clockMonotonic)
	return start
}

// snapshotClocks ties the clock of the Samples to the wall clock, and makes it
// that of the trace: without CLOCK_BOOTTIME in the header, nothing else could be
// told from it.
func (t *Trace) snapshotClocks(h *sample.Header) {
	b := &t.buf
	p := t.packetAt(h.MonoNS)
	b.uint(packetSequenceFlags, incrementalStateCleared)
	s := b.begin(packetClockSnapshot)
	for _, c := range []struct{ id, ns uint64 }{{clockMonotonic, h.MonoNS}, {clockRealtime, uint64(h.WallNS)}} {
		at := b.begin(snapshotClocks)
		b.uint(clockID, c.id)
		b.uint(clockTimestamp, c.ns)
		b.end(at)
	}
	b.uint(snapshotPrimary, clockMonotonic)
	b.end(s)
	t.emit(p)
}
