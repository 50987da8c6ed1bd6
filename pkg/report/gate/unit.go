// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"math"
	"strconv"
)

// unit is what a metric's numbers are in.
type unit struct {
	name     string
	suffixes map[string]float64 // what may follow a number, and what it stands for
	prints   string             // after a number
	times    float64            // printed so many times as great
}

var (
	inCount   = unit{"numbers", map[string]float64{"k": 1e3, "M": 1e6}, "", 1}
	inRatio   = unit{"shares", map[string]float64{"%": 0.01}, "%", 100}
	inMS      = unit{"ms", map[string]float64{"us": 1e-3, "ms": 1, "s": 1e3}, " ms", 1}
	inUS      = unit{"us", map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}, " us", 1}
	inSeconds = unit{"seconds", map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1}, " s", 1}
)

// print writes at least three digits, and each of a whole number.
func (u unit) print(v float64) string {
	if v *= u.times; math.IsInf(v, 1) {
		return "without end"
	}
	if v == float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', -1, 64) + u.prints
	}
	digits := 2
	if v >= 100 || v <= -100 {
		digits = 0
	} else if v < 0.1 && v > -0.1 {
		return strconv.FormatFloat(v, 'g', 2, 64) + u.prints
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + u.prints
}
