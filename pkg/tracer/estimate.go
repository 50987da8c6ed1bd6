// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

// estimates turns counters that only count while their hooks are attached into
// ones that go on: while the hooks are not, at the rate of when they were last.
// The rate is by whatever goes on all the time: a clock, or a counter that nobody
// turns off. As long as the hooks always are, nothing is estimated.
type estimates[K comparable] struct {
	of     map[K]*estimate
	paused bool
	off    bool // paused, and not extrapolated: what was counted is of the past
}

// estimate is the counters of one key.
type estimate struct {
	raw      []uint64  // as last read
	total    []uint64  // what they come to
	opened   []uint64  // total, at the begin of the present span with hooks
	openedAt float64   // where that was, on the clock
	reached  float64   // up to where total goes
	rate     []float64 // of the last span, per unit of the clock
	rest     []float64 // of a unit, that was not added to total yet
	seen     bool      // since the last sweep
}

func newEstimates[K comparable]() *estimates[K] {
	return &estimates[K]{of: make(map[K]*estimate)}
}

// see takes in raw, which is k's counters by now, and returns what they come to.
// The result is good until the next call. Of a new key, raw is all of the time
// before.
func (e *estimates[K]) see(k K, raw []uint64, clock float64) []uint64 {
	x := e.of[k]
	if x == nil {
		x = &estimate{
			raw: make([]uint64, len(raw)), total: make([]uint64, len(raw)), opened: make([]uint64, len(raw)),
			rate: make([]float64, len(raw)), rest: make([]float64, len(raw)), reached: clock, openedAt: clock,
		}
		e.of[k] = x
	}
	x.seen = true
	if e.paused {
		x.goOn(clock)
	} else {
		for i, n := range raw {
			x.total[i] += less(n, x.raw[i])
		}
	}
	x.reached = max(x.reached, clock)
	copy(x.raw, raw)
	return x.total
}

// goOn extrapolates up to now.
func (x *estimate) goOn(clock float64) {
	passed := max(clock-x.reached, 0)
	for i, r := range x.rate {
		x.rest[i] += r * passed
		whole := uint64(x.rest[i])
		x.total[i] += whole
		x.rest[i] -= float64(whole)
	}
}

// pause is for when the hooks are about to be detached, or are already, and see
// was called with what every key came to. Where guess is false, nothing is
// extrapolated from now on. Where a span had nothing to tell, the rate before it
// holds.
func (e *estimates[K]) pause(guess bool) {
	was := e.paused
	e.paused, e.off = true, !guess
	for _, x := range e.of {
		switch span := x.reached - x.openedAt; {
		case !guess:
			clear(x.rate)
		case !was && span > 0:
			for i := range x.rate {
				x.rate[i] = float64(x.total[i]-x.opened[i]) / span
			}
		}
	}
}

// resume is for when they are about to be attached again, and see was called
// with what every key came to: what changed meanwhile does not count.
func (e *estimates[K]) resume() {
	e.paused, e.off = false, false
	e.mark()
}

// mark begins a span, of which the rates will be.
func (e *estimates[K]) mark() {
	if e.paused {
		return
	}
	for _, x := range e.of {
		copy(x.opened, x.total)
		x.openedAt = x.reached
	}
}

// sweep forgets the keys that were not seen since the last sweep.
func (e *estimates[K]) sweep() {
	for k, x := range e.of {
		if !x.seen {
			delete(e.of, k)
		}
		x.seen = false
	}
}
