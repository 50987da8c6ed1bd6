// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

// scene is a Source of so many Samples.
type scene struct {
	header *sample.Header
	at     func(t uint64) *sample.Sample
	n      uint64
	next   uint64
}

func (s *scene) Header() *sample.Header { return s.header }

func (s *scene) Next(context.Context) (*sample.Sample, error) {
	if s.next == s.n {
		return nil, io.EOF
	}
	s.next++
	return s.at(s.next - 1), nil
}

func crowd(l sampletest.Load, ticks uint64) *scene {
	return &scene{header: l.Header(), at: l.At, n: ticks}
}

const second = 1_000_000_000

// plain is a host that measures all, whose Samples are made by fill.
func plain(ticks uint64, fill func(t uint64, s *sample.Sample)) *scene {
	l := sampletest.Load{Cores: 2}
	return &scene{header: l.Header(), n: ticks, at: func(t uint64) *sample.Sample {
		s := &sample.Sample{MonoNS: l.Header().MonoNS + t*second}
		fill(t, s)
		return s
	}}
}

func traceOf(t testing.TB, src sample.Source) *seen {
	t.Helper()
	var b bytes.Buffer
	run(t, src, New(&b))
	s := decode(t, b.Bytes())
	s.inTime()
	return s
}

func listenerAt(t uint64, inode, accepts uint64) sample.Listener {
	return sample.Listener{
		Inode: inode, Proto: "tcp", Addr: "0.0.0.0", Port: 80, AcceptQueueLen: 7, AcceptQueueMax: 128,
		CompletionsTotal: accepts * t, Counters: sample.Counters{AcceptsTotal: accepts * t, WakeupsTotal: 2 * accepts * t},
	}
}

// TestGone: what is no longer there goes to 0, and is not a new track when it
// comes again; what has the name of another gets its own track.
func TestGone(t *testing.T) {
	s := traceOf(t, plain(10, func(at uint64, s *sample.Sample) {
		s.Accept = &sample.Accept{Listeners: []sample.Listener{listenerAt(at, 1, 5)}}
		if at < 3 || at > 5 {
			since := uint64(0)
			if at > 5 {
				since = 5
			}
			s.Accept.Listeners = append(s.Accept.Listeners, listenerAt(at-since, 2, 9))
		}
	}))
	for _, name := range []string{"0.0.0.0:80", "0.0.0.0:80 (inode 1)", "0.0.0.0:80 (inode 2)"} {
		n := len(s.find("Listeners", name))
		if name == "0.0.0.0:80" && n != 1 || n > 1 {
			t.Errorf("%d tracks %q", n, name)
		}
	}
	var went []float64
	for _, tr := range find(s, "Listeners") {
		for _, c := range tr.children {
			if c.name == "connections/s" && c.events[0].value == 9 {
				for _, e := range c.events {
					went = append(went, e.value)
				}
			}
		}
	}
	if !slices.Equal(went, []float64{9, 0, 9}) {
		t.Errorf("connections/s: %v", went)
	}
}

// TestNotMeasuredIsNot0: where a signal is given up its counters stand still, and
// a slice says so.
func TestNotMeasuredIsNot0(t *testing.T) {
	s := traceOf(t, plain(9, func(at uint64, s *sample.Sample) {
		s.Self.Budget = &sample.Budget{Shed: []sample.Shed{{What: "runq", How: sample.ShedOff, Now: at >= 3 && at < 6}}}
		if !s.Self.Budget.Shed[0].Now {
			s.CPUs = []sample.CPU{{CPU: 0, Runq: &sample.Runq{BusyNS: at * second / 2, IdleNS: at * second / 2}}}
		}
	}))
	gaps := s.find("Not measured", "runq")
	if len(gaps) != 1 || len(gaps[0].events) != 2 {
		t.Fatalf("%d tracks of gaps", len(gaps))
	}
	// It was given up between ticks 2 and 3, and is back between 5 and 6.
	if e := gaps[0].events; e[0].name != "not measured, to save its cost" || e[0].at != s.clocks[3]+2*second || e[1].at != s.clocks[3]+5*second {
		t.Errorf("%+v", e)
	}
	for _, e := range s.find("Run queue", "Runnable threads", "cpu 0")[0].events {
		if e.value == 0 {
			t.Errorf("0 at %d", e.at-s.clocks[3])
		}
	}
}

// TestOverlap: stops that overlap are on tracks of their own, with one name.
func TestOverlap(t *testing.T) {
	s := traceOf(t, plain(3, func(at uint64, s *sample.Sample) {
		if at != 2 {
			return
		}
		for i := range uint64(maxLanes + 10) {
			s.Events = append(s.Events, sample.Event{Kind: sample.EventThrottle, CGroupID: 5, CGroup: "/a", MonoNS: s.MonoNS - second + i, DurationNS: second / 2})
		}
		s.Events = append(s.Events, sample.Event{Kind: sample.EventThrottle, CGroupID: 5, CGroup: "/a", MonoNS: s.MonoNS, DurationNS: 1 << 63})
	}))
	tracks := s.find("CGroups", "/a", "throttled")
	if len(tracks) != maxLanes {
		t.Errorf("%d tracks", len(tracks))
	}
	for _, tr := range tracks {
		if len(tr.events) != 2 {
			t.Errorf("%d events", len(tr.events))
		}
	}
	if last := s.find("Notes", "notes")[0].events; !strings.HasPrefix(last[len(last)-1].name, "11 values and slices left out") {
		t.Errorf("%q", last[len(last)-1].name)
	}
}

// TestThinned: there are never more events than the cap, however long it goes on;
// it is said where counters are thinned, and each value is then the highest of
// what it stands for.
func TestThinned(t *testing.T) {
	const most, ticks = 20_000, 5000
	load := sampletest.Load{Cores: 8, Listeners: 2, Workers: 2, CGroups: 4}
	var b bytes.Buffer
	tr, k := New(&b), &keeper{}
	tr.budget = newBudget(most)
	run(t, crowd(load, ticks), tr, k)
	s := decode(t, b.Bytes())
	s.inTime()
	if s.events > most || s.events < most/2 {
		t.Errorf("%d events, the cap is %d", s.events, most)
	}
	var said []string
	for _, e := range s.find("Notes", "notes")[0].events {
		said = append(said, e.name)
	}
	if len(said) < 4 || said[1] != "from here on, a counter's value is the highest of 2 intervals" || !strings.Contains(said[len(said)-1], "events left out: a trace has at most 20000") {
		t.Errorf("%q", said)
	}
	counter := s.find("Run queue", "Runnable threads", "cpu 3")[0]
	for i, e := range counter.events {
		highest := 0.0
		for _, f := range k.frames[1:] {
			from := f.Sample.MonoNS - uint64(f.Interval)
			if from >= e.at && (i+1 == len(counter.events) || from < counter.events[i+1].at) {
				highest = max(highest, f.CPUs[3].Runq.BusyRatio+f.CPUs[3].Runq.Waiting)
			}
		}
		if e.value != highest {
			t.Fatalf("%v at %d, the highest is %v", e.value, e.at-s.clocks[3], highest)
		}
	}
	last := uint64(0)
	for _, c := range s.inOrder {
		if c.counter {
			last = max(last, c.events[len(c.events)-1].at)
		}
	}
	if last < s.clocks[3]+ticks/2*second {
		t.Errorf("the last value is from %d s on, of %d", (last-s.clocks[3])/second, ticks)
	}
}

// TestMemory: what a Trace keeps does not grow with its length, nor with what
// comes and goes beyond the cap on tracks.
func TestMemory(t *testing.T) {
	churn := func(n uint64) *Trace {
		tr := New(io.Discard)
		run(t, plain(n, func(at uint64, s *sample.Sample) {
			s.Accept = &sample.Accept{}
			for i := range uint64(20) {
				s.Accept.Listeners = append(s.Accept.Listeners, listenerAt(at, 1+at*20+i, 1))
			}
		}), tr)
		return tr
	}
	tr := churn(2500)
	if tr.tracks > maxTracks || len(tr.counters) > maxTracks || len(tr.rows) > maxTracks || tr.budget.untracked == 0 {
		t.Errorf("%d tracks, %d counters, %d rows, %d left out", tr.tracks, len(tr.counters), len(tr.rows), tr.budget.untracked)
	}
	if cap(tr.buf) > 4*flushBytes {
		t.Errorf("%d bytes are collected", cap(tr.buf))
	}
}

// TestCrowded says how large a trace of a crowded host is: ten minutes of 64
// cores, 200 listeners and 500 cgroups.
func TestCrowded(t *testing.T) {
	ticks := uint64(600)
	if testing.Short() {
		ticks = 20
	}
	var out countingWriter
	tr := New(&out)
	run(t, crowd(sampletest.Crowded(), ticks), tr)
	t.Logf("%d ticks: %d bytes, %d tracks, %d counters, stride %d", ticks, out.n, tr.tracks, len(tr.counters), tr.budget.stride)
	if perTick := out.n / ticks; perTick > 200_000 {
		t.Errorf("%d bytes for a tick", perTick)
	}
	if out.largest > 2*flushBytes {
		t.Errorf("%d bytes in one Write", out.largest)
	}
}

type countingWriter struct{ n, largest uint64 }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.n += uint64(len(p))
	w.largest = max(w.largest, uint64(len(p)))
	return len(p), nil
}

// stepKeeper keeps the Steps.
type stepKeeper struct{ steps []*report.Step }

func (k *stepKeeper) Begin(*sample.Header) error { return nil }
func (k *stepKeeper) Step(s *report.Step) error  { k.steps = append(k.steps, s); return nil }
func (k *stepKeeper) End(*report.Summary) error  { return nil }

// BenchmarkStep measures a tick of a crowded host, the sink alone.
func BenchmarkStep(b *testing.B) {
	k := &stepKeeper{}
	run(b, crowd(sampletest.Crowded(), 20), k)
	var out countingWriter
	tr := New(&out)
	if err := tr.Begin(sampletest.Crowded().Header()); err != nil {
		b.Fatal(err)
	}
	if err := tr.Step(k.steps[1]); err != nil { // describes the tracks
		b.Fatal(err)
	}
	out.n = 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		tr.budget = newBudget(MaxEvents) // so that it never thins
		if err := tr.Step(k.steps[1+i%19]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(out.n)/float64(b.N), "bytes/op")
}
