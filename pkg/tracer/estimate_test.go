// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"testing"
)

func TestEstimatesAreExactWithoutPauses(t *testing.T) {
	e := newEstimates[int]()
	for i, raw := range []uint64{5, 9, 9, 40} {
		if got := e.see(1, []uint64{raw, 2 * raw}, float64(i)); !slices.Equal(got, []uint64{raw, 2 * raw}) {
			t.Errorf("%d became %d", raw, got)
		}
	}
}

// A counter that goes on at the same rate whether somebody looks or not is
// estimated to within what a span's edges do.
func TestEstimatesGoOnInPauses(t *testing.T) {
	e := newEstimates[int]()
	clock, counted, truth := 100.0, uint64(0), uint64(0)
	for second := range 20 {
		e.see(1, []uint64{counted}, clock)
		if second > 0 {
			e.resume()
		} else {
			e.mark()
		}
		clock += 0.1
		counted, truth = counted+33, truth+33
		e.see(1, []uint64{counted}, clock)
		e.pause(true)
		for range 9 {
			clock += 0.1
			truth += 33
			counted += 7 // by what is attached all the same: it must not count
			if got := e.see(1, []uint64{counted}, clock)[0]; got+1 < truth || got > truth {
				t.Fatalf("at %.1f it is %d, estimated at %d", clock, truth, got)
			}
		}
	}
}

// By a clock that stands still nothing is made up, and a span in which it stood
// still says nothing of the rate.
func TestEstimatesByAnotherCounter(t *testing.T) {
	e := newEstimates[int]()
	e.see(1, []uint64{0}, 0)
	e.mark()
	e.see(1, []uint64{80}, 10) // 8 for each
	e.pause(true)
	if got := e.see(1, []uint64{80}, 10)[0]; got != 80 {
		t.Errorf("nothing happened, and 80 became %d", got)
	}
	if got := e.see(1, []uint64{80}, 30)[0]; got != 240 {
		t.Errorf("20 more made it %d, not 240", got)
	}
	e.resume()
	e.see(1, []uint64{80}, 30)
	e.pause(true)
	if got := e.see(1, []uint64{80}, 35)[0]; got != 280 {
		t.Errorf("after an empty span 5 more made it %d, not 280", got)
	}
}

func TestEstimatesStandStillWhenOff(t *testing.T) {
	e := newEstimates[string]()
	e.see("a", []uint64{0}, 0)
	e.see("a", []uint64{50}, 1)
	e.pause(true)
	if got := e.see("a", []uint64{50}, 2)[0]; got != 100 {
		t.Errorf("at the rate of 50 it went on to %d", got)
	}
	e.pause(false)
	if got := e.see("a", []uint64{80}, 60)[0]; got != 100 {
		t.Errorf("it went from 100 to %d while nobody looked", got)
	}
	e.resume()
	if got := e.see("a", []uint64{81}, 60)[0]; got != 101 {
		t.Errorf("one more made it %d, not 101", got)
	}
	e.sweep()
	e.sweep()
	if len(e.of) != 0 {
		t.Errorf("%d keys are left that nobody saw", len(e.of))
	}
}
