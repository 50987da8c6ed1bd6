// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// column is one of a table of Ts.
type column[T any] struct {
	title string
	keep  int             // lower is dropped first where the screen is narrow
	min   int             // columns of the screen; of a text, what it can be cut to
	num   func(T) float64 // what it is sorted by; nil: text, by itself, to the left
	text  func(T) string
	cut   func(string, int) string // nil: clip
	max   int                      // of a text, columns that it may grow to
	gauge *gauge                   // not nil: a sparkline of trail, and all but keep, min and max is unused
	trail func(T) trail
}

func (c *column[T]) isText() bool { return c.num == nil && c.gauge == nil }

// placed is a column that has its place.
type placed struct{ col, x, w int }

// textStep is by how much a column of a text grows with it: what is a little
// longer or shorter does not move the columns beside it.
const textStep = 4

// arrange chooses the columns that fit in w and how wide each is.
func arrange[T any](cols []column[T], rows []T, left, w int) []placed {
	natural := make([]int, len(cols))
	used := left - 1
	for i := range cols {
		c := &cols[i]
		natural[i] = max(width(c.title), c.min)
		if c.isText() {
			natural[i] = width(c.title)
			for _, r := range rows {
				natural[i] = max(natural[i], width(c.text(r)))
			}
			natural[i] = min((natural[i]+textStep-1)/textStep*textStep, c.max)
		}
		if c.gauge != nil {
			natural[i] = c.max
		}
	}
	least := func(i int) int { return min(natural[i], max(cols[i].min, width(cols[i].title))) }
	on := make([]bool, len(cols))
	for i := range cols {
		on[i] = true
		used += least(i) + 1
	}
	for n := len(cols); used > w && n > 1; n-- {
		drop := -1
		for i := range cols {
			if on[i] && (drop < 0 || cols[i].keep < cols[drop].keep) {
				drop = i
			}
		}
		on[drop] = false
		used -= least(drop) + 1
	}
	var out []placed
	spare := w - used
	x := left
	for i := range cols {
		if !on[i] {
			continue
		}
		cw := least(i)
		grow := max(min(natural[i]-cw, spare), 0)
		cw += grow
		spare -= grow
		cw = max(min(cw, w-x), 0)
		out = append(out, placed{i, x, cw})
		x += cw + 1
	}
	return out
}

// sorted returns rows in the order of p, which leaves rows as they are.
func sorted[T any](cols []column[T], rows []T, p Place) []T {
	rows = slices.Clone(rows)
	if p.Sort < 1 || p.Sort > len(cols) || cols[p.Sort-1].gauge != nil {
		if p.Reverse {
			slices.Reverse(rows)
		}
		return rows
	}
	c := &cols[p.Sort-1]
	slices.SortStableFunc(rows, func(a, b T) int {
		if c.isText() {
			n := cmp.Compare(c.text(a), c.text(b))
			if p.Reverse {
				n = -n
			}
			return n
		}
		return byNumber(c.num(a), c.num(b), p.Reverse)
	})
	return rows
}

// byNumber puts the greatest first, the least in reverse, the unknown last.
func byNumber(a, b float64, reverse bool) int {
	switch {
	case math.IsNaN(a) || math.IsNaN(b):
		return cmp.Compare(b2i(math.IsNaN(a)), b2i(math.IsNaN(b)))
	case reverse:
		return cmp.Compare(a, b)
	}
	return cmp.Compare(b, a)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// table draws rows of Ts.
type table[T any] struct {
	cols  []column[T]
	rows  []T // in the order of the model
	id    func(T) uint64
	mark  func(T) (string, Style)
	place Place

	match   func(T) bool              // of the filter; nil: all
	ranked  bool                      // what a finding is about comes first
	held    *held                     // nil: rows go where their values put them
	panel   Panel                     // whose table it is, for clicks
	drill   bool                      // it is behind a row of that panel
	span    func(n int) time.Duration // how long that many ticks took
	ordered []T                       // by shown
}

// fresh are the rows that the filter lets through, as the values have them now.
func (t *table[T]) fresh() []T {
	rows := t.rows
	if t.match != nil {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r T) bool { return !t.match(r) })
	}
	rows = sorted(t.cols, rows, t.place)
	if t.ranked && t.place.Sort == 0 && !t.place.Reverse {
		slices.SortStableFunc(rows, func(a, b T) int { return cmp.Compare(t.severity(b), t.severity(a)) })
	}
	return rows
}

// severity is how bad r's mark is; what is gone comes last.
func (t *table[T]) severity(r T) int {
	switch m, st := t.mark(r); {
	case m == "!!":
		return 2
	case m == " !":
		return 1
	case st == Dim:
		return -1
	}
	return 0
}

// shown are they in the order in which they are drawn.
func (t *table[T]) shown() []T {
	if t.ordered == nil {
		t.ordered = t.fresh()
		if t.held != nil {
			slices.SortStableFunc(t.ordered, func(a, b T) int { return cmp.Compare(t.held.at(t.id(a)), t.held.at(t.id(b))) })
		}
	}
	return t.ordered
}

func (t *table[T]) count() int { return len(t.shown()) }

// all is how many there would be without a filter.
func (t *table[T]) all() int { return len(t.rows) }

// marks are those of the rows that have one.
func (t *table[T]) marks() map[uint64]string {
	marks := make(map[uint64]string)
	for _, r := range t.rows {
		if m, _ := t.mark(r); m != "" && (t.match == nil || t.match(r)) {
			marks[t.id(r)] = m
		}
	}
	return marks
}

// ids are the rows as the values have them now.
func (t *table[T]) ids() (out []uint64) {
	for _, r := range t.fresh() {
		out = append(out, t.id(r))
	}
	return out
}

func (t *table[T]) where() Place { return t.place }

// index is the row that is selected: the first where it is gone.
func (t *table[T]) index() int {
	if t.place.Selected == 0 {
		return 0
	}
	return max(slices.IndexFunc(t.shown(), func(r T) bool { return t.id(r) == t.place.Selected }), 0)
}

// tableLeft is the columns of the severity mark and the selection mark.
const tableLeft = 3

// draw draws the column heads and the page of rows that holds the selected
// one, on n lines. Heads left of from are left out.
func (t *table[T]) draw(g *Grid, y, n, from int, focus bool) {
	rows := t.shown()
	cols := arrange(t.cols, rows, tableLeft, g.W)
	for _, p := range cols {
		t.drawHead(g, p, y, from)
	}
	at := t.index()
	first, to := window(at, len(rows), n-1)
	tops := make([]float64, len(t.cols))
	for _, p := range cols {
		if c := &t.cols[p.col]; c.gauge != nil {
			tops[p.col] = topOf(c, rows[first:to], p.w)
		}
	}
	for i := first; i < to; i++ {
		t.drawRow(g, cols, tops, rows[i], y+1+i-first, focus && i == at)
	}
}

// topOf is the value of the highest level of the sparklines in c.
func topOf[T any](c *column[T], rows []T, w int) float64 {
	most := math.Inf(-1)
	for _, r := range rows {
		most = max(most, c.trail(r).tail(w).most())
	}
	return c.gauge.scale(most)
}

func (t *table[T]) drawHead(g *Grid, p placed, y, from int) {
	c := &t.cols[p.col]
	st := Head
	if p.col == t.place.Sort-1 {
		st = Sorted
	}
	title := c.title
	if c.gauge != nil {
		title = lasting(p.w, t.span(p.w))
	}
	x := p.x
	if !c.isText() {
		x += p.w - min(width(title), p.w)
	}
	if x < from {
		return
	}
	if c.gauge == nil && p.w > 0 {
		what := hit{what: hitHead, panel: t.panel, col: p.col}
		if t.drill {
			what.what = hitDrillHead
		}
		g.zone(p.x, y, p.w, 1, what)
	}
	if from > 0 {
		g.put(max(p.x-1, from), y, strings.Repeat(" ", p.x+p.w-max(p.x-1, from)), Normal, g.W)
	}
	g.put(x, y, clip(title, p.w), st, p.w)
}

func (t *table[T]) drawRow(g *Grid, cols []placed, tops []float64, r T, y int, selected bool) {
	m, st := t.mark(r)
	g.put(0, y, m, st, 2)
	if st != Dim {
		st = Normal
	}
	for _, p := range cols {
		if c := &t.cols[p.col]; c.gauge != nil {
			g.spark(p.x, y, p.w, c.gauge, c.trail(r), tops[p.col], st)
			continue
		}
		t.cell(g, p, y, t.cols[p.col].text(r), st)
	}
	what := hit{what: hitRow, panel: t.panel, id: t.id(r)}
	if t.drill {
		what.what = hitDrillRow
	}
	g.zone(0, y, g.W, 1, what)
	if selected {
		g.paint(y, Selection)
		g.put(2, y, ">", Selection, 1)
	}
}

func (t *table[T]) cell(g *Grid, p placed, y int, text string, st Style) {
	c := &t.cols[p.col]
	cut := clip
	if c.cut != nil {
		cut = c.cut
	}
	text = cut(text, p.w)
	if !c.isText() {
		x := p.x + p.w - width(text)
		g.put(p.x, y, strings.Repeat(" ", x-p.x), st, g.W)
		g.put(x, y, text, st, p.w)
		return
	}
	g.put(p.x, y, text, st, p.w)
}

// window is the page of n of total rows that holds row i.
func window(i, total, n int) (from, to int) {
	if n < 1 {
		return 0, 0
	}
	from = max(min(i/n*n, total-n), 0)
	return from, min(from+n, total)
}
