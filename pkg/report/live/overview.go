// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
)

// overviewPanels are those that are shown together, in their order.
var overviewPanels = []Panel{Herd, CPUs, CGroups, Queues}

const (
	// leastPanel is the lines without which a panel is of no use beside others:
	// the heads and two rows.
	leastPanel = 3
	// twoColumns is the width from which two panels stand side by side: below, one
	// that has the whole width tells more.
	twoColumns = 180
	// columnGap is between them.
	columnGap = 2
)

// rect is a part of the screen.
type rect struct{ x, y, w, h int }

// together reports whether all panels are shown at once.
func (v *View) together() bool {
	return v.UI.Overview && !v.UI.Help && v.UI.Opened == 0 && v.UI.Panel < Processes
}

// fits reports whether they have room on w columns and h lines.
func fits(w, h int) bool {
	rows := len(overviewPanels)
	if w >= twoColumns {
		rows /= 2
	}
	return w >= 60 && h >= rows*leastPanel
}

// overview is where the panels are on w columns and h lines.
func (v *View) overview(w, h int) map[Panel]rect {
	out := make(map[Panel]rect)
	if w < twoColumns {
		heights := v.share(w, h, overviewPanels)
		y := 0
		for i, p := range overviewPanels {
			out[p] = rect{0, y, w, heights[i]}
			y += heights[i]
		}
		return out
	}
	left := (w - columnGap) / 2
	top, bottom := v.rowsWant(w)
	heights := share(h, []int{top, bottom})
	for i, p := range overviewPanels {
		r := rect{0, 0, left, heights[0]}
		if i%2 == 1 {
			r.x, r.w = left+columnGap, w-left-columnGap
		}
		if i >= 2 {
			r.y, r.h = heights[0], heights[1]
		}
		out[p] = r
	}
	return out
}

// wantIn is the lines that the shown panel would like as one of several.
func (v *View) wantIn(w int) int {
	if text, _ := v.instead(); text != "" {
		return 1 + len(wrap(text, w-tableLeft))
	}
	return 1 + v.table().count() + len(v.tableFacts())
}

// overviewWant is the lines that all of them would like.
func (v *View) overviewWant(w int) int {
	if w < twoColumns {
		n := 0
		for _, p := range overviewPanels {
			n += v.on(p).wantIn(w)
		}
		return n
	}
	top, bottom := v.rowsWant(w)
	return top + bottom
}

// rowsWant is that of the two rows of panels, where two stand side by side.
func (v *View) rowsWant(w int) (top, bottom int) {
	w = (w - columnGap) / 2
	return max(v.on(Herd).wantIn(w), v.on(CPUs).wantIn(w)), max(v.on(CGroups).wantIn(w), v.on(Queues).wantIn(w))
}

func (v *View) share(w, h int, panels []Panel) []int {
	want := make([]int, len(panels))
	for i, p := range panels {
		want[i] = v.on(p).wantIn(w)
	}
	return share(h, want)
}

// share gives h lines to those that want some: each gets as much as the others, as
// long as it wants it.
func share(h int, want []int) []int {
	out := make([]int, len(want))
	for h > 0 {
		before := h
		for i := range want {
			n := max(min(1, want[i]-out[i], h), 0)
			out[i] += n
			h -= n
		}
		if h == before {
			return out // all have what they want
		}
	}
	return out
}

// drawOverview draws all panels.
func (v *View) drawOverview(g *Grid) {
	places := v.overview(g.W, g.H)
	for _, p := range overviewPanels {
		r := places[p]
		part := g.part(r.x, r.y, r.w, r.h)
		v.on(p).drawIn(&part, p == v.UI.Panel)
	}
}

// drawIn draws the shown panel as one of several: its name stands in the line of
// the column heads.
func (v *View) drawIn(g *Grid, focus bool) {
	if g.H < 1 || g.W < 1 {
		return
	}
	g.zone(0, 0, g.W, g.H, hit{what: hitPanel, panel: v.UI.Panel})
	from := v.drawName(g, focus)
	n := g.H - 1
	text, st := v.instead()
	if text != "" {
		for i, l := range wrap(text, g.W-tableLeft) {
			if i < n {
				g.put(tableLeft, 1+i, l, st, g.W)
			}
		}
		return
	}
	t := v.table()
	t.draw(g, 0, g.H, from, focus)
	about := v.tableFacts()
	if rest := n - t.count(); rest >= len(about) { // room that nothing else needs
		for i, text := range about {
			g.put(tableLeft, 1+t.count()+i, clip(text, g.W-tableLeft), Dim, g.W)
		}
	}
}

// drawName draws the name of the shown panel, with how much of it is to be seen,
// and returns the column after it.
func (v *View) drawName(g *Grid, focus bool) int {
	tab := tabOf(v.UI.Panel)
	worst := diagnose.Severity(0)
	for i := range v.Active {
		if f := &v.Active[i]; panelOf(f) == v.UI.Panel {
			worst = max(worst, f.Severity)
		}
	}
	g.put(0, 0, strings.Repeat("─", g.W), Dim, g.W)
	m, st := "──", Dim
	if worst > 0 {
		m, st = mark(worst)
	}
	g.put(0, 0, m, st, 2)
	name, nameStyle := " "+tab.name, Head
	if focus {
		name = "[" + tab.name + "]"
	}
	if v.Frame != nil && v.Frame.Interval > 0 && v.missing() == "" {
		t := v.table()
		// Of cores the header line says how many, and their heads begin early.
		if shown := t.count(); shown > g.H-1 && v.UI.Panel != CPUs || shown < t.all() {
			name += " " + strconv.Itoa(shown)
			if shown < t.all() {
				name += "/" + strconv.Itoa(t.all())
			}
		}
	}
	x := g.put(2, 0, name+" ", nameStyle, g.W)
	g.zone(0, 0, x, 1, hit{what: hitTab, panel: v.UI.Panel})
	return x
}

func tabOf(p Panel) tab {
	for _, t := range tabs {
		if t.panel == p {
			return t
		}
	}
	return tabs[0]
}

// instead is what stands in the place of the shown panel's rows where it has none,
// "" where it has.
func (v *View) instead() (string, Style) {
	f := v.Frame
	switch {
	case f == nil:
		return "measuring…", Dim
	case v.missing() != "":
		return v.missing(), Warn
	case v.table().all() == 0 && f.Interval == 0:
		return "measuring…", Dim
	case v.table().all() == 0:
		return v.empty(), Dim
	case v.table().count() == 0:
		return "nothing here matches the filter " + cmp.Or(clip(safe(v.UI.Filter), 40), none), Dim
	}
	return "", Normal
}

// next is the panel after p, or by a negative step before it, among those shown.
func next(p Panel, order []Panel, step int) Panel {
	for i, q := range order {
		if q == p {
			return order[(i+step+len(order))%len(order)]
		}
	}
	return order[0]
}
