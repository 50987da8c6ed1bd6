// SPDX-License-Identifier: Apache-2.0

package live

// wheelRows is how far a click of the wheel goes.
const wheelRows = 3

// Click is the UI after a click at column x of line y, where v, drawn on w columns
// and h lines, was on the screen: it selects, and opens what is selected already.
func (u UI) Click(x, y int, v View, w, h int) UI {
	u.Notice = ""
	if u.Help {
		u.Help = false
		return u
	}
	v.see(u)
	g := Render(v, w, h)
	switch at := g.hitAt(x, y); at.what {
	case hitTab:
		u.Overview, u.Panel, u.Opened, u.Threads = false, at.panel, 0, Place{}
	case hitPanel:
		u.Panel = at.panel
	case hitFinding:
		u.Panel, u.Opened, u.Threads = Findings, at.id, Place{}
		u.Overview = false
		u.Finding.Selected = at.id
	case hitRow:
		again := u.Panel == at.panel && v.table().selected() == at.id
		u.Panel = at.panel
		if v.see(u); again && v.opens() != "" {
			u.Opened, u.Threads = at.id, Place{}
		}
		u.place().Selected = at.id
	case hitHead:
		u.Panel = at.panel
		*u.place() = u.place().by(at.col)
	case hitDrillRow:
		u.Threads.Selected = at.id
	case hitDrillHead:
		u.Threads = u.Threads.by(at.col)
	}
	return u
}

// by sorts by that column, the other way round where it did so before.
func (p Place) by(col int) Place {
	if p.Sort == col+1 {
		p.Reverse = !p.Reverse
		return p
	}
	p.Sort, p.Reverse = col+1, false
	return p
}

// Wheel is the UI after the wheel was turned at column x of line y.
func (u UI) Wheel(down bool, x, y int, v View, w, h int) UI {
	v.see(u)
	g := Render(v, w, h)
	if at := g.hitAt(x, y); at.what == hitPanel || at.what == hitRow || at.what == hitHead {
		u.Panel = at.panel
	}
	a := Up
	if down {
		a = Down
	}
	for range wheelRows {
		u = u.Press(a, v, w, h)
	}
	return u
}
