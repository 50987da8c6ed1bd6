// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"testing"
	"time"
)

func TestEstimatesAreExactWithoutPauses(t *testing.T) {
	now := time.Unix(100, 0)
	e := newEstimates[int](now)
	for _, raw := range []uint64{5, 9, 9, 40} {
		now = now.Add(time.Second)
		if got := e.see(1, []uint64{raw, 2 * raw}, now); !slices.Equal(got, []uint64{raw, 2 * raw}) {
			t.Errorf("%d became %d", raw, got)
		}
	}
}

// A counter that goes on at the same rate whether somebody looks or not is
// estimated to within what a span's edges do.
func TestEstimatesGoOnInPauses(t *testing.T) {
	begin := time.Unix(100, 0)
	now := begin
	e := newEstimates[int](now)
	counted, truth := uint64(0), uint64(0)
	for second := range 20 {
		e.see(1, []uint64{counted}, now)
		if second > 0 {
			e.resume(now)
		} else {
			e.mark(now)
		}
		now = now.Add(100 * time.Millisecond)
		counted, truth = counted+33, truth+33
		e.see(1, []uint64{counted}, now)
		e.pause(now, true)
		for range 9 {
			now = now.Add(100 * time.Millisecond)
			truth += 33
			counted += 7 // by what is attached all the same: it must not count
			if got := e.see(1, []uint64{counted}, now)[0]; got+1 < truth || got > truth {
				t.Fatalf("%s after the begin it is %d, estimated at %d", now.Sub(begin), truth, got)
			}
		}
	}
}

func TestEstimatesStandStillWhenOff(t *testing.T) {
	now := time.Unix(100, 0)
	e := newEstimates[string](now)
	e.see("a", []uint64{50}, now.Add(time.Second))
	e.pause(now.Add(time.Second), false)
	if got := e.see("a", []uint64{80}, now.Add(time.Minute))[0]; got != 50 {
		t.Errorf("it went from 50 to %d while nobody looked", got)
	}
	e.resume(now.Add(time.Minute))
	if got := e.see("a", []uint64{81}, now.Add(time.Minute))[0]; got != 51 {
		t.Errorf("one more made it %d, not 51", got)
	}
	e.sweep()
	e.sweep()
	if len(e.of) != 0 {
		t.Errorf("%d keys are left that nobody saw", len(e.of))
	}
}
