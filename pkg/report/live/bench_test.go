// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/vt"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

// crowdTicks is how many different ticks a benchmark shows, over and over.
const crowdTicks = 16

// crowdSteps are those of a crowded host, from when its findings are raised.
func crowdSteps(tb testing.TB) (*stage, []*report.Step) {
	tb.Helper()
	load := sampletest.Crowded()
	h := load.Header()
	builder, set := model.NewBuilder(h), diagnose.NewSet(diagnose.DefaultLimits())
	stage := newStage(UI{})
	stage.Begin(h)
	var steps []*report.Step
	const settle = 8
	for t := range uint64(settle + crowdTicks) {
		f := builder.Build(load.At(t))
		s := &report.Step{Frame: f, Changed: set.Update(f), Active: set.Active()}
		if t >= settle {
			steps = append(steps, s)
		}
	}
	return stage, steps
}

// TestCrowdedHost: the benchmarks' load is what it means to be: each panel has
// rows, a few findings are active, and nearly every row changes with the tick.
func TestCrowdedHost(t *testing.T) {
	stage, steps := crowdSteps(t)
	stage.Step(steps[0])
	before := stage.show()
	stage.Step(steps[1])
	after := stage.show()
	if n := len(after.Active); n < 3 || n > 12 {
		t.Errorf("%d findings, want some:", n)
		for _, f := range after.Active {
			t.Logf("%s %s", f.ID, f.Sentence())
		}
	}
	for p := Panel(0); p <= Processes; p++ {
		before.UI.Panel, after.UI.Panel = p, p
		a, b := Render(before, 160, 50), Render(after, 160, 50)
		checkGrid(t, b, 160, 50)
		changed := 0
		for y := range b.H {
			for x := range b.W {
				if a.Cell(x, y) != b.Cell(x, y) {
					changed++
					break
				}
			}
		}
		if changed < b.H/2 {
			t.Errorf("panel %d: %d of %d lines change with the tick", p, changed, b.H)
		}
	}
}

// BenchmarkScreen is what the screen costs for each tick of a crowded host:
// Render alone, by panel, and the whole way into a terminal that takes all.
func BenchmarkScreen(b *testing.B) {
	for _, size := range [][2]int{{80, 24}, {160, 50}, {200, 60}} {
		for p, ui := range map[string]UI{"all": {Overview: true}, "herd": {}, "cgroups": {Panel: CGroups}, "processes": {Panel: Processes}} {
			name := fmt.Sprintf("%dx%d/%s", size[0], size[1], p)
			b.Run("render/"+name, func(b *testing.B) { benchRender(b, ui, size[0], size[1]) })
			b.Run("draw/"+name, func(b *testing.B) { benchDraw(b, ui, size[0], size[1]) })
		}
	}
}

func benchRender(b *testing.B, ui UI, w, h int) {
	stage, steps := crowdSteps(b)
	stage.ui = ui
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		stage.Step(steps[i%len(steps)])
		Render(stage.show(), w, h)
	}
}

// sinkhole is a terminal that counts what it is sent, and shows nothing.
type sinkhole struct {
	vt.MockTerm
	bytes atomic.Int64
}

func (s *sinkhole) Write(b []byte) (int, error) {
	s.bytes.Add(int64(len(b)))
	return len(b), nil
}

func benchDraw(b *testing.B, ui UI, w, h int) {
	b.Setenv("TERM", "xterm-256color")
	tty := &sinkhole{MockTerm: vt.NewMockTerm(vt.MockOptSize{X: vt.Col(w), Y: vt.Row(h)}, vt.MockOptColors(256))}
	term, err := tcell.NewTerminfoScreenFromTty(tty, tcell.OptNegotiation(false))
	if err != nil {
		b.Fatal(err)
	}
	if err := term.Init(); err != nil {
		b.Fatal(err)
	}
	defer term.Fini()
	paint := newPainter(term, ColorAuto)
	stage, steps := crowdSteps(b)
	stage.ui = ui
	stage.Step(steps[0])
	paint.show(Render(stage.show(), w, h)) // the first drawing sends everything
	start := tty.bytes.Load()
	b.ReportAllocs()
	n := 0
	for ; b.Loop(); n++ {
		stage.Step(steps[(n+1)%len(steps)])
		paint.show(Render(stage.show(), w, h))
	}
	b.ReportMetric(float64(tty.bytes.Load()-start)/float64(n), "sent-B/op")
}
