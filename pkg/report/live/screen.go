// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Color says whether the screen uses colours. Its attributes (bold, reverse)
// stay either way.
type Color uint8

// ColorAuto heeds NO_COLOR and what the terminal can do.
const (
	ColorAuto Color = iota
	ColorNever
	ColorAlways
)

// Options are how a Screen looks. The zero Options ask the environment.
type Options struct {
	Color Color
	ASCII bool // also where the locale is not UTF-8, or TERM is linux

	tty tcell.Tty // nil: /dev/tty
}

const (
	// keepEvents bounds the events that the screen remembers.
	keepEvents = 64
	// redrawGap is the least time between two ticks' drawings: a replay at
	// full speed must not spend itself on a terminal.
	redrawGap = 40 * time.Millisecond
	// closeWait bounds the wait for a terminal that takes no output.
	closeWait = time.Second
)

// Screen is the live table on a terminal, as a report.Sink. Step never waits
// for the terminal: what it had no time to draw is overtaken by the next tick.
type Screen struct {
	opts Options
	term tcell.Screen

	mu     sync.Mutex
	newest View          // the UI of which is not used
	wake   chan struct{} // capacity 1: newest changed

	quit     chan struct{} // the user wants to leave
	quitOnce sync.Once
	stop     chan struct{} // Close wants the loop to end
	stopped  chan struct{} // it did
	closing  sync.Once
	closeErr error
}

var _ report.Sink = (*Screen)(nil)

// New returns a Screen that Begin will open.
func New(opts Options) *Screen {
	opts.ASCII = opts.ASCII || asciiOnly(os.Getenv)
	return &Screen{
		opts:    opts,
		wake:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
}

// asciiOnly reports whether the environment speaks against UTF-8 or box drawing.
func asciiOnly(getenv func(string) string) bool {
	locale := ""
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale = getenv(name); locale != "" {
			break
		}
	}
	locale = strings.ToUpper(locale)
	return getenv("TERM") == "linux" || getenv("RUNEWIDTH_EASTASIAN") != "" ||
		!strings.Contains(locale, "UTF-8") && !strings.Contains(locale, "UTF8")
}

// Done is closed when the user quits, or the terminal is gone. The caller then
// ends the trace; the screen stays until End.
func (s *Screen) Done() <-chan struct{} { return s.quit }

// Begin implements report.Sink: it takes the terminal over.
func (s *Screen) Begin(h *sample.Header) error {
	// No questions to the terminal: their answers come late over a slow line
	// and land in the shell's input.
	opts := []tcell.TerminfoScreenOption{tcell.OptNegotiation(false)}
	if s.opts.Color == ColorAlways {
		opts = append(opts, tcell.OptColors(8)) // else tcell heeds NO_COLOR by itself
	}
	tty, err := s.opts.tty, error(nil)
	if tty == nil {
		tty, err = tcell.NewDevTty()
	}
	var term tcell.Screen
	if err == nil {
		term, err = tcell.NewTerminfoScreenFromTty(&keyboard{Tty: tty}, opts...)
	}
	if err == nil {
		err = term.Init()
	}
	if err != nil {
		close(s.stopped)
		return fmt.Errorf("open terminal: %w", err)
	}
	term.HideCursor()
	s.mu.Lock()
	s.term, s.newest.Header = term, h
	s.mu.Unlock()
	go s.loop(term)
	return nil
}

// Step implements report.Sink.
func (s *Screen) Step(step *report.Step) error {
	s.mu.Lock()
	v := &s.newest
	v.Frame = step.Frame
	v.Clock = step.Frame.Elapsed
	v.Active = slices.Clone(step.Active)
	// A new slice: the loop still reads the old one.
	events := slices.Concat(v.Events, step.Frame.Events)
	v.Events = slices.Clone(events[max(len(events)-keepEvents, 0):])
	for i := range step.Changed {
		if f := &step.Changed[i]; f.State == diagnose.Cleared {
			v.QuietFrom = max(v.QuietFrom, f.Elapsed)
		}
	}
	s.mu.Unlock()
	s.redraw()
	return nil
}

// SetMessage shows text on the bottom line, such as "end of recording".
func (s *Screen) SetMessage(text string) {
	s.mu.Lock()
	s.newest.Message = model.Printable(text)
	s.mu.Unlock()
	s.redraw()
}

func (s *Screen) redraw() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// End implements report.Sink: it gives the terminal back.
func (s *Screen) End(*report.Summary) error { return s.Close() }

// Close gives the terminal back. It may be called at any time, more than once
// and from a deferred function that recovers from a panic.
func (s *Screen) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		term := s.term
		s.mu.Unlock()
		if term == nil {
			return
		}
		close(s.stop)
		restored := make(chan struct{})
		go func() {
			<-s.stopped
			term.Fini()
			close(restored)
		}()
		select {
		case <-restored:
		case <-time.After(closeWait):
			s.closeErr = errors.New("restore terminal: it takes no output (run: reset)")
		}
	})
	return s.closeErr
}

func (s *Screen) leave() { s.quitOnce.Do(func() { close(s.quit) }) }

// loop draws and reads keys until Close.
func (s *Screen) loop(term tcell.Screen) {
	defer close(s.stopped)
	defer func() {
		if r := recover(); r != nil {
			term.Fini() // or the panic's text would be lost on the other screen
			panic(r)
		}
	}()
	paint := newPainter(term, s.opts.Color)
	view := s.mail(View{UI: UI{ASCII: s.opts.ASCII}})
	paint.draw(view)
	wake := s.wake
	var gap <-chan time.Time
	for {
		select {
		case <-s.stop:
			return
		case <-wake:
			view = s.mail(view)
			paint.draw(view)
			wake, gap = nil, time.After(redrawGap)
		case <-gap:
			wake, gap = s.wake, nil
		case ev, ok := <-term.EventQ():
			if !ok {
				s.leave()
				return
			}
			view = s.handle(ev, view, paint)
		}
	}
}

// mail is old with the newest data; a paused view keeps its own.
func (s *Screen) mail(old View) View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old.UI.Paused && old.Frame != nil {
		old.Clock, old.Message = s.newest.Clock, s.newest.Message
		return old
	}
	v := s.newest
	v.UI = old.UI
	return v
}

func (s *Screen) handle(ev tcell.Event, view View, paint *painter) View {
	switch ev := ev.(type) {
	case *tcell.EventError: // the terminal hung up
		s.leave()
	case *tcell.EventResize:
		paint.draw(view)
	case *tcell.EventKey:
		switch a := actionOf(ev); a {
		case Quit:
			s.leave()
		case NoAction:
		default:
			w, h := paint.term.Size()
			view.UI = view.UI.Press(a, view, w, h)
			view = s.mail(view)
			paint.draw(view)
		}
	}
	return view
}

// actionOf is what a key stands for.
func actionOf(ev *tcell.EventKey) Action {
	if ev.Key() == tcell.KeyRune {
		if ev.Modifiers()&(tcell.ModCtrl|tcell.ModAlt|tcell.ModMeta) != 0 {
			return NoAction
		}
		return map[string]Action{
			"q": Quit, "Q": Quit, "j": Down, "k": Up, "g": First, "G": Last, "l": Open, "h": Back,
			" ": Pause, "s": NextSort, "r": ReverseSort, "?": ToggleHelp,
			"1": ShowHerd, "2": ShowCPUs, "3": ShowCGroups, "4": ShowQueues, "5": ShowProcesses,
		}[ev.Str()]
	}
	return map[tcell.Key]Action{
		tcell.KeyCtrlC: Quit, tcell.KeyF10: Quit, tcell.KeyF1: ToggleHelp,
		tcell.KeyUp: Up, tcell.KeyDown: Down, tcell.KeyPgUp: PageUp, tcell.KeyPgDn: PageDown,
		tcell.KeyHome: First, tcell.KeyEnd: Last, tcell.KeyEnter: Open, tcell.KeyRight: Open,
		tcell.KeyEsc: Back, tcell.KeyLeft: Back, tcell.KeyBackspace: Back, tcell.KeyBackspace2: Back,
	}[ev.Key()]
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

func (p *painter) draw(v View) {
	w, h := p.term.Size()
	g := Render(v, w, h)
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
