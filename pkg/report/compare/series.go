// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"math"
	"slices"
)

// maxBatches bounds a series: twice as many intervals are two in a batch, and so
// on, so that a recording of a week takes no more memory than one of minutes.
const maxBatches = 256

// minIntervals is the least number of intervals that tells how much they differ.
const minIntervals = 5

// minBatches is what is left at the least of intervals that are put together.
const minBatches = 8

// mostAlike is the lag-1 autocorrelation from which on neighbours say the same
// again: then they are put together.
const mostAlike = 0.3

// pair is what an interval, or a batch of them, adds to a ratio.
type pair struct {
	num, den float64
	load     float64 // what the host had to do; 0 where that is of no interest
}

// series is a ratio over the intervals of a recording: of sums, so that an
// interval counts for what happened in it.
type series struct {
	batches []pair
	width   int // intervals in a batch
	open    pair
	in      int // intervals in open
	n       int // intervals in all
}

// add takes the next interval. One in which nothing could happen (den is 0) and
// nothing did says nothing, and so does what is not known.
func (s *series) add(num, den float64) { s.addUnder(num, den, 0) }

// addUnder takes an interval that had a load.
func (s *series) addUnder(num, den, load float64) {
	if !finite(num) || !finite(den) || den < 0 || num == 0 && den == 0 {
		return
	}
	s.width = max(s.width, 1)
	s.n++
	s.open = s.open.plus(pair{num, den, load})
	if s.in++; s.in < s.width {
		return
	}
	s.batches = append(s.batches, s.open)
	s.open, s.in = pair{}, 0
	if len(s.batches) == maxBatches {
		s.batches = halve(s.batches)
		s.width *= 2
	}
}

func (p pair) plus(q pair) pair { return pair{p.num + q.num, p.den + q.den, p.load + q.load} }

func (p pair) ratio() float64 { return p.num / p.den }

// all are the batches; what does not fill one belongs to the last.
func (s *series) all() []pair {
	out := slices.Clone(s.batches)
	switch {
	case s.in > 0 && len(out) > 0 && s.in*2 < s.width:
		out[len(out)-1] = out[len(out)-1].plus(s.open)
	case s.in > 0:
		out = append(out, s.open)
	}
	return out
}

// idleLoad is the share of the mean load below which a begin or an end is none of
// the load test.
const idleLoad = 0.25

// loaded are all without a begin and an end that had next to no load.
func (s *series) loaded() []pair {
	bs := s.all()
	mean := 0.0
	for _, b := range bs {
		mean += b.load / float64(len(bs))
	}
	for len(bs) > minIntervals && bs[0].load < idleLoad*mean {
		bs = bs[1:]
	}
	for len(bs) > minIntervals && bs[len(bs)-1].load < idleLoad*mean {
		bs = bs[:len(bs)-1]
	}
	return bs
}

func (s *series) sum() (p pair) {
	for _, b := range s.loaded() {
		p = p.plus(b)
	}
	return p
}

// halve puts neighbours together; the odd one goes to the last.
func halve(in []pair) []pair {
	out := make([]pair, 0, len(in)/2)
	for i := 0; i+1 < len(in); i += 2 {
		out = append(out, in[i].plus(in[i+1]))
	}
	if len(in)%2 == 1 && len(out) > 0 {
		out[len(out)-1] = out[len(out)-1].plus(in[len(in)-1])
	}
	return out
}

// estimate is what a series says, and how sure that is.
type estimate struct {
	value float64 // NaN: nothing is known
	se    float64 // standard error; NaN: there are too few intervals
	dof   float64 // its degrees of freedom
	n     int     // intervals

	counted   bool
	batches   []pair
	width     int     // intervals in each
	strangers float64 // so many of them are worth as much as independent ones
}

// estimate puts neighbours together until they differ as strangers do (or
// only minBatches are left), and takes the standard error of a ratio of sums from the
// residuals, widened by what is left of their likeness. What is counted one by
// one has at least the error of a Poisson count.
func (s *series) estimate(counted bool) estimate {
	total := s.sum()
	e := estimate{value: math.NaN(), se: math.NaN(), n: s.n, counted: counted}
	if total.den <= 0 {
		return e
	}
	e.value = total.ratio()
	if s.n < minIntervals {
		return e
	}
	bs := s.loaded()
	rest, alike := residuals(bs, e.value)
	for alike > mostAlike && len(bs)/2 >= minBatches {
		bs = halve(bs)
		rest, alike = residuals(bs, e.value)
	}
	n := float64(len(bs))
	if n < 2 {
		return e
	}
	var squares float64
	for _, r := range rest {
		squares += r * r
	}
	alike = min(alike+1/math.Sqrt(n), 0.8) // which itself is known so well only
	widen := (1 + alike) / (1 - alike)
	variance := n / (n - 1) * squares * widen
	if counted {
		variance = max(variance, total.num, 1)
	}
	e.se, e.dof = math.Sqrt(variance)/total.den, n-1
	e.batches, e.width = s.loaded(), s.width
	e.strangers = float64(len(e.batches))
	_, alike = residuals(e.batches, e.value)
	alike = min(alike+1/math.Sqrt(e.strangers), 0.8)
	e.strangers *= (1 - alike) / (1 + alike)
	return e
}

// residuals are what the batches have beyond the common ratio, and how much each
// is like the one before: 0 to 0.8, without what a short series hides of it
// (about (1 + 4r)/n).
func residuals(bs []pair, ratio float64) (rest []float64, alike float64) {
	var squares, products float64
	for i, b := range bs {
		r := b.num - ratio*b.den
		rest = append(rest, r)
		squares += r * r
		if i > 0 {
			products += r * rest[i-1]
		}
	}
	if squares <= 0 {
		return rest, 0
	}
	r := products / squares
	return rest, min(max(r+(1+4*max(r, 0))/float64(len(bs)), 0), 0.8)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// parts are the ratios of batches of a and of b that cover the same number of
// intervals, and are nearly independent. There are none where there are too few,
// and where those of the one have much more in them: then they scatter less.
func parts(a, b estimate) (as, bs []float64) {
	x, y := a.batches, b.batches
	w, v := a.width, b.width
	for len(x) >= minIntervals && len(y) >= minIntervals {
		switch {
		case w < v || w == v && float64(len(x)) > a.strangers && len(x)/2 >= minIntervals:
			x, w = halve(x), 2*w
		case v < w || float64(len(y)) > b.strangers && len(y)/2 >= minIntervals:
			y, v = halve(y), 2*v
		default:
			if min(a.strangers, b.strangers) < minIntervals || apartBy(x, y) > 2 {
				return nil, nil
			}
			return ratios(x), ratios(y)
		}
	}
	return nil, nil
}

// apartBy is how many times more the batches of one have in them.
func apartBy(x, y []pair) float64 {
	mean := func(ps []pair) (d float64) {
		for _, p := range ps {
			d += p.den
		}
		return d / float64(len(ps))
	}
	d, e := mean(x), mean(y)
	return max(d, e) / min(d, e)
}

func ratios(ps []pair) (out []float64) {
	for _, p := range ps {
		if p.den > 0 {
			out = append(out, p.ratio())
		}
	}
	return out
}
