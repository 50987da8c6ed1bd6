// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// grid is a Markdown table, aligned so that it reads as text, too.
type grid struct{ rows [][]string }

func newGrid(head ...string) *grid { return &grid{[][]string{head}} }

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// write aligns the first column left, the others right.
func (g *grid) write(w io.Writer) {
	width := make([]int, len(g.rows[0]))
	for _, r := range g.rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range g.rows {
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				fmt.Fprintf(w, "| %s%s |", c, pad)
			} else {
				fmt.Fprintf(w, " %s%s |", pad, c)
			}
		}
		fmt.Fprintln(w)
		if n > 0 {
			continue
		}
		for i := range r {
			if i == 0 {
				fmt.Fprintf(w, "|%s|", strings.Repeat("-", width[i]+2))
			} else {
				fmt.Fprintf(w, "%s:|", strings.Repeat("-", width[i]+1))
			}
		}
		fmt.Fprintln(w)
	}
}

// ratioText is "0.987 (0.981-0.992)": median and the interval that bounds it.
func ratioText(s spread) string {
	if s.N == 0 {
		return "?"
	}
	return fmt.Sprintf("%.3f (%.3f-%.3f)", s.Median, s.Low, s.High)
}

// rangeText is what the figures spread over.
func rangeText(s spread) string {
	if s.N == 0 {
		return "?"
	}
	return fmt.Sprintf("%.3f %.3f..%.3f %.3f", s.Min, s.Q1, s.Q3, s.Max)
}

// percentText is a median and the interval that bounds it.
func percentText(s spread) string {
	if s.N == 0 {
		return "?"
	}
	return fmt.Sprintf("%.1f %% (%.1f to %.1f)", 100*s.Median, 100*s.Low, 100*s.High)
}

// number shortens to three digits: 7.3, 210k, 1.2M.
func number(x float64) string {
	switch {
	case math.IsNaN(x):
		return "?"
	case x >= 1e6:
		return fmt.Sprintf("%.2fM", x/1e6)
	case x >= 1e4:
		return fmt.Sprintf("%.0fk", x/1e3)
	case x >= 100 || x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case x >= 1:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// mib is bytes in MiB.
func mib(x float64) string {
	if math.IsNaN(x) {
		return "?"
	}
	return number(x / (1 << 20))
}
