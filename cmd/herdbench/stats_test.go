// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"testing"
)

func TestSpread(t *testing.T) {
	s := spreadOf([]float64{5, 1, 4, 2, 3})
	if want := (spread{N: 5, Median: 3, Q1: 2, Q3: 4, Min: 1, Max: 5, Low: 1, High: 5}); s != want {
		t.Errorf("spreadOf = %+v, want %+v", s, want)
	}
	// As tables of the sign test have it.
	for n, want := range map[int]int{1: 0, 5: 0, 6: 0, 8: 0, 9: 1, 11: 1, 12: 2, 20: 5, 100: 39} {
		if got := outside(n); got != want {
			t.Errorf("of %d figures %d may be left out at each end, want %d", n, got, want)
		}
	}
}

func TestSpreadOfFew(t *testing.T) {
	if s := spreadOf(nil); s.N != 0 || !math.IsNaN(s.Median) {
		t.Errorf("of nothing: %+v", s)
	}
	if s := spreadOf([]float64{7}); s != (spread{1, 7, 7, 7, 7, 7, 7, 7}) {
		t.Errorf("of one figure: %+v", s)
	}
}

// TestInterval: of samples with a known median, the interval must hold it about
// as often as it promises.
func TestInterval(t *testing.T) {
	held, n := 0, 100
	for i := range n {
		xs := make([]float64, 9)
		for j := range xs {
			// Low-discrepancy numbers in (0, 1), scrambled by the sample.
			_, xs[j] = math.Modf(float64(i*9+j+1) * math.Phi * math.Sqrt(float64(i+2)))
		}
		if s := spreadOf(xs); s.Low <= 0.5 && 0.5 <= s.High {
			held++
		}
	}
	if held < 90 {
		t.Errorf("the interval held the median in %d of %d samples", held, n)
	}
}

func TestShape(t *testing.T) {
	for _, c := range []struct {
		name string
		cost func(n float64) float64
		want string
	}{
		{"constant", func(float64) float64 { return 4 }, "flat"},
		{"noise", func(n float64) float64 { return 4 + math.Mod(n, 7)/7 }, "flat"},
		{"linear", func(n float64) float64 { return 4 + 0.002*n }, "linear"},
		{"logarithm", func(n float64) float64 { return 1 + math.Log10(n) }, "linear"},
		{"square", func(n float64) float64 { return 4 + 1e-5*n*n }, "worse than linear"},
		{"linear, then square", func(n float64) float64 { return 4 + 0.001*n + 1e-6*n*n }, "worse than linear"},
	} {
		var ps []point
		for _, n := range tensOfTen {
			ps = append(ps, point{float64(n), c.cost(float64(n))})
		}
		if got := shapeOf(ps); got.Verdict != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
	if s := shapeOf([]point{{1, 2}, {1001, 4}}); math.Abs(s.PerItem-0.002) > 1e-12 {
		t.Errorf("2 for 1000 items are %v for each", s.PerItem)
	}
	if s := shapeOf([]point{{1, 2}}); s.Verdict != "one size only" {
		t.Errorf("one size: %+v", s)
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		s    spread
		want string
	}{
		{spread{N: 6, Low: 0.001, High: 0.009}, met},
		{spread{N: 6, Low: 0.001, High: 0.02}, undecided},
		{spread{N: 6, Low: 0.011, High: 0.02}, notMet},
		{spread{N: 5, Low: 0.001, High: 0.009}, undecided},
		{spread{}, "not measured"},
	} {
		if got := below(c.s, 0.01); got != c.want {
			t.Errorf("%v to %v below 0.01: %s, want %s", c.s.Low, c.s.High, got, c.want)
		}
	}
}
