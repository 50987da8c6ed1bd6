// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"math"
	"sort"
	"time"
)

// slow is after what time the user is told that it takes a while.
const slow = 100 * time.Millisecond

// press is a key that the Player has not heeded yet.
type press struct {
	action DeckAction
	by     time.Duration
}

// goal is where the screen is to be put: at a tick, or so many steps from the last
// one that was not later than a time, and that was not before the tick least.
type goal struct {
	tick  int // -1: by at
	at    time.Duration
	least int
	steps int
	begun time.Time
	told  bool // the user, that it takes a while
	moved bool // the screen
}

// Press implements Deck. What is pressed while the Player is on its way somewhere
// changes where it goes.
func (p *Player) Press(a DeckAction, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.presses = append(p.presses, press{a, by})
	if p.poke != nil {
		p.poke()
	}
}

// plus does not overflow.
func plus(a, b time.Duration) time.Duration {
	switch c := a + b; {
	case a > 0 && b > 0 && c < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && c >= 0:
		return math.MinInt64
	default:
		return c
	}
}

// turn does the next thing: what was pressed, a tick on the way to the goal, or a
// tick when it is due.
func (p *Player) turn(ctx context.Context) error {
	quiet, done := p.obey(ctx)
	defer done()
	if p.goal != nil && len(p.come) > 0 {
		return p.seek(ctx, quiet)
	}
	t := p.on()
	at, ok := t.peek(quiet)
	switch {
	case !ok && t.end == nil: // something was pressed
		return nil
	case !ok, p.pace.paused && len(p.come) > 0:
		if p.goal != nil {
			p.arrive() // there is no tick at all
		}
		p.publish()
		<-quiet.Done()
		return nil
	case len(p.come) == 0:
		p.pace.jump(time.Now())
	default:
		later := at - p.at()
		if wait := p.pace.wait(later, time.Now()); wait > 0 {
			select {
			case <-quiet.Done():
				return nil
			case <-time.After(wait):
			}
			p.pace.settle(time.Now())
		}
		p.pace.shown(later)
	}
	if err := p.forward(ctx); err != nil {
		return err
	}
	p.publish()
	return nil
}

// on is the track that the screen is on.
func (p *Player) on() *track {
	if p.back != nil {
		return p.back
	}
	return p.head
}

// tick is the number of the one on the screen; -1: there is none.
func (p *Player) tick() int { return p.on().n - 1 }

// at is when that was.
func (p *Player) at() time.Duration {
	if i := p.tick(); i >= 0 && i < len(p.come) {
		return p.come[i]
	}
	return 0
}

// forward puts the screen one tick on.
func (p *Player) forward(ctx context.Context) error {
	t := p.on()
	step, err := t.pipe.Next(ctx)
	if err != nil {
		return err
	}
	if t == p.head {
		p.come = append(p.come, step.Frame.Elapsed)
		if err := step.To(p.o.Sinks...); err != nil {
			return err
		}
	}
	if err := p.screen.Step(step); err != nil {
		return err
	}
	if p.back != nil && p.back.n == p.head.n {
		p.back.Close()
		p.back = nil
	}
	return nil
}

// seek goes one tick towards the goal. Quiet ends when something is pressed.
func (p *Player) seek(ctx, quiet context.Context) error {
	want, known := p.wanted(quiet)
	if known && want == p.tick() {
		p.arrive()
		return nil
	}
	if !p.held {
		p.held = true
		p.screen.Hold(true)
	}
	if !p.goal.told && time.Since(p.goal.begun) >= slow {
		p.goal.told = true
		p.publish()
	}
	if known && want < p.tick() {
		p.restart()
		return nil
	}
	if _, ok := p.on().peek(quiet); !ok {
		if p.on().end != nil {
			p.arrive() // this is as far as it goes
		}
		return nil
	}
	p.goal.moved = true
	return p.forward(ctx)
}

// wanted is the tick of the goal; false: the head has not come there yet.
func (p *Player) wanted(quiet context.Context) (int, bool) {
	tick, known := p.landing()
	if !known {
		p.head.peek(quiet)
		tick, known = p.landing()
	}
	return tick, known
}

// landing is wanted, as far as it is known without another look.
func (p *Player) landing() (int, bool) {
	g := p.goal
	if g.tick >= 0 {
		return g.tick, true
	}
	i := max(p.tickAt(g.at), g.least)
	if next, some := p.head.ahead(); i >= len(p.come)-1 && !p.head.ended() && !(some && next > g.at) {
		return 0, false
	}
	return max(i+g.steps, 0), true
}

// tickAt is the last tick that the head came to no later than at.
func (p *Player) tickAt(at time.Duration) int {
	return max(sort.Search(len(p.come), func(i int) bool { return p.come[i] > at })-1, 0)
}

// restart puts the screen before the first tick.
func (p *Player) restart() {
	rec, err := p.o.Open()
	if err != nil {
		p.fail = err.Error()
		p.arrive()
		return
	}
	p.back.Close()
	p.back = newTrack(rec, p.o.Limits)
	p.goal.moved = true
	p.screen.Rewind()
}

// arrive ends the seeking, where it is.
func (p *Player) arrive() {
	if p.goal.moved {
		p.pace.jump(time.Now())
	}
	p.goal = nil
	if !p.held {
		p.publish()
		return
	}
	p.held = false
	p.note()
	p.screen.Hold(false) // draws it
}

// obey does what was pressed. Quiet ends when something is pressed again, or ctx
// does.
func (p *Player) obey(ctx context.Context) (quiet context.Context, done context.CancelFunc) {
	quiet, done = context.WithCancel(ctx)
	p.mu.Lock()
	presses := p.presses
	p.presses, p.poke = nil, done
	panicked := p.panicked
	p.mu.Unlock()
	if panicked != "" {
		panic(panicked)
	}
	for _, k := range presses {
		p.fail = ""
		p.heed(k)
	}
	if len(presses) > 0 {
		p.publish()
	}
	return quiet, done
}

func (p *Player) heed(k press) {
	p.pace.settle(time.Now())
	switch k.action {
	case PlayPause:
		p.pace.paused = !p.pace.paused
	case Faster:
		p.pace.speed = min(2*p.pace.speed, MaxSpeed)
	case Slower:
		p.pace.speed = max(p.pace.speed/2, MinSpeed)
	case StepForward:
		p.pace.paused = true
		p.step(1)
	case StepBack:
		p.pace.paused = true
		p.step(-1)
	case SeekTo:
		p.aim(goal{tick: -1, at: p.clamp(k.by)})
	case SeekBy:
		p.seekBy(k.by)
	}
}

// aim changes where the screen is to be put.
func (p *Player) aim(g goal) {
	g.begun = time.Now()
	if p.goal != nil {
		g.begun, g.told, g.moved = p.goal.begun, p.goal.told, p.goal.moved
	}
	p.goal = &g
}

// step aims at so many ticks from where the screen is, or is to be put.
func (p *Player) step(by int) {
	tick, known := p.tick(), true
	if p.goal != nil {
		tick, known = p.landing()
	}
	if !known {
		p.goal.steps += by
		return
	}
	p.aim(goal{tick: max(tick+by, 0)})
}

// seekBy aims at so much time from where the screen is, or is to be put; and at
// another tick in any case, though ticks may be further apart.
func (p *Player) seekBy(by time.Duration) {
	tick, known := p.tick(), true
	if p.goal != nil {
		tick, known = p.landing()
	}
	g, from := goal{tick: -1}, time.Duration(0)
	switch {
	case p.goal != nil && p.goal.tick < 0 && p.goal.steps == 0 || !known:
		from = p.goal.at
	case len(p.come) > 0:
		from = p.come[min(max(tick, 0), len(p.come)-1)]
	}
	g.at = p.clamp(plus(from, by))
	if by > 0 && known {
		g.least = tick + 1
	}
	p.aim(g)
}

// clamp keeps a time within the recording, as far as its length is known.
func (p *Player) clamp(at time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if length := p.state.Length; length > 0 {
		at = min(at, length)
	}
	return max(at, 0)
}

// publish says where the Player is, and has it drawn where that is news.
func (p *Player) publish() {
	if p.note() {
		p.screen.redraw()
	}
}

// note brings the state up to date, and reports whether it changed.
func (p *Player) note() bool {
	t := p.on()
	p.mu.Lock()
	defer p.mu.Unlock()
	before, s := p.state, &p.state
	s.Speed, s.Paused, s.Error = p.pace.speed, p.pace.paused, p.fail
	s.Seeking = p.goal != nil && p.goal.told
	if p.goal == nil {
		s.At, s.AtEnd = p.at(), t.ended()
	}
	if s.Error == "" {
		s.Error = t.fault()
	}
	if n := len(p.come); n > 0 {
		switch last := p.come[n-1]; {
		case p.head.ended():
			s.Length, p.whole = last, true
		case s.Length > 0: // or it is not known yet
			s.Length = max(s.Length, last)
		}
	}
	return *s != before
}
