// SPDX-License-Identifier: Apache-2.0

package html

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

const (
	// mostCells bounds a heat map, mostRows its height, mostColumns the steps of a
	// line: they are most of the page's size.
	mostCells   = 9600
	mostRows    = 128
	mostColumns = 200
)

// plot is one picture, with what must be said beside it.
type plot struct {
	ID, Title, Short string
	Note             string // how to read it
	Missing          string // why there is none
	Height           string
	Label            string // for who cannot see it
	Legend           []swatch
	Marks            []mark
}

// swatch is an entry of a legend.
type swatch struct {
	ink
	Text string
	Line bool
}

// Box is its frame of reference.
func (p *plot) Box() string { return fmt.Sprintf("0 0 %d %s", plotWidth, p.Height) }

func (p *plot) drawn(d *drawing) *plot {
	p.Height, p.Marks = coord(d.height), d.marks
	return p
}

// columns are the bins of the axis, so many of them together.
type columns struct {
	*timeline
	k, n int
}

// columns gives at most so many of them.
func (t *timeline) columns(most int) columns {
	k := max((t.bins+most-1)/max(most, 1), 1)
	return columns{t, k, (t.bins + k - 1) / k}
}

// bin is the first one of column i.
func (c columns) bin(i int) int { return min(i*c.k, c.bins) }

func (c columns) x(i int) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(c.bin(i))/float64(max(c.bins, 1))
}

// each is the time of one column.
func (c columns) each() string { return span(float64(c.k) * float64(c.width)) }

func (t *timeline) scale() *scale { return &scale{0, t.span(), plotLeft, plotRight} }

// heatRow is one core, or a few neighbours.
type heatRow struct {
	label string
	first int                        // the number of its first core
	last  int                        // and of its last one
	at    func(from, to int) float64 // by bin
	title string
	bar   float64 // 0..1, in the right margin; NaN: none
	value string  // beside it
}

// heatSpec is a heat map of cores.
type heatSpec struct {
	rows   []heatRow
	bounds [7]float64 // from which on a value is of level 1 ... 7
	fair   float64    // where a fair bar would end, NaN: there are no bars
	head   string     // of the right margin
	bands  []band
	gaps   bool // once drawn: some cells are not known
}

// band is the time in which a finding was raised, of one core.
type band struct {
	cpu      int
	from, to time.Duration
	severity diagnose.Severity
	title    string
}

// rowsOf are the heat map's rows; neighbours share one where there are too many.
func rowsOf(all []*coreTrack, row func(those []*coreTrack) heatRow) []heatRow {
	per := (len(all) + mostRows - 1) / mostRows
	var out []heatRow
	for i := 0; i < len(all); i += max(per, 1) {
		those := all[i:min(i+per, len(all))]
		r := row(those)
		r.first, r.last = those[0].number, those[len(those)-1].number
		r.label = "cpu " + strconv.Itoa(r.first)
		if r.last != r.first {
			r.label += "-" + strconv.Itoa(r.last)
		}
		out = append(out, r)
	}
	return out
}

// coresByNumber are those that were seen.
func (t *timeline) coresByNumber() []*coreTrack {
	out := t.cores.byWeight()
	slices.SortFunc(out, func(a, b *coreTrack) int { return cmp.Compare(a.number, b.number) })
	return out
}

// rowHeight lets few cores have room and many not fill the screen.
func rowHeight(rows int) float64 {
	switch {
	case rows <= 16:
		return 16
	case rows <= 40:
		return 11
	case rows <= 72:
		return 7
	}
	return 4
}

// draw makes the heat map.
func (h *heatSpec) draw(t *timeline) *drawing {
	c := t.columns(min(max(mostCells/max(len(h.rows), 1), 40), maxBins))
	each := rowHeight(len(h.rows))
	top, bottom := 18.0, 18+each*float64(len(h.rows))
	d := &drawing{height: bottom + 24}
	d.rect(inkBack, plotLeft, top, plotRight-plotLeft, bottom-top, "")
	h.cells(d, c, top, each)
	d.axis(t.scale(), top, bottom, 12)
	full := 2 * h.fair // of the longest bar
	for _, r := range h.rows {
		full = max(full, r.bar)
	}
	labelled := int(math.Ceil(11 / each)) // each so many-th row
	if labelled == 1 || !math.IsNaN(h.fair) {
		d.text(inkFaint, plotRight+12, top-6, "start", h.head).Size = "11"
	}
	for i, r := range h.rows {
		y := top + each*float64(i)
		if i%labelled == 0 {
			d.text(inkText, plotLeft-8, y+each/2+4, "end", r.label)
			if labelled == 1 && r.value != "" {
				x, anchor := float64(plotWidth-4), "end" // beside the bars
				if math.IsNaN(h.fair) {
					x, anchor = plotRight+12, "start"
				}
				d.text(inkText, x, y+each/2+4, anchor, r.value)
			}
		}
		if !math.IsNaN(h.fair) && r.bar > 0 {
			d.rect(inkShare, plotRight+12, y+each*0.15, max(barWidth*min(r.bar/full, 1), 0.5), each*0.7, "")
		}
		d.rect(inkHover, 0, y, plotWidth, each, r.title).Fill = "none"
	}
	if !math.IsNaN(h.fair) {
		x := plotRight + 12 + barWidth*h.fair/full
		d.path(inkLimit, fmt.Sprintf("M%s %sV%s", coord(x), coord(top), coord(bottom)), "an even share")
	}
	h.outlines(d, t.scale(), top, each)
	return d
}

// outlines are those of the findings.
func (h *heatSpec) outlines(d *drawing, s *scale, top, each float64) {
	for _, b := range h.bands {
		i := slices.IndexFunc(h.rows, func(r heatRow) bool { return r.first <= b.cpu && b.cpu <= r.last })
		if i < 0 {
			continue
		}
		x := s.x(b.from)
		d.rect(outline(b.severity), x, top+each*float64(i), max(s.x(b.to)-x, 2), each, b.title)
	}
}

// barWidth is that of the greatest share.
const barWidth = 90

// inkShare is that of a share.
var inkShare = ink{"ba", "#7aa6d8", "none", ""}

func outline(s diagnose.Severity) ink {
	if s == diagnose.Crit {
		return inkCritIn
	}
	return inkWarnIn
}

// cells are one path for each level: lines as thick as a row, in units of columns
// and rows.
func (h *heatSpec) cells(d *drawing, c columns, top, each float64) {
	paths := make([]heatPath, len(ramp)+1) // the last is of what is not known
	for y, r := range h.rows {
		level, begun := 0, 0
		for i := range c.n + 1 {
			now := 0
			if i < c.n {
				now = h.level(r.at(c.bin(i), c.bin(i+1)))
			}
			if i == c.n || now != level {
				if level > 0 {
					paths[level].run(begun, y, h.end(c, i)-float64(begun))
				}
				level, begun = now, i
			}
		}
	}
	transform := fmt.Sprintf("translate(%d %s) scale(%s %s)", plotLeft, coord(top+each/2),
		strconv.FormatFloat((plotRight-plotLeft)*float64(c.k)/float64(max(c.bins, 1)), 'f', 4, 64), coord(each))
	for level := range paths {
		k := inkUnseen
		if level < len(ramp) {
			k = ramp[level]
		}
		if p := paths[level].String(); p != "" {
			h.gaps = h.gaps || level == len(ramp)
			m := d.path(k, p, "")
			m.Width, m.Transform = "1", transform
			if level == len(ramp) {
				m.Width = ".12"
			}
		}
	}
}

// end is where column i begins, in columns: the last one may be a part of one.
func (h *heatSpec) end(c columns, i int) float64 {
	return float64(c.bin(i)) / float64(c.k)
}

func (h *heatSpec) level(v float64) int {
	if !model.Known(v) {
		return len(ramp)
	}
	level := 0
	for i, b := range h.bounds {
		if v >= b {
			level = i + 1
		}
	}
	return level
}

// heatPath is runs of cells, each where the one before it left off.
type heatPath struct {
	strings.Builder
	x float64
	y int
}

func (p *heatPath) run(x, y int, width float64) {
	if p.Len() == 0 || y != p.y {
		fmt.Fprintf(p, "M%d %d", x, y)
	} else {
		fmt.Fprintf(p, "m%s 0", coord(float64(x)-p.x))
	}
	fmt.Fprintf(p, "h%s", coord(width))
	p.x, p.y = float64(x)+width, y
}
