// SPDX-License-Identifier: Apache-2.0

package html

import (
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

//go:embed page.tmpl
var source string

var tmpl = template.Must(template.New("page").Parse(source))

// mostFindings bounds those that are told in full, mostBrief those after them in a
// line each, mostFacts lists of what the header has.
const (
	mostFindings = 20
	mostBrief    = 60
	mostFacts    = 32
)

// page is what the template shows. Every text in it is printable; the template
// escapes it.
type page struct {
	Title    string
	Mark     string // CRIT, WARN, OK, ?
	Class    string
	Verdict  string
	Under    []string // what must be said right below it
	Findings []findingView
	Brief    []string // those that are told in a line
	More     string   // findings
	When     *plot
	Plots    []*plot
	Tables   []*table
	Facts    []fact
	Signals  []signalView
	Costs    []fact
	Source   string
}

type fact struct{ Name, Text string }

type signalView struct{ Name, Variant, Accuracy, Note string }

type findingView struct {
	Class, Severity, ID                      string
	Subject, Evidence, Cause, Remedy, Verify string
	When, Outcome                            string
	Strip                                    *plot
}

func (r *Report) page(sum *report.Summary) *page {
	e := r.ending(sum)
	p := &page{Source: clip(r.options.Source, mostName)}
	host := clip(r.header.Host, mostName)
	p.Title = fmt.Sprintf("herdtrace: %s, %s", host, utc(r.begun))
	r.verdict(p, e)
	p.Facts = r.facts(e)
	p.Signals = r.signals(sum.Last)
	if sum.Last == nil {
		p.Title = "herdtrace: " + host
		return p
	}
	for i := range e.findings[:min(len(e.findings), mostFindings)] {
		p.Findings = append(p.Findings, r.finding(&e.findings[i], e))
	}
	rest := e.findings[len(p.Findings):]
	for i := range rest[:min(len(rest), mostBrief)] {
		f := &rest[i]
		from, _ := e.raised(f)
		p.Brief = append(p.Brief, fmt.Sprintf("%s %s at %s: %s", strings.ToUpper(f.Severity.String()), f.ID, clock(from, false), clip(f.Subject, mostName)))
	}
	if n := len(rest) - len(p.Brief); n > 0 {
		p.More = fmt.Sprintf("And %s, which the text report tells.", model.Plural(n, "more finding"))
	}
	p.When = r.findingsPlot(e)
	for _, draw := range []func(*ending) *plot{r.runqPlot, r.herdPlot, r.throttlePlot, r.queuePlot, r.netrxPlot} {
		p.Plots = append(p.Plots, draw(e))
	}
	for _, list := range []func(*model.Frame, *report.Worst) *table{r.listenerTable, r.coreTable, r.groupTable, r.processTable} {
		p.Tables = append(p.Tables, list(sum.Last, &sum.Worst))
	}
	p.Costs = r.costs(sum.Last)
	return p
}

// verdict is the first line, and what limits it.
func (r *Report) verdict(p *page, e *ending) {
	var crit, warn, gone int
	for i := range e.findings {
		if e.findings[i].Severity == diagnose.Crit {
			crit++
		} else {
			warn++
		}
		if e.findings[i].State == diagnose.Cleared {
			gone++
		}
	}
	var missing []string
	if e.Last != nil {
		missing = report.Unmeasured(e.Last)
	}
	switch {
	case e.Last == nil:
		p.Mark, p.Class, p.Verdict = "?", "unk", "Nothing was measured"
		return
	case crit > 0 && warn > 0:
		p.Mark, p.Class, p.Verdict = "CRIT", "crit", fmt.Sprintf("%s and %s", model.Plural(crit, "critical finding"), model.Plural(warn, "warning"))
	case crit > 0:
		p.Mark, p.Class, p.Verdict = "CRIT", "crit", model.Plural(crit, "critical finding")
	case warn > 0:
		p.Mark, p.Class, p.Verdict = "WARN", "warn", model.Plural(warn, "warning")
	case len(missing) > 0 || r.ticks < 2:
		p.Mark, p.Class, p.Verdict = "?", "unk", "No verdict: nothing was found, but not all was measured"
	default:
		p.Mark, p.Class, p.Verdict = "OK", "ok", "No finding"
	}
	if e.Verdict != nil {
		p.Under = append(p.Under, "The gate says "+e.Verdict.String()+".")
	}
	if gone > 0 && gone < crit+warn {
		p.Under = append(p.Under, fmt.Sprintf("%d of them were gone by the end.", gone))
	} else if gone > 0 {
		p.Under = append(p.Under, map[bool]string{true: "It was gone by the end.", false: "All of them were gone by the end."}[gone == 1])
	}
	if e.Dropped > 0 {
		p.Under = append(p.Under, fmt.Sprintf("%s came and went before these.", model.Plural(e.Dropped, "milder finding")))
	}
	for _, name := range missing {
		p.Under = append(p.Under, fmt.Sprintf("%s was not measured: no verdict on what needs it.", name))
	}
	if n := e.Last.Cost.LostTotal; n > 0 {
		p.Under = append(p.Under, fmt.Sprintf("%d events or counts were lost: %s.", n, lostText(&e.Last.Sample.Self)))
	}
}

func (r *Report) finding(f *diagnose.Finding, e *ending) findingView {
	from, to := e.raised(f)
	v := findingView{
		Class: f.Severity.String(), Severity: strings.ToUpper(f.Severity.String()), ID: f.ID,
		Subject: clip(f.Subject, mostText), Evidence: clip(f.Evidence, mostText), Cause: clip(f.Cause, mostText),
		Remedy: clip(f.Remedy, mostText), Verify: clip(f.Verify, mostText),
		When:  fmt.Sprintf("raised at %s (%s), still there at the end", clock(from, false), f.Since.UTC().Format("15:04:05 UTC")),
		Strip: r.stripPlot(f, e),
	}
	if f.State == diagnose.Cleared {
		v.When = fmt.Sprintf("raised at %s (%s), gone after %s", clock(from, false), f.Since.UTC().Format("15:04:05 UTC"), span(float64(to-from)))
		v.Outcome = clip(f.Outcome, mostText)
	}
	return v
}

func (r *Report) facts(e *ending) []fact {
	h := r.header
	out := []fact{
		{"Host", clip(h.Host, mostName)},
		{"Kernel", fmt.Sprintf("Linux %s, %s, %s", clip(h.Kernel, mostName), clip(h.Arch, 40), model.Plural(h.CPUs, "CPU"))},
	}
	if e.Last != nil {
		out = append(out,
			fact{"Time", fmt.Sprintf("%s, for %s", utc(r.begun), span(float64(r.last)))},
			fact{"Intervals", fmt.Sprintf("%d, every %s", max(r.ticks-1, 0), time.Duration(min(h.IntervalNS, uint64(sample.MaxInterval))))})
		if f := e.Last; f.Accept != nil && (f.Measured(model.SignalAccept) || f.Measured(model.SignalWake)) {
			var n uint64
			for _, l := range f.Accept.Listeners {
				n += l.CompletionsTotal
			}
			out = append(out, fact{"Connections", count(n)})
		}
	}
	if c := e.Command; c != nil {
		out = append(out, fact{"Command", fmt.Sprintf("%s (exit %d)", clip(strings.Join(c.Args, " "), mostText), c.ExitCode)})
	} else if len(h.Command) > 0 {
		out = append(out, fact{"Command", clip(strings.Join(h.Command, " "), mostText)})
	}
	if n := len(h.PIDs); n > 0 {
		out = append(out, fact{"Only pids", list(h.PIDs)})
	}
	if n := len(h.Ports); n > 0 {
		out = append(out, fact{"Only ports", list(h.Ports)})
	}
	if h.Rung != "" {
		text := clip(h.Rung, 40)
		if h.RungReason != "" {
			text += ": " + clip(h.RungReason, mostText)
		}
		out = append(out, fact{"Measured by", text})
	}
	return append(out, fact{"herdtrace", clip(h.Version, 60)})
}

func list[T any](all []T) string {
	text := strings.Trim(fmt.Sprint(all[:min(len(all), mostFacts)]), "[]")
	if n := len(all) - mostFacts; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func (r *Report) signals(f *model.Frame) []signalView {
	var out []signalView
	for i := range r.header.Signals[:min(len(r.header.Signals), mostFacts)] {
		s := &r.header.Signals[i]
		v := signalView{clip(s.Name, 40), clip(s.Variant, 40), clip(s.Accuracy, 40), clip(s.Note, mostText)}
		switch {
		case s.Accuracy == sample.Unavailable:
			v.Variant, v.Accuracy, v.Note = none, "not measured", clip(model.RejectedFor(s), mostText)
		case f != nil && !f.Measured(s.Name):
			v.Accuracy = "given up to save its cost"
		case f != nil && f.Sampled(s.Name):
			v.Accuracy = "~ a part of the time, to save its cost"
		case s.Accuracy == sample.Approximate:
			v.Accuracy = "~ approximate"
		}
		out = append(out, v)
	}
	return out
}

func (r *Report) costs(f *model.Frame) []fact {
	c, self := &f.CostMean, &f.Sample.Self
	core := func(v float64, estimated bool) string {
		if !model.Known(v) {
			return unmeasured
		}
		return about(percent(v), estimated)
	}
	out := []fact{
		{"Of one core", fmt.Sprintf("%s (user %s, BPF %s)", core(c.UserRatio+c.BPFRatio, true), core(c.UserRatio, false), core(c.BPFRatio, true))},
		{"Memory", fmt.Sprintf("%.1f MiB", float64(c.MemoryBytes)/(1<<20))},
		{"Lost", fmt.Sprintf("%d%s", c.LostTotal, inBrackets(lostText(self)))},
	}
	if n := self.TicksSkipped; n > 0 {
		out = append(out, fact{"Ticks left out", fmt.Sprintf("%d, for they would have cost too much", n)})
	}
	if b := self.Budget; b != nil {
		text := fmt.Sprintf("%g%% of the machine", 100*b.Limit)
		switch ever := clip(model.ShedEver(b), mostText); {
		case ever != "":
			text += "; to keep to it: " + ever
		default:
			text += ", kept without doing without anything"
		}
		if b.Exceeded {
			text += "; exceeded, and nothing is left to shed"
		}
		out = append(out, fact{"Budget", text})
	}
	return out
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// lostText is what was lost, by the way in which it was.
func lostText(s *sample.Self) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Lost)) {
		if len(parts) == mostFacts {
			parts = append(parts, "and others")
			break
		}
		parts = append(parts, fmt.Sprintf("%s %d", clip(name, 40), s.Lost[name]))
	}
	if s.RecursionMisses > 0 {
		parts = append(parts, fmt.Sprintf("recursion misses %d", s.RecursionMisses))
	}
	return strings.Join(parts, ", ")
}
