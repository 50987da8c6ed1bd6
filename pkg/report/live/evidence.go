// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// findingID tells findings apart, as an id in Place.
func findingID(f *diagnose.Finding) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", f.ID, f.Since.UnixNano())
	if !diagnose.OfHost(f.ID) { // or what it names first may change
		fmt.Fprintf(h, " %d %d %d %d", f.Inode, f.CPU, f.CGroupID, f.PID)
	}
	return max(h.Sum64(), 1)
}

// findings are the rows of the findings panel: those that are raised, worst
// first, then those that are gone, the last one first.
func (v *View) findings() []*diagnose.Finding {
	var out []*diagnose.Finding
	for i := range v.Active {
		out = append(out, &v.Active[i])
	}
	for i := len(v.Cleared) - 1; i >= 0; i-- {
		out = append(out, &v.Cleared[i])
	}
	return out
}

// since is when f was raised, on the screen's clock; unknown is below 0.
func (v *View) since(f *diagnose.Finding) time.Duration {
	if v.Frame == nil || f.Since.IsZero() {
		return -1
	}
	return v.Frame.Elapsed - v.Frame.Wall.Sub(f.Since)
}

// lasted is for how long f was, or has been, raised.
func (v *View) lasted(f *diagnose.Finding) time.Duration {
	switch {
	case v.Frame == nil || f.Since.IsZero():
		return 0
	case f.State == diagnose.Cleared:
		return f.Until.Sub(f.Since)
	}
	return v.Frame.Wall.Sub(f.Since)
}

func (v *View) findingTable() *table[*diagnose.Finding] {
	type f = *diagnose.Finding
	return filtered(v, &table[f]{
		cols: []column[f]{
			{title: "SINCE", keep: 5, min: 8, max: 8, text: func(r f) string {
				if at := v.since(r); at >= 0 {
					return clock(at)
				}
				return none
			}},
			{title: "FOR", keep: 6, min: 6, num: func(r f) float64 { return v.lasted(r).Seconds() }, text: func(r f) string { return seconds(v.lasted(r).Round(time.Second).Seconds()) }},
			{title: "FINDING", keep: 7, min: 12, max: 28, text: func(r f) string { return safe(r.ID) }},
			{title: "WHO, WHAT", keep: 10, min: 20, max: 400, text: func(r f) string {
				if r.State == diagnose.Cleared {
					return safe(r.Subject) + ": gone: " + safe(r.Outcome)
				}
				return safe(r.Subject) + ": " + safe(r.Evidence)
			}},
		},
		rows:  v.findings(),
		id:    findingID,
		place: v.UI.Finding, panel: Findings, held: v.held[Findings],
		mark: func(r f) (string, Style) {
			if r.State == diagnose.Cleared {
				return "ok", Dim
			}
			return mark(r.Severity)
		},
	}, v.findingTraits, allKinds)
}

// selectedFinding is that of the findings panel; nil where there is none.
func (v *View) selectedFinding() *diagnose.Finding {
	t := v.findingTable()
	if t.count() == 0 {
		return nil
	}
	return t.shown()[t.index()]
}

// openedFinding is what is behind a finding: its evidence over time, and what to do.
func (v *View) openedFinding() *drill {
	for _, f := range v.findings() {
		if findingID(f) == v.UI.Opened {
			return &drill{
				title: "FINDING " + safe(f.ID), what: "finding",
				about: func(w int) []line { return v.findingAbout(f, w) },
				of:    func(g *diagnose.Finding) bool { return findingID(g) == v.UI.Opened },
				alone: true,
			}
		}
	}
	return nil
}

// findingAbout is all that is known of f.
func (v *View) findingAbout(f *diagnose.Finding, w int) []line {
	var out []line
	paragraph := func(name, text string, st Style) {
		for i, t := range wrap(safe(text), w-tableLeft-10) {
			if i > 0 {
				name = ""
			}
			out = append(out, line{text: fmt.Sprintf("%-9s %s", name, t), st: st, indent: tableLeft})
		}
	}
	m, st := mark(f.Severity)
	state, what := "raised "+span(v.lasted(f))+" ago", "what"
	if f.State == diagnose.Cleared {
		m, st, what = "ok", Dim, "it was"
		state = "gone after " + span(v.lasted(f)) + ": " + f.Outcome
	}
	paragraph(what, f.Subject+": "+f.Evidence, st)
	if len(out) > 0 {
		out[0].mark = m
	}
	if !f.Since.IsZero() {
		paragraph("since", state, Normal)
	}
	if f.Cause != "" {
		paragraph("why", f.Cause, Normal)
	}
	out = append(out, v.evidence(f, w)...)
	paragraph("remedy", f.Remedy, Head)
	paragraph("then", f.Verify, Normal)
	return out
}

// proof is one gauge that shows a finding.
type proof struct {
	of    rowID
	gauge int
}

// proofs are the gauges of what f is about, the one that it is judged by first.
func proofs(f *diagnose.Finding) []proof {
	all := func(panel Panel, id uint64, gauges ...int) (out []proof) {
		for _, k := range gauges {
			out = append(out, proof{rowID{panel, id}, k})
		}
		return out
	}
	host := func(gauges ...int) (out []proof) {
		for _, k := range gauges {
			out = append(out, proof{aHost, k})
		}
		return out
	}
	has := func(prefix string) bool { return strings.HasPrefix(f.ID, prefix) }
	switch {
	case has("accept-herd"):
		return all(Herd, f.Inode, gWakeups, gEmptyCPU, gEAGAIN, gConns)
	case has("accept-queue-overflow"):
		return all(Herd, f.Inode, gRefused, gFull, gConns)
	case has("accept-queue-wait"):
		return all(Herd, f.Inode, gQueueWait, gFull, gConns)
	case has("syn-queue"):
		return all(Herd, f.Inode, gRefused, gConns)
	case has("accept-"):
		return all(Herd, f.Inode, gConns, gFull, gWakeups)
	case has("runq-"):
		return all(CPUs, uint64(f.CPU+1), gRunnable, gUnclaimed, gWaitP99, gBusy)
	case has("netrx-"):
		return all(CPUs, uint64(f.CPU+1), gNetRX, gDropped, gBusy)
	case has("netdev-") && f.CPU >= 0:
		return all(CPUs, uint64(f.CPU+1), gDropped, gNetRX, gBusy)
	case has("netdev-"):
		return host(gHostDrops, gHostBusy)
	case has("cputime-") && f.PID == 0:
		return all(CPUs, uint64(f.CPU+1), gBusy, gRunnable)
	case has("cputime-"):
		return all(Processes, uint64(f.PID), gRun, gClaimed)
	case has("cpu-oversold"):
		return host(gSold, gHostBusy)
	case f.CGroupID != 0:
		return all(CGroups, f.CGroupID, gPeriods, gThrottled, gUsed, gWaiting)
	}
	return host(gHostBusy)
}

// gaugeOf describes a proof's gauge.
func gaugeOf(p proof) *gauge {
	switch p.of.panel {
	case Herd:
		return &listenerMeters[p.gauge].gauge
	case CPUs:
		return &cpuMeters[p.gauge].gauge
	case CGroups:
		return &cgroupMeters[p.gauge].gauge
	case Processes:
		return &processMeters[p.gauge].gauge
	}
	return &hostMeters[p.gauge].gauge
}

// evidence is how the gauges of f were, a line each: what it is, now, its range,
// and how it went; where that is too much for one line, on the next.
func (v *View) evidence(f *diagnose.Finding, w int) []line {
	const label = 9 + 2 + 27
	left := tableLeft + 10
	room := min(w-left-label-24, keepTicks)
	below := room < 16
	if below {
		room = min(w-left-1, keepTicks)
	}
	var out []line
	whole, shown := 0, 0
	for _, p := range proofs(f) {
		k, t := gaugeOf(p), v.History.trail(p.of, p.gauge)
		least, most := t.least(), t.most()
		if !(least <= most) {
			continue // not measured
		}
		text := fmt.Sprintf("%9s  %s", k.form(float64(t[len(t)-1])), k.name)
		text = fmt.Sprintf("%-*s  %s to %s", label, clip(text, label), k.form(least), k.form(most))
		name := ""
		if len(out) == 0 {
			name = "evidence"
		}
		l := line{text: fmt.Sprintf("%-9s %s", name, text), indent: tableLeft}
		picture := t.tail(max(room, 0))
		whole, shown = max(whole, len(t)), max(shown, len(picture))
		if below && len(picture) > 0 {
			out = append(out, l)
			l = line{indent: tableLeft}
		}
		l.gauge, l.trail = k, picture
		out = append(out, l)
	}
	if len(out) > 0 {
		text := "now, and from least to most in " + span(v.History.span(whole))
		if shown < whole {
			text += "; the picture: the last " + span(v.History.span(shown))
		}
		out = append(out, line{text: clip(strings.Repeat(" ", 10)+text, w-tableLeft), indent: tableLeft, st: Dim})
	}
	return out
}

// interval is the time between two ticks.
func (v *View) interval() time.Duration {
	if v.Frame == nil || !model.Known(v.Frame.Interval.Seconds()) {
		return 0
	}
	return v.Frame.Interval
}
