// SPDX-License-Identifier: Apache-2.0

// Package live is the top-like screen: Render draws a View as a Grid, without a
// terminal or a clock; UI.Press is what a key does; Screen is the report.Sink
// that joins the two to a terminal.
package live

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// View is everything that a screen shows.
type View struct {
	Header *sample.Header // nil before Begin
	Frame  *model.Frame   // nil before the first tick
	Active []diagnose.Finding
	// Cleared are the last ones that are gone, oldest first.
	Cleared []diagnose.Finding
	Events  []model.Event // the last ones, oldest first
	History *History      // nil: no sparklines
	Deck    *DeckState    // nil: it is live
	// Clock is the time since the first Sample; it runs on while the data is paused.
	Clock time.Duration
	// QuietFrom is when, on Clock, the last Finding cleared; 0 where none was raised.
	QuietFrom time.Duration
	Recording string         // what the trace is recorded to; "": it is not
	Location  *time.Location // of the clock times; nil: UTC
	UI        UI

	held  map[Panel]*held
	cache *cache // nil: nothing is kept
}

// cache is what was made for a picture, and of one UI, by panel.
type cache struct {
	tables map[Panel]lister
	drills map[Panel]*drill
}

func newCache() *cache {
	return &cache{tables: make(map[Panel]lister), drills: make(map[Panel]*drill)}
}

// clockTime is t as a person reads it.
func (v *View) clockTime(t time.Time) string {
	loc := v.Location
	if loc == nil {
		loc = time.UTC
	}
	return t.In(loc).Format("15:04:05.000")
}

// see is v as u has it.
func (v *View) see(u UI) {
	if v.UI == u {
		return
	}
	if v.UI = u; v.cache != nil {
		v.cache = newCache()
	}
}

// UI is what the user chose.
type UI struct {
	// Overview: all panels together, where they fit, and Panel is the one that the
	// keys move in; else it is alone.
	Overview bool
	Panel    Panel
	Filter   string // see filter
	Prompt   Prompt
	Notice   string // what the last key did; until the next
	List     Place  // in the listeners of the herd panel
	CPU      Place  // in the CPU panel
	CGroup   Place  // in the cgroup panel
	Queue    Place  // in the queue panel
	Process  Place  // in the process panel
	Finding  Place  // in the findings panel
	Threads  Place  // in what is behind the opened row
	Opened   uint64 // the row of the panel that is opened, as in Place; 0: none
	Paused   bool
	Help     bool
	HelpAt   int // its first line
	ASCII    bool
}

// Place is where the user is in a table.
type Place struct {
	// Selected is the inode, tid, pid, cgroup id or CPU+1 of the selected row; 0 or
	// one that is gone: the first row, whichever it is.
	Selected uint64
	Sort     int // 0: as the model ordered it; n: by column n
	Reverse  bool
}

// on is v with another panel.
func (v *View) on(p Panel) *View {
	if p == v.UI.Panel {
		return v
	}
	out := *v
	out.UI.Panel = p
	return &out
}

// Render draws v on w columns and h lines. Any size will do.
func Render(v View, w, h int) Grid {
	g := newGrid(w, h, v.UI.ASCII)
	if g.W == 0 || g.H == 0 {
		return g
	}
	if v.cache == nil {
		v.cache = newCache()
	}
	p := v.plan(g.W, g.H)
	v.drawHeader(&g)
	if p.totals {
		v.drawTotals(&g, 1)
	}
	if v.UI.Help {
		v.drawHelp(&g, p.top, p.body)
	} else {
		for i, l := range v.findingLines(g.W, p.findings) {
			l.draw(&g, p.top+i)
			if l.finding != 0 {
				g.zone(0, p.top+i, g.W, 1, hit{what: hitFinding, id: l.finding})
			}
		}
		panel := g.part(0, p.top+p.findings, g.W, p.panel)
		if p.together {
			v.drawOverview(&panel)
		} else {
			v.drawPanel(&panel, 0, p.panel)
		}
		v.drawEvents(&g, p.top+p.findings+p.panel, p.events)
	}
	if p.keys {
		v.drawKeys(&g, g.H-1)
	}
	return g
}

// plan is how many lines each part of the screen gets.
type plan struct {
	totals, keys            bool
	top, body               int // first line and number of lines between totals and keys
	findings, panel, events int
	together                bool // the panels are, in their lines
}

func (v *View) plan(w, h int) plan {
	p := plan{totals: h >= 5, keys: h >= 3, top: 1}
	if p.totals {
		p.top++
	}
	p.body = h - p.top
	if p.keys {
		p.body--
	}
	wantEvents := 0
	if n := len(v.Events); n > 0 && v.drill() == nil && v.UI.Panel != Findings {
		wantEvents = 1 + n
	}
	if v.together() && v.planTogether(&p, w, wantEvents) {
		return p
	}
	switch {
	case p.body >= 24:
		p.events = min(wantEvents, 7)
	case p.body >= 14:
		p.events = min(wantEvents, 3)
	}
	rest := p.body - p.events
	wantPanel := v.panelWant()
	p.findings = min(len(v.findingLines(w, 1<<10)), max(rest-min(wantPanel, max(5, rest/2)), min(1, rest)))
	p.panel = min(wantPanel, rest-p.findings)
	p.events = min(wantEvents, p.body-p.findings-p.panel)
	return p
}

// planTogether divides the body where all panels are shown: first the findings, of
// which each gets a line, then the panels, then what is left of the findings.
func (v *View) planTogether(p *plan, w, wantEvents int) bool {
	want := len(v.findingLines(w, 1<<10))
	panels := v.overviewWant(w)
	p.findings = min(want, max(p.body/3, 3))
	if p.body >= 28 {
		p.events = min(wantEvents, max(p.body/6, 3))
	}
	p.panel = min(p.body-p.findings-p.events, panels)
	if !fits(w, p.body-p.findings-p.events) {
		*p = plan{totals: p.totals, keys: p.keys, top: p.top, body: p.body}
		return false
	}
	// What the panels do not need: first for the findings, then for events.
	p.findings += min(want-p.findings, p.body-p.findings-p.events-p.panel)
	p.events = min(wantEvents, p.body-p.findings-p.panel)
	p.together = true
	return true
}

// part is a piece of the header line.
type part struct {
	text string
	keep int // lower is dropped first where the line is narrow
	st   Style
}

// header is what is traced, for how long, at what cost.
func (v *View) header(w int) []part {
	parts := []part{{"herdtrace", 5, Head}}
	add := func(keep int, st Style, text string) { parts = append(parts, part{text, keep, st}) }
	if h := v.Header; h != nil {
		add(6, Normal, clip(safe(h.Host), 24))
		add(3, Normal, "Linux "+clip(kernel(h.Kernel, w), 40))
		add(2, Normal, strconv.Itoa(h.CPUs)+" CPU")
		if v.Deck == nil {
			parts = append(parts, v.pace())
		}
		parts = append(parts, v.rungParts(w)...)
	}
	if d := v.Deck; d != nil {
		parts = append(parts, d.parts()...)
	}
	if f := v.Frame; f != nil {
		add(8, Normal, clock(max(v.Clock, f.Elapsed)))
		if cost := f.Cost.UserRatio + f.Cost.BPFRatio; model.Known(cost) {
			add(4, Normal, fmt.Sprintf("cost %4s core", percentFine(cost)))
		}
		if shed := model.ShedNames(f.Sample.Self.Budget); len(shed) > 0 {
			text := "shed " + strings.Join(shed, " ")
			if width(text) > 24 {
				text = "shed " + strconv.Itoa(len(shed)) + " (?)"
			}
			add(9, Warn, text)
		}
		if lost := "lost " + itoa(f.Cost.LostTotal); f.Cost.LostTotal == 0 {
			add(0, Normal, lost)
		} else {
			add(9, Warn, lost)
		}
	}
	if v.Recording != "" {
		add(1, Normal, "rec "+clipMiddle(safe(v.Recording), 24))
	}
	if v.UI.Filter != "" {
		add(7, Warn, "filter "+clip(safe(v.UI.Filter), 24))
	}
	if v.UI.Paused {
		add(10, Warn, "PAUSED")
	}
	return parts
}

// drawHeader draws the first line, all of it in alarm where events are lost now.
func (v *View) drawHeader(g *Grid) {
	parts := v.header(g.W)
	total := func(gap int) int {
		n := -gap
		for _, p := range parts {
			n += width(p.text) + gap
		}
		return n
	}
	gap := 2
	if g.W >= 100 {
		gap = 3
	}
	for total(gap) > g.W && len(parts) > 1 {
		drop := 0
		for i, p := range parts {
			if p.keep < parts[drop].keep {
				drop = i
			}
		}
		parts = slices.Delete(parts, drop, drop+1)
	}
	x := 0
	for _, p := range parts {
		x = g.put(x, 0, p.text, p.st, g.W) + gap
	}
	if v.Frame != nil && v.Frame.Cost.LostDelta > 0 {
		g.paint(0, Crit)
	}
}

// kernel is the release, without the distribution's suffix where it is narrow.
func kernel(release string, w int) string {
	release = safe(release)
	if w < 100 {
		for i, r := range release {
			if r == '-' && i > 0 {
				return release[:i]
			}
		}
	}
	return release
}

// drawTotals draws the sums over all: each has its place.
func (v *View) drawTotals(g *Grid, y int) {
	f := v.Frame
	if f == nil || f.Interval == 0 {
		g.put(0, y, "measuring…", Dim, g.W)
		return
	}
	x := 0
	for i, t := range v.totals() {
		if i > 0 {
			x += 2
		}
		if x+width(t.text) > g.W {
			break
		}
		st := Normal
		if f.Accept == nil && i == 0 {
			st = Warn
		}
		x = max(g.put(x, y, t.text, st, g.W), x+t.width)
	}
}

// total is a text and the room that it keeps.
type total struct {
	text  string
	width int
}

func (v *View) totals() []total {
	f := v.Frame
	const rate = 6 // columns of most rates
	one := func(name, value string, room int) total { return total{name + " " + value, len(name) + 1 + room} }
	var out []total
	accept := func(x float64) string { return v.measured(signalAccept, perSecond(x)) }
	wake := v.sampled(signalWake, func(x float64) string { return v.measured(signalWake, perSecond(x)) })
	a := f.Accept
	if a == nil {
		out = append(out, total{"connections are not measured", 0})
	} else {
		conns := perSecond(a.ConnsPerS)
		if v.unavailable(signalAccept) != nil {
			conns = v.measured(signalWake, conns)
		}
		out = append(out, one("conn", conns, rate), one("wake-ups", wake(a.WakeupsPerS), rate))
	}
	if f.Queues != nil {
		out = append(out, one("refused", perSecond(f.Queues.RefusalsPerS), rate))
	}
	if f.NetRX != nil {
		out = append(out, one("drops", perSecond(f.NetRX.DroppedPerS), rate))
	}
	if c := longest(f); c != nil {
		out = append(out, one("runq", report.PeakText(c), 2))
	}
	if len(f.CGroups) > 0 {
		n, _ := report.Throttled(f)
		out = append(out, one("throttled", itoa(uint64(n)), 1))
	}
	if report.Oversold(f) {
		out = append(out, total{"sold " + cores(f.Sold.Ratio) + "x", 0})
	}
	if a != nil {
		out = append(out, one("EAGAIN", accept(a.EAGAINPerS), rate),
			one("wasted", v.measured(signalAccept, wake(a.WastedPerS)), rate),
			one("spent on nothing", v.measured(signalWake, estimate(a.EmptyCPU))+" core", 0))
	}
	return out
}

// peak is the most that ran or waited at c; their mean where that is not known.
func peak(c *model.CPU) float64 {
	if c.Runq.Partial {
		return report.QueueLen(c)
	}
	return float64(c.Runq.Peak)
}

// longest is the core with the longest run queue; nil where none is measured.
func longest(f *model.Frame) *model.CPU {
	var out *model.CPU
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.Runq != nil && c.Runq.Runq != nil && (out == nil || peak(c) > peak(out)) {
			out = c
		}
	}
	return out
}

// The signals that the panel needs, as the header names them.
const (
	signalAccept = "accept"
	signalWake   = "wake"
)

// unavailable returns the signal of that name if this kernel refused it.
func (v *View) unavailable(name string) *sample.Signal {
	if v.Header == nil {
		return nil
	}
	for i := range v.Header.Signals {
		if s := &v.Header.Signals[i]; s.Name == name && s.Accuracy == sample.Unavailable {
			return s
		}
	}
	return nil
}

// measured is s, or "?" where the signal behind it has no probe.
func (v *View) measured(signal, s string) string {
	if signal != "" && v.unavailable(signal) != nil {
		return "?"
	}
	return s
}

// reason says why a signal is unavailable, in the kernel's words.
func reason(s *sample.Signal) string {
	out := ""
	for _, r := range s.Rejected {
		if out != "" {
			out += "; "
		}
		out += r.Variant + ": " + r.Error
	}
	switch {
	case out != "":
	case s.Note != "":
		out = s.Note
	default:
		out = "this kernel offers no variant of the " + s.Name + " signal"
	}
	return safe(out)
}
