// SPDX-License-Identifier: Apache-2.0

// Package html writes one self-contained page about a trace: the verdict, the
// findings with their evidence over time, plots on one time axis, and tables. It
// needs no script, no style and no other file to be read, and asks for none.
package html

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Options are what a Report may say besides what it is given.
type Options struct {
	// Source names the recording that the page is made from; "" where there is none.
	Source string
}

// Report is the sink that writes the page, at the end. The memory that it takes
// until then does not grow with the time.
type Report struct {
	w       io.Writer
	options Options
	header  *sample.Header
	time    *timeline
	strips  strips
	begun   time.Time     // the first Sample
	last    time.Duration // the last one, since then
	ticks   int
	// What was collected at any tick.
	accept, queues, groups bool
}

var _ report.Sink = (*Report)(nil)

// New returns a Report that writes to w, which it does not close.
func New(w io.Writer, o Options) *Report { return &Report{w: w, options: o} }

// Begin implements report.Sink.
func (r *Report) Begin(h *sample.Header) error {
	r.header = h
	r.time = newTimeline(time.Duration(min(h.IntervalNS, uint64(sample.MaxInterval))))
	return nil
}

// Step implements report.Sink.
func (r *Report) Step(s *report.Step) error {
	f := s.Frame
	if r.ticks == 0 {
		r.begun = f.Wall
	}
	r.ticks++
	r.last = f.Elapsed
	r.accept = r.accept || f.Accept != nil
	r.queues = r.queues || f.Queues != nil
	r.groups = r.groups || f.CGroups != nil
	if f.Interval > 0 && !(f.Sample.Final && f.Interval < f.Asked()/2) { // else too short to speak of rates
		r.time.add(f)
	}
	r.strips.step(s)
	return nil
}

// End implements report.Sink: it writes the page.
func (r *Report) End(sum *report.Summary) error {
	if err := tmpl.Execute(r.w, r.page(sum)); err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}

// ending is a Summary with what the page needs of it.
type ending struct {
	*report.Summary
	begun    time.Time
	last     time.Duration
	findings []diagnose.Finding // worst first
}

func (r *Report) ending(sum *report.Summary) *ending {
	e := &ending{Summary: sum, begun: r.begun, last: r.last, findings: slices.Clone(sum.Findings)}
	slices.SortStableFunc(e.findings, func(a, b diagnose.Finding) int {
		if a.Severity != b.Severity {
			return int(b.Severity) - int(a.Severity)
		}
		return a.Since.Compare(b.Since)
	})
	return e
}

// raised is from when to when f was, since the first Sample.
func (e *ending) raised(f *diagnose.Finding) (from, to time.Duration) {
	from, to = f.Since.Sub(e.begun), e.last
	if f.State == diagnose.Cleared {
		to = f.Until.Sub(e.begun)
	}
	return max(from, 0), max(to, from)
}

// approximate reports whether the signal's numbers are estimates.
func (e *ending) approximate(signal string) bool {
	return e.Last != nil && e.Last.Accuracy(signal) == sample.Approximate
}

// missing says why there is nothing of a signal to be shown, where something
// should be; "" where there is.
func (r *Report) missing(signal string, some bool) string {
	for i := range r.header.Signals {
		if s := &r.header.Signals[i]; s.Name == signal && s.Accuracy == sample.Unavailable {
			return "not measured: " + clip(model.RejectedFor(s), mostText)
		}
	}
	switch {
	case some:
		return ""
	case r.ticks < 2:
		return "not measured: the trace has no interval"
	}
	return "not measured"
}
