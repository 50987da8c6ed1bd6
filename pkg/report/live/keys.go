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
	PrevSort
	ReverseSort
	ShowHerd
	ShowCPUs
	ShowCGroups
	ShowQueues
	ShowProcesses
	ShowFindings
	ShowAll
	NextPanel
	PrevPanel
	ToggleHelp
	AskFilter
	AskCGroup
	AskPID
	AskInterval
	AskTime
	Copy
	Snapshot
	More // a longer interval, or a faster replay
	Less
	Suspend
	Redraw
	// Of a replay alone.
	Forward
	Backward
	StepOn
	StepOff
)

// shows are the panels that an action switches to.
var shows = map[Action]Panel{ShowHerd: Herd, ShowCPUs: CPUs, ShowCGroups: CGroups, ShowQueues: Queues, ShowProcesses: Processes, ShowFindings: Findings}

// asks are the prompts that an action opens, and what stands in them then.
var asks = map[Action]Prompt{
	AskFilter: {Kind: PromptFilter}, AskCGroup: {Kind: PromptFilter, Text: "cgroup:"}, AskPID: {Kind: PromptFilter, Text: "pid:"},
	AskInterval: {Kind: PromptInterval}, AskTime: {Kind: PromptTime},
}

// Press is the UI after a, where v, drawn on w columns and h lines, was on the
// screen. What is not the UI's business changes nothing.
func (u UI) Press(a Action, v View, w, h int) UI {
	u.Notice = ""
	v.see(u)
	if u.Help {
		switch a {
		case Back, ToggleHelp, Open:
			u.Help, u.HelpAt = false, 0
		case Up, Down, PageUp, PageDown, First, Last:
			u.HelpAt = v.scrollHelp(a, v.plan(w, h).body-1)
		}
		return u
	}
	if p, ok := asks[a]; ok {
		return u.ask(p, &v)
	}
	if p, ok := shows[a]; ok {
		u.Overview = u.Overview && u.Panel == p && u.Opened != 0
		u.Panel, u.Opened, u.Threads = p, 0, Place{}
		return u
	}
	switch a {
	case ToggleHelp:
		u.Help = true
	case Back:
		return u.back()
	case ShowAll:
		u.Overview, u.Opened, u.Threads = true, 0, Place{}
		if u.Panel >= Processes {
			u.Panel = Herd
		}
	case NextPanel:
		return u.cycle(1, &v, w, h)
	case PrevPanel:
		return u.cycle(-1, &v, w, h)
	default:
		return u.move(a, &v, w, h)
	}
	return u
}

// back closes what is open, then the filter, then shows all panels.
func (u UI) back() UI {
	switch {
	case u.Opened != 0:
		u.Opened, u.Threads = 0, Place{}
	case u.Filter != "":
		u.Filter = ""
	case !u.Overview || u.Panel >= Processes:
		u.Overview = true
		if u.Panel >= Processes {
			u.Panel = Herd
		}
	}
	return u
}

// cycle goes to the next panel, or the one before.
func (u UI) cycle(step int, v *View, w, h int) UI {
	u.Opened, u.Threads = 0, Place{}
	v.see(u)
	if v.plan(w, h).together {
		u.Panel = next(u.Panel, overviewPanels, step)
		return u
	}
	var all []Panel
	for _, t := range tabs {
		all = append(all, t.panel)
	}
	u.Panel, u.Overview = next(u.Panel, all, step), false
	return u
}

// move moves in the table that has the keys, sorts it, or opens a row of it.
func (u UI) move(a Action, v *View, w, h int) UI {
	if d := v.drill(); d != nil {
		if !d.alone {
			u.Threads = d.table.press(a, v.pageOf(w, h)-len(d.about(w)))
		}
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
	*place = v.table().press(a, v.pageOf(w, h)-len(v.tableFacts()))
	return u
}

// pageOf is about how many rows of the table that has the keys are on the screen.
func (v *View) pageOf(w, h int) int {
	p := v.plan(w, h)
	if p.together {
		return v.overview(w, p.panel)[v.UI.Panel].h - 1
	}
	return p.panel - 2
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
	case Findings:
		return &u.Finding
	}
	return &u.List
}

// selected is the id of the selected row; 0 where there is none.
func (t *table[T]) selected() uint64 {
	if t.count() == 0 {
		return 0
	}
	return t.id(t.shown()[t.index()])
}

// nextSort is the column to sort by after p's: 0, then each that can be, and 0.
func (t *table[T]) nextSort(p Place, step int) Place {
	n := len(t.cols) + 1
	for range n {
		p.Sort = (p.Sort + step + n) % n
		if p.Sort == 0 || t.cols[p.Sort-1].gauge == nil {
			break
		}
	}
	return p
}

// press moves in t, or sorts it; page is the number of rows on the screen.
func (t *table[T]) press(a Action, page int) Place {
	p := t.place
	switch a {
	case NextSort:
		return t.nextSort(p, 1)
	case PrevSort:
		return t.nextSort(p, -1)
	case ReverseSort:
		p.Reverse = !p.Reverse
		return p
	}
	rows := t.shown()
	if len(rows) == 0 {
		return p
	}
	i, page := t.index(), max(page, 1)
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
