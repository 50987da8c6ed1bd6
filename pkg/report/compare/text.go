// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// WriteText writes d for a person: the verdicts, their evidence, and then the
// measures.
func (d *Diff) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "herdtrace diff: %s\n", strings.ToUpper(d.Verdict))
	d.A.line(&b, "A")
	d.B.line(&b, "B")
	for _, s := range d.Doubts {
		fmt.Fprintf(&b, "  ? inconclusive: %s\n", s)
	}
	for _, s := range d.Notes {
		fmt.Fprintf(&b, "  note: %s\n", s)
	}
	d.findingLines(&b)
	d.measureLines(&b)
	_, err := w.Write(b.Bytes())
	if err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	return nil
}

func (s *Side) line(b *bytes.Buffer, name string) {
	fmt.Fprintf(b, "  %s %s: ", name, model.Printable(s.Name))
	if h := s.Header; h != nil {
		fmt.Fprintf(b, "%s (Linux %s, %d CPU), ", model.Printable(h.Host), model.Printable(h.Kernel), h.CPUs)
	}
	fmt.Fprintf(b, "%s, %.1f s, %s connections (%s/s), %s lost\n", model.Plural(s.intervals, "interval"), s.elapsed.Seconds(),
		model.Num(s.conns), model.Num(s.rate()), model.Num(float64(s.lost)))
}

// marks stand before a verdict: colour is not the only sign, and there is none.
var marks = map[string]string{Worse: "x", New: "x", Moved: ">", Inconclusive: "?", Fixed: "+", Better: "+", Unchanged: "="}

func (d *Diff) findingLines(b *bytes.Buffer) {
	b.WriteString("\nfindings\n")
	if len(d.Findings) == 0 {
		b.WriteString("  none in A, none in B\n")
	}
	for i := range d.Findings {
		f := &d.Findings[i]
		fmt.Fprintf(b, "  %s %-12s %s %s: %s\n", marks[f.Verdict], strings.ToUpper(f.Verdict), f.ID, f.Subject, f.Key.words())
		if f.Why != "" {
			fmt.Fprintf(b, "      %s\n", f.Why)
		}
		evidence(b, "A", f.A, f.ActiveA)
		evidence(b, "B", f.B, f.ActiveB)
		if f.B != nil && f.Verdict != Unchanged {
			fmt.Fprintf(b, "      remedy: %s\n", f.B.Remedy)
		}
	}
}

func evidence(b *bytes.Buffer, side string, f *diagnose.Finding, active float64) {
	if f == nil {
		fmt.Fprintf(b, "      %s: not raised\n", side)
		return
	}
	fmt.Fprintf(b, "      %s: %s %.0f%% of the time, %s\n", side, f.Severity, 100*active, f.Evidence)
}

// words are "wake-ups per connection 7.9 -> 1 (-6.9, between -7 and -6.8)".
func (c *Change) words() string {
	out := fmt.Sprintf("%s %s -> %s", strings.TrimSpace(c.spec.label), c.figure(c.a.value), c.figure(c.b.value))
	if c.missing != "" {
		return out + ", not compared: " + c.missing
	}
	return out + " " + c.interval()
}

// interval is the change and where it is for certain.
func (c *Change) interval() string {
	s := c.spec.scale
	out := fmt.Sprintf("(%s, from %s to %s", signed(c.c.diff*s), signed(c.c.low*s), signed(c.c.high*s))
	if c.c.apart > 0 {
		out += fmt.Sprintf("; %d of %d parts beyond all of the other's", c.c.apart, c.c.apartOf)
	}
	return out + ")"
}

// figure is a value with its unit; ~ where a signal was approximate.
func (c *Change) figure(v float64) string {
	if !finite(v) {
		return "-"
	}
	mark := ""
	if c.approx {
		mark = "~"
	}
	return mark + figures(v*c.spec.scale) + c.spec.unit
}

// figures prints three of them.
func figures(v float64) string {
	switch abs := math.Abs(v); {
	case !finite(v):
		return "-"
	case abs >= 999.5:
		return model.Num(v)
	case abs < 0.0005:
		return "0"
	default:
		digits := min(max(2-int(math.Floor(math.Log10(abs))), 0), 3)
		out := strconv.FormatFloat(v, 'f', digits, 64)
		if strings.Contains(out, ".") {
			out = strings.TrimRight(strings.TrimRight(out, "0"), ".")
		}
		return out
	}
}

func signed(v float64) string {
	out := figures(math.Abs(v))
	switch {
	case out == "0" || out == "-":
		return out
	case v < 0:
		return "-" + out
	}
	return "+" + out
}

// measureLines are those of all subjects that have a finding, or of which a
// measure changed, and the host's.
func (d *Diff) measureLines(b *bytes.Buffer) {
	shown, hidden := d.shown(), 0
	fmt.Fprintf(b, "\nmeasures, A -> B (change, and its 95%% interval; + and -: beyond chance, and a fifth at least)\n")
	last := ""
	for i := range d.Measures {
		c := &d.Measures[i]
		if !shown[c.Subject] {
			hidden++
			continue
		}
		if c.spec.quiet && zero(c.a.value) && zero(c.b.value) {
			continue
		}
		if c.Subject != last {
			fmt.Fprintf(b, "  %s\n", c.Subject)
			last = c.Subject
		}
		mark := " "
		if c.Real() {
			mark = "-"
			if c.c.diff > 0 {
				mark = "+"
			}
		}
		fmt.Fprintf(b, "  %s %-56s %s -> %s", mark, c.spec.label, c.figure(c.a.value), c.figure(c.b.value))
		if c.missing != "" {
			fmt.Fprintf(b, "   not compared: %s\n", c.missing)
		} else {
			fmt.Fprintf(b, "   %s\n", c.interval())
		}
	}
	if hidden > 0 {
		fmt.Fprintf(b, "  and %s of subjects without a finding or a change (all with --json)\n", model.Plural(hidden, "measure"))
	}
	fmt.Fprintf(b, "method: %s\n", method)
}

// method is said in both outputs, for a number without it proves nothing.
const method = "ratios of sums over the intervals; Welch's t interval of each difference, from how the intervals differ (neighbours that are " +
	"alike count once; no less than a Poisson count's error); a change is beyond chance where that leaves out 0, or more intervals than " +
	"chance would have exceed all of the other side (or all but a few have what the other side never had), at an error of 1% that is divided among the findings, and another among the measures"

func zero(v float64) bool { return v == 0 || !finite(v) }

func (d *Diff) shown() map[string]bool {
	out := map[string]bool{"host": true}
	for i := range d.Findings {
		out[d.Findings[i].on.one().label] = true
	}
	for i := range d.Measures {
		if c := &d.Measures[i]; c.Real() {
			out[c.Subject] = true
		}
	}
	return out
}
