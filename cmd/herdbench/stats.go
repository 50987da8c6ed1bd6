// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// spread is what n figures say together. Low and High bound the median with 95 %
// confidence.
type spread struct {
	N              int
	Median, Q1, Q3 float64
	Min, Max       float64
	Low, High      float64
}

// fewest is how many figures it takes: of fewer not even the least and the
// greatest hold the median between them with that confidence.
const fewest = 6

// spreadOf bounds the median by order statistics, which assume nothing of how
// the figures are distributed.
func spreadOf(xs []float64) spread {
	if len(xs) == 0 {
		nan := math.NaN()
		return spread{0, nan, nan, nan, nan, nan, nan, nan}
	}
	s := slices.Sorted(slices.Values(xs))
	last, k := len(s)-1, outside(len(s))
	return spread{
		N: len(s), Median: quantile(s, 0.5), Q1: quantile(s, 0.25), Q3: quantile(s, 0.75),
		Min: s[0], Max: s[last], Low: s[k], High: s[last-k],
	}
}

// outside is how many of n sorted figures at each end may be left out: that the
// median is beyond the rest must be less likely than 2.5 % at each end, where each
// figure is on either side of it by the toss of a coin.
func outside(n int) (k int) {
	p := math.Pow(0.5, float64(n)) // of exactly k heads
	for sum := p; ; k++ {
		p *= float64(n-k) / float64(k+1)
		if sum += p; sum > 0.025 {
			return k
		}
	}
}

// quantile interpolates between the closest of sorted; NaN where there is none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func median(xs []float64) float64 { return quantile(slices.Sorted(slices.Values(xs)), 0.5) }

// point is a cost at a size.
type point struct{ n, cost float64 }

// shape says how a cost grows. A cost is flat where the greatest size adds less
// than half of what the smallest costs; else the exponent between the last two
// sizes tells linear (up to 1.25, what noise and caches make of 1) from worse.
// What the size before the last one added drowns in noise where it is less than a
// quarter of the smallest size's cost, and counts as a quarter.
type shape struct {
	PerItem  float64 // cost per added item, over the whole range
	Exponent float64 // NaN: flat, or too few sizes
	Verdict  string
}

const (
	flatShare   = 0.5
	noiseShare  = 0.25
	linearLimit = 1.25
)

// shapeOf takes points in order of size, at least two.
func shapeOf(ps []point) shape {
	if len(ps) < 2 {
		return shape{math.NaN(), math.NaN(), "one size only"}
	}
	first, prev, last := ps[0], ps[len(ps)-2], ps[len(ps)-1]
	s := shape{PerItem: (last.cost - first.cost) / (last.n - first.n), Exponent: math.NaN()}
	grown := last.cost - first.cost
	if grown < flatShare*first.cost {
		s.Verdict = "flat"
		return s
	}
	if len(ps) < 3 {
		s.Verdict = "grows, two sizes only"
		return s
	}
	before := max(prev.cost-first.cost, noiseShare*first.cost)
	s.Exponent = math.Log(grown/before) / math.Log(last.n/prev.n)
	s.Verdict = "worse than linear"
	if s.Exponent <= linearLimit {
		s.Verdict = "linear"
	}
	return s
}

// Verdicts on a target.
const (
	met       = "met"
	notMet    = "not met"
	undecided = "undecided"
)

// below judges whether a figure is below its target: undecided where the target
// lies within the interval of the median, and where there are too few figures.
func below(s spread, target float64) string {
	switch {
	case s.N == 0:
		return "not measured"
	case s.N < fewest:
		return undecided
	case s.High < target:
		return met
	case s.Low >= target:
		return notMet
	}
	return undecided
}
