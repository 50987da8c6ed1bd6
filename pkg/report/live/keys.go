// SPDX-License-Identifier: Apache-2.0

package live

// Action is what a key asks for.
type Action uint8

// The actions. Which key stands for which is the terminal's business; see actionOf.
const (
	NoAction Action = iota
	Quit
	Up
	Down
	PageUp
	PageDown
	First
	Last
	Open
	Back
	Pause
	NextSort
	ReverseSort
	ShowHerd
	ShowCPUs
	ShowCGroups
	ShowQueues
	ShowProcesses
	ToggleHelp
)

// shows are the panels that an action switches to.
var shows = map[Action]Panel{ShowHerd: Herd, ShowCPUs: CPUs, ShowCGroups: CGroups, ShowQueues: Queues, ShowProcesses: Processes}

// Press is the UI after a, where v, drawn on w columns and h lines, was on the
// screen. Quit and what does not apply change nothing.
func (u UI) Press(a Action, v View, w, h int) UI {
	v.UI = u
	if u.Help {
		if a == Back || a == ToggleHelp || a == Open {
			u.Help = false
		}
		return u
	}
	switch a {
	case ToggleHelp:
		u.Help = true
		return u
	case Pause:
		u.Paused = !u.Paused
		return u
	case Back:
		u.Opened, u.Threads = 0, Place{}
		return u
	}
	if p, ok := shows[a]; ok {
		u.Panel, u.Opened, u.Threads = p, 0, Place{}
		return u
	}
	page := v.plan(w, h).panel - 2
	if d := v.drill(); d != nil {
		u.Threads = d.table.press(a, page-len(d.about))
		return u
	}
	u.Opened = 0 // the opened one is gone
	place := u.place()
	if a == Open {
		if id := v.table().selected(); id != 0 && v.opens() != "" {
			u.Opened, place.Selected, u.Threads = id, id, Place{}
		}
		return u
	}
	*place = v.table().press(a, page-len(v.tableFacts()))
	return u
}

// place is where the user is in the table of the shown panel.
func (u *UI) place() *Place {
	switch u.Panel {
	case CPUs:
		return &u.CPU
	case CGroups:
		return &u.CGroup
	case Queues:
		return &u.Queue
	case Processes:
		return &u.Process
	}
	return &u.List
}

// selected is the id of the selected row; 0 where there is none.
func (t *table[T]) selected() uint64 {
	rows := sorted(t.cols, t.rows, t.place)
	if len(rows) == 0 {
		return 0
	}
	return t.id(rows[indexOf(rows, t.id, t.place)])
}

// press moves in t, or sorts it; page is the number of rows on the screen.
func (t *table[T]) press(a Action, page int) Place {
	p := t.place
	switch a {
	case NextSort:
		p.Sort = (p.Sort + 1) % (len(t.cols) + 1)
		return p
	case ReverseSort:
		p.Reverse = !p.Reverse
		return p
	}
	rows := sorted(t.cols, t.rows, p)
	if len(rows) == 0 {
		return p
	}
	i, page := indexOf(rows, t.id, p), max(page, 1)
	switch a {
	case Up:
		i--
	case Down:
		i++
	case PageUp:
		i -= page
	case PageDown:
		i += page
	case First:
		i = 0
	case Last:
		i = len(rows) - 1
	default:
		return p
	}
	p.Selected = t.id(rows[min(max(i, 0), len(rows)-1)])
	return p
}

// drawKeys draws the bottom line: the message, if any, and what the keys do.
func (v *View) drawKeys(g *Grid, y int) {
	type hint struct{ key, what string }
	pause := hint{"Space", "pause"}
	if v.UI.Paused {
		pause.what = "resume"
	}
	panels := hint{"1-5", "panel"}
	var hints []hint // the first are dropped last
	switch {
	case v.UI.Help:
		hints = []hint{{"q", "quit"}, {"Esc", "back"}}
	case v.drill() != nil:
		hints = []hint{{"q", "quit"}, {"Esc", "back"}, {"?", "help"}, pause, {"s", "sort"}, {"r", "reverse"}}
	case v.opens() == "":
		hints = []hint{{"q", "quit"}, {"?", "help"}, pause, {"s", "sort"}, {"r", "reverse"}, panels}
	default:
		hints = []hint{{"q", "quit"}, {"?", "help"}, {"Enter", v.opens()}, pause, {"s", "sort"}, {"r", "reverse"}, panels}
	}
	x := 0
	if v.Message != "" {
		x = g.put(0, y, clip(safe(v.Message), max(g.W-8, 0)), Warn, g.W) + 2
	}
	for _, h := range hints {
		n := width(h.key) + 1 + width(h.what)
		if x+n > g.W {
			break
		}
		x = g.put(x, y, h.key, Key, g.W) + 1
		x = g.put(x, y, h.what, Normal, g.W) + 2
	}
}
