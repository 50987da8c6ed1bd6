// SPDX-License-Identifier: Apache-2.0

package html

import (
	"math"
	"time"
)

// maxBins bounds the time axis. When a run outgrows it, neighbouring bins are
// merged, so that a long run takes no more memory than a short one.
const maxBins = 320

// axis is the time axis that all plots share: bins of one width from the first
// Sample on.
type axis struct {
	width time.Duration
	bins  int // that were begun
}

// slots are the bins [from, to) of an interval that ends at end. First it widens
// the bins as often as they must be, and says how often that was. Intervals that
// jitter leave no gap: each begins where the last one ended.
func (a *axis) slots(end, interval time.Duration) (from, to, folds int) {
	for int64(end/a.width) >= maxBins {
		a.width *= 2
		a.bins = (a.bins + 1) / 2
		folds++
	}
	bin := func(d time.Duration) int { return int(math.Round(float64(d) / float64(a.width))) }
	from, to = bin(end-interval), bin(end)
	if to <= from { // shorter than a bin
		from = int((end - interval/2) / a.width)
		to = from + 1
	}
	to = min(to, maxBins)
	from = max(min(from, to-1), 0)
	a.bins = max(a.bins, to)
	return from, to, folds
}

// span is the time that the axis shows.
func (a *axis) span() time.Duration { return time.Duration(a.bins) * a.width }

// means is a quantity by bin: its mean over the part of the bin in which it was
// known.
type means struct{ sum, seconds []float32 }

// add takes the mean v of an interval of so many seconds, which covers the bins
// [from, to).
func (m *means) add(from, to int, v, seconds float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	for len(m.sum) < to {
		m.sum, m.seconds = append(m.sum, 0), append(m.seconds, 0)
	}
	part := seconds / float64(to-from)
	for i := from; i < to; i++ {
		m.sum[i] += float32(v * part)
		m.seconds[i] += float32(part)
	}
}

func (m *means) fold() {
	m.sum, m.seconds = foldBy(m.sum, add), foldBy(m.seconds, add)
}

// at is the mean of the bins [from, to), NaN where nothing is known of it.
func (m *means) at(from, to int) float64 {
	var sum, seconds float64
	for i := from; i < min(to, len(m.sum)); i++ {
		sum, seconds = sum+float64(m.sum[i]), seconds+float64(m.seconds[i])
	}
	if seconds == 0 {
		return math.NaN()
	}
	return sum / seconds
}

// total is the integral over the bins [from, to): of a rate, how many.
func (m *means) total(from, to int) float64 {
	var sum float64
	for i := from; i < min(to, len(m.sum)); i++ {
		sum += float64(m.sum[i])
	}
	return sum
}

// counts is how many of something there were, by bin. It takes no room while there
// are none.
type counts struct{ v []float32 }

// add spreads n over the bins [from, to).
func (c *counts) add(from, to int, n float64) {
	if !(n > 0) || math.IsInf(n, 0) {
		return
	}
	for len(c.v) < to {
		c.v = append(c.v, 0)
	}
	for i := from; i < to; i++ {
		c.v[i] += float32(n / float64(to-from))
	}
}

func (c *counts) fold() { c.v = foldBy(c.v, add) }

// total is how many there were in the bins [from, to).
func (c *counts) total(from, to int) float64 {
	var sum float64
	for i := from; i < min(to, len(c.v)); i++ {
		sum += float64(c.v[i])
	}
	return sum
}

// peaks is the greatest value by bin, NaN where none is known.
type peaks struct{ v []float32 }

func (p *peaks) add(from, to int, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	for len(p.v) < to {
		p.v = append(p.v, float32(math.NaN()))
	}
	for i := from; i < to; i++ {
		p.v[i] = greater(p.v[i], float32(v))
	}
}

func (p *peaks) fold() { p.v = foldBy(p.v, greater) }

func (p *peaks) at(from, to int) float64 {
	most := float32(math.NaN())
	for i := from; i < min(to, len(p.v)); i++ {
		most = greater(most, p.v[i])
	}
	return float64(most)
}

func add(a, b float32) float32 { return a + b }

// greater is the greater one of those that are numbers.
func greater(a, b float32) float32 {
	if b > a || a != a {
		return b
	}
	return a
}

// foldBy merges each pair of neighbours.
func foldBy(v []float32, merge func(a, b float32) float32) []float32 {
	n := 0
	for i := 0; i < len(v); i += 2 {
		v[n] = v[i]
		if i+1 < len(v) {
			v[n] = merge(v[i], v[i+1])
		}
		n++
	}
	return v[:n]
}
