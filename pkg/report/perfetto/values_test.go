// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// want is a counter's value as a Frame has it.
type want struct {
	path []string
	v    float64
	now  bool // of the tick, not of the interval before it
}

// wanted are the values that a Frame gives to counters. A name that is taken
// twice in the recordings would be found by compared, as a value that differs.
func wanted(f *model.Frame) (out []want) {
	for _, c := range f.CPUs {
		cpu := fmt.Sprintf("cpu %d", c.CPU.CPU)
		if c.Runq != nil {
			out = append(out, want{[]string{"Run queue", "Runnable threads", cpu}, c.Runq.BusyRatio + c.Runq.Waiting, false},
				want{[]string{"Run queue", "Wait p99", cpu}, c.Runq.WaitP99NS, false})
		}
		if c.SoftIRQ != nil {
			out = append(out, want{[]string{"NET_RX", "Time in NET_RX", cpu}, 100 * c.NetRXRatio, false})
		}
		if c.Softnet != nil {
			out = append(out, want{[]string{"NET_RX", "Packets", cpu}, c.PacketsPerS, false})
		}
	}
	if f.Accept != nil {
		for _, l := range f.Accept.Listeners {
			if !l.Closed {
				out = append(out, wantedOf(l)...)
			}
		}
	}
	for _, g := range f.CGroups {
		name := model.Printable(g.Title())
		out = append(out, want{[]string{"CGroups", name, "used cores"}, g.Used, false})
		if g.CFS != nil {
			out = append(out, want{[]string{"CGroups", name, "quota"}, float64(g.CFS.QuotaUS) / float64(g.CFS.PeriodUS), false},
				want{[]string{"CGroups", name, "throttled periods"}, 100 * g.ThrottledRatio, false})
		}
	}
	return append(out, want{[]string{"Own cost", "memory"}, float64(f.Sample.Self.MemoryBytes), true},
		want{[]string{"Own cost", "tracer, of one core"}, 100 * f.Cost.UserRatio, false})
}

func wantedOf(l *model.Listener) []want {
	at := func(name string) []string { return []string{"Listeners", model.Printable(l.Name) + "*", name} }
	out := []want{
		{at("wake-ups per connection"), l.WakeupsPerAccept, false}, {at("EAGAIN/s"), l.EAGAINPerS, false},
		{at("accept queue length"), float64(l.AcceptQueueLen), true},
	}
	if !l.NoLimit {
		out = append(out, want{at("accept queue limit"), float64(l.AcceptQueueMax), true})
	}
	if l.Queue != nil {
		out = append(out, want{at("refusals/s"), l.Queue.RefusalsPerS, false}, want{at("accept queue peak"), float64(l.Queue.AcceptQueuePeak), false})
	}
	return out
}

// valueAt is what the counters of a path have at a time. A name that ends in *
// may go on: there may be several, one of which must have the value.
func (s *seen) valueAt(path []string, at uint64, v float64) bool {
	tracks := s.inOrder[:1]
	for _, name := range path {
		var next []*seenTrack
		for _, tr := range tracks {
			for _, c := range tr.children {
				start, more := name[:max(len(name)-1, 0)], name != "" && name[len(name)-1] == '*'
				if c.name == name || more && len(c.name) >= len(start) && c.name[:len(start)] == start {
					next = append(next, c)
				}
			}
		}
		tracks = next
	}
	if len(tracks) == 0 {
		return v == 0 // one that is quiet
	}
	return slices.ContainsFunc(tracks, func(tr *seenTrack) bool { return tr.counter && tr.at(at) == v })
}

// TestCounters: each counter has, in each interval, the value that the Frame has.
func TestCounters(t *testing.T) {
	compared, moved := 0, 0
	for _, name := range names(t) {
		out, frames, _ := traced(t, name)
		s := decode(t, out)
		s.inTime()
		for _, f := range frames[1:] {
			for _, w := range wanted(f) {
				if math.IsNaN(w.v) || math.IsInf(w.v, 0) {
					continue
				}
				at := f.Sample.MonoNS
				if !w.now {
					at -= uint64(f.Interval)
				}
				if !s.valueAt(w.path, at, w.v) {
					t.Errorf("%s: %q after %v is not %v", name, w.path, f.Elapsed, w.v)
				}
				if compared++; w.v != 0 {
					moved++
				}
			}
		}
	}
	if compared < 3000 || moved < compared/3 {
		t.Errorf("%d values compared, of which %d are not 0", compared, moved)
	}
}

// TestFindings: each finding is a slice from when it was raised until it cleared,
// or the trace ended, with what is to be said of it.
func TestFindings(t *testing.T) {
	total := 0
	for _, name := range names(t) {
		out, frames, sum := traced(t, name)
		s := decode(t, out)
		mono := func(at time.Time) uint64 {
			return frames[0].Header.MonoNS + uint64(at.UnixNano()-frames[0].Header.WallNS)
		}
		slicesThere := 0
		for _, tr := range find(s, "Findings") {
			slicesThere += len(tr.events) / 2
		}
		if slicesThere != len(sum.Findings) {
			t.Errorf("%s: %d slices of %d findings", name, slicesThere, len(sum.Findings))
		}
		for _, f := range sum.Findings {
			total++
			until := frames[len(frames)-1].Sample.MonoNS
			if f.State == diagnose.Cleared {
				until = mono(f.Until)
			}
			args := []string{"severity", f.Severity.String(), "evidence", f.Evidence, "cause", f.Cause, "remedy", f.Remedy}
			if !slices.ContainsFunc(s.find("Findings", f.ID), func(tr *seenTrack) bool { return tr.has(mono(f.Since), until, args) }) {
				t.Errorf("%s: no slice of %s from %v until %d", name, f.Sentence(), f.Since, until)
			}
		}
	}
	if total < 15 {
		t.Errorf("only %d findings", total)
	}
}

func find(s *seen, path string) (out []*seenTrack) {
	for _, tr := range s.find(path) {
		out = append(out, tr.children...)
	}
	return out
}

// has reports whether there is a slice of that time, with those arguments.
func (tr *seenTrack) has(from, until uint64, args []string) bool {
	for i, e := range tr.events {
		if e.kind != 1 || e.at != from || tr.events[i+1].kind != 2 || tr.events[i+1].at != until {
			continue
		}
		all := true
		for a := 0; a < len(args); a += 2 {
			all = all && slices.Contains(e.args, fmt.Sprintf("%s=%q", args[a], args[a+1]))
		}
		if all {
			return true
		}
	}
	return false
}

// TestThrottleSlices: each stop of a cgroup is a slice of its real time, and the
// tracks that are promised are there.
func TestThrottleSlices(t *testing.T) {
	for _, name := range []string{"cfs-throttle"} {
		out, frames, _ := traced(t, name)
		s := decode(t, out)
		stops := 0
		for _, f := range frames {
			for _, e := range f.Events {
				if e.Kind != sample.EventThrottle {
					continue
				}
				stops++
				if !slices.ContainsFunc(s.find("CGroups", model.Printable(e.Group), "throttled"), func(tr *seenTrack) bool { return tr.has(e.MonoNS-e.DurationNS, e.MonoNS, nil) }) {
					t.Fatalf("%s: no slice of %d ns until %d of %q", name, e.DurationNS, e.MonoNS, e.Group)
				}
			}
		}
		written := 0
		for _, row := range find(s, "CGroups") {
			for _, tr := range row.children {
				if tr.name == "throttled" {
					written += len(tr.events) / 2
				}
			}
		}
		if stops == 0 || written != stops {
			t.Errorf("%s: %d slices of %d stops", name, written, stops)
		}
	}
}

// TestInstants: refusals and herds are there, with who it was.
func TestInstants(t *testing.T) {
	total := 0
	for _, name := range names(t) {
		out, frames, _ := traced(t, name)
		s := decode(t, out)
		events, instants := 0, 0
		for _, f := range frames {
			for _, e := range f.Events {
				if slices.Contains([]string{sample.EventHerdBurst, sample.EventRefusal, sample.EventListenerOpened, sample.EventListenerClosed, sample.EventBacklogDrop}, e.Kind) {
					events++
				}
			}
		}
		total += events
		for _, tr := range s.inOrder {
			for _, e := range tr.events {
				if e.kind == 3 && tr.name != "notes" {
					instants++
				}
			}
		}
		if instants != events {
			t.Errorf("%s: %d instants of %d events", name, instants, events)
		}
	}
	if total < 20 {
		t.Errorf("only %d events", total)
	}
}

// TestGroups: what was measured has its group of tracks, and what was not has none.
func TestGroups(t *testing.T) {
	for name, groups := range map[string][]string{
		"runq-pile":             {"Run queue", "Findings", "CGroups", "Own cost", "Notes"},
		"cfs-throttle":          {"CGroups", "Findings"},
		"accept-queue-overflow": {"Listeners", "Findings", "Command", "Not measured"},
		"netdev-backlog":        {"NET_RX", "Findings"},
		"not-measured":          {"Not measured", "Own cost"},
	} {
		out, _, _ := traced(t, name)
		s := decode(t, out)
		for _, g := range groups {
			if len(s.find(g)) != 1 || len(s.find(g)[0].children) == 0 {
				t.Errorf("%s: no tracks in %q", name, g)
			}
		}
	}
	out, _, _ := traced(t, "not-measured")
	for _, g := range []string{"Run queue", "NET_RX", "Listeners", "CGroups", "Findings"} {
		if len(decode(t, out).find(g)) != 0 {
			t.Errorf("not-measured: there is %q", g)
		}
	}
}

// TestNothingHostile: no name holds a byte that a terminal obeys, nor is longer
// than one can read.
func TestNothingHostile(t *testing.T) {
	for _, name := range names(t) {
		out, _, _ := traced(t, name)
		for _, tr := range decode(t, out).inOrder {
			all := []string{tr.name}
			for _, e := range tr.events {
				all = append(append(all, e.name), e.args...)
			}
			for _, s := range all {
				if s != model.Printable(s) || len([]rune(s)) > 2000 {
					t.Errorf("%s: %+q", name, s)
				}
			}
		}
	}
	h := &sample.Header{Host: string(bytes.Repeat([]byte("\x1bx"), 1<<20)), Command: []string{"\u202e", string(make([]byte, 1<<20))}}
	var b bytes.Buffer
	tr := New(&b)
	if err := tr.Begin(h); err != nil || b.Len() > 2000 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
}
