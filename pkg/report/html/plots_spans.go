// SPDX-License-Identifier: Apache-2.0

package html

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// throttlePlot shows when quotas stopped which cgroups.
func (r *Report) throttlePlot(*ending) *plot {
	p := &plot{ID: "throttle", Title: "CPU quotas: when cgroups were throttled", Short: "Quotas"}
	if missing := r.missing(model.SignalThrottle, r.groups); missing != "" {
		p.Missing = missing
		return p
	}
	all := slices.DeleteFunc(r.time.groups.byWeight(), func(k *groupTrack) bool { return k.throttled == 0 })
	if len(all) == 0 {
		p.Missing = "no cgroup was throttled"
		if n := len(r.time.groups.of); n > 0 {
			p.Missing += fmt.Sprintf(" (of %s)", model.Plural(n, "cgroup")+" with a quota")
		}
		return p
	}
	p.Note = fmt.Sprintf("The height of a bar is the share of the cgroup's enforcement periods in which it was throttled, from none to all, over %s. %s.",
		r.time.columns(mostColumns).each(), ofAll(len(all), plottedGroups, "throttled cgroup", "the one throttled in most periods first"))
	p.Label = "share of throttled periods of each cgroup over time"
	p.Legend = []swatch{{ink: inkStop, Text: "share of periods throttled (full height: all)"}}
	all = all[:min(len(all), plottedGroups)]
	const each = 40.0
	d := &drawing{height: each*float64(len(all)) + 30}
	c := r.time.columns(mostColumns)
	for i := range all {
		d.rect(inkBack, plotLeft, each*float64(i)+6, plotRight-plotLeft, each-8, "")
	}
	d.axis(r.time.scale(), 6, each*float64(len(all)), 12)
	for i, k := range all {
		top := each*float64(i) + 6
		y := func(v float64) float64 { return top + (each-8)*(1-min(v, 1)) }
		share := func(i int) float64 { return k.share.at(c.bin(i), c.bin(i+1)) }
		d.path(inkStop, stepArea(c.n, c.x, func(i int) float64 { return y(share(i)) }, func(i int) float64 { return y(0 * share(i)) }), "")
		d.text(inkText, 0, top+13, "start", model.WithoutMiddle(k.title, 26))
		used := k.used.at(0, r.time.bins)
		d.text(inkFaint, 0, top+28, "start", fmt.Sprintf("uses %s cores, quota %s", cores(used), cores(k.quota)))
		d.text(inkText, plotRight+12, top+13, "start", fmt.Sprintf("%s of %s", num(float64(k.throttled)), num(float64(k.periods))))
		worst := ""
		if k.worstNS > 0 {
			worst = "worst stall " + span(float64(k.worstNS))
			d.text(inkFaint, plotRight+12, top+28, "start", worst)
		}
		d.rect(inkHover, 0, top, plotWidth, each-8, fmt.Sprintf("%s: throttled in %d of %d periods, stopped %s in all over its cores %s", k.title, k.throttled, k.periods, span(float64(k.stoppedNS)), worst))
	}
	return p.drawn(d)
}

// findingsPlot shows when which finding was raised.
func (r *Report) findingsPlot(sum *ending) *plot {
	if len(sum.findings) == 0 {
		return nil
	}
	p := &plot{ID: "when", Title: "When", Label: "the time in which each finding was raised"}
	all := sum.findings[:min(len(sum.findings), plottedFindings)]
	const each = 22.0
	d := &drawing{height: each*float64(len(all)) + 28}
	s := r.time.scale()
	for i := range all {
		d.rect(inkBack, plotLeft, each*float64(i)+4, plotRight-plotLeft, each-4, "")
	}
	d.axis(s, 4, each*float64(len(all))+2, 12)
	for i := range all {
		f := &all[i]
		top := each*float64(i) + 4
		from, to := sum.raised(f)
		d.text(inkText, 0, top+13, "start", model.WithoutMiddle(f.ID, 26))
		x := s.x(from)
		d.rect(severityInk(f.Severity), x, top+3, max(s.x(to)-x, 2), each-10, f.Severity.String()+" "+f.ID+": "+clip(f.Subject, mostName))
		d.text(inkFaint, plotRight+12, top+13, "start", model.WithoutMiddle(aboutWhom(f), 20))
	}
	if n := len(sum.findings) - len(all); n > 0 {
		p.Note = fmt.Sprintf("And %s.", model.Plural(n, "more finding"))
	}
	p.Legend = []swatch{{ink: inkCrit, Text: "crit"}, {ink: inkWarn, Text: "warn"}}
	return p.drawn(d)
}

// aboutWhom is the subject in a few words.
func aboutWhom(f *diagnose.Finding) string {
	switch {
	case f.CPU >= 0:
		return fmt.Sprintf("core %d", f.CPU)
	case f.PID > 0:
		return fmt.Sprintf("pid %d", f.PID)
	}
	s := f.Subject
	for _, before := range []string{"listener ", "cgroup "} {
		if len(s) > len(before) && s[:len(before)] == before {
			s = s[len(before):]
		}
	}
	for i := range s {
		if s[i] == ' ' {
			return clip(s[:i], mostName)
		}
	}
	return clip(s, mostName)
}

const (
	stripWidth  = 560
	stripHeight = 64.0
)

// stripPlot is the evidence of one finding.
func (r *Report) stripPlot(f *diagnose.Finding, sum *ending) *plot {
	k, ok := raisingOf(f)
	e, m := r.strips.of[k], measures[k.of.what]
	if !ok || e == nil || len(e.points) < 2 {
		return nil
	}
	most := m.least
	for _, v := range e.points {
		if !math.IsInf(v.v, 0) {
			most = max(most, known(v.v))
		}
	}
	top := nice(most)
	const x0, x1, y0, y1 = 52.0, stripWidth - 12.0, 16.0, stripHeight
	first, last := e.points[0].at, e.points[len(e.points)-1].at
	if end := r.last; last < end && len(e.points) < ticksShown {
		last = end
	}
	s := &scale{first, max(last, first+time.Millisecond), x0, x1}
	d := &drawing{height: y1 + 24}
	d.rect(inkBack, x0, y0, x1-x0, y1-y0, "")
	from, to := sum.raised(f)
	d.rect(ink{"ra", "#f1e3e3", "none", ""}, s.x(from), y0, max(s.x(to)-s.x(from), 1), y1-y0, "raised")
	d.axis(s, y0, y1, 6)
	n := len(e.points)
	x := func(i int) float64 {
		switch {
		case i >= n:
			return s.x(e.points[n-1].at)
		case i == 0:
			return s.x(e.points[0].at)
		}
		return s.x(e.points[i-1].at) // the value is of the interval that ended there
	}
	y := func(i int) float64 {
		v := e.points[i].v
		if math.IsInf(v, 1) {
			v = top
		}
		return y1 - (y1-y0)*min(max(v/top, 0), 1)
	}
	d.path(inkQueue, stepArea(n, x, y, func(i int) float64 {
		if math.IsNaN(e.points[i].v) {
			return math.NaN()
		}
		return y1
	}), "")
	d.text(inkText, x0, 11, "start", m.name+"; shaded: while it was raised").Size = "11"
	d.text(inkFaint, x0-6, y0+9, "end", m.form(top)).Size = "11"
	d.text(inkFaint, x0-6, y1, "end", "0").Size = "11"
	d.path(severityOutline(f.Severity), fmt.Sprintf("M%s %sV%s", coord(s.x(from)), coord(y0), coord(y1)), "raised")
	p := &plot{Label: m.name + " around when it was raised"}
	return p.drawn(d)
}

// StripBox is the frame of reference of a strip.
func (p *plot) StripBox() string { return fmt.Sprintf("0 0 %d %s", stripWidth, p.Height) }

func severityOutline(s diagnose.Severity) ink {
	k := outline(s)
	k.Width = "2"
	return k
}
