// SPDX-License-Identifier: Apache-2.0

// Package gate judges a whole trace by conditions that must not be true: findings
// of a severity, and expressions over metrics. What could not be measured well
// enough to say that a condition is false is inconclusive, never a pass.
package gate

import (
	"math"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// value is what is known of a metric: it lies from lo to hi.
type value struct {
	lo, hi float64
	// measured is what was counted, within them; NaN where nothing was.
	measured float64
	at       string // whose it is: "0.0.0.0:80 nginx"; "" is the host's
	doubt    string // why lo is not hi
}

// truth is three-valued.
type truth int

const (
	no truth = iota
	unknown
	yes
)

func exactly(v float64, at string) value { return value{v, v, v, at, ""} }

// nothing is what is not known at all.
func nothing(doubt string) value {
	return value{math.Inf(-1), math.Inf(1), math.NaN(), "", doubt}
}

func (e *binary) eval(values lookup, s []seen) (truth, []seen) {
	left, s := e.left.eval(values, s)
	right, s := e.right.eval(values, s)
	if e.or {
		return max(left, right), s
	}
	return min(left, right), s
}

func (c *comparison) eval(values lookup, s []seen) (truth, []seen) {
	v := values(c.metric)
	t := c.holds(v)
	return t, append(s, seen{c, v, t})
}

// holds compares the two ends of what v can be.
func (c *comparison) holds(v value) truth {
	switch c.op {
	case "==", "!=":
		t := unknown
		if v.lo == v.hi && v.lo == c.number {
			t = yes
		} else if c.number < v.lo || c.number > v.hi {
			t = no
		}
		if c.op == "!=" {
			t = yes - t
		}
		return t
	}
	low, high := compare(v.lo, c.op, c.number), compare(v.hi, c.op, c.number)
	switch {
	case low && high:
		return yes
	case low || high:
		return unknown
	}
	return no
}

func compare(v float64, op string, n float64) bool {
	switch op {
	case ">":
		return v > n
	case ">=":
		return v >= n
	case "<":
		return v < n
	}
	return v <= n
}

// says is what was measured, in the metric's unit, or what was in the way.
func (s *seen) says() string {
	switch is := s.is(); {
	case s.truth != unknown:
		return is
	case is == "" || s.value.measured == 0:
		return s.value.doubt
	default:
		return is + ", but " + s.value.doubt
	}
}

// is says what was measured, "" where nothing was.
func (s *seen) is() string {
	n, at := s.value.measured, s.value.at
	switch {
	case math.IsNaN(n):
		return ""
	case s.word != "" && n == 0:
		return strings.TrimSuffix("no "+s.word, " warn") + " finding"
	case s.word != "":
		return model.Plural(int(n), strings.TrimPrefix(s.word+" finding", "warn ")) + ": " + at
	}
	text := s.metric + " is " + metricNamed(s.metric).unit.print(n)
	if at != "" {
		text += " (" + at + ")"
	}
	return text
}
