// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// source yields n Samples, then err.
type source struct {
	n    int
	err  error
	mono uint64
	then func() // before err
}

func (s *source) Header() *sample.Header { return &sample.Header{Version: "t"} }

func (s *source) Next(context.Context) (*sample.Sample, error) {
	if s.n == 0 {
		if s.then != nil {
			s.then()
		}
		return nil, s.err
	}
	s.n--
	s.mono += 1e9
	return &sample.Sample{MonoNS: s.mono, Accept: &sample.Accept{}}, nil
}

// sink notes its calls and fails at one of them, "step2" being the second Step.
type sink struct {
	calls  []string
	failAt string
	steps  int
}

var errSink = errors.New("disk full")

func (k *sink) call(name string) error {
	k.calls = append(k.calls, name)
	if name == k.failAt {
		return errSink
	}
	return nil
}

func (k *sink) Begin(*sample.Header) error { return k.call("begin") }
func (k *sink) Step(*Step) error {
	k.steps++
	return k.call("step" + string(rune('0'+k.steps)))
}
func (k *sink) End(*Summary) error { return k.call("end") }

func run(src sample.Source, sinks ...Sink) (*Summary, error) {
	return Run(context.Background(), src, diagnose.DefaultLimits(), sinks...)
}

func TestRunCallsSinksInOrder(t *testing.T) {
	k := &sink{}
	sum, err := run(&source{n: 2, err: io.EOF}, k)
	if err != nil || End(sum, k) != nil {
		t.Fatal(err)
	}
	if want := []string{"begin", "step1", "step2", "end"}; !slices.Equal(k.calls, want) {
		t.Errorf("calls %v, want %v", k.calls, want)
	}
	if sum.Last == nil || sum.Last.Sample.MonoNS != 2e9 {
		t.Errorf("summary %+v", sum)
	}
}

func TestSinkErrorStopsTheRun(t *testing.T) {
	for _, tt := range []struct {
		failAt string
		first  []string
		second []string
	}{
		{"begin", []string{"begin"}, nil},
		{"step2", []string{"begin", "step1", "step2"}, []string{"begin", "step1"}},
	} {
		src := &source{n: 5, err: io.EOF}
		a, b := &sink{failAt: tt.failAt}, &sink{}
		sum, err := run(src, a, b)
		if !errors.Is(err, errSink) || sum == nil {
			t.Errorf("%s: summary %v, error %v", tt.failAt, sum, err)
		}
		if !slices.Equal(a.calls, tt.first) || !slices.Equal(b.calls, tt.second) {
			t.Errorf("%s: calls %v, %v", tt.failAt, a.calls, b.calls)
		}
		if tt.failAt == "step2" && (sum.Last == nil || src.n != 3) {
			t.Errorf("%d samples are left, summary %+v", src.n, sum)
		}
	}
}

func TestContextEndIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	k := &sink{}
	sum, err := Run(ctx, &source{n: 1, err: context.Canceled, then: cancel}, diagnose.DefaultLimits(), k)
	if err != nil || sum.Last == nil || len(k.calls) != 2 {
		t.Errorf("error %v, summary %+v, calls %v", err, sum, k.calls)
	}
}

func TestSourceErrorIsWrapped(t *testing.T) {
	broken := errors.New("broken map")
	sum, err := run(&source{n: 1, err: broken})
	if !errors.Is(err, broken) || err.Error() != "read next sample: broken map" || sum.Last == nil {
		t.Errorf("error %v, summary %+v", err, sum)
	}
	// A context that ends inside the source and not here is an error like another.
	if _, err := run(&source{err: context.Canceled}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestEndCallsAllSinks(t *testing.T) {
	a, b, c := &sink{failAt: "end"}, &sink{}, &sink{failAt: "end"}
	if err := End(&Summary{}, a, b, c); !errors.Is(err, errSink) {
		t.Errorf("error %v", err)
	}
	for _, k := range []*sink{a, b, c} {
		if !slices.Equal(k.calls, []string{"end"}) {
			t.Errorf("calls %v", k.calls)
		}
	}
}

// TestEndWithoutBegin: a sink whose predecessor failed to begin is ended all the
// same, and must bear it.
func TestEndWithoutBegin(t *testing.T) {
	var line, ndjson bytes.Buffer
	sinks := []Sink{&sink{failAt: "begin"}, NewLine(&line, LineOptions{}), NewJSON(&ndjson)}
	sum, err := run(&source{err: io.EOF}, sinks...)
	if !errors.Is(err, errSink) || End(sum, sinks...) != nil || ndjson.Len() > 0 {
		t.Errorf("error %v, JSON %q", err, ndjson.String())
	}
}

// TestNoSamples: an interrupt before the first tick still ends in order.
func TestNoSamples(t *testing.T) {
	var line, ndjson bytes.Buffer
	sinks := []Sink{NewLine(&line, LineOptions{}), NewJSON(&ndjson)}
	sum, err := run(&source{err: io.EOF}, sinks...)
	if err != nil || End(sum, sinks...) != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(line.String(), "herdtrace: nothing was measured\n") {
		t.Errorf("line %q", line.String())
	}
	if !strings.Contains(ndjson.String(), `"type":"summary"`) || !strings.Contains(ndjson.String(), `"findings":[]`) {
		t.Errorf("JSON %q", ndjson.String())
	}
}

// TestDroppedFindings are counted, not forgotten.
func TestDroppedFindings(t *testing.T) {
	var line, ndjson bytes.Buffer
	sinks := []Sink{NewLine(&line, LineOptions{}), NewJSON(&ndjson)}
	sum, err := run(&source{n: 2, err: io.EOF}, sinks...)
	sum.Findings, sum.Dropped = []diagnose.Finding{{ID: "accept-herd"}}, 5
	if err != nil || End(sum, sinks...) != nil {
		t.Fatal(err)
	}
	if !strings.Contains(line.String(), "\n  5 milder findings came and went") || !strings.Contains(ndjson.String(), `"findings_total":6,`) {
		t.Errorf("%s\n%s", line.String(), ndjson.String())
	}
}

// TestWriteErrors: a full disk is an error of every sink, at every line.
func TestWriteErrors(t *testing.T) {
	for _, name := range []string{"herd-cured", "accept-queue-overflow", "netdev-backlog", "cfs-throttle"} {
		in := readRecording(t, name)
		for _, mk := range []func(w io.Writer) Sink{
			func(w io.Writer) Sink { return NewLine(w, LineOptions{}) },
			func(w io.Writer) Sink { return NewJSON(w) },
		} {
			var whole bytes.Buffer
			replay(t, in, mk(&whole))
			for n := range bytes.Count(whole.Bytes(), []byte("\n")) {
				writeTo(t, in, mk, n)
			}
		}
	}
}

// writeTo replays a recording into a sink whose disk is full after n lines.
func writeTo(t *testing.T, in []byte, mk func(w io.Writer) Sink, n int) {
	t.Helper()
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	k := mk(&fullDisk{lines: n})
	sum, err := run(r, k)
	if err == nil {
		err = End(sum, k)
	}
	if !errors.Is(err, errSink) {
		t.Fatalf("%T, full after line %d: error %v", k, n, err)
	}
}

// fullDisk takes so many lines.
type fullDisk struct{ lines int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.lines -= bytes.Count(b, []byte("\n")); d.lines < 0 {
		return 0, errSink
	}
	return len(b), nil
}

func TestLineOptions(t *testing.T) {
	in := readRecording(t, "herd-cured")
	text := func(o LineOptions) string {
		var b bytes.Buffer
		replay(t, in, NewLine(&b, o))
		return b.String()
	}
	all, quiet, summary := text(LineOptions{}), text(LineOptions{NoTicks: true}), text(LineOptions{SummaryOnly: true})
	if !strings.Contains(all, "conn=") || strings.Contains(quiet, "conn=") || !strings.Contains(quiet, "accept-herd") {
		t.Errorf("with ticks:\n%s\nwithout:\n%s", all, quiet)
	}
	if !strings.HasPrefix(summary, "\nherdtrace: ") || !strings.HasSuffix(all, summary) || !strings.HasSuffix(quiet, summary) {
		t.Errorf("summary:\n%s", summary)
	}
}
