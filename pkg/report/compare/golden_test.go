// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var update = flag.Bool("update", false, "rewrite testdata")

const recordings = "../../../testdata"

func recording(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(recordings, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

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

// outputs are both forms of a comparison.
func outputs(t testing.TB, d *Diff) map[string][]byte {
	t.Helper()
	var j bytes.Buffer
	if err := d.WriteJSON(&j); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"txt": []byte(text(t, d)), "json": j.Bytes()}
}

// TestGolden: the bytes of both outputs, which are the same every time.
func TestGolden(t *testing.T) {
	noisy := quiet.with(func(s *scene) { s.noise, s.seed = 0.1, 1 })
	refusing := noisy.with(func(s *scene) { s.refuse = []float64{100} })
	pairs := map[string][2][]byte{
		"herd-fixed":          {noisy.with(func(s *scene) { s.herd = 8 }).write(t), noisy.write(t)},
		"queue-moved":         {refusing.write(t), noisy.with(func(s *scene) { s.sockets, s.refuse = 8, []float64{0, 0, 30} }).write(t)},
		"approximate":         {noisy.with(func(s *scene) { s.herd = 8 }).write(t), noisy.with(func(s *scene) { s.signals = map[string]string{"wake": sample.Approximate} }).write(t)},
		"pile-healthy":        {recording(t, "runq-pile"), recording(t, "healthy-sched")},
		"hostile-without-bpf": {recording(t, "hostile"), recording(t, "without-bpf")},
		"cfs-throttle-same":   {recording(t, "cfs-throttle"), recording(t, "cfs-throttle")},
	}
	seen := make(map[string]bool)
	for name, in := range pairs {
		t.Run(name, func(t *testing.T) {
			make := func() map[string][]byte {
				return outputs(t, Compare(read(t, "before", in[0]), read(t, "after", in[1])))
			}
			again := make()
			for ending, got := range make() {
				path := filepath.Join("testdata", name+"."+ending)
				seen[filepath.Base(path)] = true
				if !bytes.Equal(got, again[ending]) {
					t.Errorf("%s: the same pair gave other bytes", path)
				}
				if *update {
					if err := os.WriteFile(path, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s differs, error %v (go test ./pkg/report/compare -update rewrites it):\n%s", path, err, got)
				}
			}
		})
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[f.Name()] {
			t.Errorf("testdata/%s belongs to no pair", f.Name())
		}
	}
}

// TestSameRecording: beside itself, no recording differs.
func TestSameRecording(t *testing.T) {
	for _, name := range names(t) {
		d := Compare(read(t, name, recording(t, name)), read(t, name, recording(t, name)))
		if d.Verdict != NoDifference {
			t.Errorf("%s: %s\n%s", name, d.Verdict, text(t, d))
		}
		for i := range d.Findings {
			if f := &d.Findings[i]; f.Verdict != Unchanged {
				t.Errorf("%s: %s %s: %s", name, f.ID, f.Verdict, f.Why)
			}
		}
	}
}

// TestEveryPair: each recording beside each other gives an object, and lines
// without a byte that a terminal obeys.
func TestEveryPair(t *testing.T) {
	sides := make(map[string]*Side)
	for _, name := range names(t) {
		sides[name] = read(t, name+"\x1b[2J\n", recording(t, name))
	}
	for nameA, a := range sides {
		for nameB, b := range sides {
			out := outputs(t, Compare(a, b))
			var v struct {
				Type     string
				Findings []struct{ Verdict string }
			}
			if err := json.Unmarshal(out["json"], &v); err != nil || v.Type != "diff" || bytes.Count(out["json"], []byte("\n")) != 1 {
				t.Errorf("%s, %s: %v", nameA, nameB, err)
			}
			for _, f := range v.Findings {
				if _, ok := rank[f.Verdict]; !ok {
					t.Errorf("%s, %s: verdict %q", nameA, nameB, f.Verdict)
				}
			}
			for line := range strings.Lines(string(out["txt"])) {
				for _, r := range strings.TrimSuffix(line, "\n") {
					if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
						t.Fatalf("%s, %s: %+q in %+q", nameA, nameB, r, line)
					}
				}
			}
		}
	}
}

// TestEveryFindingHasAKey: those that herdtrace knows, in its recordings at least.
func TestEveryFindingHasAKey(t *testing.T) {
	for _, name := range names(t) {
		for key := range read(t, name, recording(t, name)).episodes {
			if _, ok := keyOf[key.id]; !ok {
				t.Errorf("%s: %s stands and falls with nothing", name, key.id)
			}
		}
	}
	seen := make(map[string]bool)
	for k := range metrics {
		if m := &metrics[k]; m.name == "" || m.label == "" || m.signal == "" || m.scale == 0 || m.least <= 0 || seen[m.name] && m.name != "cores" {
			t.Errorf("metric %d: %+v", k, *m)
		}
		seen[metrics[k].name] = true
	}
}
