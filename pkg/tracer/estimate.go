// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import "time"

// estimates turns counters that only count while their hooks are attached into
// ones that go on: while the hooks are not, at the rate of when they were last.
// As long as they always are, nothing is estimated.
type estimates[K comparable] struct {
	of     map[K]*estimate
	paused bool
	off    bool      // paused, and not extrapolated: what was counted is of the past
	at     time.Time // begin of the present span with hooks
}

// estimate is the counters of one key.
type estimate struct {
	raw     []uint64  // as last read
	total   []uint64  // what they come to
	opened  []uint64  // total, at the begin of the present span with hooks
	rate    []float64 // of the last one, per nanosecond
	rest    []float64 // of a unit, that was not added to total yet
	reached time.Time // up to when total was extrapolated
	seen    bool      // since the last sweep
}

func newEstimates[K comparable](now time.Time) *estimates[K] {
	return &estimates[K]{of: make(map[K]*estimate), at: now}
}

// see takes in raw, which is k's counters by now, and returns what they come to.
// The result is good until the next call.
func (e *estimates[K]) see(k K, raw []uint64, now time.Time) []uint64 {
	x := e.of[k]
	if x == nil {
		x = &estimate{
			raw: make([]uint64, len(raw)), total: make([]uint64, len(raw)), opened: make([]uint64, len(raw)),
			rate: make([]float64, len(raw)), rest: make([]float64, len(raw)), reached: now,
		}
		e.of[k] = x
	}
	x.seen = true
	if e.paused {
		x.goOn(now)
	} else {
		for i, n := range raw {
			x.total[i] += less(n, x.raw[i])
		}
	}
	copy(x.raw, raw)
	return x.total
}

// goOn extrapolates up to now.
func (x *estimate) goOn(now time.Time) {
	passed := float64(now.Sub(x.reached))
	x.reached = now
	for i, r := range x.rate {
		x.rest[i] += r * passed
		whole := uint64(x.rest[i])
		x.total[i] += whole
		x.rest[i] -= float64(whole)
	}
}

// pause is for when the hooks are about to be detached, and see was called with
// what every key came to. Where guess is false, nothing is extrapolated.
func (e *estimates[K]) pause(now time.Time, guess bool) {
	if e.paused {
		e.off = !guess
		return
	}
	e.paused, e.off = true, !guess
	span := float64(now.Sub(e.at))
	for _, x := range e.of {
		x.reached = now
		for i := range x.rate {
			x.rate[i] = 0
			if guess && span > 0 {
				x.rate[i] = float64(x.total[i]-x.opened[i]) / span
			}
		}
	}
}

// resume is for when they are about to be attached again, and see was called
// with what every key came to: what changed meanwhile does not count.
func (e *estimates[K]) resume(now time.Time) {
	e.paused, e.off = false, false
	e.mark(now)
}

// mark begins a span, of which the rates will be.
func (e *estimates[K]) mark(now time.Time) {
	if e.paused {
		return
	}
	e.at = now
	for _, x := range e.of {
		copy(x.opened, x.total)
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
