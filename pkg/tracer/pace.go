// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"time"
)

// A signal that is sampled has its hooks attached for paceFor of each paceEvery;
// its counters go on at the rate of the last such span.
const (
	paceFor   = 100 * time.Millisecond
	paceEvery = time.Second
	paceShare = float64(paceFor) / float64(paceEvery)
)

// pacing is how much of the time a signal's hooks are attached.
type pacing int

const (
	paceFull pacing = iota
	paceSampled
	paceOff
)

// paced reads the counters of a signal whose hooks come and go.
type paced interface {
	// settle takes in what was counted up to now.
	settle() error
	// mark begins a span by which the signal is to be extrapolated.
	mark()
	// pause says that the hooks were detached; guess: its counters go on.
	pause(guess bool)
	// resume is called before the hooks are attached again, to clear what the
	// programs would take for the present; resumed after it.
	resume() error
	resumed()
}

// pacer attaches and detaches the hooks of signals. All that are sampled are
// attached at the same time.
type pacer struct {
	kern   *kernel
	self   *selfMeter
	of     map[string]paced
	modes  map[string]pacing
	on     bool // those that are sampled are attached
	turned time.Time
	failed uint64 // how often hooks or counters could not be had
}

func newPacer(k *kernel, self *selfMeter) *pacer {
	return &pacer{kern: k, self: self, of: make(map[string]paced), modes: make(map[string]pacing), on: true}
}

// set changes how much of the time a signal is measured. A signal that is to be
// sampled is attached for one span first.
func (p *pacer) set(signal string, mode pacing, now time.Time) {
	if p.modes[signal] == mode || p.of[signal] == nil {
		return
	}
	p.modes[signal] = mode
	if mode == paceOff && !p.kern.isAttached(signal) {
		p.count(p.of[signal].settle())
		p.of[signal].pause(false)
	}
	if mode == paceSampled {
		p.on, p.turned = true, now
	}
	p.apply()
	if mode == paceSampled {
		p.count(p.of[signal].settle())
		p.of[signal].mark()
	}
}

// sampling reports whether any signal is sampled.
func (p *pacer) sampling() bool {
	for _, m := range p.modes {
		if m == paceSampled {
			return true
		}
	}
	return false
}

// measurable reports whether a measure of the cost that begins now sees what is
// sampled. It is asked for whenever hooks were attached, and then it is so.
func (p *pacer) measurable() bool { return !p.sampling() || p.on }

// due is when hooks come or go next; the zero Time: never.
func (p *pacer) due() time.Time {
	switch {
	case !p.sampling():
		return time.Time{}
	case p.on:
		return p.turned.Add(paceFor)
	}
	return p.turned.Add(paceEvery - paceFor)
}

// wait is until when that is, and long where it is never.
func (p *pacer) wait(now time.Time) time.Duration {
	due := p.due()
	if due.IsZero() {
		return time.Hour
	}
	return max(due.Sub(now), 0)
}

// rotate attaches and detaches what is due.
func (p *pacer) rotate(now time.Time) {
	if due := p.due(); due.IsZero() || now.Before(due) {
		return
	}
	p.on, p.turned = !p.on, now
	p.apply()
}

// apply attaches and detaches what is not as its mode wants; also at each tick,
// for what could not be attached again.
func (p *pacer) apply() {
	for signal, reader := range p.of {
		mode := p.modes[signal]
		want := mode == paceFull || mode == paceSampled && p.on
		if want == p.kern.isAttached(signal) {
			continue
		}
		p.self.take()
		p.count(reader.settle())
		if !want {
			p.kern.pause(signal)
			reader.pause(mode == paceSampled)
			continue
		}
		p.count(reader.resume())
		if err := p.kern.resume(signal); err != nil {
			p.count(err)
			reader.pause(mode == paceSampled)
			continue
		}
		reader.resumed()
	}
}

func (p *pacer) count(err error) {
	if err != nil {
		p.failed++
	}
}
