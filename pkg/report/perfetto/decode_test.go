// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// The decoder below shares nothing with the writer: the numbers in it are those
// of Perfetto's schema, and what it does not know is an error.

// value is one field of a message.
type value struct {
	n     uint64 // varint and fixed64
	bytes []byte
	wire  uint64
}

// fieldsOf takes a message apart. Known are its fields: number to wire type.
func fieldsOf(t testing.TB, b []byte, message string, known map[uint64]uint64) map[uint64][]value {
	t.Helper()
	out := make(map[uint64][]value)
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("%s: broken tag", message)
		}
		b = b[n:]
		v := value{wire: key & 7}
		if wire, ok := known[key>>3]; !ok || wire != v.wire {
			t.Fatalf("%s: field %d of wire type %d", message, key>>3, v.wire)
		}
		switch v.wire {
		case 0:
			if v.n, n = binary.Uvarint(b); n <= 0 {
				t.Fatalf("%s: broken varint", message)
			}
		case 1:
			n = 8
			v.n = binary.LittleEndian.Uint64(b)
		case 2:
			length, k := binary.Uvarint(b)
			if k <= 0 || length > uint64(len(b)-k) {
				t.Fatalf("%s: field %d is cut off", message, key>>3)
			}
			v.bytes = b[k : k+int(length)]
			n = k + int(length)
		default:
			t.Fatalf("%s: wire type %d", message, v.wire)
		}
		b = b[n:]
		out[key>>3] = append(out[key>>3], v)
	}
	return out
}

func number(fs map[uint64][]value, n uint64) uint64 {
	if v := fs[n]; len(v) > 0 {
		return v[0].n
	}
	return 0
}

func word(fs map[uint64][]value, n uint64) string {
	if v := fs[n]; len(v) > 0 {
		return string(v[0].bytes)
	}
	return ""
}

// seenTrack is a TrackDescriptor and what happened on it.
type seenTrack struct {
	uuid, parent, order, rank  uint64
	name, unit, axis, describe string
	counter                    bool
	unitKind                   uint64
	events                     []seenEvent
	children                   []*seenTrack
}

type seenEvent struct {
	at    uint64
	kind  uint64
	name  string
	value float64
	args  []string // "name=value"
}

// seen is a whole trace.
type seen struct {
	tracks   map[uint64]*seenTrack
	inOrder  []*seenTrack
	clocks   map[uint64]uint64
	primary  uint64
	sequence uint64
	packets  int
	events   int
}

func decode(t testing.TB, b []byte) *seen {
	t.Helper()
	s := &seen{tracks: make(map[uint64]*seenTrack), clocks: make(map[uint64]uint64)}
	for _, p := range fieldsOf(t, b, "Trace", map[uint64]uint64{1: 2})[1] {
		s.packet(t, p.bytes)
	}
	for _, tr := range s.inOrder {
		if p := s.tracks[tr.parent]; p != nil {
			p.children = append(p.children, tr)
		}
	}
	return s
}

func (s *seen) packet(t testing.TB, b []byte) {
	t.Helper()
	p := fieldsOf(t, b, "TracePacket", map[uint64]uint64{6: 2, 8: 0, 10: 0, 11: 2, 13: 0, 58: 0, 60: 2})
	s.packets++
	if s.packets == 1 {
		s.sequence = number(p, 10)
		if number(p, 13) != 1 || len(p[6]) == 0 {
			t.Error("the first packet does not begin the sequence with the clocks")
		}
	}
	if id := number(p, 10); id != s.sequence || id < 1<<20 || id >= 1<<32 {
		t.Fatalf("packet %d is of sequence %d", s.packets, id)
	}
	if len(p[8]) != len(p[58]) || len(p[8]) > 0 && number(p, 58) != 3 {
		t.Fatalf("packet %d: clock %d, want 3, CLOCK_MONOTONIC", s.packets, number(p, 58))
	}
	switch {
	case len(p[6]) == 1:
		s.snapshot(t, p[6][0].bytes)
	case len(p[60]) == 1:
		s.descriptor(t, p[60][0].bytes)
	case len(p[11]) == 1 && len(p[8]) == 1:
		s.event(t, number(p, 8), p[11][0].bytes)
	default:
		t.Fatalf("packet %d: %v", s.packets, p)
	}
}

func (s *seen) snapshot(t testing.TB, b []byte) {
	t.Helper()
	c := fieldsOf(t, b, "ClockSnapshot", map[uint64]uint64{1: 2, 2: 0})
	s.primary = number(c, 2)
	for _, one := range c[1] {
		k := fieldsOf(t, one.bytes, "Clock", map[uint64]uint64{1: 0, 2: 0})
		s.clocks[number(k, 1)] = number(k, 2)
	}
}

func (s *seen) descriptor(t testing.TB, b []byte) {
	t.Helper()
	d := fieldsOf(t, b, "TrackDescriptor", map[uint64]uint64{1: 0, 2: 2, 5: 0, 8: 2, 11: 0, 12: 0, 14: 2})
	tr := &seenTrack{uuid: number(d, 1), parent: number(d, 5), order: number(d, 11), rank: number(d, 12), name: word(d, 2), describe: word(d, 14)}
	if c := d[8]; len(c) == 1 {
		k := fieldsOf(t, c[0].bytes, "CounterDescriptor", map[uint64]uint64{3: 0, 6: 2, 7: 2})
		tr.counter, tr.unitKind, tr.unit, tr.axis = true, number(k, 3), word(k, 6), word(k, 7)
	}
	switch {
	case s.tracks[tr.uuid] != nil:
		t.Errorf("track %d is described twice", tr.uuid)
	case tr.uuid == 0 || tr.name == "":
		t.Errorf("track %d %q", tr.uuid, tr.name)
	case len(s.inOrder) > 0 && (s.tracks[tr.parent] == nil || s.tracks[tr.parent].counter):
		t.Errorf("track %q is below %d", tr.name, tr.parent)
	}
	s.tracks[tr.uuid] = tr
	s.inOrder = append(s.inOrder, tr)
}

func (s *seen) event(t testing.TB, at uint64, b []byte) {
	t.Helper()
	e := fieldsOf(t, b, "TrackEvent", map[uint64]uint64{4: 2, 9: 0, 11: 0, 23: 2, 30: 0, 44: 1})
	s.events++
	tr := s.tracks[number(e, 11)]
	if tr == nil {
		t.Fatalf("an event is on track %d, which is not described", number(e, 11))
	}
	ev := seenEvent{at: at, kind: number(e, 9), name: word(e, 23)}
	switch {
	case len(e[30]) == 1:
		ev.value = float64(int64(number(e, 30)))
	case len(e[44]) == 1:
		ev.value = math.Float64frombits(number(e, 44))
	}
	if tr.counter != (ev.kind == 4) || tr.counter != (len(e[30])+len(e[44]) == 1) {
		t.Errorf("an event of type %d is on track %q", ev.kind, tr.name)
	}
	for _, a := range e[4] {
		ev.args = append(ev.args, annotation(t, a.bytes, "")...)
	}
	tr.events = append(tr.events, ev)
}

func annotation(t testing.TB, b []byte, prefix string) (out []string) {
	t.Helper()
	a := fieldsOf(t, b, "DebugAnnotation", map[uint64]uint64{3: 0, 5: 1, 6: 2, 10: 2, 11: 2})
	name := prefix + word(a, 10)
	switch {
	case len(a[11]) > 0:
		for _, d := range a[11] {
			out = append(out, annotation(t, d.bytes, name+".")...)
		}
		return out
	case len(a[3]) == 1:
		return []string{fmt.Sprintf("%s=%d", name, number(a, 3))}
	case len(a[5]) == 1:
		return []string{fmt.Sprintf("%s=%v", name, math.Float64frombits(number(a, 5)))}
	}
	return []string{fmt.Sprintf("%s=%q", name, word(a, 6))}
}

// find returns the tracks at a path of names.
func (s *seen) find(path ...string) (out []*seenTrack) {
	out = s.inOrder[:1]
	for _, name := range path {
		var next []*seenTrack
		for _, tr := range out {
			for _, c := range tr.children {
				if c.name == name {
					next = append(next, c)
				}
			}
		}
		out = next
	}
	return out
}

// at is the value that a counter has at a time, 0 before its first.
func (tr *seenTrack) at(ns uint64) (v float64) {
	for _, e := range tr.events {
		if e.at > ns {
			break
		}
		v = e.value
	}
	return v
}

// inTime sorts each track's events by their time, as a reader does.
func (s *seen) inTime() {
	for _, tr := range s.inOrder {
		slices.SortStableFunc(tr.events, func(a, b seenEvent) int {
			switch {
			case a.at < b.at:
				return -1
			case a.at > b.at:
				return 1
			}
			return 0
		})
	}
}

// dump writes the trace as text: the tracks as they nest, their events in time,
// which is in milliseconds since the header's.
func (s *seen) dump() string {
	var b strings.Builder
	s.inTime()
	var walk func(tr *seenTrack, depth int)
	walk = func(tr *seenTrack, depth int) {
		in := strings.Repeat("  ", depth)
		fmt.Fprintf(&b, "%s[%s]", in, tr.name)
		if tr.counter {
			fmt.Fprintf(&b, " counter %s", cmpOr(tr.unit, [...]string{"", "ns", "count", "bytes"}[tr.unitKind]))
		}
		b.WriteByte('\n')
		for _, e := range tr.events {
			fmt.Fprintf(&b, "%s  %.3f %s", in, float64(int64(e.at-s.clocks[3]))/1e6, [...]string{"", "begin ", "end", "instant ", ""}[e.kind])
			if e.kind == 4 {
				fmt.Fprintf(&b, "%.6g", e.value)
			}
			b.WriteString(e.name + "\n")
			for _, a := range e.args {
				fmt.Fprintf(&b, "%s      %s\n", in, a)
			}
		}
		for _, c := range tr.children {
			walk(c, depth+1)
		}
	}
	walk(s.inOrder[0], 0)
	return b.String()
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
