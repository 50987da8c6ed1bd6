// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Panel is one of the tables between which the user switches.
type Panel uint8

// The panels. The numbers on the screen are those of their keys.
const (
	Herd Panel = iota
	CPUs
	CGroups
	Queues
	Processes
	Findings

	noPanel Panel = 255
)

type tab struct {
	panel       Panel
	name, about string
}

// tabs are the panels in the order of their keys.
var tabs = []tab{
	{Herd, "1 HERD", "wake-ups per connection"},
	{CPUs, "2 CPU", "run queues, the receive path"},
	{CGroups, "3 CGROUP", "CPU quotas and waits"},
	{Queues, "4 QUEUE", "the listen queues"},
	{Processes, "5 PROC", "who runs, who waits for what"},
	{Findings, "f FINDINGS", "what hurts, and what did"},
}

// lister is a table of whatever.
type lister interface {
	draw(g *Grid, y, n, from int, focus bool)
	count() int // of rows that are shown
	all() int   // of rows without a filter
	index() int
	where() Place
	ids() []uint64
	marks() map[uint64]string
	press(a Action, page int) Place
	selected() uint64
	placeText(n int) string
}

// table is the table of the panel that is shown, made once for a picture.
func (v *View) table() lister {
	if v.cache == nil {
		return v.newTable()
	}
	t := v.cache.tables[v.UI.Panel]
	if t == nil {
		t = v.newTable()
		v.cache.tables[v.UI.Panel] = t
	}
	return t
}

func (v *View) newTable() lister {
	switch v.UI.Panel {
	case CPUs:
		return v.cpuTable()
	case CGroups:
		return v.cgroupTable()
	case Queues:
		return v.queueTable()
	case Processes:
		return v.processTable()
	case Findings:
		return v.findingTable()
	}
	return v.listenerTable()
}

// tableFacts are the lines over that table.
func (v *View) tableFacts() []string {
	switch v.UI.Panel {
	case CPUs:
		return v.cpuFacts()
	case CGroups:
		return v.cgroupFacts()
	}
	return nil
}

// panelOf is where what f is about is shown.
func panelOf(f *diagnose.Finding) Panel {
	switch {
	case strings.HasPrefix(f.ID, "accept-queue-"), strings.HasPrefix(f.ID, "syn-queue-"):
		return Queues
	case strings.HasPrefix(f.ID, "netrx-"), strings.HasPrefix(f.ID, "netdev-"), strings.HasPrefix(f.ID, "runq-"):
		return CPUs
	case strings.HasPrefix(f.ID, "cfs-"), f.ID == "cpu-oversold":
		return CGroups
	case strings.HasPrefix(f.ID, "cputime-") && f.PID == 0: // what a core's account hides
		return CPUs
	case strings.HasPrefix(f.ID, "cputime-"):
		return Processes
	}
	return Herd
}

// missing says why the shown panel has nothing to show, "" where it has.
func (v *View) missing() string {
	f, signal := v.Frame, ""
	switch {
	case v.UI.Panel == Herd && f.Accept == nil:
		signal = signalAccept
	case v.UI.Panel == CPUs && len(f.CPUs) == 0:
		signal = model.SignalNetRX
	case v.UI.Panel == CGroups && len(f.CGroups) == 0:
		signal = model.SignalThrottle
	case v.UI.Panel == Queues && f.Queues == nil:
		signal = model.SignalListen
	case v.UI.Panel == Processes && f.Sched == nil:
		signal = model.SignalRunq
	default:
		return ""
	}
	if s := v.unavailable(signal); s != nil {
		return "not measured: " + reason(s)
	}
	return "not measured: the tracer did not collect it"
}

// empty says that the shown panel has no rows.
func (v *View) empty() string {
	switch v.UI.Panel {
	case Processes:
		return "nothing ran yet"
	case Findings:
		return "no finding so far"
	}
	return "no listening socket seen yet"
}

// aboutPanel is what the shown panel is about.
func (v *View) aboutPanel() string {
	text := tabs[0].about
	for _, t := range tabs {
		if t.panel == v.UI.Panel {
			text = t.about
		}
	}
	f := v.Frame
	if f != nil && (v.UI.Panel == Herd && !f.Sampled(model.SignalWake) && f.Accept != nil && f.Accept.Accuracy == sample.Approximate ||
		v.UI.Panel == Queues && f.Queues != nil && f.Queues.Accuracy == sample.Approximate) {
		text += " (approximate)"
	}
	return text
}

// tabTitle is the names of the panels, the shown one in brackets, and the
// columns at which it has a mark for what the findings are about.
func (v *View) tabTitle(order []tab) (title string, marks map[int]diagnose.Severity) {
	worst := make(map[Panel]diagnose.Severity)
	for i := range v.Active {
		p := panelOf(&v.Active[i])
		worst[p] = max(worst[p], v.Active[i].Severity)
	}
	marks = make(map[int]diagnose.Severity)
	for _, t := range order {
		name, end := t.name, ""
		if t.panel == v.UI.Panel {
			name, end = "["+t.name, "]"
		}
		title += name
		if s := worst[t.panel]; s > 0 {
			marks[width(title)] = s
			m, _ := mark(s)
			title += strings.TrimSpace(m)
		}
		title += end + "  "
	}
	return title, marks
}

// drawTabs draws the title line of the shown panel, with the names of the others.
func (v *View) drawTabs(g *Grid, y int, note string) {
	room := g.W - 6 - width(note)
	if note != "" {
		room -= 2
	}
	order := tabs
	title, marks := v.tabTitle(order)
	if width(title) > room { // the shown one is not what is cut
		order = slices.Clone(tabs)
		slices.SortStableFunc(order, func(a, b tab) int { return cmp.Compare(b2i(b.panel == v.UI.Panel), b2i(a.panel == v.UI.Panel)) })
		title, marks = v.tabTitle(order)
	}
	drawTitle(g, y, title+v.aboutPanel(), note)
	x := 2
	for _, t := range order {
		w := width(t.name)
		if at := strings.Index(title[min(x-2, len(title)):], t.name); at >= 0 {
			x += at
		}
		if x+w <= room+2 {
			g.zone(x, y, w, 1, hit{what: hitTab, panel: t.panel})
		}
		x += w
	}
	for x, s := range marks {
		m, st := mark(s)
		if m = strings.TrimSpace(m); x+len(m) <= room {
			g.put(2+x, y, m, st, len(m))
		}
	}
}
