// SPDX-License-Identifier: Apache-2.0

package live

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func TestPress(t *testing.T) {
	v := manyView(200) // inode 200 first; a page of 18 rows at 80x24
	at := func(actions ...Action) UI {
		u := UI{}
		for _, a := range actions {
			u = u.Press(a, v, 80, 24)
		}
		return u
	}
	selected := []struct {
		name    string
		actions []Action
		want    uint64
	}{
		{"down", []Action{Down}, 199},
		{"up stays", []Action{Up}, 200},
		{"down and up", []Action{Down, Down, Up}, 199},
		{"page", []Action{PageDown}, 182},
		{"pages", []Action{PageDown, PageDown, PageUp}, 182},
		{"end", []Action{Last}, 1},
		{"past the end", []Action{Last, Down, PageDown}, 1},
		{"home", []Action{Last, First}, 200},
		{"reversed", []Action{ReverseSort, Down}, 2},
		{"by name", []Action{NextSort, Down}, 2},
		{"help swallows", []Action{ToggleHelp, Down, Back}, 0},
		{"quit changes nothing", []Action{Quit, NoAction}, 0},
		{"open", []Action{Down, Open}, 199},
		{"in threads", []Action{Open, Down}, 200},
	}
	for _, tt := range selected {
		if u := at(tt.actions...); u.List.Selected != tt.want {
			t.Errorf("%s: selected %d, want %d", tt.name, u.List.Selected, tt.want)
		}
	}
	if u := at(Open, Down); u.Opened != 200 || u.Threads.Selected != 21874 {
		t.Errorf("Open, Down: %+v", u)
	}
	if u := at(Open, Down, Back); u.Opened != 0 || u.Threads != (Place{}) {
		t.Errorf("Open, Down, Back: %+v", u)
	}
	sorts := make([]Action, len(v.listenerColumns())+1)
	for i := range sorts {
		sorts[i] = NextSort
	}
	if u := at(sorts...); u.List.Sort != 0 {
		t.Errorf("sort did not come round: %+v", u)
	}
	u := UI{List: Place{Selected: 4711}, Opened: 4711} // both gone
	if u = u.Press(Down, v, 80, 24); u.List.Selected != 199 || u.Opened != 0 {
		t.Errorf("Down from a listener that is gone: %+v", u)
	}
	for a := NoAction; a <= StepOff; a++ {
		(UI{}).Press(a, View{}, 0, 0)
	}
}

// TestPressPanels: each has a place of its own.
func TestPressPanels(t *testing.T) {
	v := manyView(200)
	at := func(actions ...Action) UI {
		u := UI{}
		for _, a := range actions {
			u = u.Press(a, v, 80, 24)
		}
		return u
	}
	for a, want := range shows {
		if u := at(Open, Down, a); u.Panel != want || u.Opened != 0 || u.Threads != (Place{}) {
			t.Errorf("Open, Down, %v: %+v", a, u)
		}
	}
	if u := at(Down, ShowQueues, Last, ShowHerd); u.List.Selected != 199 || u.Queue.Selected != 1 || u.Panel != Herd {
		t.Errorf("there and back: %+v", u)
	}
	if u := at(ShowQueues, NextSort, Down, Open); u.Opened != 2 || u.Queue.Selected != 2 || u.List.Selected != 0 {
		t.Errorf("open from the queues: %+v", u)
	}
}

// TestPressCPUs: a core has no threads to open, and core 0 can be selected.
func TestPressCPUs(t *testing.T) {
	v, u := backlogView(), UI{}
	for _, a := range []Action{ShowCPUs, NextSort, Last, Open} {
		u = u.Press(a, v, 80, 24)
	}
	if u.Opened != 0 || u.CPU != (Place{Selected: 1, Sort: 1}) {
		t.Errorf("%+v", u)
	}
}

// TestPressSched: a core, a cgroup and a process open, and close.
func TestPressSched(t *testing.T) {
	tests := []struct {
		name   string
		v      View
		show   Action
		opened uint64
		title  string
		inside uint64 // selected by Down
	}{
		{"core", pileView(), ShowCPUs, 4, "CPU 3", 21874},
		{"cgroup", throttleView(), ShowCGroups, 7001, "CGROUP api.service", 21873},
		{"process", pileView(), ShowProcesses, 812, "PROCESS 812  nginx", 812}, // with a finding: the first
	}
	for _, tt := range tests {
		u := UI{}
		for _, a := range []Action{tt.show, Open, Down} {
			u = u.Press(a, tt.v, 80, 24)
		}
		v := with(tt.v, func(v *View) { v.UI = u })
		if u.Opened != tt.opened || u.place().Selected != tt.opened || u.Threads.Selected != tt.inside {
			t.Errorf("%s: %+v", tt.name, u)
		}
		if d := v.drill(); d == nil || d.title != tt.title {
			t.Errorf("%s: opened %+v", tt.name, d)
		}
		if u = u.Press(Back, tt.v, 80, 24); u.Opened != 0 || u.Threads != (Place{}) || u.place().Selected != tt.opened {
			t.Errorf("%s: back: %+v", tt.name, u)
		}
	}
	u := UI{Panel: Processes, Opened: 4711} // gone
	if u = u.Press(Down, pileView(), 80, 24); u.Opened != 0 || u.Process.Selected != 21873 {
		t.Errorf("Down from a process that is gone: %+v", u)
	}
	u = UI{Panel: CGroups}
	if u = u.Press(Open, noRunq(), 80, 24); u.Opened != 0 {
		t.Errorf("opened a cgroup without knowing its processes: %+v", u)
	}
}

// TestPanelOf: a mark stands where what the finding is about is shown.
func TestPanelOf(t *testing.T) {
	for id, want := range map[string]Panel{
		"accept-herd": Herd, "accept-queue-wait": Queues, "syn-queue-overflow": Queues, "netrx-imbalance": CPUs, "netdev-backlog-drop": CPUs,
		"runq-pile": CPUs, "cfs-throttle": CGroups, "cfs-throttle-below-quota": CGroups, "cpu-oversold": CGroups,
		"cputime-hidden": CPUs,
	} {
		if got := panelOf(&diagnose.Finding{ID: id}); got != want {
			t.Errorf("%s: panel %d, want %d", id, got, want)
		}
	}
	if got := panelOf(&diagnose.Finding{ID: "cputime-frozen", PID: 1}); got != Processes {
		t.Errorf("a process's account: panel %d", got)
	}
}

// TestCPUOrder: what drops, what piles up, what waits, what is busy.
func TestCPUOrder(t *testing.T) {
	v := throttleView()
	runq := func(busy, waiting, unclaimed float64) *model.Runq {
		return &model.Runq{Runq: &sample.Runq{}, BusyRatio: busy, Waiting: waiting, UnclaimedRatio: unclaimed}
	}
	v.Frame.CPUs = []model.CPU{
		{BusyRatio: 0.2, Runq: runq(0.2, 0.1, 0.05)}, // a wait now and then
		{BusyRatio: 0.9, NetRXRatio: 0.5},
		{Runq: runq(1, 3, 0)},
		{Runq: runq(1, 1.5, 0.4)},
		{DroppedDelta: 1},
		{Runq: runq(1, 1.5, 0.9)},
	}
	for i := range v.Frame.CPUs {
		v.Frame.CPUs[i].CPU.CPU = i
	}
	var got []int
	for _, c := range v.cpus() {
		got = append(got, c.CPU.CPU)
	}
	if want := []int{4, 5, 3, 2, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("cores %v, want %v", got, want)
	}
}

// TestUnknownSortsLast in both directions.
func TestUnknownSortsLast(t *testing.T) {
	cols := []column[float64]{{num: func(v float64) float64 { return v }}}
	for _, reverse := range []bool{false, true} {
		rows := sorted(cols, []float64{math.NaN(), 1, 3, math.NaN(), 2}, Place{Sort: 1, Reverse: reverse})
		if !math.IsNaN(rows[3]) || !math.IsNaN(rows[4]) || (rows[0] < rows[2]) != reverse {
			t.Errorf("reverse %v: %v", reverse, rows)
		}
	}
}

func TestNumbers(t *testing.T) {
	nan := math.NaN()
	counts := map[float64]string{0: "0", 0.04: "0", 0.3: "0.3", 2: "2", 9.94: "9.9", 9.96: "10", 999: "999", 999.6: "1.0k", 1234: "1.2k",
		99_940: "99.9k", 99_960: "100k", 999_600: "1.0M", 1.2e9: "1.2G", 1e15: "1e+15", nan: none, math.Inf(1): none}
	for v, want := range counts {
		if got := count(v); got != want {
			t.Errorf("count(%v) = %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0%", 0.0001: "<0.1%", 0.031: "3.1%", 0.0994: "9.9%", 0.0996: "10%", 3.2: "320%"} {
		if got := percentFine(v); got != want {
			t.Errorf("percentFine(%v) = %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0%", 0.0001: "<0.1%", 0.031: "~3.1%", nan: none} {
		if got := estimate(v); got != want {
			t.Errorf("estimate(%v) = %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0.00", 0.04: "0.04", 1.9: "1.90", 12.34: "12.3", 640: "640", nan: none, math.Inf(1): none} {
		if got := cores(v); got != want {
			t.Errorf("cores(%v) = %s, want %s", v, got, want)
		}
	}
	for want, cpus := range map[string][]int{"": nil, "3": {3}, "0-1": {0, 1}, "0-3,8,10-11": {0, 1, 2, 3, 8, 10, 11}} {
		if got := cpuList(cpus); got != want {
			t.Errorf("cpuList(%v) = %s, want %s", cpus, got, want)
		}
	}
	for d, want := range map[time.Duration]string{42e9: "42 s", 190e9: "3 min 10 s", 7500e9: "2 h 5 min", -1: "0 s"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 65.5e-6: "66us", 0.00212: "2.1ms", 0.13: "130ms", 3.24: "3.2s", 0.99951: "1.0s", 119: "119s", 420: "7m00s", 86400: "24h00m",
		0.99949e-3: "999us", 1e300: "1e+300s", nan: none, math.Inf(1): "inf"} {
		if got := seconds(v); got != want {
			t.Errorf("seconds(%v) = %s, want %s", v, got, want)
		}
	}
	for ns, want := range map[uint64]string{1e9: "1 s", 1e8: "100 ms", 2500e6: "2.5 s", 3600e9: "60 min", 1 << 63: "2562048 h", 0: "0 us"} {
		if got := every(ns); got != want {
			t.Errorf("every(%d) = %s, want %s", ns, got, want)
		}
	}
	if got := clock(100*time.Hour + 61*time.Second); got != "100:01:01" {
		t.Errorf("clock = %s", got)
	}
}

func TestCutting(t *testing.T) {
	tests := []struct{ got, want string }{
		{clip("日本語", 6), "日本語"},
		{clip("日本語", 5), "日本…"},
		{clip("日本語", 4), "日…"},
		{clip("abc", 0), ""},
		{clipMiddle("[2001:db8::1:2:3]:8080", 16), "[2001…:2:3]:8080"},
		{cutListener("127.0.0.1:5432 closed", 18), "127.…1:5432 closed"},
		{cutCGroup("system.slice/api.service", 12), "…api.service"},
		{cutCGroup("a", 0), ""},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
	for w := range 12 {
		for _, l := range wrap("日本語のとても long unbreakableword e\u0301 a", w) {
			if width(l) > max(w, 1) {
				t.Errorf("wrap to %d: %q", w, l)
			}
		}
	}
}
