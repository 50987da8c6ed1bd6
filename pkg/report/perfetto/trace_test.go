// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var update = flag.Bool("update", false, "rewrite testdata")

const recordings = "../../../testdata"

// names are the recordings, without ".jsonl".
func names(t testing.TB) (out []string) {
	t.Helper()
	paths, err := filepath.Glob(recordings + "/*.jsonl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, p := range paths {
		out = append(out, strings.TrimSuffix(filepath.Base(p), ".jsonl"))
	}
	return out
}

// keeper keeps the Frames.
type keeper struct{ frames []*model.Frame }

func (k *keeper) Begin(*sample.Header) error { return nil }
func (k *keeper) Step(s *report.Step) error  { k.frames = append(k.frames, s.Frame); return nil }
func (k *keeper) End(*report.Summary) error  { return nil }

// traced replays the recording of a name.
func traced(t testing.TB, name string) ([]byte, []*model.Frame, *report.Summary) {
	t.Helper()
	in, err := os.ReadFile(filepath.Join(recordings, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	k := &keeper{}
	sum := run(t, r, New(&out), k)
	return out.Bytes(), k.frames, sum
}

func run(t testing.TB, src sample.Source, sinks ...report.Sink) *report.Summary {
	t.Helper()
	sum, err := report.Run(context.Background(), src, diagnose.DefaultLimits(), sinks...)
	if err != nil {
		t.Fatal(err)
	}
	if c := src.Header().Command; c != nil {
		sum.Command = &report.Command{Args: c, ExitCode: 1}
	}
	if err := report.End(sum, sinks...); err != nil {
		t.Fatal(err)
	}
	return sum
}

// goldens are the recordings whose traces are kept as text: one for each group of
// tracks, and one of hostile names.
var goldens = []string{"accept-queue-overflow", "healthy", "hostile", "netdev-backlog", "not-measured", "lost", "without-bpf"}

func TestGolden(t *testing.T) {
	for _, name := range goldens {
		out, _, _ := traced(t, name)
		got := decode(t, out).dump()
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (go test ./pkg/report/perfetto -update rewrites it):\n%s", path, firstDifference(got, string(want)))
		}
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) != len(goldens) {
		t.Errorf("%d goldens of %d recordings, %v", len(files), len(goldens), err)
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + strings.Join(w[min(i, len(w)):min(i+1, len(w))], "")
		}
	}
	return "it is cut off"
}

// TestSameBytes: the same recording gives the same bytes.
func TestSameBytes(t *testing.T) {
	for _, name := range names(t) {
		once, _, _ := traced(t, name)
		for range 3 {
			if again, _, _ := traced(t, name); !bytes.Equal(once, again) {
				t.Errorf("%s: other bytes", name)
			}
		}
	}
}

// TestOtherTraceOtherTracks: two traces can be merged without a track or a
// sequence of one being taken for that of the other.
func TestOtherTraceOtherTracks(t *testing.T) {
	uuids, sequences, headers := make(map[uint64]string), make(map[uint64]string), make(map[string]bool)
	for _, name := range names(t) {
		out, frames, _ := traced(t, name)
		h, err := json.Marshal(frames[0].Header)
		if err != nil {
			t.Fatal(err)
		}
		if headers[string(h)] {
			continue // it says that it is the same trace
		}
		headers[string(h)] = true
		s := decode(t, out)
		if other := sequences[s.sequence]; other != "" {
			t.Errorf("%s and %s are of one sequence", name, other)
		}
		sequences[s.sequence] = name
		for uuid := range s.tracks {
			if other := uuids[uuid]; other != "" {
				t.Fatalf("%s and %s have track %d", name, other, uuid)
			}
			uuids[uuid] = name
		}
	}
}

// TestClock: the trace's clock is that of the Samples, tied to the wall clock.
func TestClock(t *testing.T) {
	for _, name := range names(t) {
		out, frames, _ := traced(t, name)
		s, h := decode(t, out), frames[0].Header
		if s.primary != 3 || len(s.clocks) != 2 || s.clocks[3] != h.MonoNS || s.clocks[1] != uint64(h.WallNS) {
			t.Errorf("%s: clocks %v, primary %d", name, s.clocks, s.primary)
		}
	}
}

// TestSlicesBalance: on each track each slice that begins ends, in the order of
// the file as in that of time, and slices on one track do not overlap.
func TestSlicesBalance(t *testing.T) {
	total := 0
	for _, name := range names(t) {
		out, _, _ := traced(t, name)
		s := decode(t, out)
		for range 2 {
			for _, tr := range s.inOrder {
				depth := 0
				for _, e := range tr.events {
					switch e.kind {
					case 1:
						depth, total = depth+1, total+1
					case 2:
						depth--
					}
					if depth < 0 || depth > 1 {
						t.Fatalf("%s: %q: %d slices are open at once", name, tr.name, depth)
					}
				}
				if depth != 0 {
					t.Errorf("%s: %q: a slice does not end", name, tr.name)
				}
			}
			s.inTime()
		}
	}
	if total < 100 {
		t.Errorf("only %d slices", total)
	}
}

// broken fails after some bytes.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, os.ErrClosed
	}
	return len(p), nil
}

// TestWriteError: a full disk ends the trace, and each call says so.
func TestWriteError(t *testing.T) {
	for _, left := range []int{0, 1500} {
		tr := New(&broken{left})
		h := &sample.Header{}
		step := &report.Step{Frame: &model.Frame{Header: h, Sample: &sample.Sample{}}}
		err := tr.Begin(h)
		for i := 0; err == nil && i < 100; i++ {
			step.Frame.Interval, step.Frame.Sample.MonoNS = 1, uint64(i)
			step.Frame.Cost.MemoryBytes = uint64(i)
			err = tr.Step(step)
		}
		for range 2 {
			if !errors.Is(err, os.ErrClosed) || !strings.HasPrefix(err.Error(), "write Perfetto trace: ") {
				t.Errorf("%v", err)
			}
			err = tr.End(&report.Summary{})
		}
	}
	if err := New(&broken{}).End(&report.Summary{}); err != nil {
		t.Errorf("a trace that never began: %v", err)
	}
}
