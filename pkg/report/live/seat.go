// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gdamore/tcell/v3"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// seat is who sits at a Screen: what they chose, and what they see. Only the
// Screen's loop uses it.
type seat struct {
	*Screen
	term     tcell.Screen
	paint    *painter
	ui       UI
	held     map[Panel]*held
	frozen   *View // what is shown while it is paused
	interval time.Duration
	buttons  tcell.ButtonMask
	pasted   time.Time // when the last key of a paste came; zero: none is under way
}

// pasteGap is the time without a key after which a paste is over, though its end
// did not come: a line may have broken.
const pasteGap = time.Second

// pasting reports whether ev is of a paste.
func (s *seat) pasting(ev *tcell.EventKey) bool {
	if s.pasted.IsZero() || ev.When().Sub(s.pasted) > pasteGap || ev.Key() == tcell.KeyCtrlC || ev.Key() == tcell.KeyEsc {
		s.pasted = time.Time{}
		return false
	}
	s.pasted = ev.When()
	return true
}

// view is what is to be seen; the History in it is good as long as s.mu is locked.
func (s *seat) view() View {
	v := s.newest.view()
	if s.kept != nil {
		v = *s.kept
	}
	if s.frozen != nil {
		clock := v.Clock
		v = *s.frozen
		v.Clock = clock
	}
	v.UI, v.Location = s.ui, time.Local
	if s.opts.Deck != nil {
		state := s.opts.Deck.State()
		v.Deck = &state
	}
	if v.Frame != nil && s.ui.Opened != 0 && v.drill() == nil {
		s.ui.Opened, s.ui.Threads, s.ui.Notice = 0, Place{}, "what was opened is gone"
		v.UI = s.ui
	}
	s.held = v.settle(s.held)
	v.held, v.cache = s.held, newCache()
	return v
}

// render draws what is to be seen, without waiting for the terminal.
func (s *seat) render(w, h int) Grid {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Render(s.view(), w, h)
}

func (s *seat) draw() { s.paint.show(s.render(s.term.Size())) }

// with is the UI after what do makes of it.
func (s *seat) with(do func(v View, w, h int) UI) {
	w, h := s.term.Size()
	s.mu.Lock()
	s.ui = do(s.view(), w, h)
	s.mu.Unlock()
}

func (s *seat) handle(ev tcell.Event) {
	switch ev := ev.(type) {
	case *tcell.EventError: // the terminal hung up
		s.leave()
		return
	case *tcell.EventResize:
	case *tcell.EventKey:
		pasting := s.pasting(ev)
		if s.ui.Prompt.Kind != PromptNone {
			s.answer(ev, pasting)
		} else if pasting {
			return // what is pasted is no command
		} else if a := actionOf(ev, s.opts.Deck != nil); a != NoAction {
			s.act(a)
		}
	case *tcell.EventPaste:
		s.pasted = time.Time{}
		if ev.Start() {
			s.pasted = ev.When()
		}
		return
	case *tcell.EventMouse:
		if !s.mouse(ev) {
			return
		}
	default:
		return
	}
	s.draw()
}

// act does what a key asks for.
func (s *seat) act(a Action) {
	s.ui.Notice = ""
	switch a {
	case Quit:
		s.leave()
	case Suspend:
		s.suspend()
	case Redraw:
		s.term.Sync()
	case Copy:
		s.copy()
	case Snapshot:
		s.snapshot()
	case More, Less, Forward, Backward, StepOn, StepOff:
		s.pace(a)
	case Pause:
		s.pause()
	default:
		s.with(func(v View, w, h int) UI { return s.ui.Press(a, v, w, h) })
	}
}

// pause freezes what is shown, not what is measured; a replay stops.
func (s *seat) pause() {
	if d := s.opts.Deck; d != nil {
		d.Press(PlayPause, 0)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		s.frozen, s.ui.Paused = nil, false
		return
	}
	v := s.newest.view()
	if v.Frame == nil {
		s.ui.Notice = "there is nothing to freeze yet"
		return
	}
	v.History = v.History.clone()
	s.frozen, s.ui.Paused = &v, true
}

// seekStep is how far an arrow goes in a replay.
const seekStep = 10 * time.Second

// intervals are those between which + and - choose.
var intervals = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, time.Hour}

func (s *seat) pace(a Action) {
	d := s.opts.Deck
	switch {
	case d != nil && a == More:
		d.Press(Faster, 0)
	case d != nil && a == Less:
		d.Press(Slower, 0)
	case d != nil && a == Forward:
		d.Press(SeekBy, seekStep)
	case d != nil && a == Backward:
		d.Press(SeekBy, -seekStep)
	case d != nil && a == StepOn:
		d.Press(StepForward, 0)
	case d != nil && a == StepOff:
		d.Press(StepBack, 0)
	case a == More:
		for _, i := range intervals {
			if i > s.interval {
				s.setInterval(i)
				return
			}
		}
	case a == Less:
		for i := len(intervals) - 1; i >= 0; i-- {
			if intervals[i] < s.interval {
				s.setInterval(intervals[i])
				return
			}
		}
	}
}

func (s *seat) setInterval(d time.Duration) {
	least, most := intervals[0], intervals[len(intervals)-1]
	switch {
	case s.opts.SetInterval == nil:
		s.ui.Notice = "the interval cannot be changed here"
	case d < least || d > most:
		s.ui.Notice = fmt.Sprintf("the interval must be from %s to %s", every(uint64(least)), every(uint64(most)))
	default:
		s.opts.SetInterval(d)
		s.interval = d
		s.ui.Notice = "every " + every(uint64(d)) + " from now on"
	}
}

// answer takes a key at the prompt.
func (s *seat) answer(ev *tcell.EventKey, pasting bool) {
	switch ev.Key() {
	case tcell.KeyRune:
		if ev.Modifiers()&(tcell.ModCtrl|tcell.ModAlt|tcell.ModMeta) == 0 {
			s.ui = s.ui.Type(ev.Str())
		}
	case tcell.KeyEnter:
		if !pasting {
			s.answered()
		}
	case tcell.KeyEsc:
		s.ui = s.ui.Dismiss()
	case tcell.KeyCtrlC:
		s.leave()
	case tcell.KeyBackspace, tcell.KeyBackspace2:
		s.ui = s.ui.Erase(false)
	case tcell.KeyCtrlU, tcell.KeyCtrlW:
		s.ui = s.ui.Erase(true)
	}
}

// answered does what the prompt is for.
func (s *seat) answered() {
	p := s.ui.Prompt
	s.ui.Prompt, s.ui.Notice = Prompt{}, ""
	text := strings.TrimSpace(p.Text)
	switch {
	case text == "" || p.Kind == PromptFilter:
	case p.Kind == PromptInterval:
		d, err := time.ParseDuration(text)
		if n, numErr := strconv.ParseFloat(text, 64); numErr == nil && n > 0 && n < 1e6 {
			d, err = time.Duration(n*float64(time.Second)), nil
		}
		if err != nil {
			s.ui.Notice = clip(safe(text), 20) + " is no time like 0.5 or 500ms"
			return
		}
		s.setInterval(d)
	case p.Kind == PromptTime:
		s.mu.Lock()
		h := s.newest.Header
		s.mu.Unlock()
		at, err := timeOf(text, h, s.opts.Deck.State().Length)
		if err != nil {
			s.ui.Notice = err.Error()
			return
		}
		s.opts.Deck.Press(SeekTo, at)
	}
}

// timeOf is what text means as a time of a recording of that length: since its
// first Sample, or by the clock.
func timeOf(text string, h *sample.Header, length time.Duration) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	var n []int
	for _, part := range strings.Split(text, ":") {
		k, err := strconv.Atoi(part)
		if err != nil || k < 0 || len(n) == 3 || k > 59 && len(n) > 0 {
			return 0, fmt.Errorf("%s is no time like 1:30, 90s or 20:14:07", clip(safe(text), 20))
		}
		n = append(n, k)
	}
	at := time.Duration(0)
	for _, k := range n {
		at = at*60 + time.Duration(k)*time.Second
	}
	if len(n) < 3 || h == nil {
		return at, nil
	}
	began := time.Unix(0, h.WallNS)
	midnight := time.Date(began.Year(), began.Month(), began.Day(), 0, 0, 0, 0, began.Location())
	since := midnight.Add(at).Sub(began)
	if since < 0 && since+24*time.Hour <= length {
		since += 24 * time.Hour // it went on over midnight
	}
	return max(since, 0), nil
}

// mouse reports whether something may have changed.
func (s *seat) mouse(ev *tcell.EventMouse) bool {
	x, y := ev.Position()
	was := s.buttons
	s.buttons = ev.Buttons()
	switch {
	case s.buttons&(tcell.WheelUp|tcell.WheelDown) != 0:
		s.with(func(v View, w, h int) UI { return s.ui.Wheel(s.buttons&tcell.WheelDown != 0, x, y, v, w, h) })
	case s.buttons&tcell.Button1 != 0 && was&tcell.Button1 == 0:
		s.with(func(v View, w, h int) UI { return s.ui.Click(x, y, v, w, h) })
	default:
		return false
	}
	return true
}

// copy puts what is selected into the terminal's clipboard.
func (s *seat) copy() {
	s.mu.Lock()
	v := s.view()
	s.mu.Unlock()
	text := v.selection()
	if text == "" {
		s.ui.Notice = "there is nothing to copy"
		return
	}
	s.term.SetClipboard([]byte(text))
	s.ui.Notice = "copied, if the terminal takes it (OSC 52): " + model.Printable(strings.ReplaceAll(text, "\n", " "))
}

// snapshot writes all that is known to a file.
func (s *seat) snapshot() {
	s.mu.Lock()
	v := s.view()
	v.History = v.History.clone()
	s.mu.Unlock()
	w, h := s.term.Size()
	name, err := writeSnapshot(s.opts.Dir, time.Now(), Text(v, w, h))
	if err != nil {
		s.ui.Notice = err.Error()
		return
	}
	s.ui.Notice = "written to " + name
}
