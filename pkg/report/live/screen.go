// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gdamore/tcell/v3"

	"github.com/herdtrace/herdtrace/pkg/report"
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

// Options are how a Screen looks, and what its keys may ask for. The zero Options
// ask the environment.
type Options struct {
	Color     Color
	ASCII     bool   // also where the locale is not UTF-8, or TERM is linux
	NoMouse   bool   // the terminal keeps its mouse
	Recording string // the name of what the trace is recorded to; "": it is not

	// SetInterval sets the time between two ticks; nil: that cannot be done. It must
	// not wait.
	SetInterval func(time.Duration)
	// Interval is what it is at first.
	Interval time.Duration
	// Deck is what is replayed; nil: the trace is live.
	Deck Deck
	// Abort is called, on a goroutine of its own, where the user wants to leave again
	// and the caller of Done has not closed the Screen yet; nil: nothing can be done.
	Abort func()
	// Dir is where snapshots go; "": the working directory.
	Dir string

	tty tcell.Tty // nil: /dev/tty
}

const (
	// redrawGap is the least time between two ticks' drawings: a replay at
	// full speed must not spend itself on a terminal.
	redrawGap = 40 * time.Millisecond
	// closeWait bounds the wait for a terminal that takes no output.
	closeWait = time.Second
	// Patience is for how long wishes to leave count as one: of who presses a key
	// twice, or holds it.
	Patience = time.Second
)

// Screen is the live table on a terminal, as a report.Sink. Step never waits
// for the terminal: what it had no time to draw is overtaken by the next tick.
type Screen struct {
	opts Options
	jobs jobs

	opening sync.Mutex   // Begin is at it
	term    tcell.Screen // nil: not opened

	mu     sync.Mutex
	newest memory        // what was seen
	silent bool          // Hold
	kept   *View         // what is shown meanwhile; nil where nothing was yet
	wake   chan struct{} // capacity 1: newest changed

	quit     chan struct{} // the user wants to leave
	quitOnce sync.Once
	quitAt   time.Time
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
		newest:  memory{View: View{Recording: opts.Recording}, history: newHistory()},
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
	s.opening.Lock()
	defer s.opening.Unlock()
	select {
	case <-s.stop:
		return errors.New("open terminal: the screen is closed")
	default:
	}
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
		s.jobs.watch()
		err = term.Init()
	}
	if err != nil {
		s.jobs.unwatch()
		return fmt.Errorf("open terminal: %w", err)
	}
	term.HideCursor()
	term.EnablePaste()
	if !s.opts.NoMouse {
		term.EnableMouse(tcell.MouseButtonEvents)
	}
	s.mu.Lock()
	s.newest.Header = h
	s.mu.Unlock()
	s.term = term
	go s.loop(term)
	return nil
}

// Step implements report.Sink.
func (s *Screen) Step(step *report.Step) error {
	s.mu.Lock()
	s.newest.add(step)
	silent := s.silent
	s.mu.Unlock()
	if !silent {
		s.redraw()
	}
	return nil
}

// Rewind forgets what was seen: what comes next is from the beginning.
func (s *Screen) Rewind() {
	s.mu.Lock()
	s.newest.forget()
	s.mu.Unlock()
}

// Hold keeps the picture as it is while Steps come, whatever keys are pressed; then
// it shows the last one.
func (s *Screen) Hold(on bool) {
	s.mu.Lock()
	s.silent, s.kept = on, nil
	if v := s.newest.view(); on && v.Frame != nil {
		v.History = v.History.clone()
		s.kept = &v
	}
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
// and from a deferred function that recovers from a panic. After it there is no Begin.
func (s *Screen) Close() error {
	s.closing.Do(func() {
		close(s.stop)
		restored := make(chan struct{})
		go func() {
			defer close(restored)
			s.opening.Lock() // a Begin that is under way ends first
			defer s.opening.Unlock()
			if s.term != nil {
				<-s.stopped
				s.term.Fini()
			}
		}()
		select {
		case <-restored:
		case <-time.After(closeWait):
			s.closeErr = errors.New("restore terminal: it takes no output (run: reset)")
		}
	})
	return s.closeErr
}

// leave wants the trace to end; again, after some time, at once.
func (s *Screen) leave() {
	s.quitOnce.Do(func() {
		s.quitAt = time.Now()
		close(s.quit)
	})
	if s.opts.Abort != nil && time.Since(s.quitAt) > Patience {
		go s.opts.Abort() // it closes the Screen, whose loop this is
	}
}

// loop draws and reads keys until Close.
func (s *Screen) loop(term tcell.Screen) {
	defer close(s.stopped)
	defer s.jobs.unwatch()
	defer func() {
		if r := recover(); r != nil {
			term.Fini() // or the panic's text would be lost on the other screen
			panic(r)
		}
	}()
	seat := &seat{Screen: s, term: term, paint: newPainter(term, s.opts.Color), interval: s.opts.Interval}
	seat.ui = UI{ASCII: s.opts.ASCII, Overview: true}
	seat.draw()
	wake := s.wake
	var gap <-chan time.Time
	for {
		select {
		case <-s.stop:
			return
		case <-wake:
			seat.draw()
			wake, gap = nil, time.After(redrawGap)
		case <-gap:
			wake, gap = s.wake, nil
		case ev, ok := <-term.EventQ():
			if !ok {
				s.leave()
				return
			}
			seat.handle(ev)
		case <-s.jobs.stop:
			seat.suspend()
			seat.draw()
		case <-s.jobs.cont:
			seat.reopen()
			seat.draw()
		}
	}
}
