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
	ToggleHelp
)

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
	page := v.plan(w, h).panel - 2
	if l := v.opened(); l != nil {
		u.Threads = press(v.threadTable(l), a, page-len(facts(l)))
		return u
	}
	u.Opened = 0 // the opened one is gone
	t := v.listenerTable()
	if a == Open {
		if rows := sorted(t.cols, t.rows, t.place); len(rows) > 0 {
			u.Opened = rows[indexOf(rows, t.id, t.place)].Inode
			u.List.Selected = u.Opened
			u.Threads = Place{}
		}
		return u
	}
	u.List = press(t, a, page)
	return u
}

// press moves in t, or sorts it; page is the number of rows on the screen.
func press[T any](t *table[T], a Action, page int) Place {
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
	var hints []hint // the first are dropped last
	switch {
	case v.UI.Help:
		hints = []hint{{"q", "quit"}, {"Esc", "back"}}
	case v.opened() != nil:
		hints = []hint{{"q", "quit"}, {"Esc", "back"}, {"?", "help"}, pause, {"s", "sort"}, {"r", "reverse"}}
	default:
		hints = []hint{{"q", "quit"}, {"?", "help"}, {"Enter", "threads"}, pause, {"s", "sort"}, {"r", "reverse"}}
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

// helpText explains the keys and the words of the screen.
var helpText = []string{
	"Up Down j k   select a row          PgUp PgDn Home End   by pages",
	"Enter         threads of the row    Esc   back",
	"s             sort by next column   r     reverse",
	"Space         pause, the data only  q     quit",
	"",
	"TASKS   threads that accept from the listener or are woken for it",
	"SOCK    sockets on this address (its SO_REUSEPORT group)",
	"WAIT    how they wait for connections: epoll and select wake them all,",
	"        accept and epoll-exclusive wake one",
	"W/C     wake-ups per connection: 1.0 is ideal, more is a thundering herd",
	"EAGAIN  accept calls that found nothing; a server that accepts until",
	"        EAGAIN shows 50% and is healthy",
	"CORE    CPU spent on wake-ups for nothing, in % of one core",
	"wasted  wake-ups that reached the program and got EAGAIN",
	"",
	"-  not applicable or not known yet   ?  no probe on this kernel",
	"~  estimate   !!  critical   !  warning",
}

func drawHelp(g *Grid, y, n int) {
	drawTitle(g, y, "HELP", "")
	for i, t := range helpText {
		if i < n-1 {
			g.put(tableLeft, y+1+i, clip(t, g.W-tableLeft), Normal, g.W)
		}
	}
}
