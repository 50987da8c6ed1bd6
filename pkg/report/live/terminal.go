// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"
)

// runeActions are what keys with a letter stand for: those of top and htop where
// these have them.
var runeActions = map[string]Action{
	"q": Quit, "Q": Quit, "j": Down, "k": Up, "g": First, "G": Last, "l": Open,
	" ": Pause, "s": NextSort, ">": NextSort, "S": PrevSort, "<": PrevSort, "r": ReverseSort, "R": ReverseSort, "I": ReverseSort,
	"?": ToggleHelp, "h": ToggleHelp,
	"1": ShowHerd, "2": ShowCPUs, "3": ShowCGroups, "4": ShowQueues, "5": ShowProcesses, "f": ShowFindings, "0": ShowAll,
	"/": AskFilter, "\\": AskFilter, "c": AskCGroup, "p": AskPID, "d": AskInterval, "t": AskTime,
	"y": Copy, "w": Snapshot, "W": Snapshot, "+": More, "=": More, "-": Less, ".": StepOn, ",": StepOff,
}

// keyActions are what the other keys stand for.
var keyActions = map[tcell.Key]Action{
	tcell.KeyCtrlC: Quit, tcell.KeyF10: Quit, tcell.KeyF1: ToggleHelp, tcell.KeyF3: AskFilter, tcell.KeyF4: AskFilter, tcell.KeyF6: NextSort,
	tcell.KeyUp: Up, tcell.KeyDown: Down, tcell.KeyPgUp: PageUp, tcell.KeyPgDn: PageDown,
	tcell.KeyHome: First, tcell.KeyEnd: Last, tcell.KeyEnter: Open, tcell.KeyRight: Open,
	tcell.KeyEsc: Back, tcell.KeyLeft: Back, tcell.KeyBackspace: Back, tcell.KeyBackspace2: Back,
	tcell.KeyTab: NextPanel, tcell.KeyBacktab: PrevPanel, tcell.KeyCtrlZ: Suspend, tcell.KeyCtrlL: Redraw,
}

// actionOf is what a key stands for; in a replay some go through time.
func actionOf(ev *tcell.EventKey, replay bool) Action {
	if ev.Key() == tcell.KeyRune {
		if ev.Modifiers()&(tcell.ModCtrl|tcell.ModAlt|tcell.ModMeta) != 0 {
			return NoAction
		}
		a := runeActions[ev.Str()]
		if !replay && (a == StepOn || a == StepOff) {
			return NoAction
		}
		return a
	}
	switch {
	case replay && ev.Key() == tcell.KeyLeft:
		return Backward
	case replay && ev.Key() == tcell.KeyRight:
		return Forward
	}
	return keyActions[ev.Key()]
}

// painter puts Grids on a terminal.
type painter struct {
	term   tcell.Screen
	styles [Key + 1]tcell.Style
}

func newPainter(term tcell.Screen, c Color) *painter {
	p := &painter{term: term}
	for i := range p.styles {
		p.styles[i] = tcell.StyleDefault
	}
	p.styles[Dim] = p.styles[Dim].Dim(true)
	p.styles[Crit] = p.styles[Crit].Bold(true)
	p.styles[Head] = p.styles[Head].Bold(true)
	p.styles[Sorted] = p.styles[Sorted].Bold(true).Underline(true)
	p.styles[Selection] = p.styles[Selection].Reverse(true)
	p.styles[Key] = p.styles[Key].Bold(true)
	if c == ColorNever || c == ColorAuto && (os.Getenv("NO_COLOR") != "" || term.Colors() == 0) {
		return p
	}
	p.styles[Warn] = p.styles[Warn].Foreground(color.Olive)
	p.styles[Crit] = p.styles[Crit].Foreground(color.Maroon)
	p.styles[Key] = p.styles[Key].Bold(false).Foreground(color.Teal)
	return p
}

// show puts g on the terminal, which may take its time.
func (p *painter) show(g Grid) {
	p.term.Clear()
	for y := range g.H {
		for x := range g.W {
			if c := g.Cell(x, y); c.Text != "" {
				p.term.Put(x, y, c.Text, p.styles[c.Style])
			}
		}
	}
	p.term.Show()
}
