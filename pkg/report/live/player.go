// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Recording is what a Player plays; a sample.Reader is one.
type Recording interface {
	sample.Source
	// Length reads on to the end, and returns the time from the first Sample to
	// the last.
	Length(ctx context.Context) (time.Duration, error)
	io.Closer
}

// ErrOneWay is why a recording cannot be opened again: it came through a pipe.
// Its Player goes forward only, and does not know how long it is.
var ErrOneWay = errors.New("this recording comes through a pipe: there is no way back")

// PlayerOptions say what to play.
type PlayerOptions struct {
	// Open opens the recording at its begin, each time anew: to play it, to go back
	// in it, and to find out its length, which another goroutine does.
	Open   func() (Recording, error)
	Limits diagnose.Limits
	// Sinks besides the screen get each tick once, and in order, when it is played
	// for the first time.
	Sinks []report.Sink
	Speed float64       // 1 when 0
	From  time.Duration // where to begin
}

// The bounds of the speed.
const (
	MinSpeed = 1. / 8
	MaxSpeed = 64
)

// canvas is the Screen, as a Player needs it.
type canvas interface {
	report.Sink
	Rewind()
	Hold(on bool)
	redraw()
}

// Player plays a recording on a Screen, at its own pace or another. Where the
// screen is put back, the recording is run from its begin again, since what a
// detector says depends on all that it has seen; what the other sinks get is what
// the head of the play came to.
type Player struct {
	o      PlayerOptions
	screen canvas

	// Of Run's goroutine:
	head *track          // feeds the Sinks, and the screen while there is no back
	back *track          // feeds the screen on its way to the head again; nil: it is there
	come []time.Duration // when each tick was that the head came to, since the first Sample
	pace pace
	goal *goal  // where the screen is to be put; nil: where it is
	held bool   // the screen
	fail string // why it could not be put there

	mu      sync.Mutex
	presses []press
	poke    context.CancelFunc // ends a wait
	state   DeckState
	whole   bool // state.Length is that of what was played to its end
	// panicked is what another goroutine did that with.
	panicked string
}

var _ Deck = (*Player)(nil)

// NewPlayer returns a Player that drives s, and that the keys of s go to.
func NewPlayer(s *Screen, o PlayerOptions) *Player {
	p := newPlayer(s, o)
	s.opts.Deck = p // nothing looks at it before Begin
	return p
}

func newPlayer(s canvas, o PlayerOptions) *Player {
	if o.Speed == 0 {
		o.Speed = 1
	}
	p := &Player{o: o, screen: s, pace: pace{speed: o.Speed}}
	p.state.Speed = o.Speed
	if o.From > 0 {
		p.Press(SeekTo, o.From)
	}
	return p
}

// State implements Deck.
func (p *Player) State() DeckState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Run plays until ctx ends, which is no error: also at the end of the recording
// the user may want to go back. It stops at the first sink that fails. A recording
// that fails is shown up to there, and its error returned in the end. The Summary is
// valid in any case.
func (p *Player) Run(ctx context.Context) (*report.Summary, error) {
	rec, err := p.o.Open()
	if err != nil {
		return &report.Summary{}, err
	}
	p.head = newTrack(rec, p.o.Limits)
	var measuring sync.WaitGroup
	measured := false
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		measuring.Wait()
		p.head.Close()
		p.back.Close()
	}()
	for _, k := range append(p.o.Sinks[:len(p.o.Sinks):len(p.o.Sinks)], p.screen) {
		if err := k.Begin(rec.Header()); err != nil {
			return &report.Summary{}, err
		}
	}
	for err == nil && ctx.Err() == nil {
		err = p.turn(ctx)
		if len(p.come) > 0 && !measured {
			measured = true
			measuring.Go(func() { p.measure(ctx) })
		}
	}
	if err == nil {
		err = p.head.broken()
	}
	return p.head.pipe.Summary(), err
}

// measure finds out how long the recording is. Where it cannot, that is known
// when the end was seen. A panic is handed to Run: only there are deferred calls
// that give a terminal back.
func (p *Player) measure(ctx context.Context) {
	defer func() {
		if r := recover(); r != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
			p.poke()
		}
	}()
	rec, err := p.o.Open()
	if err != nil {
		return
	}
	defer rec.Close()
	d, _ := rec.Length(ctx) // with an error, that of what can be read
	p.mu.Lock()
	if !p.whole && ctx.Err() == nil {
		p.state.Length = max(p.state.Length, d)
	}
	p.mu.Unlock()
	p.screen.redraw()
}
