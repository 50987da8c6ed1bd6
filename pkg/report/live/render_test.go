// SPDX-License-Identifier: Apache-2.0

package live

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/clipperhouse/displaywidth"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

// goldenTest is a View and how large it is drawn.
type goldenTest struct {
	name string
	v    View
	w, h int
}

func goldens(t *testing.T, tests []goldenTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := Render(tt.v, tt.w, tt.h)
			checkGrid(t, g, tt.w, tt.h)
			golden(t, tt.name+".txt", g.Text())
		})
	}
}

func with(v View, change func(*View)) View {
	change(&v)
	return v
}

// shed is a herd on a machine where tracing costs more than it may.
func shed(what ...string) View {
	v := herdView()
	s := *v.Frame.Sample
	s.Self.Budget = &sample.Budget{Limit: 0.01, Cost: 0.02}
	for _, w := range what {
		s.Self.Budget.Shed = append(s.Self.Budget.Shed, sample.Shed{What: w, How: sample.ShedSampled, Now: true, TimesTotal: 1})
	}
	f := *v.Frame
	f.Sample = &s
	v.Frame = &f
	return v
}

func notMeasured() View {
	v := herdView()
	v.Active, v.Events = nil, nil
	v.Header.Signals[0] = sample.Signal{Name: "accept", Accuracy: sample.Unavailable, Rejected: []sample.Rejection{
		{Variant: "fexit", Error: "operation not permitted\x1b[2J"}, {Variant: "syscall", Error: "tracefs is not mounted"}}}
	v.Frame.Accept = nil
	return v
}

func noWake() View {
	v := healthyView()
	v.Header.Signals[1] = sample.Signal{Name: "wake", Accuracy: sample.Unavailable, Note: "sched_waking cannot be attached"}
	return v
}

func lost() View {
	v := healthyView()
	v.Frame.Cost.LostTotal, v.Frame.Cost.LostDelta = 1204, 7
	return v
}

func TestGolden(t *testing.T) {
	quiet := view(3, sshd)
	first := herdView()
	first.Frame = model.NewBuilder(first.Header).Build(&sample.Sample{Accept: &sample.Accept{Listeners: []sample.Listener{gunicorn.at(1), sshd.at(1)}}})
	first.Active, first.Events, first.Clock = nil, nil, 0
	tests := []goldenTest{
		{"herd-80x24", herdView(), 80, 24},
		{"herd-120x40", herdView(), 120, 40},
		{"herd-160x50", herdView(), 160, 50},
		{"herd-60x15", herdView(), 60, 15},
		{"herd-20x10", herdView(), 20, 10},
		{"herd-ascii-80x24", with(herdView(), func(v *View) { v.UI.ASCII = true }), 80, 24},
		{"herd-closed-100x30", with(herdView(), func(v *View) { v.UI.List = Place{Selected: old.inode, Sort: 8, Reverse: true} }), 100, 30},
		{"threads-80x24", with(herdView(), func(v *View) { v.UI.Opened = gunicorn.inode }), 80, 24},
		{"threads-120x40", with(herdView(), func(v *View) { v.UI.Opened = gunicorn.inode; v.UI.Threads = Place{Selected: 21880, Sort: 2} }), 120, 40},
		{"before-80x24", View{Header: header()}, 80, 24},
		{"first-80x24", first, 80, 24},
		{"quiet-80x24", quiet, 80, 24},
		{"no-listener-80x24", view(3), 80, 24},
		{"healthy-80x24", healthyView(), 80, 24},
		{"cleared-80x24", with(healthyView(), func(v *View) { v.QuietFrom = 30e9 }), 80, 24},
		{"lost-80x24", lost(), 80, 24},
		{"paused-80x24", with(herdView(), func(v *View) { v.UI.Paused = true; v.Clock += 5e9; v.UI.Notice = "end of recording" }), 80, 24},
		{"not-measured-80x24", notMeasured(), 80, 24},
		{"no-wake-80x24", noWake(), 80, 24},
		{"help-80x24", with(herdView(), func(v *View) { v.UI.Help = true }), 80, 24},
		{"shed-80x24", shed("netrx", "wake"), 80, 24},
		{"shed-much-40x12", shed(sample.ShedEvents, sample.ShedThreads, "netrx", "wake", "runq"), 40, 12},
		{"shed-help-80x24", with(shed(sample.ShedEvents, "netrx"), func(v *View) { v.UI.Help = true }), 80, 24},
		{"many-80x24", manyView(200), 80, 24},
		{"many-120x40", with(manyView(200), func(v *View) { v.UI.List.Selected = 100 }), 120, 40},
		{"hostile-80x24", hostileView(), 80, 24},
		{"queues-80x24", overflowView(), 80, 24},
		{"queues-120x40", overflowView(), 120, 40},
		{"queues-30x12", overflowView(), 30, 12},
		{"queues-opened-120x40", with(overflowView(), func(v *View) { v.UI.Opened = gunicorn.inode }), 120, 40},
		{"queues-herd-80x24", with(overflowView(), func(v *View) { v.UI.Panel = Herd }), 80, 24},
		{"queues-help-80x24", with(overflowView(), func(v *View) { v.UI.Help = true }), 80, 24},
		{"queues-not-measured-80x24", noListen(), 80, 24},
		{"cpus-80x24", backlogView(), 80, 24},
		{"cpus-120x40", backlogView(), 120, 40},
		{"cpus-ascii-80x24", with(backlogView(), func(v *View) { v.UI.ASCII = true; v.UI.CPU = Place{Selected: 1, Sort: 1, Reverse: true} }), 80, 24},
		{"cpus-no-hooks-80x24", noSoftirqHooks(), 80, 24},
		{"cpus-not-measured-80x24", with(herdView(), func(v *View) { v.UI.Panel = CPUs }), 80, 24},
		{"hostile-160x50", hostileView(), 160, 50},
		{"hostile-ascii-120x40", with(hostileView(), func(v *View) { v.UI.ASCII = true }), 120, 40},
	}
	goldens(t, tests)
	golden(t, "herd-80x24.styles", Render(herdView(), 80, 24).Styles())
	golden(t, "lost-80x24.styles", Render(lost(), 80, 24).Styles())
	golden(t, "queues-herd-80x24.styles", Render(with(overflowView(), func(v *View) { v.UI.Panel = Herd }), 80, 24).Styles())
}

// TestGoldenSched is the same for what belongs to cores, cgroups and processes.
func TestGoldenSched(t *testing.T) {
	goldens(t, []goldenTest{
		{"pile-80x24", pileView(), 80, 24},
		{"pile-120x40", pileView(), 120, 40},
		{"pile-20x10", pileView(), 20, 10},
		{"pile-ascii-80x24", with(pileView(), func(v *View) { v.UI.ASCII = true; v.UI.CPU = Place{Selected: 4, Sort: 6} }), 80, 24},
		{"pile-opened-80x24", with(pileView(), func(v *View) { v.UI.Opened = 4 }), 80, 24},
		{"pile-opened-160x50", with(pileView(), func(v *View) { v.UI.Opened = 4 }), 160, 50},
		{"pile-help-80x24", with(pileView(), func(v *View) { v.UI.Help = true }), 80, 24},
		{"cgroups-80x24", throttleView(), 80, 24},
		{"cgroups-120x40", throttleView(), 120, 40},
		{"cgroups-160x50", throttleView(), 160, 50},
		{"cgroups-20x10", throttleView(), 20, 10},
		{"cgroups-ascii-80x24", with(throttleView(), func(v *View) { v.UI.ASCII = true; v.UI.CGroup = Place{Selected: 7003, Sort: 1} }), 80, 24},
		{"cgroups-opened-120x40", with(throttleView(), func(v *View) { v.UI.Opened = 7001 }), 120, 40},
		{"cgroups-inside-80x24", with(throttleView(), func(v *View) { v.UI.Opened = 7002 }), 80, 24},
		{"cgroups-help-80x24", with(throttleView(), func(v *View) { v.UI.Help = true }), 80, 24},
		{"cgroups-no-runq-80x24", noRunq(), 80, 24},
		{"cgroups-not-measured-80x24", with(herdView(), func(v *View) { v.UI.Panel = CGroups }), 80, 24},
		{"processes-80x24", with(pileView(), func(v *View) { v.UI.Panel = Processes }), 80, 24},
		{"processes-160x50", with(pileView(), func(v *View) { v.UI.Panel = Processes }), 160, 50},
		{"processes-20x10", with(pileView(), func(v *View) { v.UI.Panel = Processes }), 20, 10},
		{"processes-ascii-120x40", with(pileView(), func(v *View) { v.UI.Panel, v.UI.ASCII, v.UI.Process = Processes, true, Place{Selected: 900} }), 120, 40},
		{"processes-opened-80x24", with(pileView(), func(v *View) { v.UI.Panel, v.UI.Opened = Processes, 21873 }), 80, 24},
		{"processes-help-80x24", with(pileView(), func(v *View) { v.UI.Panel, v.UI.Help = Processes, true }), 80, 24},
		{"processes-not-measured-80x24", with(noRunq(), func(v *View) { v.UI.Panel = Processes }), 80, 24},
	})
	golden(t, "cgroups-80x24.styles", Render(throttleView(), 80, 24).Styles())
}

// checkGrid asserts what a terminal relies on.
func checkGrid(t *testing.T, g Grid, w, h int) {
	t.Helper()
	if g.W != w || g.H != h {
		t.Fatalf("grid is %dx%d, want %dx%d", g.W, g.H, w, h)
	}
	for y := range h {
		n := 0
		for x := range w {
			c := g.Cell(x, y)
			n += displaywidth.String(c.Text)
			if model.Printable(c.Text) != c.Text {
				t.Errorf("cell %d,%d is %q", x, y, c.Text)
			}
			if g.ascii && c.Text != "" && (c.Text < " " || c.Text > "~") {
				t.Errorf("cell %d,%d is %q, which is not ASCII", x, y, c.Text)
			}
		}
		if n != w {
			t.Errorf("line %d is %d columns wide, want %d", y, n, w)
		}
	}
}

func TestEverySize(t *testing.T) {
	views := []View{herdView(), hostileView(), notMeasured(), {}, healthyView(), overflowView(), backlogView(), noListen(),
		pileView(), throttleView(), noRunq(), with(pileView(), func(v *View) { v.UI.Opened = 4 }),
		with(throttleView(), func(v *View) { v.UI.Opened = 7001 }), with(pileView(), func(v *View) { v.UI.Panel, v.UI.Opened = Processes, 21873 }),
		with(herdView(), func(v *View) { v.UI.Opened = gunicorn.inode }), with(herdView(), func(v *View) { v.UI.Help = true })}
	for i, v := range views {
		if v.UI.Opened != 0 && v.drill() == nil {
			t.Errorf("nothing is open in view %d", i)
		}
		for w := range 45 {
			for h := range 20 {
				if w > 0 && h > 0 {
					checkGrid(t, Render(v, w, h), w, h)
				}
			}
		}
	}
	for _, size := range [][2]int{{0, 0}, {-1, 5}, {5, -1}, {1 << 30, 1 << 30}, {1, 1 << 30}} {
		Render(herdView(), size[0], size[1])
	}
}

func FuzzRender(f *testing.F) {
	f.Add("0.0.0.0", "nginx", "it hurts", 80, 24, false, uint8(0))
	f.Add("日本\x1b[2J", "a\u0301\u200d👩", "語語語語語", 19, 7, true, uint8(3))
	f.Fuzz(func(t *testing.T, addr, program, sentence string, w, h int, ascii bool, action uint8) {
		w, h = 1+abs(w)%200, 1+abs(h)%80
		v := backlogView()
		v.Frame.CPUs[1].CPU.CPU = h
		v.Frame.NetRX.Devices[0].Name, v.Frame.NetRX.Drops[0].Device = addr, program
		v.Events = []model.Event{{Event: sample.Event{Kind: sample.EventRefusal, Place: addr, Client: program}}, {Event: sample.Event{Kind: sample.EventBacklogDrop, Device: addr}}}
		l := view(5, server{inode: 1, addr: addr, program: program, wait: program, workers: 3, accepts: 1, wakes: 9}, gunicorn).Frame
		v.Frame.Accept, v.Frame.Queues = l.Accept, &model.Queues{RefusalsPerS: float64(w)}
		l.Accept.Listeners[0].Queue = &model.Queue{Queues: sample.Queues{Refusals: sample.Refusals{SynQueue: 1}, Clients: sample.RefusedClients{Total: 1, Top: []sample.RefusedClient{{Addr: addr}}}}}
		pile := pileView().Frame
		pile.CGroups[0].Path, pile.CGroups[0].Demand, pile.CGroups[0].CFS = addr, float64(w)*1e300, &sample.Bandwidth{QuotaUS: uint64(w)}
		pile.Sched.Processes[0].Program, pile.Sched.Processes[0].Top[0].Comm, pile.Sched.Processes[0].Top[0].Policy = addr, program, sentence
		pile.Sched.Contended[0].HolderComm, pile.CPUs[1].Runq.Waiting = sentence, float64(h)*1e300
		v.Frame.Sched, v.Frame.CGroups, v.Frame.CPUs = pile.Sched, pile.CGroups, append(v.Frame.CPUs, pile.CPUs...)
		v.Events = append(v.Events, model.Event{Event: sample.Event{Kind: sample.EventThrottle, CGroup: addr, Cores: uint32(w)}})
		v.UI.Panel, v.UI.Opened = Panel(action)%(Findings+1), uint64(h%5)*7001/4
		v.Active = herdView().Active
		v.Active[0].Evidence, v.Active[1].Remedy, v.UI.Notice, v.UI.ASCII = sentence, sentence, sentence, ascii
		for range action % 32 {
			v.UI = v.UI.Press(Action(action%uint8(StepOff+1)), v, w, h)
		}
		checkGrid(t, Render(v, w, h), w, h)
	})
}

func abs(n int) int { return max(n, -max(n, -1<<62)) }

func TestSentences(t *testing.T) {
	tests := []struct {
		name, want string
		v          View
	}{
		{"no frame", "measuring…", View{}},
		{"healthy", "no finding in 42 s: 3 listeners, 1.0 wake-ups per connection", healthyView()},
		{"quiet", "no new connections seen; start your load", view(3, sshd)},
		{"not measured", "nothing can be said: connections are not measured", notMeasured()},
		{"no wake", "no verdict: wake is not measured: sched_waking cannot be attached", noWake()},
		{"lost", "no finding in 42 s: 3 listeners, 1.0 wake-ups per connection; 1204 events lost", lost()},
		{"no runq", "no finding in 60 s: 1 listener, 12.6 wake-ups per connection; runq is not measured; cputime is not measured", noRunq()},
		{"cores only", "no finding in 60 s: 2 cores, 6 cgroups; connections are not measured", with(throttleView(), func(v *View) { v.Frame.Accept = nil })},
		{"no connections", "no finding in 60 s: 2 cores, no new connections seen", with(throttleView(), func(v *View) { v.Frame.Accept.Listeners = nil })},
		{"no listen", "no finding in 60 s: 5 listeners, 4.3 wake-ups per connection; listen is not measured", noListen()},
	}
	for _, tt := range tests {
		if got, _ := tt.v.calm(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
