// SPDX-License-Identifier: Apache-2.0

package html

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Where things are in a plot, in its own units. All plots have the same width, and
// the same time axis between left and right.
const (
	plotWidth = 1000
	plotLeft  = 190
	plotRight = 850
)

// mark is one element of a plot: a path, or a text. Colours are presentation
// attributes, which a content security policy that forbids styles leaves alone;
// the class lets the style sheet change them for a dark screen.
type mark struct {
	Class, Fill, Stroke string
	Width               string // of the stroke
	D                   string // of a path
	Transform           string
	Title               string

	Text   string
	X, Y   string
	Anchor string
	Size   string
}

// ink is how something is drawn: as a class for the style sheet, and for those
// that have none.
type ink struct{ Class, Fill, Stroke, Width string }

// The inks. Where colour means something, there is a second sign as well: a
// position, a label or a pattern.
var (
	inkGrid   = ink{"gr", "none", "#e4e4e4", "1"}
	inkBack   = ink{"bk", "#f6f6f4", "none", ""}
	inkText   = ink{"tx", "#333333", "none", ""}
	inkFaint  = ink{"ft", "#666666", "none", ""}
	inkIdeal  = ink{"id", "none", "#1c6dc9", "1.2"}
	inkWakes  = ink{"wk", "none", "#c2410c", "2.6"}
	inkWaste  = ink{"ws", "#fbd9c3", "none", ""}
	inkQueue  = ink{"qu", "#cfe0f3", "#1c6dc9", "1.2"}
	inkLimit  = ink{"li", "none", "#b00020", "1.4"}
	inkRefuse = ink{"re", "none", "#b00020", "2"}
	inkCookie = ink{"co", "none", "#a16207", "2"}
	inkStop   = ink{"th", "#d9622b", "none", ""}
	inkCrit   = ink{"cr", "#b00020", "none", ""}
	inkWarn   = ink{"wa", "#c98a00", "none", ""}
	inkCritIn = ink{"ci", "none", "#b00020", "1.4"}
	inkWarnIn = ink{"wi", "none", "#b97900", "1.4"}
	inkHover  = ink{"hv", "none", "none", ""}
	inkUnseen = ink{"un", "none", "#b8b8b8", ""}
)

// ramp colours the levels of a heat map; level 0 is the background.
var ramp = []ink{
	{}, {"h1", "none", "#dce9f6", ""}, {"h2", "none", "#b3d0ec", ""}, {"h3", "none", "#fde3a7", ""}, {"h4", "none", "#fbbf5d", ""},
	{"h5", "none", "#f08a3c", ""}, {"h6", "none", "#d6492a", ""}, {"h7", "none", "#8f1022", ""},
}

// drawing is a plot in the making.
type drawing struct {
	height float64
	marks  []mark
}

func (d *drawing) path(k ink, path string, title string) *mark {
	d.marks = append(d.marks, mark{Class: k.Class, Fill: k.Fill, Stroke: k.Stroke, Width: k.Width, D: path, Title: title})
	return &d.marks[len(d.marks)-1]
}

func (d *drawing) rect(k ink, x, y, w, h float64, title string) *mark {
	return d.path(k, fmt.Sprintf("M%s %sh%sv%sh%sz", coord(x), coord(y), coord(w), coord(h), coord(-w)), title)
}

// text is anchored at its start, middle or end.
func (d *drawing) text(k ink, x, y float64, anchor, text string) *mark {
	d.marks = append(d.marks, mark{Class: k.Class, Fill: k.Fill, Text: text, X: coord(x), Y: coord(y), Anchor: anchor})
	return &d.marks[len(d.marks)-1]
}

// scale is the time axis of the plots, as far as they draw it.
type scale struct {
	from, to time.Duration
	x0, x1   float64
}

func (s *scale) x(at time.Duration) float64 {
	if s.to <= s.from {
		return s.x0
	}
	return s.x0 + (s.x1-s.x0)*min(max(float64(at-s.from)/float64(s.to-s.from), 0), 1)
}

// steps are those between the labels of an axis.
var steps = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// axis draws the labels below y, and a grid up to top.
func (d *drawing) axis(s *scale, top, y float64, most int) {
	whole := s.to - s.from
	step := steps[len(steps)-1]
	for _, c := range steps {
		if whole/c <= time.Duration(most) {
			step = c
			break
		}
	}
	for whole/step > time.Duration(most) {
		step *= 2
	}
	fine := step < time.Second
	var grid strings.Builder
	first := s.from.Truncate(step)
	if first < s.from {
		first += step
	}
	for at := first; at <= s.to; at += step {
		x := s.x(at)
		fmt.Fprintf(&grid, "M%s %sV%s", coord(x), coord(top), coord(y+4))
		d.text(inkFaint, x, y+16, "middle", clock(at, fine)).Size = "11"
		if at > math.MaxInt64-step {
			break
		}
	}
	d.path(inkGrid, grid.String(), "")
}

// stepLine goes through the values of n columns, and is broken where one is not
// known.
func stepLine(n int, xOf, y func(i int) float64) string {
	var b strings.Builder
	open := false
	last := ""
	for i := range n {
		v := y(i)
		if math.IsNaN(v) {
			open = false
			continue
		}
		x, at := coord(xOf(i)), coord(v)
		switch {
		case !open:
			fmt.Fprintf(&b, "M%s %s", x, at)
		case at != last:
			fmt.Fprintf(&b, "H%sV%s", x, at)
		}
		if i == n-1 || math.IsNaN(y(i+1)) {
			fmt.Fprintf(&b, "H%s", coord(xOf(i+1)))
		}
		open, last = true, at
	}
	return b.String()
}

// stepArea fills between two step lines; where either is not known, nothing.
func stepArea(n int, xOf, upper, lower func(i int) float64) string {
	var b strings.Builder
	for i := 0; i < n; {
		if math.IsNaN(upper(i)) || math.IsNaN(lower(i)) {
			i++
			continue
		}
		from := i
		for i < n && !math.IsNaN(upper(i)) && !math.IsNaN(lower(i)) {
			i++
		}
		x := func(k int) string { return coord(xOf(k)) }
		fmt.Fprintf(&b, "M%s %s", x(from), coord(lower(from)))
		for k := from; k < i; k++ {
			if k == from || coord(upper(k)) != coord(upper(k-1)) {
				fmt.Fprintf(&b, "H%sV%s", x(k), coord(upper(k)))
			}
		}
		fmt.Fprintf(&b, "H%sV%s", x(i), coord(lower(i-1)))
		for k := i - 1; k > from; k-- {
			if coord(lower(k)) != coord(lower(k-1)) {
				fmt.Fprintf(&b, "H%sV%s", x(k), coord(lower(k-1)))
			}
		}
		b.WriteString("z")
	}
	return b.String()
}
