// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// stage is a screen without a terminal: it shows each Step as a seat would.
type stage struct {
	memory
	ui   UI
	held map[Panel]*held
	each func(v View)
}

func newStage(ui UI) *stage { return &stage{memory: memory{history: newHistory()}, ui: ui} }

func (s *stage) Begin(h *sample.Header) error { s.Header = h; return nil }

func (s *stage) Step(step *report.Step) error {
	s.add(step)
	if s.each != nil {
		s.each(s.show())
	}
	return nil
}

func (s *stage) End(*report.Summary) error { return nil }

// show is what is to be seen now.
func (s *stage) show() View {
	v := s.view()
	v.UI = s.ui
	s.held = v.settle(s.held)
	v.held = s.held
	return v
}

// runRecording runs a recording of testdata into s.
func runRecording(t testing.TB, path string, s *stage) {
	t.Helper()
	r, err := sample.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := report.Run(context.Background(), r, diagnose.DefaultLimits(), s); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// worst is the middle one of the Views of a recording that have the most serious
// findings.
func worst(t testing.TB, path string, ui UI) View {
	t.Helper()
	var views []View
	most := -1
	s := newStage(ui)
	s.each = func(v View) {
		n := 0
		for i := range v.Active {
			n += int(v.Active[i].Severity)
		}
		if n < most || v.Frame.Interval == 0 && most >= 0 {
			return
		}
		if n > most {
			views = nil
		}
		v.History = v.History.clone()
		most, views = n, append(views, v)
	}
	runRecording(t, path, s)
	return views[len(views)/2]
}

func recordingPaths(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("../../../testdata/*.jsonl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	real, err := filepath.Glob("../../../testdata/real/*.jsonl.gz")
	if err != nil || len(real) == 0 {
		t.Fatalf("no real recordings: %v", err)
	}
	return append(paths, real...)
}

// TestRecordings draws the worst moment of each recording in testdata.
func TestRecordings(t *testing.T) {
	for _, path := range recordingPaths(t) {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".jsonl")
		if strings.HasSuffix(path, ".gz") {
			name = "real-" + name
		}
		t.Run(name, func(t *testing.T) {
			v := worst(t, path, UI{Overview: true})
			var out strings.Builder
			screen := func(v View, w, h int, what string) {
				g := Render(v, w, h)
				checkGrid(t, g, w, h)
				fmt.Fprintf(&out, "=== %s\n%s", what, g.Text())
			}
			screen(v, 80, 24, "80x24")
			screen(v, 120, 40, "120x40")
			screen(v, 160, 50, "160x50")
			ascii := with(v, func(v *View) { v.UI.ASCII = true })
			screen(ascii, 80, 24, "80x24 ASCII")
			fmt.Fprintf(&out, "=== 80x24 roles: . dim, ! warn, X crit, = head, ^ sorted, # selected, k key\n%s", Render(v, 80, 24).Styles())
			end := newStage(UI{Overview: true})
			runRecording(t, path, end)
			screen(end.show(), 80, 24, "80x24 at the end")
			for i := range v.Active {
				of := with(v, func(v *View) { v.UI.Panel, v.UI.Opened = Findings, findingID(&v.Active[i]) })
				screen(of, 100, 24, "100x24 "+v.Active[i].ID)
				screen(of, 80, 24, "80x24 "+v.Active[i].ID)
			}
			golden(t, "recordings/"+name+".txt", out.String())
		})
	}
}
