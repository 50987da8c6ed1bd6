// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var (
	costUser   = counterInfo{in: groupCost, name: "tracer, of one core", rank: 1, unit: percent}
	costBPF    = counterInfo{in: groupCost, name: "BPF programs, of one core", rank: 2, unit: percent}
	costMemory = counterInfo{in: groupCost, name: "memory", rank: 3, unit: unit{kind: unitBytes}, gauge: true}
	costLost   = counterInfo{in: groupCost, name: "events lost", rank: 4, unit: unit{kind: unitCount}, gauge: true}
)

func (t *Trace) cost(f *model.Frame) {
	of := func(info *counterInfo) *counter { return t.counterOf(info, 0, 0) }
	t.set(of(&costUser), 100*f.Cost.UserRatio)
	t.set(of(&costBPF), 100*f.Cost.BPFRatio)
	t.set(of(&costMemory), float64(f.Cost.MemoryBytes))
	t.set(of(&costLost), float64(f.Cost.LostTotal))
}

// command writes the slice of the traced command, if there was one: from the
// trace's beginning to its end.
func (t *Trace) command(c *report.Command) {
	words := t.header.Command
	var args []arg
	if c != nil {
		words, args = c.Args, []arg{{"exit_code", strconv.Itoa(c.ExitCode)}}
	}
	if len(words) == 0 {
		return
	}
	l := t.lanesOf(sliceKey{groupCommand, 0, "command"}, t.group(groupCommand), 0)
	t.slice(&t.budget.rest, l, min(t.header.MonoNS, t.last), t.last, text(strings.Join(words, " ")), args...)
}

// maxGaps bounds the signals whose gaps are shown.
const maxGaps = 64

// gap is since when a signal is not measured, or only a part of the time.
type gap struct {
	why   string // "": it is measured
	since uint64
}

// watchGaps notes where a signal begins or ceases to be measured.
func (t *Trace) watchGaps(f *model.Frame) {
	for i := range t.gaps {
		s, why := &t.header.Signals[i], ""
		switch {
		case f.Measured(s.Name) && f.Sampled(s.Name):
			why = "measured a part of the time, to save its cost"
		case f.Measured(s.Name):
		case s.Accuracy == sample.Unavailable:
			why = "not measured: " + text(model.RejectedFor(s))
		default:
			why = "not measured, to save its cost"
		}
		if g := &t.gaps[i]; g.why != why {
			t.closeGap(i, t.from)
			*g = gap{why, t.from}
		}
	}
}

// closeGap writes the slice of the gap that signal i has, if it has one.
func (t *Trace) closeGap(i int, until uint64) {
	if g := &t.gaps[i]; g.why != "" {
		l := t.lanesOf(sliceKey{groupGaps, uint64(i), text(t.header.Signals[i].Name)}, t.group(groupGaps), i+1)
		t.slice(&t.budget.rest, l, g.since, until, g.why)
		g.why = ""
	}
}

func (t *Trace) closeGaps() {
	for i := range t.gaps {
		t.closeGap(i, t.last)
	}
}

// note writes a word about the trace itself.
func (t *Trace) note(at uint64, name string, args ...arg) {
	t.instant(&t.budget.notes, t.lanesOf(sliceKey{groupNotes, 0, "notes"}, t.group(groupNotes), 0), at, name, args...)
}

// noteHost says of what the trace is.
func (t *Trace) noteHost() {
	h := t.header
	t.note(t.first, "traced by herdtrace", some(arg{"version", text(h.Version)}, arg{"host", text(h.Host)}, arg{"kernel", text(h.Kernel)},
		arg{"arch", text(h.Arch)}, arg{"cpus", uint64(max(h.CPUs, 0))}, arg{"interval", time.Duration(h.IntervalNS).String()},
		arg{"measured_with", text(h.Rung)}, arg{"why_no_better", text(h.RungReason)})...)
}

// noteThinned says that counters are written more rarely from here on.
func (t *Trace) noteThinned() {
	t.note(t.last, fmt.Sprintf("from here on, a counter's value is the highest of %d intervals", t.budget.stride),
		arg{"because", fmt.Sprintf("a trace has at most %d events", t.budget.events)})
}

// noteLeftOut says what had no room.
func (t *Trace) noteLeftOut() {
	if n := t.budget.leftOut; n > 0 {
		t.note(t.last, fmt.Sprintf("%d events left out: a trace has at most %d", n, t.budget.events))
	}
	if n := t.budget.untracked; n > 0 {
		t.note(t.last, fmt.Sprintf("%d values and slices left out: a trace has at most %d tracks", n, maxTracks))
	}
}
