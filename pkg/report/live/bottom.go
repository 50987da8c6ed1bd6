// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// PromptKind is what the bottom line asks for.
type PromptKind uint8

// What is asked for.
const (
	PromptNone     PromptKind = iota
	PromptFilter              // takes effect while it is typed
	PromptInterval            // a duration
	PromptTime                // of a replay: a time since its start, or of day
)

// Prompt is a line that the user types.
type Prompt struct {
	Kind PromptKind
	Text string
	was  string // the filter before
}

// names of the prompts, as they stand before the text.
var promptNames = map[PromptKind]string{
	PromptFilter:   "filter (text port: comm: cgroup: pid: cpu:; Enter, Esc): ",
	PromptInterval: "seconds between two updates: ",
	PromptTime:     "go to (1:30, or 20:14:07 by the clock): ",
}

// ask opens a prompt, where it makes sense.
func (u UI) ask(p Prompt, v *View) UI {
	switch {
	case p.Kind == PromptTime && v.Deck == nil:
		u.Notice = "only a replay can go to a time"
		return u
	case p.Kind == PromptInterval && v.Deck != nil:
		u.Notice = "a replay has the interval of its recording"
		return u
	case p.Kind == PromptFilter && p.Text == "":
		p.Text = u.Filter
	}
	p.was = u.Filter
	u.Prompt = p
	return u
}

// Type is the UI after text was typed, or pasted, at the prompt.
func (u UI) Type(text string) UI {
	text = model.Printable(strings.ToValidUTF8(text, "?"))
	if len(u.Prompt.Text)+len(text) <= maxFilter {
		u.Prompt.Text += text
	}
	return u.typed()
}

// Erase is the UI after the last character of the prompt was taken away; all of
// it for a whole line. Where there is none, the prompt goes.
func (u UI) Erase(all bool) UI {
	switch {
	case all:
		u.Prompt.Text = ""
	case u.Prompt.Text == "":
		u.Prompt = Prompt{}
		return u
	default:
		_, n := utf8.DecodeLastRuneInString(u.Prompt.Text)
		u.Prompt.Text = u.Prompt.Text[:len(u.Prompt.Text)-n]
	}
	return u.typed()
}

func (u UI) typed() UI {
	if u.Prompt.Kind == PromptFilter {
		u.Filter = strings.TrimSpace(u.Prompt.Text)
	}
	return u
}

// Dismiss is the UI after the prompt was given up: with the filter that was.
func (u UI) Dismiss() UI {
	if u.Prompt.Kind == PromptFilter {
		u.Filter = u.Prompt.was
	}
	u.Prompt = Prompt{}
	return u
}

// hint is a key and what it does.
type hint struct{ key, what string }

// hints are those of the bottom line: the first are dropped last.
func (v *View) hints() []hint {
	pause := hint{"Space", "pause"}
	if v.UI.Paused || v.Deck != nil && v.Deck.Paused {
		pause.what = "go on"
	}
	quit, help, back := hint{"q", "quit"}, hint{"?", "help"}, hint{"Esc", "back"}
	var out []hint
	d := v.drill()
	enter := func() []hint {
		if what := v.opens(); what != "" && v.Frame != nil && v.table().count() > 0 {
			return []hint{{"Enter", what}}
		}
		return nil
	}
	switch {
	case v.UI.Help:
		return []hint{quit, back}
	case d != nil && d.alone:
		out = []hint{quit, back, help, {"y", "copy remedy"}, pause}
	case d != nil:
		out = []hint{quit, back, help, pause, {"s", "sort"}, {"r", "reverse"}}
	case v.together():
		out = slices.Concat([]hint{quit, help}, enter(), []hint{{"f", "findings"}}, v.elsewhere(), []hint{pause, {"Tab", "panel"}, {"/", "filter"}, {"s", "sort"}, {"1-5", "alone"}})
	default:
		out = slices.Concat([]hint{quit, help}, enter(), []hint{{"0", "all"}, pause, {"/", "filter"}, {"s", "sort"}, {"r", "reverse"}, {"1-5", "panel"}, {"f", "findings"}})
	}
	if v.Deck != nil {
		out = slices.DeleteFunc(out, func(h hint) bool { return h == pause })
		out = slices.Insert(out, 2, pause, hint{"Left Right", "10 s"}, hint{", .", "step"}, hint{"- +", "speed"}, hint{"t", "time"})
	}
	return out
}

// elsewhere names the panel that is not shown with the others, where a finding is
// about it.
func (v *View) elsewhere() []hint {
	for i := range v.Active {
		if f := &v.Active[i]; panelOf(f) == Processes {
			m, _ := mark(f.Severity)
			return []hint{{"5", "PROC" + strings.TrimSpace(m)}}
		}
	}
	return nil
}

// drawKeys draws the bottom line: the prompt; or the notice, if any, and what the
// keys do.
func (v *View) drawKeys(g *Grid, y int) {
	if p := v.UI.Prompt; p.Kind != PromptNone {
		name := promptNames[p.Kind]
		if width(name)+20 > g.W {
			name, _, _ = strings.Cut(name, " ")
			name += ": "
		}
		x := g.put(0, y, name, Key, g.W)
		text := safe(p.Text)
		if room := max(g.W-x-1, 1); width(text) > room {
			text = foot(text, room)
		}
		x = g.put(x, y, text, Normal, g.W)
		g.put(x, y, " ", Selection, 1)
		return
	}
	x := 0
	if text := v.UI.Notice; text != "" {
		x = g.put(0, y, clip(safe(text), max(g.W-8, 0)), Warn, g.W) + 2
	}
	for _, h := range v.hints() {
		n := width(h.key) + 1 + width(h.what)
		if x+n > g.W {
			break
		}
		x = g.put(x, y, h.key, Key, g.W) + 1
		x = g.put(x, y, h.what, Normal, g.W) + 2
	}
}
