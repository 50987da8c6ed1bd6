// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// MaxMarkdownBytes bounds what a Markdown writes: GitHub refuses the whole
// summary of a job step from 1 MiB on, and nobody reads a tenth of that.
const MaxMarkdownBytes = 64 << 10

// Markdown writes, at the end, a page for a pull request or a job summary:
// verdict, findings, what was looked at, what that cost.
type Markdown struct {
	w      io.Writer
	header *sample.Header
}

// NewMarkdown returns a sink that writes GitHub's Markdown to w.
func NewMarkdown(w io.Writer) *Markdown { return &Markdown{w: w} }

// Begin implements Sink.
func (m *Markdown) Begin(h *sample.Header) error { m.header = h; return nil }

// Step implements Sink.
func (m *Markdown) Step(*Step) error { return nil }

// End implements Sink.
func (m *Markdown) End(s *Summary) error {
	if m.header == nil {
		return nil // never begun: a sink before this one failed
	}
	p := &page{}
	p.heading(s)
	if s.Last != nil {
		p.about(m.header, s)
	}
	p.conditions(s.Verdict)
	p.findings(s)
	if f := s.Last; f != nil {
		p.unseen(f)
		p.listeners(f)
		c := &f.CostMean
		p.add("\nTrace cost %s of one core, %d events lost%s.\n", corePercent(c.UserRatio+c.BPFRatio), c.LostTotal, mdText(lostDetail(&f.Sample.Self)))
	}
	if _, err := io.WriteString(m.w, p.String()); err != nil {
		return fmt.Errorf("write Markdown: %w", err)
	}
	return nil
}

// page is a text that does not grow beyond MaxMarkdownBytes.
type page struct {
	strings.Builder
	full bool
}

const pageCut = "\nThe rest is left out: this page is full.\n"

// add writes a block whole or, from the first that has no room on, none.
func (p *page) add(format string, args ...any) {
	block := fmt.Sprintf(format, args...)
	switch {
	case p.full:
	case p.Len()+len(block)+len(pageCut) > MaxMarkdownBytes:
		p.full = true
		p.WriteString(pageCut)
	default:
		p.WriteString(block)
	}
}

func (p *page) heading(s *Summary) {
	n := len(s.Findings) + s.Dropped
	switch {
	case s.Verdict != nil:
		p.add("## herdtrace: %s\n", strings.ToUpper(s.Verdict.Outcome))
	case s.Last == nil:
		p.add("## herdtrace: nothing was measured\n")
	case n == 0:
		p.add("## herdtrace: no finding\n")
	default:
		p.add("## herdtrace: %s\n", model.Plural(n, "finding"))
	}
}

func (p *page) about(h *sample.Header, s *Summary) {
	f := s.Last
	conns := ""
	if n, known := connections(f); known {
		conns = fmt.Sprintf(", %d connections", n)
	}
	if c := s.Command; c != nil {
		conns += fmt.Sprintf(", command %s exit %d", mdText(strings.Join(c.Args, " ")), c.ExitCode)
	}
	p.add("\n%.1f s on %s (Linux %s, %d CPU)%s\n", f.Elapsed.Seconds(), mdText(h.Host), mdText(h.Kernel), h.CPUs, conns)
}

func (p *page) conditions(v *Verdict) {
	if v == nil {
		return
	}
	p.add("\n| verdict | must not be | because |\n|---|---|---|\n")
	for _, c := range v.Conditions {
		p.add("| %s | %s | %s |\n", strings.ToUpper(c.Outcome), mdText(c.Text), mdText(c.Reason))
	}
}

func (p *page) findings(s *Summary) {
	if len(s.Findings) > 0 {
		p.add("\n### Findings\n\n")
	}
	for _, worst := range []diagnose.Severity{diagnose.Crit, diagnose.Warn} {
		for i := range s.Findings {
			g := &s.Findings[i]
			if g.Severity != worst {
				continue
			}
			end := ""
			if g.State == diagnose.Cleared {
				end = fmt.Sprintf(" (gone after %.0f s: %s)", g.Until.Sub(g.Since).Seconds(), mdText(g.Outcome))
			}
			p.add("- **%s %s** %s%s\n  - remedy: %s; then %s\n", strings.ToUpper(g.Severity.String()), mdText(g.ID),
				mdText(g.Sentence()), end, mdText(g.Remedy), mdText(g.Verify))
		}
	}
	if s.Dropped > 0 {
		p.add("- and %d milder ones that came and went before these\n", s.Dropped)
	}
}

// unseen says what was not looked for: no finding of it is no good news.
func (p *page) unseen(f *model.Frame) {
	first := true
	for _, k := range diagnose.Kinds() {
		why := k.Unseen(f)
		if why == "" {
			continue
		}
		if first {
			p.add("\n### Not looked for\n\n")
		}
		first = false
		p.add("- %s: %s\n", mdText(k.ID), mdText(why))
	}
}

func (p *page) listeners(f *model.Frame) {
	if f.Accept == nil {
		return
	}
	shown := 0
	for _, l := range refusersFirst(f.Accept.Listeners) {
		if l.AcceptsTotal+l.CompletionsTotal == 0 && queueText(l) == "" {
			continue
		}
		if shown++; shown == 1 {
			p.add("\n### Listeners\n\n| listener | program | workers | connections | wake-ups per connection | EAGAIN | refused |\n|---|---|---|---:|---:|---:|---:|\n")
		}
		if shown > summaryListeners {
			continue
		}
		p.add("| %s | %s | %s, %s | %s | %s | %s | %s |\n", mdText(l.Name), mdText(l.Program), workersText(f, l), mdText(l.Wait),
			counted(f.ConnsKnown(l))(l.CompletionsTotal), perAcceptText(f, l), counted(f.MeasuredAt(l, model.SignalAccept))(l.AcceptEAGAINTotal), refusedText(l))
	}
	if n := shown - summaryListeners; n > 0 {
		p.add("\nand %s\n", model.Plural(n, "more listener"))
	}
}

func refusedText(l *model.Listener) string {
	switch q := l.Queue; {
	case q == nil && l.Proto == "unix":
		return "-"
	case q == nil:
		return "?"
	case q.Approximate:
		return fmt.Sprintf("about %d", q.Refusals.Total())
	default:
		return fmt.Sprint(q.Refusals.Total())
	}
}

// mdText makes foreign text safe in a line or a table cell: whatever Markdown,
// GitHub or a browser would take for more than a character is written as a
// reference, which can be no markup (CommonMark 0.31, 2.5).
func mdText(s string) string {
	s = model.Printable(s)
	var out strings.Builder
	for i, r := range s {
		if strings.ContainsRune("\\`*_[]<>&|~#@$\"", r) || r == ':' && startsMore(s[i+1:]) || r == '.' && strings.EqualFold(s[max(i-3, 0):i], "www") {
			fmt.Fprintf(&out, "&#%d;", r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

// startsMore reports whether a colon before rest would begin an address that
// becomes a link ("http://"), or a picture by name (":tada:").
func startsMore(rest string) bool {
	if strings.HasPrefix(rest, "//") {
		return true
	}
	name := strings.TrimLeftFunc(rest, func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '+' || r == '-'
	})
	return name != rest && strings.HasPrefix(name, ":")
}
