// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Options are a gate's. There is no gate without a condition.
type Options struct {
	Conditions []string // expressions, crit and warn among them
	// MinConns is how many connections a trace must have had to be judged by what
	// takes connections to show.
	MinConns uint64
	// Strict: what is approximate, and any loss, is not measured well enough.
	Strict bool
}

// DefaultMinConns is the least number of connections.
const DefaultMinConns = 200

// Gate is the sink that judges a trace. It must come before the sinks that tell
// the verdict, which it puts into their Summary.
type Gate struct {
	opts       Options
	conditions []condition
	meter      *meter
	header     *sample.Header
	whole      bool // the last Sample of the trace was seen
}

type condition struct {
	text string
	expr expr
}

// New reads the conditions. An error names the one that is wrong.
func New(o Options) (*Gate, error) {
	g := &Gate{opts: o, meter: newMeter(o.MinConns)}
	for _, text := range o.Conditions {
		e, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("condition %.60q: %w", text, err)
		}
		g.conditions = append(g.conditions, condition{strings.TrimSpace(text), e})
	}
	return g, nil
}

// maxConditions bounds a thresholds file.
const maxConditions = 1000

// ReadThresholds reads conditions, one a line; # begins a comment.
func ReadThresholds(in io.Reader) ([]string, error) {
	var out []string
	sc := bufio.NewScanner(in)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if _, err := parse(text); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if out = append(out, text); len(out) > maxConditions {
			return nil, fmt.Errorf("line %d: more than %d conditions", n, maxConditions)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no condition in it")
	}
	return out, nil
}

// Begin implements report.Sink.
func (g *Gate) Begin(h *sample.Header) error { g.header = h; return nil }

// Step implements report.Sink.
func (g *Gate) Step(s *report.Step) error {
	g.meter.add(s.Frame)
	g.whole = s.Frame.Sample.Final
	return nil
}

// End implements report.Sink: it sets s.Verdict.
func (g *Gate) End(s *report.Summary) error {
	g.meter.summary = s
	v := &report.Verdict{Outcome: report.Pass}
	for _, c := range g.conditions {
		out := g.judge(c)
		v.Conditions = append(v.Conditions, out)
		if out.Outcome == report.Fail || out.Outcome == report.Inconclusive && v.Outcome == report.Pass {
			v.Outcome = out.Outcome
		}
		switch c.text {
		case "crit":
			if v.FailOn == 0 {
				v.FailOn = diagnose.Crit
			}
		case "warn":
			v.FailOn = diagnose.Warn
		}
	}
	s.Verdict = v
	return nil
}

// shownFigures bounds a condition's reason.
const shownFigures = 4

func (g *Gate) judge(c condition) report.Condition {
	t, all := c.expr.eval(g.value, nil)
	out := report.Condition{Text: model.Printable(c.text), Outcome: map[truth]string{no: report.Pass, unknown: report.Inconclusive, yes: report.Fail}[t]}
	var reasons []string
	more := 0
	said := make(map[string]bool)
	for i := range all {
		text := all[i].says()
		if all[i].truth != t || said[text] {
			continue
		}
		said[text] = true
		if len(reasons) == shownFigures {
			more++
			continue
		}
		reasons = append(reasons, text)
	}
	if more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	out.Reason = strings.Join(reasons, ", ")
	return out
}

// value is what is known of a metric at the end of the trace.
func (g *Gate) value(name string) value {
	m := metricNamed(name)
	if g.meter.last == nil {
		return nothing("nothing was measured")
	}
	doubt, unseen := g.doubt(m), ""
	if m.unseen != nil {
		unseen = m.unseen(g.meter)
	}
	if doubt = cmp.Or(doubt, unseen); unseen != "" && !m.partly {
		return nothing(doubt)
	}
	v := m.of(g.meter)
	switch {
	case doubt == "":
		return v
	case v.doubt == "" && m.grows:
		return value{v.lo, math.Inf(1), v.measured, v.at, doubt}
	case v.doubt == "":
		return value{math.Inf(-1), math.Inf(1), v.measured, v.at, doubt}
	}
	return nothing(doubt)
}
