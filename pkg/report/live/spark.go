// SPDX-License-Identifier: Apache-2.0

package live

import (
	"math"
	"time"
)

// levels are how a sparkline draws what is from nothing to the most.
var (
	levels      = []string{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}
	asciiLevels = []string{"_", ".", ":", "-", "=", "+", "*", "#"}
)

// gauge is something that a row has a value of at each tick.
type gauge struct {
	name string
	form func(float64) string
	// A sparkline's lowest level is floor and less; its highest the greatest value
	// that is shown, but at least top.
	floor, top float64
	// From warn on its cells are of that colour; 0: never.
	warn float64
}

// trail is the last values of one gauge, the newest last; NaN: not known.
type trail []float32

// tail is the last n of them.
func (t trail) tail(n int) trail { return t[max(len(t)-max(n, 0), 0):] }

// most is the greatest value, -Inf where none is known.
func (t trail) most() float64 {
	out := math.Inf(-1)
	for _, v := range t {
		if f := float64(v); f > out {
			out = f
		}
	}
	return out
}

// least is the lowest value, +Inf where none is known.
func (t trail) least() float64 {
	out := math.Inf(1)
	for _, v := range t {
		if f := float64(v); f < out {
			out = f
		}
	}
	return out
}

// scale is the value of the highest level where the greatest is most: a round
// number, so that it stays where the greatest changes a little.
func (k *gauge) scale(most float64) float64 {
	if !(most > k.top) || math.IsInf(most, 0) {
		return k.top
	}
	unit := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= most {
			return f * unit
		}
	}
	return 10 * unit
}

// level is v's, where top is that of the highest; "" where v is not known.
func (k *gauge) level(v, top float64) string {
	switch {
	case math.IsNaN(v):
		return " "
	case v <= k.floor || top <= k.floor:
		return levels[0]
	case v >= top:
		return levels[len(levels)-1]
	}
	// The lowest is for nothing alone.
	return levels[1+int((v-k.floor)/(top-k.floor)*float64(len(levels)-1))]
}

// spark draws the last w values of t at column x of line y, the newest at the
// right end.
func (g *Grid) spark(x, y, w int, k *gauge, t trail, top float64, st Style) {
	t = t.tail(w)
	x += w - len(t)
	for i, v := range t {
		cell := st
		if k.warn > 0 && float64(v) >= k.warn && st == Normal {
			cell = Warn
		}
		g.put(x+i, y, k.level(float64(v), top), cell, 1)
	}
}

// lasting is for how long d is shown: the head of a sparkline of w columns.
func lasting(w int, d time.Duration) string {
	text := "last " + span(d)
	if width(text) > w {
		text = span(d)
	}
	return clip(text, w)
}
