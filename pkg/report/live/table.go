// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"math"
	"slices"
	"strings"
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
}

func (c *column[T]) isText() bool { return c.num == nil }

// placed is a column that has its place.
type placed struct{ col, x, w int }

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
			natural[i] = min(natural[i], c.max)
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
	if p.Sort > 0 && p.Sort <= len(cols) {
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
	} else if p.Reverse {
		slices.Reverse(rows)
	}
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

// indexOf is the row that p selects: the first where it is gone.
func indexOf[T any](rows []T, id func(T) uint64, p Place) int {
	if p.Selected == 0 {
		return 0
	}
	return max(slices.IndexFunc(rows, func(r T) bool { return id(r) == p.Selected }), 0)
}

// table draws rows of Ts.
type table[T any] struct {
	cols  []column[T]
	rows  []T // in the order of the model
	id    func(T) uint64
	mark  func(T) (string, Style)
	place Place
}

func (t *table[T]) count() int { return len(t.rows) }

// tableLeft is the columns of the severity mark and the selection mark.
const tableLeft = 3

// draw draws the column heads and the page of rows that holds the selected
// one, on n lines.
func (t *table[T]) draw(g *Grid, y, n int) {
	rows := sorted(t.cols, t.rows, t.place)
	cols := arrange(t.cols, rows, tableLeft, g.W)
	for _, p := range cols {
		st := Head
		if p.col == t.place.Sort-1 {
			st = Sorted
		}
		t.cell(g, p, y, t.cols[p.col].title, st)
	}
	at := indexOf(rows, t.id, t.place)
	from, to := window(at, len(rows), n-1)
	for i := from; i < to; i++ {
		t.drawRow(g, cols, rows[i], y+1+i-from, i == at)
	}
}

func (t *table[T]) drawRow(g *Grid, cols []placed, r T, y int, selected bool) {
	m, st := t.mark(r)
	g.put(0, y, m, st, 2)
	if st != Dim {
		st = Normal
	}
	for _, p := range cols {
		t.cell(g, p, y, t.cols[p.col].text(r), st)
	}
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
