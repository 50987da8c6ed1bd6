// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// polled reports whether the trace was made without BPF.
func (v *View) polled() bool { return v.Header != nil && v.Header.Rung == sample.RungProcFS }

// roughly is form for what is exact with BPF, and without it is not.
func (v *View) roughly(form func(float64) string) func(float64) string {
	return func(x float64) string { return v.about(form(x)) }
}

// about marks s where there is no BPF, unless it is no number.
func (v *View) about(s string) string { return about(v.polled() && s != none && s != "?", s) }

// sampled is form for what comes of a signal that may be looked at a part of the
// time, to save its cost: then it is an estimate.
func (v *View) sampled(signal string, form func(float64) string) func(float64) string {
	return func(x float64) string {
		s := form(x)
		return about(v.isSampled(signal) && s != none && s != "?" && !strings.HasPrefix(s, "~"), s)
	}
}

func (v *View) isSampled(signal string) bool { return v.Frame != nil && v.Frame.Sampled(signal) }

// wide is room for a number of so many columns, and its mark.
func (v *View) wide(n int) int { return n + b2i(v.polled()) }

// onlyBy is form where what is in use sees it, else "?".
func (v *View) onlyBy(known func(*model.Frame) bool, form func(float64) string) func(float64) string {
	return func(x float64) string { return v.knownBy(known, form(x)) }
}

// counted reports whether a moment's run or wait of a thread is looked at in the
// kernel: /proc shows what is over.
func counted(f *model.Frame) bool { return f.WaitsKnown() && !f.RunqPolled() }

// rungParts are what the header line says of a trace without BPF.
func (v *View) rungParts(w int) []part {
	if !v.polled() {
		return nil
	}
	parts := []part{{"no BPF", 9, Warn}}
	if why := safe(v.Header.RungReason); why != "" {
		parts = append(parts, part{"(" + clipMiddle(why, min(max(w-46, 16), 72)) + ")", 5, Warn})
	}
	return parts
}

// pace is the interval between two ticks, and that it is longer than was asked for.
func (v *View) pace() part {
	f := v.Frame
	if f == nil || f.Sample == nil || f.Header == nil {
		return part{"every " + every(v.Header.IntervalNS), 1, Normal}
	}
	asked := every(uint64(f.Asked()))
	if f.Sample.Self.TicksSkipped == 0 || f.Sample.Final || f.Interval < f.Asked()*3/2 {
		return part{"every " + asked, 1, Normal}
	}
	return part{fmt.Sprintf("every %s, not %s (too costly)", every(uint64(f.Interval)), asked), 7, Warn}
}

// calmPolled says what was looked at without BPF, where nothing was found.
func (v *View) calmPolled(quiet, rest string) string {
	f := v.Frame
	out := "no finding in " + quiet
	if f.Accept != nil {
		open := 0
		for _, l := range f.Accept.Listeners {
			open += b2i(!l.Closed)
		}
		out += ": " + model.Plural(open, "listener")
	}
	return fmt.Sprintf("%s, %s, %s; without BPF accepts and wake-ups are not measured%s",
		out, model.Plural(len(f.CPUs), "core"), model.Plural(len(f.CGroups), "cgroup"), rest)
}

// polledRunqFacts sums up what the threads say of the run queues, where these are
// not measured; "" where neither are.
func (v *View) polledRunqFacts() string {
	s := v.Frame.Sched
	if s == nil || s.Sched == nil || !v.Frame.RunqPolled() {
		return ""
	}
	waiting := 0.0
	for i := range s.Processes {
		if w := s.Processes[i].Wait; model.Known(w) {
			waiting += w
		}
	}
	return fmt.Sprintf("%s, ~%s busy  ~%s wait for one  %s", model.Plural(len(v.Frame.CPUs), "core"),
		percent(report.HostBusy(v.Frame)), factor(waiting), model.Plural(s.ThreadsTotal, "thread"))
}
