// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// summaryGroups, summaryPiles and summaryLies bound the lists at the end.
	summaryGroups = 8
	summaryPiles  = 4
	summaryLies   = 4
	// /proc/PID/stat counts hundredths of a second, and is read a little before or
	// after the scheduler's figures: less than this is no disagreement.
	lieNS    = 100e6
	lieRatio = 0.1
)

// schedTick is the tick line's part about cores and quotas: "" where no queue is
// long, no cgroup is stopped, and what was promised can be kept.
func schedTick(f *model.Frame) string {
	out := ""
	if c := LongestQueue(f); c != nil {
		out += fmt.Sprintf(" runq=%s(cpu%d)", PeakText(c), c.CPU.CPU)
	}
	if n, g := Throttled(f); g != nil {
		out += fmt.Sprintf(" thr=%d(%s %s)", n, shortTitle(g.Title()), share(g.ThrottledRatio))
	}
	if Oversold(f) {
		out += fmt.Sprintf(" sold=%.2fx", f.Sold.Ratio)
	}
	return out
}

// shortTitle is what says enough of a cgroup on a tick line: the last part of a path.
func shortTitle(title string) string {
	const most = 24
	name := model.Printable(title)
	if strings.HasPrefix(title, "/") {
		name = model.Printable(path.Base(title))
	}
	return model.WithoutMiddle(name, most)
}

func share(v float64) string {
	if !model.Known(v) {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*v)
}

// sched is since attach: who was stopped by a quota and what waits were for,
// where threads piled up beside idle cores, and whose CPU time /proc has wrong.
func (l *Line) sched(f *model.Frame, w *Worst) error {
	for _, part := range []func(*model.Frame, *Worst) []string{throttledText, soldText, pilesText, liesText} {
		for _, text := range part(f, w) {
			if err := l.print("  %s", text); err != nil {
				return err
			}
		}
	}
	return nil
}

// throttledText are the cgroups that were throttled since attach, the longest first.
func throttledText(f *model.Frame, w *Worst) []string {
	var out []string
	groups := slices.DeleteFunc(slices.Clone(f.CGroups), func(g *model.CGroup) bool { return g.CFS == nil || g.CFS.Throttled == 0 })
	slices.SortStableFunc(groups, func(a, b *model.CGroup) int { return cmp.Compare(throttledNS(b), throttledNS(a)) })
	for i, g := range groups {
		if i == summaryGroups {
			return append(out, fmt.Sprintf("and %s throttled", model.Plural(len(groups)-i, "more cgroup")))
		}
		text := fmt.Sprintf("%s (quota %s): throttled in %d of %d periods", model.Printable(g.Title()), quotaText(g), g.CFS.Throttled, g.CFS.Periods)
		if ns := max(w.StallNS[g.ID], g.WorstStallNS); ns > 0 {
			text += ", worst stall " + span(ns)
		}
		out = append(out, text+fmt.Sprintf(", stopped %s in all over its cores", span(g.CFS.ThrottledNS)))
		if g.WaitNS > 0 && f.QuotaWaitsKnown() {
			out = append(out, "  its threads waited "+span(g.WaitNS)+": "+waitText(&g.RunTimes))
		}
	}
	return out
}

// quotaText is "2.0 cores".
func quotaText(g *model.CGroup) string {
	if g.CFS.PeriodUS == 0 {
		return "?"
	}
	cores := float64(g.CFS.QuotaUS) / float64(g.CFS.PeriodUS)
	if cores < 0.95 {
		return fmt.Sprintf("%.2f cores", cores)
	}
	return fmt.Sprintf("%.1f cores", cores)
}

// waitText says what a wait was for.
func waitText(t *sample.RunTimes) string {
	p := WaitPartsOf(t)
	of := func(ns uint64) string { return share(float64(ns) / float64(t.WaitNS)) }
	return fmt.Sprintf("%s throttled, %s contended, %s mask, %s stolen", of(p.ThrottledNS), of(p.ContendedNS), of(p.MaskNS), of(p.StolenNS))
}

// span is a duration as a person would say it: "20 us", "62 ms", "18.6 s".
func span(ns uint64) string {
	switch ms := float64(ns) / 1e6; {
	case ns == 0:
		return "0 s"
	case ms < 0.9995:
		return fmt.Sprintf("%.0f us", ms*1e3)
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.1f s", ms/1e3)
	}
}

func soldText(f *model.Frame, w *Worst) []string {
	if w.Oversold.Ratio == 0 {
		return nil
	}
	return []string{fmt.Sprintf("quotas sold the host's %d cores %.2f times (%.1f cores) while it was %s busy",
		f.Header.CPUs, w.Oversold.Ratio, w.Oversold.Cores, share(w.SoldBusy))}
}

// pilesText are the cores where threads waited for a noteworthy part of the
// time while another core was idle, the longest first. On a busy host some core
// is idle for a moment all the time: a queue that is short on average is no pile.
func pilesText(f *model.Frame, w *Worst) []string {
	var cores []*model.CPU
	elapsed := float64(f.Elapsed.Nanoseconds())
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.Runq == nil || c.Runq.Runq == nil || elapsed <= 0 {
			continue
		}
		if float64(c.Runq.UnclaimedNS) >= noteUnclaimed*elapsed && waitingSinceAttach(c, f.Elapsed) >= longPiled {
			cores = append(cores, c)
		}
	}
	slices.SortStableFunc(cores, func(a, b *model.CPU) int { return cmp.Compare(b.Runq.UnclaimedNS, a.Runq.UnclaimedNS) })
	var out []string
	for i, c := range cores {
		if i == summaryPiles {
			return append(out, fmt.Sprintf("and at %s", model.Plural(len(cores)-i, "more core")))
		}
		text := fmt.Sprintf("cpu%d: threads waited for it %s while another core was idle, at most %d runnable",
			c.CPU.CPU, span(c.Runq.UnclaimedNS), max(w.RunqPeak[c.CPU.CPU], c.Runq.Peak))
		if p99 := model.Quantile99(c.Runq.Wait, nil); model.Known(p99) {
			text += ", wait p99 < " + span(uint64(p99))
		}
		out = append(out, text)
	}
	return out
}

// liesText are the processes whose CPU time /proc/PID/stat has wrong, the
// greatest difference first.
func liesText(f *model.Frame, _ *Worst) []string {
	if f.Sched == nil {
		return nil
	}
	lie := func(p *model.Process) uint64 {
		return max(*p.ClaimedNS, p.RunNS) - min(*p.ClaimedNS, p.RunNS)
	}
	var liars []*model.Process
	for i := range f.Sched.Processes {
		p := &f.Sched.Processes[i]
		if p.ClaimedNS != nil && f.Claims(float64(*p.ClaimedNS), float64(p.RunNS)) && float64(lie(p)) > max(lieNS, lieRatio*float64(p.RunNS)) {
			liars = append(liars, p)
		}
	}
	slices.SortStableFunc(liars, func(a, b *model.Process) int { return cmp.Compare(lie(b), lie(a)) })
	var out []string
	for i, p := range liars {
		if i == summaryLies {
			return append(out, fmt.Sprintf("and that of %d others", len(liars)-i))
		}
		out = append(out, fmt.Sprintf("%s (pid %d): /proc/%d/stat claims %s of CPU time, the scheduler ran it for %s",
			model.Printable(programOf(p)), p.PID, p.PID, span(*p.ClaimedNS), span(p.RunNS)))
	}
	return out
}

func programOf(p *model.Process) string {
	return cmp.Or(p.Program, p.Comm, "?")
}
