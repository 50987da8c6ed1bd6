// SPDX-License-Identifier: Apache-2.0

package live

import (
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// line is a drawn line: a mark in the first columns and the text after it.
type line struct {
	mark   string
	text   string
	st     Style
	indent int

	finding uint64 // that it is about, 0: none
	gauge   *gauge // not nil: a sparkline of trail ends the line
	trail   trail
}

// indent is where the text of a finding and its remedy begins.
const indent = 3

func (l line) draw(g *Grid, y int) {
	g.put(0, y, l.mark, l.st, g.W)
	g.put(l.indent, y, clip(l.text, g.W-l.indent), l.st, g.W)
	if l.gauge != nil {
		g.spark(g.W-1-len(l.trail), y, len(l.trail), l.gauge, l.trail, l.gauge.scale(l.trail.most()), Normal)
	}
}

// mark is how a severity looks without colour.
func mark(s diagnose.Severity) (string, Style) {
	if s == diagnose.Crit {
		return "!!", Crit
	}
	return " !", Warn
}

// shown are the findings about what is opened, or all of them.
func (v *View) shown(d *drill) []diagnose.Finding {
	if d == nil {
		return v.Active
	}
	var out []diagnose.Finding
	for i := range v.Active {
		if d.of(&v.Active[i]) {
			out = append(out, v.Active[i])
		}
	}
	return out
}

// findingLines is at most n lines of findings: see divide.
func (v *View) findingLines(w, n int) []line {
	if n < 1 {
		return nil
	}
	d := v.drill()
	if d != nil && d.alone {
		return nil
	}
	findings := v.shown(d)
	if v.UI.Panel == Findings {
		findings = nil
		if f := v.selectedFinding(); f != nil {
			findings = []diagnose.Finding{*f}
		} else if len(v.Active) > 0 {
			return nil
		}
	}
	if len(findings) == 0 {
		text, st := v.calm()
		if d != nil && len(v.Active) > 0 {
			text, st = "no finding about this "+d.what, Dim
		}
		return v.paragraph(line{text: text, st: st, indent: indent}, w, n)
	}
	more := 0
	if len(findings) > n {
		more = len(findings) - n + 1
		findings = findings[:n-1]
	}
	out := v.divide(findings, w, n-min(more, 1))
	if more > 0 {
		out = append(out, line{text: "and " + model.Plural(more, "more finding"), st: Warn, indent: indent})
	}
	return out
}

// divide gives n lines to the findings, of which each gets one: it says who and
// what. Then comes the first line of each remedy, then the rest of the sentences,
// then that of the remedies.
func (v *View) divide(findings []diagnose.Finding, w, n int) []line {
	type block struct {
		l           line
		whole, have int
	}
	sentences, remedies := make([]block, len(findings)), make([]block, len(findings))
	room := n
	give := func(b *block, most int) {
		more := max(min(most-b.have, b.whole-b.have, room), 0)
		b.have += more
		room -= more
	}
	each := func(blocks []block, most int) {
		for i := range blocks {
			give(&blocks[i], most)
		}
	}
	for i := range findings {
		f := &findings[i]
		m, st := mark(f.Severity)
		if f.State == diagnose.Cleared {
			m, st = "ok", Dim
		}
		text := f.Sentence()
		if f.State == diagnose.Cleared {
			text = "gone after " + span(v.lasted(f)) + ": " + f.Outcome + " (it was: " + text + ")"
		}
		sentences[i].l = line{mark: m, text: safe(text), st: st, indent: indent, finding: findingID(f)}
		sentences[i].whole = len(wrap(sentences[i].l.text, w-indent))
		if f.Remedy != "" && f.State != diagnose.Cleared {
			remedies[i].l = line{text: "remedy: " + safe(f.Remedy), indent: indent, finding: findingID(f)}
			remedies[i].whole = len(wrap(remedies[i].l.text, w-indent))
		}
	}
	each(sentences, 1)
	each(remedies, 1)
	each(sentences, n)
	each(remedies, n)
	var out []line
	for i := range findings {
		out = append(append(out, v.paragraph(sentences[i].l, w, sentences[i].have)...), v.paragraph(remedies[i].l, w, remedies[i].have)...)
	}
	return out
}

// paragraph wraps l into at most n lines; what is too long ends in an ellipsis.
func (v *View) paragraph(l line, w, n int) []line {
	text := wrap(l.text, w-l.indent)
	var out []line
	for i, t := range text {
		if i == n && n > 0 {
			last := &out[n-1]
			last.text = clip(last.text+" "+t, w-l.indent)
			if width(last.text) < w-l.indent && i < len(text) {
				last.text = head(last.text, w-l.indent-1) + "…"
			}
		}
		if i >= n {
			break
		}
		out = append(out, line{mark: l.mark, text: t, st: l.st, indent: l.indent, finding: l.finding})
		l.mark = ""
	}
	return out
}

// calm says what was looked at where nothing was found, and claims no more
// than could be seen.
func (v *View) calm() (string, Style) {
	f := v.Frame
	if f == nil || f.Interval == 0 {
		return "measuring…", Dim
	}
	rest := ""
	for _, name := range []string{model.SignalListen, model.SignalNetRX, model.SignalRunq, model.SignalThrottle, model.SignalCPUTime} {
		if v.unavailable(name) != nil {
			rest += "; " + name + " is not measured"
		}
	}
	if f.Cost.LostTotal > 0 {
		rest += "; " + itoa(f.Cost.LostTotal) + " events lost"
	}
	quiet := span(max(f.Elapsed-v.QuietFrom, 0))
	if v.polled() {
		return v.calmPolled(quiet, rest), Warn
	}
	switch {
	case f.Accept == nil && f.Sched == nil:
		return "nothing can be said: connections are not measured", Warn
	case f.Accept == nil:
		return "no finding in " + quiet + ": " + model.Plural(len(f.CPUs), "core") + ", " +
			model.Plural(len(f.CGroups), "cgroup") + "; connections are not measured" + rest, Warn
	}
	for _, name := range []string{signalAccept, signalWake} {
		if s := v.unavailable(name); s != nil {
			return "no verdict: " + name + " is not measured: " + reason(s), Warn
		}
	}
	open := 0
	var sum sample.Listener
	for _, l := range f.Accept.Listeners {
		if !l.Closed {
			open++
		}
		sum.Counters.Add(l.Counters)
		sum.CompletionsTotal += l.CompletionsTotal
	}
	if sum.AcceptsTotal == 0 && sum.CompletionsTotal == 0 {
		if f.Sched != nil && report.Loaded(f) {
			return "no finding in " + quiet + ": " + model.Plural(len(f.CPUs), "core") + ", no new connections seen" + rest, Normal
		}
		return "no new connections seen; start your load" + rest, Dim
	}
	factorText := model.TotalWakeupsPerAccept(&sum)
	if v.QuietFrom > 0 { // the totals still hold the herd that is gone
		factorText = f.Accept.WakeupsPerS / f.Accept.AcceptsPerS
	}
	text := "no finding in " + quiet + ": " + model.Plural(open, "listener")
	if s := factor(factorText); s != none {
		text += ", " + s + " wake-ups per connection"
	} else {
		text += ", no new connections now"
	}
	return text + rest, Normal
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// drawEvents draws the newest of the last events, n lines with the title.
func (v *View) drawEvents(g *Grid, y, n int) {
	if n < 2 {
		return
	}
	drawTitle(g, y, "EVENTS", "")
	events := v.Events[max(len(v.Events)-(n-1), 0):]
	for i, e := range events {
		kind, what := eventText(&e)
		x := g.put(0, y+1+i, v.clockTime(e.Wall), Dim, g.W) + 2
		g.put(x, y+1+i, kind, Normal, g.W)
		x += 8
		g.put(x, y+1+i, clip(eventOf(&e)+what, g.W-x), Normal, g.W)
	}
}

// eventOf is whom e happened to.
func eventOf(e *model.Event) string {
	switch e.Kind {
	case sample.EventBacklogDrop:
		return safe(e.Device)
	case sample.EventThrottle:
		return cutCGroup(cgroupName(e.Group), 48)
	}
	who := safe(e.Listener)
	if who == "" {
		who = "inode " + itoa(e.Inode)
	}
	if p := safe(e.Program); p != "" && p != "?" {
		who += " " + p
	}
	return who
}

// atPlace names the places of a refusal.
var atPlace = map[string]string{
	sample.PlaceAcceptQueueSYN:    " at SYN",
	sample.PlaceAcceptQueueACK:    " at the final ACK",
	sample.PlaceAcceptQueueCookie: " at a cookie's ACK",
	sample.PlaceSynQueue:          " at the SYN queue",
}

func eventText(e *model.Event) (kind, what string) {
	switch e.Kind {
	case sample.EventHerdBurst:
		return "herd", ": " + itoa(uint64(e.Woken)) + " woken for 1 connection, accept queue " + itoa(uint64(e.AcceptQueueLen))
	case sample.EventRefusal:
		what = ": " + itoa(e.Refused) + atPlace[e.Place]
		if e.Place == sample.PlaceSynQueue {
			what += ", SYN queue " + itoa(uint64(e.SynQueueLen))
		} else {
			what += ", accept queue " + itoa(uint64(e.AcceptQueueLen))
		}
		if e.Client != "" {
			what += ", the last " + safe(e.Client)
		}
		return "refused", what
	case sample.EventBacklogDrop:
		return "dropped", ": " + itoa(e.Refused) + " x CPU backlog full, from cpu" + itoa(uint64(e.CPU))
	case sample.EventThrottle:
		what = ": stopped for " + nanoseconds(float64(e.DurationNS))
		if e.Cores > 1 {
			what += ", " + nanoseconds(float64(e.ThrottledNS)) + " over " + itoa(uint64(e.Cores)) + " cores"
		}
		return "quota", what + ", " + model.Plural(int(e.Threads), "thread") + " waited"
	case sample.EventListenerOpened:
		return "opened", ""
	case sample.EventListenerClosed:
		return "closed", ""
	}
	return clip(safe(e.Kind), 7), ""
}
