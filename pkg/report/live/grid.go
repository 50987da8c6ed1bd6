// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// Style is the role of a cell; the terminal driver chooses how it looks.
type Style uint8

// The roles. None of them is the only sign of what it says.
const (
	Normal Style = iota
	Dim
	Warn
	Crit
	Head   // titles and column heads
	Sorted // the column head that the rows are sorted by
	Selection
	Key // the name of a key
)

// Cell is one column of one line.
type Cell struct {
	Text  string // one grapheme; "" where the wide one before it continues
	Style Style
}

// Grid is a drawn screen, or a rectangle of one.
type Grid struct {
	W, H  int // columns, lines
	ascii bool
	cells []Cell
	// Of the whole screen: its columns, and which of its cells is the first here.
	stride, first int
	zones         *[]zone
}

// maxCells bounds a Grid, whatever a terminal claims to be.
const maxCells = 1 << 20

func newGrid(w, h int, ascii bool) Grid {
	w, h = max(w, 0), max(h, 0)
	if w > 0 && h > maxCells/w {
		w, h = min(w, 1<<10), min(h, 1<<10)
	}
	g := Grid{W: w, H: h, ascii: ascii, cells: make([]Cell, w*h), stride: w, zones: new([]zone)}
	for i := range g.cells {
		g.cells[i].Text = " "
	}
	return g
}

// part is the rectangle of g at column x of line y, as far as it lies in g.
func (g *Grid) part(x, y, w, h int) Grid {
	out := *g
	x, y = min(max(x, 0), g.W), min(max(y, 0), g.H)
	out.W, out.H = max(min(w, g.W-x), 0), max(min(h, g.H-y), 0)
	out.first += y*g.stride + x
	return out
}

// at is where the cell at column x of line y is in cells.
func (g *Grid) at(x, y int) int { return g.first + y*g.stride + x }

// Cell returns the cell at column x of line y, from 0.
func (g Grid) Cell(x, y int) Cell { return g.cells[g.at(x, y)] }

// Text is the screen without its styles, a line each, without trailing blanks.
func (g Grid) Text() string {
	return g.lines(func(c Cell) string { return c.Text })
}

// Styles is the map of the roles: a character for each cell of Text.
func (g Grid) Styles() string {
	return g.lines(func(c Cell) string { return " .!X=^#k"[c.Style : c.Style+1] })
}

func (g Grid) lines(of func(Cell) string) string {
	var out strings.Builder
	for y := range g.H {
		var line strings.Builder
		for x := range g.W {
			line.WriteString(of(g.Cell(x, y)))
		}
		out.WriteString(strings.TrimRight(line.String(), " "))
		out.WriteByte('\n')
	}
	return out.String()
}

// put draws s at column x of line y, cut where the line or maxW columns end,
// and returns the column after it.
func (g *Grid) put(x, y int, s string, st Style, maxW int) int {
	if y < 0 || y >= g.H || x < 0 {
		return x
	}
	end := min(g.W, x+max(maxW, 0))
	eachGrapheme(s, g.ascii, func(text string, w int) bool {
		if x+w > end {
			return false
		}
		g.cells[g.at(x, y)] = Cell{text, st}
		for i := 1; i < w; i++ {
			g.cells[g.at(x+i, y)] = Cell{"", st}
		}
		x += w
		return true
	})
	return x
}

// paint gives a whole line the style st.
func (g *Grid) paint(y int, st Style) {
	if y < 0 || y >= g.H {
		return
	}
	for x := range g.W {
		g.cells[g.at(x, y)].Style = st
	}
}

// maxGrapheme is the longest cluster, in bytes, that is shown as it is: a
// letter under a tower of accents is an attack on the lines around it.
const maxGrapheme = 32

// eachGrapheme calls f with what a terminal can show of s, until f returns
// false. Nothing that f is given is a control, and w is 1 or 2.
func eachGrapheme(s string, ascii bool, f func(text string, w int) bool) {
	if plain(s) {
		for i := range len(s) {
			if !f(s[i:i+1], 1) {
				return
			}
		}
		return
	}
	g := displaywidth.StringGraphemes(s)
	for g.Next() {
		text, w := g.Value(), g.Width()
		if len(text) == 1 && text[0] >= ' ' && text[0] <= '~' {
			w = 1
		} else if w < 1 || w > 2 || len(text) > maxGrapheme || model.Printable(text) != text {
			text, w = "?", 1
		} else if ascii {
			for ; w > 1; w-- {
				if !f("?", 1) {
					return
				}
			}
			text = asciiOf(text)
		}
		if !f(text, w) {
			return
		}
	}
}

// plain reports whether s is of printable ASCII alone, as nearly all text is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// asciiOf replaces the few characters that herdtrace's own text uses.
func asciiOf(text string) string {
	switch text {
	case "─":
		return "-"
	case "…":
		return "+"
	}
	if i := slices.Index(levels, text); i >= 0 {
		return asciiLevels[i]
	}
	return "?"
}

// width is the number of columns that put would use.
func width(s string) int {
	if plain(s) {
		return len(s)
	}
	n := 0
	eachGrapheme(s, false, func(_ string, w int) bool { n += w; return true })
	return n
}

// clip cuts s to w columns, and says so by an ellipsis.
func clip(s string, w int) string {
	if width(s) <= w {
		return s
	}
	if w < 1 {
		return ""
	}
	return head(s, w-1) + "…"
}

// clipMiddle cuts s to w columns and keeps its end: the port, the file's name.
func clipMiddle(s string, w int) string {
	if width(s) <= w {
		return s
	}
	if w < 8 {
		return clip(s, w)
	}
	tail := (w - 1) * 2 / 3
	return head(s, w-1-tail) + "…" + foot(s, tail)
}

// head is as much of the beginning of s as fits in w columns.
func head(s string, w int) string {
	var out strings.Builder
	n := 0
	eachGrapheme(s, false, func(text string, gw int) bool {
		if n += gw; n > w {
			return false
		}
		out.WriteString(text)
		return true
	})
	return out.String()
}

// foot is as much of the end of s as fits in w columns.
func foot(s string, w int) string {
	skip, n := width(s)-w, 0
	var out strings.Builder
	eachGrapheme(s, false, func(text string, gw int) bool {
		if n >= skip {
			out.WriteString(text)
		}
		n += gw
		return true
	})
	return out.String()
}

// wrap breaks s at spaces into lines of at most w columns.
func wrap(s string, w int) []string {
	w = max(w, 1)
	var out []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) <= w:
			line += " " + word
			continue
		default:
			out = append(out, line)
			line = word
		}
		for width(line) > w { // one word, longer than a line
			first := head(line, w)
			if first == "" {
				return append(out, clip(line, w))
			}
			out = append(out, first)
			line = foot(line, width(line)-width(first))
		}
	}
	if line != "" {
		out = append(out, line)
	}
	return out
}
