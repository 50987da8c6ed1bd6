// SPDX-License-Identifier: Apache-2.0

package live

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gdamore/tcell/v3"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestKeys: each key of the help does what it says, those of top and htop too.
func TestKeys(t *testing.T) {
	runes := map[string]Action{
		"q": Quit, "j": Down, "k": Up, "g": First, "G": Last, "l": Open, " ": Pause, "s": NextSort, "S": PrevSort, ">": NextSort, "<": PrevSort,
		"r": ReverseSort, "R": ReverseSort, "I": ReverseSort, "?": ToggleHelp, "h": ToggleHelp, "0": ShowAll, "1": ShowHerd, "2": ShowCPUs, "3": ShowCGroups,
		"4": ShowQueues, "5": ShowProcesses, "f": ShowFindings, "/": AskFilter, "\\": AskFilter, "c": AskCGroup, "p": AskPID, "d": AskInterval,
		"t": AskTime, "y": Copy, "w": Snapshot, "W": Snapshot, "+": More, "-": Less, "x": NoAction, "é": NoAction, ".": NoAction, ",": NoAction,
	}
	for key, want := range runes {
		if got := actionOf(tcell.NewEventKey(tcell.KeyRune, key, 0), false); got != want {
			t.Errorf("%q: action %d, want %d", key, got, want)
		}
		if got := actionOf(tcell.NewEventKey(tcell.KeyRune, key, tcell.ModAlt), false); got != NoAction {
			t.Errorf("Alt %q: action %d", key, got)
		}
	}
	keys := map[tcell.Key]Action{
		tcell.KeyCtrlC: Quit, tcell.KeyF10: Quit, tcell.KeyF1: ToggleHelp, tcell.KeyF3: AskFilter, tcell.KeyF4: AskFilter, tcell.KeyF6: NextSort,
		tcell.KeyUp: Up, tcell.KeyDown: Down, tcell.KeyPgUp: PageUp, tcell.KeyPgDn: PageDown, tcell.KeyHome: First, tcell.KeyEnd: Last,
		tcell.KeyEnter: Open, tcell.KeyRight: Open, tcell.KeyEsc: Back, tcell.KeyLeft: Back, tcell.KeyTab: NextPanel, tcell.KeyBacktab: PrevPanel,
		tcell.KeyCtrlZ: Suspend, tcell.KeyF9: NoAction,
	}
	for key, want := range keys {
		if got := actionOf(tcell.NewEventKey(key, "", 0), false); got != want {
			t.Errorf("key %d: action %d, want %d", key, got, want)
		}
	}
	for key, want := range map[tcell.Key]Action{tcell.KeyLeft: Backward, tcell.KeyRight: Forward, tcell.KeyUp: Up} {
		if got := actionOf(tcell.NewEventKey(key, "", 0), true); got != want {
			t.Errorf("key %d in a replay: action %d, want %d", key, got, want)
		}
	}
	for key, want := range map[string]Action{".": StepOn, ",": StepOff} {
		if got := actionOf(tcell.NewEventKey(tcell.KeyRune, key, 0), true); got != want {
			t.Errorf("%q in a replay: action %d, want %d", key, got, want)
		}
	}
}

// TestOverviewKeys: between all panels and one of them.
func TestOverviewKeys(t *testing.T) {
	v := pileView()
	at := func(actions ...Action) UI {
		u := UI{Overview: true}
		for _, a := range actions {
			u = u.Press(a, v, 120, 40)
		}
		return u
	}
	tests := []struct {
		name     string
		actions  []Action
		overview bool
		panel    Panel
		opened   bool
	}{
		{"as it opens", nil, true, Herd, false},
		{"next", []Action{NextPanel}, true, CPUs, false},
		{"round", []Action{NextPanel, NextPanel, NextPanel, NextPanel}, true, Herd, false},
		{"before", []Action{PrevPanel}, true, Queues, false},
		{"alone", []Action{ShowCPUs}, false, CPUs, false},
		{"alone and back", []Action{ShowCPUs, Back}, true, CPUs, false},
		{"one more alone", []Action{ShowQueues, NextPanel}, false, Processes, false},
		{"findings and back", []Action{ShowFindings, Back}, true, Herd, false},
		{"all", []Action{ShowProcesses, ShowAll}, true, Herd, false},
		{"open", []Action{NextPanel, Open}, true, CPUs, true},
		{"open and back", []Action{NextPanel, Open, Back}, true, CPUs, false},
		{"open, its panel", []Action{NextPanel, Open, ShowCPUs}, true, CPUs, false},
		{"a finding", []Action{ShowFindings, Open}, false, Findings, true},
		{"on from an opened row", []Action{PrevPanel, Open, NextPanel}, true, Herd, false},
		{"on from one that is alone", []Action{ShowQueues, Open, NextPanel, Back}, true, Herd, false},
	}
	for _, tt := range tests {
		if u := at(tt.actions...); u.Overview != tt.overview || u.Panel != tt.panel || (u.Opened != 0) != tt.opened {
			t.Errorf("%s: %+v", tt.name, u)
		}
	}
	if u := at(NextPanel, Down, Down); u.CPU.Selected == 0 || u.List.Selected != 0 {
		t.Errorf("Down moves in another panel: %+v", u)
	}
}

func TestFilter(t *testing.T) {
	v := manyView(200)
	tests := []struct {
		filter string
		want   int
	}{
		{"", 200}, {"port:8080", 1}, {"port:80", 0}, {"app-19", 11}, {"APP-19 port:8199", 1}, {"comm:app-7", 11}, {"10.0.0.1:8007", 1},
		{"pid:21874", 200}, {"pid:1", 0}, {"cgroup:api", 0}, {"comm:", 200}, {"port:x", 0}, {"nobody", 0}, {"\x1b[2J", 0},
	}
	for _, tt := range tests {
		v.UI.Filter = tt.filter
		if got := v.table().count(); got != tt.want {
			t.Errorf("%q: %d rows, want %d", tt.filter, got, tt.want)
		}
	}
	p := throttleView()
	p.UI.Panel = Processes
	all := p.table().count()
	p.UI.Filter = "cgroup:api.service"
	if n := p.table().count(); n == 0 || n >= all {
		t.Errorf("%d of %d processes are in api.service", n, all)
	}
	p.UI.Panel, p.UI.Filter = CPUs, "cpu:1"
	if n := p.table().count(); n != 1 {
		t.Errorf("%d cores are core 1", n)
	}
	h := herdView()
	h.UI.Panel = Findings
	for filter, want := range map[string]int{"port:8080": 1, "comm:gunicorn": 1, "pid:21874": 2, "cpu:1": 0, "SO_REUSEPORT": 1, "": 2} {
		h.UI.Filter = filter
		if n := h.table().count(); n != want {
			t.Errorf("%q: %d findings, want %d", filter, n, want)
		}
	}
	p.UI.Panel, p.UI.Filter = CPUs, "port:8080" // of which cores know nothing
	if n := p.table().count(); n != 2 {
		t.Errorf("%d cores have ports", n)
	}
	p.UI.Panel, p.UI.Filter = CGroups, "api.service"
	if n := p.table().count(); n != 1 {
		t.Errorf("%d cgroups are api.service", n)
	}
}

func TestPrompt(t *testing.T) {
	v := manyView(20)
	u := UI{}.Press(AskFilter, v, 80, 24)
	if u.Prompt.Kind != PromptFilter {
		t.Fatalf("%+v", u)
	}
	for _, c := range "ab c" {
		u = u.Type(string(c))
	}
	if u.Filter != "ab c" {
		t.Errorf("filter %q while it is typed", u.Filter)
	}
	if u = u.Erase(false); u.Filter != "ab" || u.Prompt.Text != "ab " {
		t.Errorf("erased: %+v", u)
	}
	if u = u.Type("\x1b[2J\n\u202e"); strings.ContainsAny(u.Prompt.Text, "\x1b\n\u202e") {
		t.Errorf("typed controls: %q", u.Prompt.Text)
	}
	if u = u.Type(strings.Repeat("x", 4096)); len(u.Prompt.Text) > maxFilter {
		t.Errorf("%d bytes typed", len(u.Prompt.Text))
	}
	if u = u.Dismiss(); u.Filter != "" || u.Prompt.Kind != PromptNone {
		t.Errorf("dismissed: %+v", u)
	}
	if u = (UI{Filter: "a"}).Press(AskFilter, v, 80, 24).Type("b").Dismiss(); u.Filter != "a" {
		t.Errorf("dismissed, filter %q, was a", u.Filter)
	}
	if u = (UI{}).Press(AskPID, v, 80, 24); u.Prompt.Text != "pid:" || u.Filter != "" {
		t.Errorf("pid: %+v", u)
	}
	if u = (UI{}).Press(AskTime, v, 80, 24); u.Prompt.Kind != PromptNone || u.Notice == "" {
		t.Errorf("a live trace goes to a time: %+v", u)
	}
	v.Deck = &DeckState{}
	if u = (UI{}).Press(AskTime, v, 80, 24); u.Prompt.Kind != PromptTime {
		t.Errorf("a replay does not: %+v", u)
	}
	if u = (UI{Filter: "a"}).Press(Back, v, 80, 24); u.Filter != "" {
		t.Errorf("Esc keeps the filter: %+v", u)
	}
}

func TestTimeOf(t *testing.T) {
	h := &sample.Header{WallNS: time.Date(2026, 11, 22, 23, 59, 0, 0, time.Local).UnixNano()}
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1:30": 90 * time.Second, "45": 45 * time.Second, "1h": time.Hour, "23:59:10": 10 * time.Second, "00:00:05": 65 * time.Second, "23:58:00": 0, "12:00:00": 0,
	} {
		if got, err := timeOf(text, h, time.Hour); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1:2:3:4", "1:99", "-1", "1:-2", "::"} {
		if got, err := timeOf(text, h, time.Hour); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// find is where text is on the screen.
func find(t *testing.T, g Grid, text string) (x, y int) {
	t.Helper()
	for y, l := range strings.Split(g.Text(), "\n") {
		if i := strings.Index(l, text); i >= 0 {
			return width(l[:i]), y
		}
	}
	t.Fatalf("no %q in:\n%s", text, g.Text())
	return 0, 0
}

func TestMouse(t *testing.T) {
	v := herdView()
	v.UI.Overview = true
	u := v.UI
	click := func(text string) {
		v.UI = u
		x, y := find(t, Render(v, 120, 40), text)
		u = u.Click(x, y, v, 120, 40)
	}
	click("[::]:9100")
	if u.List.Selected != node.inode || u.Opened != 0 {
		t.Fatalf("a row: %+v", u)
	}
	click("[::]:9100")
	if u.Opened != node.inode {
		t.Fatalf("again: %+v", u)
	}
	click("TID")
	if u.Threads.Sort != 2 {
		t.Errorf("a head behind a row: %+v", u)
	}
	u = u.Press(Back, v, 120, 40)
	click("W/C")
	sort := u.List.Sort
	if sort == 0 || u.List.Reverse {
		t.Errorf("a head: %+v", u)
	}
	click("W/C")
	if u.List.Sort != sort || !u.List.Reverse {
		t.Errorf("a head again: %+v", u)
	}
	click("4 QUEUE")
	if u.Panel != Queues || u.Overview {
		t.Errorf("a name: %+v", u)
	}
	u = UI{Overview: true}
	click("listener 0.0.0.0:8080")
	if d := (&View{Frame: v.Frame, Active: v.Active, UI: u}).drill(); d == nil || d.title != "FINDING accept-herd" {
		t.Errorf("a finding: %+v", u)
	}
	u = UI{Overview: true}
	v.UI = u
	x, y := find(t, Render(v, 120, 40), "[::]:9100")
	rows := v.listenerTable().ids()
	if u = u.Wheel(true, x, y, v, 120, 40); u.List.Selected != rows[wheelRows] {
		t.Errorf("the wheel: %+v", u)
	}
	if u = u.Wheel(false, x, y, v, 120, 40); u.List.Selected != rows[0] {
		t.Errorf("the wheel back: %+v", u)
	}
	for _, name := range []string{"1 HERD", "2 CPU", "3 CGROUP", "4 QUEUE"} {
		for _, size := range [][2]int{{80, 24}, {120, 40}, {200, 60}} {
			v := with(overflowView(), func(v *View) { v.UI = UI{Overview: true} })
			g := Render(v, size[0], size[1])
			for x0, y := find(t, g, name); ; {
				for x := x0; x < x0+len(name); x++ {
					if u := v.UI.Click(x, y, v, size[0], size[1]); u.Overview || tabOf(u.Panel).name != name || u.place().Sort != 0 {
						t.Errorf("%v: column %d of %s: %+v", size, x-x0, name, u)
					}
				}
				break
			}
		}
	}
	v = with(overflowView(), func(v *View) { v.UI = UI{Panel: Queues} })
	x, y = find(t, Render(v, 120, 40), "2 CPU")
	if u = v.UI.Click(x, y, v, 120, 40); u.Panel != CPUs {
		t.Errorf("another panel's name: %+v", u)
	}
	u = UI{Help: true}
	if u = u.Click(0, 0, v, 120, 40); u.Help {
		t.Error("a click leaves the help open")
	}
}

// TestHeld: rows keep their places for a while, unless one becomes worse.
func TestHeld(t *testing.T) {
	v := manyView(5) // 5 is first
	order := func() (out []uint64) {
		for _, l := range v.listenerTable().shown() {
			out = append(out, l.Inode)
		}
		return out
	}
	tick := func(sec uint64) {
		v.Frame.Elapsed = time.Duration(sec) * time.Second
		v.held = v.settle(v.held)
	}
	tick(1)
	first := order()
	slices.Reverse(v.Frame.Accept.Listeners)
	for _, sec := range []uint64{2, 3} {
		if tick(sec); !slices.Equal(order(), first) {
			t.Fatalf("after %d s: %v, was %v", sec, order(), first)
		}
	}
	if tick(4); slices.Equal(order(), first) {
		t.Fatal("the order of 3 s ago")
	}
	first = order()
	slices.Reverse(v.Frame.Accept.Listeners)
	v.Active = []diagnose.Finding{{ID: "accept-herd", Inode: first[2], Severity: diagnose.Crit}}
	if tick(5); order()[0] != first[2] {
		t.Errorf("%v: the one with a finding is not first", order())
	}
	v.UI.List.Sort, v.UI.List.Reverse = 1, true
	if tick(6); slices.Equal(order(), first) {
		t.Error("the user's order has to wait")
	}
	v.Frame.Elapsed = 0 // a replay goes back
	slices.Reverse(v.Frame.Accept.Listeners)
	v.UI.List = Place{}
	if tick(0); order()[0] != first[2] {
		t.Errorf("%v", order())
	}
}

func TestHistory(t *testing.T) {
	h := newHistory()
	id := rowID{Herd, 7}
	frame := func(wpc float64, there bool) *model.Frame {
		f := &model.Frame{Interval: time.Second, Accept: &model.Accept{}}
		if there {
			f.Accept.Listeners = []*model.Listener{{Interval: time.Second, WakeupsPerAccept: wpc}}
			f.Accept.Listeners[0].Inode = 7
		}
		return f
	}
	h.add(frame(1, true))
	h.add(frame(0, false))
	h.add(frame(3, true))
	h.add(frame(0, false))
	got := h.trail(id, gWakeups)
	if len(got) != 4 || got[0] != 1 || !math.IsNaN(float64(got[1])) || got[2] != 3 || !math.IsNaN(float64(got[3])) {
		t.Errorf("%v", got)
	}
	kept := h.clone()
	for i := range 1000 {
		h.add(frame(float64(i), true))
	}
	if got := h.trail(id, gWakeups); len(got) != keepTicks || got[keepTicks-1] != 999 || got[0] != 1000-keepTicks {
		t.Errorf("%d values, %v to %v", len(got), got[0], got[len(got)-1])
	}
	if c := cap(h.rows[id].trails[gWakeups]); c > 3*keepTicks {
		t.Errorf("room for %d values", c)
	}
	if got := kept.trail(id, gWakeups); len(got) != 4 || got[2] != 3 {
		t.Errorf("the clone changed: %v", got)
	}
	for range keepTicks {
		h.add(frame(0, false))
	}
	if len(h.rows) != 1 { // the host's
		t.Errorf("%d rows are remembered", len(h.rows))
	}
	if got := (*History)(nil).trail(id, 0); got != nil {
		t.Errorf("no history: %v", got)
	}
}

// TestHeldComesAndGoes: a row that is new is behind the others, one that goes leaves
// the others where they are, and an opened one changes nothing.
func TestHeldComesAndGoes(t *testing.T) {
	v := manyView(5)
	v.Frame.Elapsed = time.Second
	v.held = v.settle(nil)
	all := v.Frame.Accept.Listeners
	v.Frame.Accept.Listeners = append(slices.Clone(manyView(6).Frame.Accept.Listeners[:1]), all[1:]...) // 6 for 5
	v.Frame.Elapsed += time.Second
	v.held = v.settle(v.held)
	if ids := v.listenerTable().shown(); ids[0].Inode != 4 || ids[4].Inode != 6 {
		t.Errorf("the first is %d, the last %d, want 4 and 6", ids[0].Inode, ids[4].Inode)
	}
	was := v.held[Herd]
	v.UI.Opened = 4
	v.held = v.settle(v.held)
	v.UI.Opened = 0
	if v.held = v.settle(v.held); v.held[Herd] != was {
		t.Error("opening a row moved the others")
	}
}

// TestSpans: what a sparkline says of its time is by the clock of the ticks.
func TestSpans(t *testing.T) {
	h := newHistory()
	for i, at := range []time.Duration{0, 1, 2, 7, 12} {
		h.add(&model.Frame{Elapsed: at * time.Second, Interval: time.Duration(min(i, 1))})
	}
	for n, want := range map[int]time.Duration{0: 0, 1: 5, 2: 10, 3: 11, 4: 12, 100: 12} {
		if got := h.span(n); got != want*time.Second {
			t.Errorf("the last %d ticks took %v, want %v s", n, got, want)
		}
	}
	for i := range 1000 {
		h.add(&model.Frame{Elapsed: time.Duration(13+i) * time.Second})
	}
	if got := h.span(keepTicks); got != keepTicks*time.Second || len(h.times) > 2*keepTicks {
		t.Errorf("%d ticks took %v, %d are remembered", keepTicks, got, len(h.times))
	}
}

// TestHostFinding: that of the host stays what it is when it names another first.
func TestHostFinding(t *testing.T) {
	f := diagnose.Finding{ID: "cpu-oversold", CGroupID: 1, CPU: -1}
	g := f
	g.CGroupID = 2
	if findingID(&f) != findingID(&g) {
		t.Error("another group, another finding")
	}
	f.ID, g.ID = "cfs-throttle", "cfs-throttle"
	if findingID(&f) == findingID(&g) {
		t.Error("two groups, one finding")
	}
}

// TestHelpScrolls to its end, where it does not fit, and not beyond.
func TestHelpScrolls(t *testing.T) {
	v := pileView()
	v.Deck = &DeckState{}
	u := UI{Panel: CPUs, Help: true}
	last := legend[len(legend)-1]
	if v.UI = u; strings.Contains(Render(v, 80, 24).Text(), last) {
		t.Fatal("all of it fits")
	}
	for range 200 {
		u = u.Press(Down, v, 80, 24)
	}
	if v.UI = u; !strings.Contains(Render(v, 80, 24).Text(), last) {
		t.Errorf("its end is not to be seen:\n%s", Render(v, 80, 24).Text())
	}
	if u = u.Press(First, v, 80, 24); u.HelpAt != 0 {
		t.Errorf("%+v", u)
	}
	if u = u.Press(Back, v, 80, 24); u.Help {
		t.Errorf("%+v", u)
	}
}

func TestLevels(t *testing.T) {
	k := &gauge{floor: 1, top: 8}
	for v, want := range map[float64]string{0: "▁", 1: "▁", 1.1: "▂", 8: "█", 99: "█", 4.4: "▅", math.NaN(): " ", math.Inf(1): "█"} {
		if got := k.level(v, 8); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	for most, want := range map[float64]float64{3: 8, 8: 8, 9: 10, 11: 20, 1999: 2000, 2100: 5000, 5001: 10000, math.Inf(1): 8, math.NaN(): 8} {
		if got := k.scale(most); got != want {
			t.Errorf("scale of %v: %v, want %v", most, got, want)
		}
	}
}

// TestSnapshot: a file with everything, that a link cannot misdirect.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	v := throttleView()
	text := Text(v, 80, 24)
	for _, want := range []string{"cfs-throttle", "remedy ", "1 HERD", "2 CPU", "3 CGROUP", "4 QUEUE", "5 PROC"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	for _, want := range []string{"herdtrace-20261122-120000.txt", "herdtrace-20261122-120000-1.txt"} {
		name, err := writeSnapshot(dir, now, text)
		if err != nil || name != dir+"/"+want {
			t.Errorf("%s, %v, want %s", name, err, want)
		}
	}
	if _, err := writeSnapshot(dir+"/none", now, text); err == nil || !strings.HasPrefix(err.Error(), "write snapshot: ") {
		t.Errorf("a directory that is not there: %v", err)
	}
	if text := Text(hostileView(), 80, 24); strings.ContainsAny(text, "\x1b\u202e\r\a") {
		t.Error("controls in a snapshot")
	}
}

func TestSelection(t *testing.T) {
	v := herdView()
	for _, tt := range []struct {
		ui   UI
		want string
	}{
		{UI{}, "0.0.0.0:8080"},
		{UI{Panel: Queues, Queue: Place{Selected: node.inode}}, "[::]:9100"},
		{UI{Panel: Processes}, ""},
		{UI{Panel: Findings, Opened: findingID(&v.Active[0])}, v.Active[0].Remedy},
	} {
		v.UI = tt.ui
		if got := v.selection(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.ui, got, tt.want)
		}
	}
	v.UI = UI{Panel: Findings}
	if got := v.selection(); !strings.Contains(got, v.Active[0].Evidence) || !strings.Contains(got, "remedy: ") {
		t.Errorf("a finding: %q", got)
	}
}

// TestRandomUse: no sequence of keys, clicks and sizes panics or draws beside the
// screen, and whatever was done, Esc and 0 lead back.
func TestRandomUse(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	views := []View{herdView(), pileView(), throttleView(), overflowView(), backlogView(), hostileView(), manyView(200), notMeasured(), {}, {Header: header()}}
	for i := range views {
		views[i].History = newHistory()
		if views[i].Frame != nil {
			views[i].History.add(views[i].Frame)
		}
	}
	for range 60 {
		u := UI{Overview: rnd.IntN(2) == 0, ASCII: rnd.IntN(2) == 0}
		v := views[rnd.IntN(len(views))]
		if rnd.IntN(3) == 0 {
			v.Deck = &DeckState{Speed: 2, Length: time.Minute}
		}
		for range 80 {
			w, h := rnd.IntN(210), rnd.IntN(65)
			v.UI = u
			v.held = v.settle(v.held)
			switch rnd.IntN(12) {
			case 0:
				u = u.Click(rnd.IntN(w+1), rnd.IntN(h+1), v, w, h)
			case 1:
				u = u.Wheel(rnd.IntN(2) == 0, rnd.IntN(w+1), rnd.IntN(h+1), v, w, h)
			case 2:
				u = u.Type(string(rune(rnd.IntN(0x3000))))
			case 3:
				u = u.Erase(rnd.IntN(2) == 0)
			case 4:
				v = views[rnd.IntN(len(views))]
			default:
				u = u.Press(Action(rnd.IntN(int(StepOff)+1)), v, w, h)
			}
			v.UI = u
			checkGrid(t, Render(v, w, h), w, h)
			v.selection()
		}
		u.Prompt = Prompt{}
		if u.Help {
			u = u.Press(Back, v, 80, 24)
		}
		if u = u.Press(ShowAll, v, 80, 24); !u.Overview || u.Opened != 0 || u.Help {
			t.Fatalf("no way back: %+v", u)
		}
		u.Panel, u.Overview, u.Opened, u.Filter = Panel(rnd.IntN(int(Findings)+1)), rnd.IntN(2) == 0, rnd.Uint64N(9000), "x"
		for range 3 {
			u = u.Press(Back, v, 80, 24)
		}
		if !u.Overview || u.Opened != 0 || u.Filter != "" || u.Panel >= Processes {
			t.Fatalf("Esc does not lead back: %+v", u)
		}
	}
}

// TestPauseKeepsHistory: what comes while it is paused is not on the picture, and
// is there when it goes on.
func TestPauseKeepsHistory(t *testing.T) {
	s := newStage(UI{})
	v := herdView()
	for range 3 {
		s.Step(&report.Step{Frame: v.Frame, Active: v.Active})
	}
	frozen := s.view()
	frozen.History = frozen.History.clone()
	for range 3 {
		s.Step(&report.Step{Frame: v.Frame})
	}
	id := rowID{Herd, gunicorn.inode}
	if a, b := len(frozen.History.trail(id, 0)), len(s.view().History.trail(id, 0)); a != 3 || b != 6 {
		t.Errorf("%d values on the picture, %d in all", a, b)
	}
	if len(frozen.Active) == 0 || len(s.view().Active) != 0 {
		t.Error("the findings of the picture changed")
	}
	s.forget()
	if v := s.view(); v.Frame != nil || len(v.History.rows) != 0 {
		t.Errorf("forgotten: %+v", v)
	}
}
