// SPDX-License-Identifier: Apache-2.0

package html

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// So many of the worst are drawn.
const (
	plottedListeners = 4
	plottedGroups    = 12
	plottedFindings  = 24
)

// herdPlot shows what listeners wake beside what they accept.
func (r *Report) herdPlot(sum *ending) *plot {
	p := &plot{ID: "herd", Title: "Wake-ups against connections", Short: "Wake-ups"}
	all := r.time.listeners.byWeight()
	if missing := r.missing(model.SignalWake, r.accept); missing != "" {
		p.Missing = missing
		return p
	}
	slices.SortStableFunc(all, func(a, b *listenerTrack) int {
		return cmp.Or(cmp.Compare(b.useless, a.useless), cmp.Compare(b.served, a.served))
	})
	all = slices.DeleteFunc(all, func(k *listenerTrack) bool { return k.woken+k.served == 0 })
	if len(all) == 0 {
		p.Missing = "no connection came to a listener, and none woke a worker"
		return p
	}
	p.Note = fmt.Sprintf("For each connection one wake-up is enough: the blue line is the ideal (1:1), and the area above it is workers that were woken for nothing. %s; each step is %s.",
		ofAll(len(all), plottedListeners, "listener", "the one with the most wake-ups beyond that first"), r.time.columns(mostColumns).each())
	p.Legend = []swatch{{ink: inkWakes, Text: "wake-ups per second", Line: true}, {ink: inkIdeal, Text: "connections per second = the ideal", Line: true}, {ink: inkWaste, Text: "woken for nothing"}}
	p.Label = "wake-ups and connections per second of the worst listeners over time"
	all = all[:min(len(all), plottedListeners)]
	const each = 104.0
	d := &drawing{height: each*float64(len(all)) + 24}
	for i := range all {
		d.rect(inkBack, plotLeft, each*float64(i)+8, plotRight-plotLeft, each-22, "")
	}
	d.axis(r.time.scale(), 8, each*float64(len(all))-6, 12)
	for i, k := range all {
		r.herdRow(d, k, each*float64(i)+8, each-22, sum.approximate(model.SignalWake))
	}
	return p.drawn(d)
}

func (r *Report) herdRow(d *drawing, k *listenerTrack, top, height float64, rough bool) {
	c := r.time.columns(mostColumns)
	wakes := func(i int) float64 { return k.wakeups.at(c.bin(i), c.bin(i+1)) }
	conns := func(i int) float64 { return k.conns.at(c.bin(i), c.bin(i+1)) }
	most := 1.0
	for i := range c.n {
		most = max(most, known(wakes(i)), known(conns(i)))
	}
	most = nice(most)
	y := func(v float64) float64 { return top + height*(1-v/most) }
	d.path(inkWaste, stepArea(c.n, c.x, func(i int) float64 { return y(max(wakes(i), conns(i))) }, func(i int) float64 { return y(conns(i)) }), "")
	d.path(inkWakes, stepLine(c.n, c.x, func(i int) float64 { return y(wakes(i)) }), "")
	d.path(inkIdeal, stepLine(c.n, c.x, func(i int) float64 { return y(conns(i)) }), "") // thinner, so that both are seen where they are equal
	factor := k.woken / k.served
	title := fmt.Sprintf("%s (%s): %s wake-ups for %s connections", k.name, k.program, about(num(k.woken), rough), num(k.served))
	r.rowLabels(d, top, height, most, k.name, k.program, "/s")
	if model.Known(factor) && !math.IsInf(factor, 0) {
		d.text(inkText, plotRight+12, top+height/2-2, "start", about(num(factor), rough)+" per")
		d.text(inkText, plotRight+12, top+height/2+14, "start", "connection")
	}
	d.rect(inkHover, 0, top, plotWidth, height, title)
}

// rowLabels names a row of a plot and its scale.
func (r *Report) rowLabels(d *drawing, top, height, most float64, name, program, unit string) {
	d.text(inkText, 0, top+height/2-3, "start", model.WithoutMiddle(name, 22))
	d.text(inkFaint, 0, top+height/2+13, "start", model.WithoutMiddle(program, 22))
	d.text(inkFaint, plotLeft-6, top+10, "end", num(most)+unit).Size = "11"
	d.text(inkFaint, plotLeft-6, top+height, "end", "0").Size = "11"
}

// aQueue is a queue that may be worth a row.
type aQueue struct {
	of   *listenerTrack
	kind string
	*queueTrack
}

// queuePlot shows the queues of the listeners that refused most, or came nearest
// to it.
func (r *Report) queuePlot(*ending) *plot {
	p := &plot{ID: "queues", Title: "Accept and SYN queues against their limits", Short: "Queues"}
	var all []aQueue
	for _, k := range r.time.listeners.byWeight() {
		if k.accept.measured && (k.accept.top > 0 || k.accept.refusals > 0) {
			all = append(all, aQueue{k, "accept queue", &k.accept})
		}
		if k.syn.measured && k.syn.refusals+k.syn.sent > 0 {
			all = append(all, aQueue{k, "SYN queue", &k.syn})
		}
	}
	if missing := r.missing(model.SignalListen, r.queues); missing != "" {
		p.Missing = missing
		return p
	}
	if len(all) == 0 {
		p.Missing = "no connection ever waited in an accept queue, and no client was refused"
		return p
	}
	slices.SortStableFunc(all, func(a, b aQueue) int {
		return cmp.Or(cmp.Compare(b.refusals, a.refusals), cmp.Compare(b.sent, a.sent), cmp.Compare(b.filled(), a.filled()))
	})
	p.Note = fmt.Sprintf("The longest that each queue was in each %s, and its limit. A tick below the line is refused clients (red) or SYN cookies sent (ochre): the longer, the more. %s.",
		r.time.columns(mostColumns).each(), ofAll(len(all), plottedListeners, "queue", "the one that refused most first"))
	p.Legend = []swatch{{ink: inkQueue, Text: "queue length"}, {ink: inkLimit, Text: "limit", Line: true}, {ink: inkRefuse, Text: "refused", Line: true}, {ink: inkCookie, Text: "SYN cookies", Line: true}}
	p.Label = "queue lengths against their limits over time, and refusals"
	all = all[:min(len(all), plottedListeners)]
	const each = 116.0
	d := &drawing{height: each*float64(len(all)) + 24}
	for i := range all {
		d.rect(inkBack, plotLeft, each*float64(i)+10, plotRight-plotLeft, each-44, "")
	}
	d.axis(r.time.scale(), 10, each*float64(len(all))-6, 12)
	for i, q := range all {
		r.queueRow(d, q, each*float64(i)+10, each-44)
	}
	return p.drawn(d)
}

func (q aQueue) filled() float64 { return q.top / float64(max(q.limit, 1)) }

func (r *Report) queueRow(d *drawing, q aQueue, top, height float64) {
	c := r.time.columns(mostColumns)
	length := func(i int) float64 { return q.length.at(c.bin(i), c.bin(i+1)) }
	most := max(q.top, 1)
	if !q.noLimit {
		most = max(most, float64(q.limit))
	}
	most *= 1.1
	y := func(v float64) float64 { return top + height*(1-v/most) }
	d.path(inkQueue, stepArea(c.n, c.x, func(i int) float64 { return y(length(i)) }, func(i int) float64 {
		if math.IsNaN(length(i)) {
			return math.NaN()
		}
		return y(0)
	}), "")
	limit := "limit " + count(uint64(q.limit))
	if q.noLimit {
		limit = "limit not known"
	} else {
		d.path(inkLimit, fmt.Sprintf("M%d %sH%d", plotLeft, coord(y(float64(q.limit))), plotRight), limit)
	}
	ticks(d, inkRefuse, c, &q.refused, top+height+3)
	ticks(d, inkCookie, c, &q.cookies, top+height+3)
	d.text(inkText, 0, top+height/2-10, "start", model.WithoutMiddle(q.of.name, 22))
	d.text(inkFaint, 0, top+height/2+6, "start", model.WithoutMiddle(q.of.program, 22))
	d.text(inkFaint, 0, top+height/2+22, "start", q.kind)
	d.text(inkText, plotRight+12, top+12, "start", limit)
	d.text(inkText, plotRight+12, top+28, "start", "longest "+about(num(q.top), q.sampled))
	said := fmt.Sprintf("%s refused", about(num(math.Round(q.refusals)), q.about))
	d.text(inkText, plotRight+12, top+44, "start", said)
	if q.sent > 0 {
		d.text(inkText, plotRight+12, top+60, "start", num(math.Round(q.sent))+" cookies")
	}
	d.rect(inkHover, 0, top, plotWidth, height+18, fmt.Sprintf("%s of %s (%s): longest %s, %s, %s", q.kind, q.of.name, q.of.program, about(num(q.top), q.sampled), limit, said))
}

// ticks are below a plot where something was counted: 4 to 16 high, by its
// logarithm.
func ticks(d *drawing, k ink, c columns, of *counts, y float64) {
	var b strings.Builder
	for i := range c.n {
		n := of.total(c.bin(i), c.bin(i+1))
		if n < 0.5 {
			continue
		}
		x := (c.x(i) + c.x(i+1)) / 2
		fmt.Fprintf(&b, "M%s %sv%s", coord(x), coord(y), coord(min(4+3*math.Log10(max(n, 1)), 16)))
	}
	if b.Len() > 0 {
		d.path(k, b.String(), "")
	}
}

// nice is the least round number that is no less than v.
func nice(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 3, 4, 5, 6, 8} {
		if m*unit >= v*0.999 {
			return m * unit
		}
	}
	return 10 * unit
}

// ofAll says how many of so many are drawn.
func ofAll(n, most int, what, order string) string {
	if n <= most {
		if n == 1 {
			return "There is one " + what
		}
		return fmt.Sprintf("All %d %ss are drawn, %s", n, what, order)
	}
	return fmt.Sprintf("%d of %d %ss are drawn, %s", most, n, what, order)
}
