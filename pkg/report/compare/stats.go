// SPDX-License-Identifier: Apache-2.0

package compare

import "math"

// level is how often at the most a comparison of two recordings of the same
// thing may call any of its changes real, by chance.
const level = 0.01

// shownLevel is that of the intervals that are shown: 95 % is what people are used
// to, and what is divided among many comparisons would be too wide to tell anything.
const shownLevel = 0.05

// contrast is b - a.
type contrast struct {
	diff, low, high float64 // the interval that is shown; NaN where there are too few
	sure            bool    // the change, or apart, is beyond chance
	apart           int     // so many intervals of one side are beyond all of the other, where that alone makes it sure
	apartOf         int
}

// contrastOf compares at an error of alpha, a half of it for each of two
// questions: whether Welch's t interval leaves out 0; and, for what comes in
// bursts, whether more values of one side than chance would have it are beyond
// all values of the other.
func contrastOf(a, b estimate, alpha float64) contrast {
	c := contrast{diff: b.value - a.value, low: math.NaN(), high: math.NaN()}
	if !finite(c.diff) || !finite(a.se) || !finite(b.se) {
		return c
	}
	va, vb := a.se*a.se, b.se*b.se
	half, wide := 0.0, 0.0
	if va+vb > 0 {
		dof := (va + vb) * (va + vb) / (va*va/a.dof + vb*vb/b.dof)
		half = studentT(shownLevel, dof) * math.Sqrt(va+vb)
		if wide = half; math.Abs(c.diff) > half && alpha/2 < shownLevel {
			wide = studentT(alpha/2, dof) * math.Sqrt(va+vb)
		}
	}
	c.low, c.high = c.diff-half, c.diff+half
	c.sure = math.Abs(c.diff) > wide
	if c.sure {
		return c
	}
	if n := everAndNever(a, b) + everAndNever(b, a); n > 0 {
		c.sure, c.apart, c.apartOf = true, n, max(len(a.batches), len(b.batches))
		return c
	}
	more, less := parts(a, b)
	if c.diff > 0 {
		more, less = less, more
	}
	if k, p := beyond(more, less); p <= alpha/2 {
		c.sure, c.apart, c.apartOf = true, k, len(more)
	}
	return c
}

// everAndNever is in how many batches of b there was something, where that is nearly
// all of them, and nothing at all in a, which had as many and should have seen ten
// of it. That grows or fades in b, as the refusals of clients that try again do,
// makes its interval wide, and is no doubt that it is there.
func everAndNever(a, b estimate) (n int) {
	if !a.counted || a.value != 0 || min(len(a.batches), len(b.batches)) < minBatches {
		return 0
	}
	expected := 0.0
	for _, p := range a.batches {
		expected += p.den * b.value
	}
	for _, p := range b.batches {
		if p.num > 0 {
			n++
		}
	}
	if expected < 10 || n < minBatches || 10*n < 8*len(b.batches) {
		return 0
	}
	return n
}

// beyond counts the values of more that exceed all of less, and says how likely
// so many are where both are drawn from the same: all of the k greatest of the
// pool in one of the two samples.
func beyond(more, less []float64) (k int, p float64) {
	top := math.Inf(-1)
	for _, v := range less {
		top = max(top, v)
	}
	for _, v := range more {
		if v > top {
			k++
		}
	}
	if k == 0 || len(less) == 0 {
		return k, 1
	}
	p = 2
	for i := range k {
		p *= float64(len(more)-i) / float64(len(more)+len(less)-i)
	}
	return k, min(p, 1)
}

// studentT is the value that Student's t with so many degrees of freedom exceeds,
// either way, with the probability p. With x = sqrt(dof) tan(a) the density
// becomes cos(a)^(dof-1), which is easy to add up.
func studentT(p, dof float64) float64 {
	dof = min(max(dof, 1), 1000)
	whole := cosines(0, dof)
	low, high := 0.0, math.Pi/2
	for range 45 {
		mid := (low + high) / 2
		if cosines(mid, dof) > p*whole {
			low = mid
		} else {
			high = mid
		}
	}
	return math.Sqrt(dof) * math.Tan(low)
}

// cosines integrates cos(a)^(dof-1) from a to a right angle, by Simpson's rule.
func cosines(from, dof float64) float64 {
	const steps = 400
	h := (math.Pi/2 - from) / steps
	at := func(i int) float64 { return math.Pow(max(math.Cos(from+float64(i)*h), 0), dof-1) }
	sum := at(0) + at(steps)
	for i := 1; i < steps; i++ {
		sum += at(i) * float64(2+2*(i%2))
	}
	return sum * h / 3
}
