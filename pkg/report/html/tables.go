// SPDX-License-Identifier: Apache-2.0

package html

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// mostListed bounds the rows of each table.
const mostListed = 20

// table is one of the tables at the end.
type table struct {
	ID, Title string
	Note      string
	Missing   string
	Head      []string // the first is of a name, the others of numbers
	Rows      [][]string
	More      string
}

// cut leaves the first rows, and says how many there were.
func cut[T any](t *table, rows []T, what string, row func(T) []string) *table {
	for _, r := range rows[:min(len(rows), mostListed)] {
		t.Rows = append(t.Rows, row(r))
	}
	if n := len(rows) - mostListed; n > 0 {
		t.More = "and " + model.Plural(n, "more "+what)
	}
	return t
}

func (r *Report) listenerTable(f *model.Frame, _ *report.Worst) *table {
	t := &table{ID: "listeners", Title: "Listeners", Note: "Since the tracer attached. CPU for nothing is what wake-ups without a connection took, extrapolated from those that could be timed."}
	if f.Accept == nil {
		t.Missing = r.missing(model.SignalAccept, false)
		return t
	}
	t.Head = []string{"listener", "program", "workers", "wait by", "connections", "wake-ups", "per conn.", "EAGAIN", "CPU for nothing", "longest accept queue", "limit", "refused"}
	all := slices.Clone(f.Accept.Listeners)
	refused := func(l *model.Listener) uint64 {
		if l.Queue == nil {
			return 0
		}
		return l.Queue.Refusals.Total()
	}
	useless := func(l *model.Listener) float64 {
		return max(float64(l.WakeupsTotal)-float64(max(l.AcceptsTotal, l.CompletionsTotal)), 0)
	}
	slices.SortStableFunc(all, func(a, b *model.Listener) int {
		return cmp.Or(cmp.Compare(refused(b), refused(a)), cmp.Compare(useless(b), useless(a)), cmp.Compare(b.CompletionsTotal, a.CompletionsTotal), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Inode, b.Inode))
	})
	if len(all) == 0 {
		t.Missing = "no socket listened"
	}
	return cut(t, all, "listener", func(l *model.Listener) []string { return listenerRow(f, l) })
}

func listenerRow(f *model.Frame, l *model.Listener) []string {
	accept, wake := f.MeasuredAt(l, model.SignalAccept), f.MeasuredAt(l, model.SignalWake)
	wakesAbout := f.Accuracy(model.SignalWake) == sample.Approximate
	factor, cpu := unmeasured, unmeasured
	if wake {
		factor = about(num(model.TotalWakeupsPerAccept(&l.Listener)), wakesAbout)
	}
	if wake && accept {
		cpu = about(span(1e9*model.EmptyCPUSeconds(&l.Listener)), true)
	}
	n := len(l.Workers) + l.GoneWorkers
	workers := about(strconv.Itoa(n), f.WithoutBPF()) // those that were found waiting
	if n == 0 && f.WithoutBPF() {
		workers = unmeasured
	}
	longest, limit, refused := unmeasured, unmeasured, unmeasured
	if l.Proto == "unix" {
		longest, limit, refused = none, count(uint64(l.AcceptQueueMax)), none // it blocks instead
	} else if q := l.Queue; q != nil {
		longest = about(count(uint64(q.AcceptTop)), q.PeakSampled)
		refused = about(count(q.Refusals.Total()), q.Approximate && q.Refusals.Total() > 0)
		limit = count(uint64(l.AcceptQueueMax))
	}
	if l.NoLimit {
		limit = unmeasured
	}
	name := clip(l.Name, mostName)
	if l.Closed {
		name += " (closed)"
	}
	return []string{name, clip(l.Program, 40), workers, clip(l.Wait, 24), counted(l.CompletionsTotal, f.ConnsKnown(l)),
		about(counted(l.WakeupsTotal, wake), wakesAbout), factor, counted(l.AcceptEAGAINTotal, accept), cpu, longest, limit, refused}
}

func (r *Report) coreTable(f *model.Frame, w *report.Worst) *table {
	t := &table{ID: "cores", Title: "Cores", Note: "Since the tracer attached, those with the longest waits first. Unclaimed is for how long threads waited there while another core was idle."}
	if len(f.CPUs) == 0 {
		t.Missing = r.missing(model.SignalRunq, false)
		return t
	}
	t.Head = []string{"core", "busy", "threads waiting", "longest queue", "wait p99", "unclaimed", "NET_RX time", "packets", "dropped", "squeezed"}
	all := make([]*model.CPU, 0, len(f.CPUs))
	for i := range f.CPUs {
		all = append(all, &f.CPUs[i])
	}
	wait := func(c *model.CPU) uint64 {
		if c.Runq == nil {
			return 0
		}
		return c.Runq.Runq.WaitNS
	}
	slices.SortStableFunc(all, func(a, b *model.CPU) int { return cmp.Compare(wait(b), wait(a)) })
	return cut(t, all, "core", func(c *model.CPU) []string { return coreRow(f, c, w) })
}

func coreRow(f *model.Frame, c *model.CPU, w *report.Worst) []string {
	ns := float64(f.Elapsed.Nanoseconds())
	of := func(part uint64) string {
		if ns <= 0 {
			return none
		}
		return percent(min(float64(part)/ns, 1))
	}
	busy, waiting, longest, p99, unclaimed := unmeasured, unmeasured, unmeasured, unmeasured, unmeasured
	if c.Runq != nil {
		q := c.Runq.Runq
		rough := q.Partial || f.Sampled(model.SignalRunq)
		busy = about(of(q.BusyNS), rough)
		if ns > 0 {
			waiting = about(num(float64(q.WaitNS-min(q.ThrottledNS, q.WaitNS))/ns), rough)
		}
		if !q.Partial {
			longest = count(uint64(max(w.RunqPeak[c.CPU.CPU], q.Peak)))
			unclaimed = about(span(float64(q.UnclaimedNS)), rough)
			p99 = none
			if v := model.Quantile99(q.Wait, nil); model.Known(v) {
				p99 = "< " + span(v)
			}
		}
	}
	rx, packets, dropped, squeezed := unmeasured, unmeasured, unmeasured, unmeasured
	if s := c.SoftIRQ; s != nil && !s.CountOnly {
		rx = about(of(s.RunNS), f.Sampled(model.SignalNetRX))
	}
	if s := c.Softnet; s != nil {
		packets, dropped, squeezed = num(float64(s.Processed)), count(s.Dropped), count(s.TimesSqueeze)
	}
	return []string{"cpu " + strconv.Itoa(c.CPU.CPU), busy, waiting, longest, p99, unclaimed, rx, packets, dropped, squeezed}
}

func (r *Report) groupTable(f *model.Frame, w *report.Worst) *table {
	t := &table{ID: "cgroups", Title: "Cgroups with a CPU quota", Note: "Since the tracer attached. Stopped is summed over the cores of the group; throttled and contended are what its threads waited for."}
	if f.CGroups == nil {
		t.Missing = "no cgroup of the cpu controller was to be seen"
		return t
	}
	all := slices.DeleteFunc(slices.Clone(f.CGroups), func(g *model.CGroup) bool { return g.CFS == nil })
	slices.SortStableFunc(all, func(a, b *model.CGroup) int {
		return cmp.Or(cmp.Compare(b.CFS.Throttled, a.CFS.Throttled), cmp.Compare(b.CFS.ThrottledNS, a.CFS.ThrottledNS), cmp.Compare(b.RunNS, a.RunNS), cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID, b.ID))
	})
	if len(all) == 0 {
		t.Missing = "no cgroup has a CPU quota"
		return t
	}
	t.Head = []string{"cgroup", "quota (cores)", "used (cores)", "throttled periods", "of", "worst stall", "stopped", "throttled", "contended"}
	return cut(t, all, "cgroup", func(g *model.CGroup) []string { return groupRow(f, g, w) })
}

func groupRow(f *model.Frame, g *model.CGroup, w *report.Worst) []string {
	seen := f.Measured(model.SignalThrottle)
	used := unmeasured
	if ns := float64(f.Elapsed.Nanoseconds()); ns > 0 && f.Sched != nil {
		used = about(cores(float64(g.RunNS)/ns), !f.EndsKnown())
	}
	worst := unmeasured
	if f.StallsKnown() {
		worst = none
		if ns := max(w.StallNS[g.ID], g.WorstStallNS); ns > 0 {
			worst = span(float64(ns))
		}
	}
	throttled, contended := unmeasured, unmeasured
	if f.QuotaWaitsKnown() {
		p := report.WaitPartsOf(&g.RunTimes)
		throttled, contended = span(float64(p.ThrottledNS)), about(span(float64(p.ContendedNS)), f.Sampled(model.SignalRunq))
	}
	return []string{clip(g.Title(), mostName), cores(g.Quota), used, counted(g.CFS.Throttled, seen), counted(g.CFS.Periods, seen),
		worst, span(float64(g.CFS.ThrottledNS)), throttled, contended}
}

func (r *Report) processTable(f *model.Frame, _ *report.Worst) *table {
	t := &table{ID: "processes", Title: "Processes", Note: "Since the tracer attached, those that ran and waited longest first. The waits are for a CPU: for a quota, for others that ran, for a core that the affinity mask allows, and for the hypervisor. /proc claims is what top and ps show."}
	if f.Sched == nil {
		t.Missing = r.missing(model.SignalRunq, false)
		return t
	}
	all := make([]*model.Process, 0, len(f.Sched.Processes))
	for i := range f.Sched.Processes {
		all = append(all, &f.Sched.Processes[i])
	}
	slices.SortStableFunc(all, func(a, b *model.Process) int {
		return cmp.Or(cmp.Compare(float64(b.RunNS)+float64(b.WaitNS), float64(a.RunNS)+float64(a.WaitNS)), cmp.Compare(a.PID, b.PID))
	})
	if len(all) == 0 {
		t.Missing = "no process ran or waited in the last interval"
		return t
	}
	t.Head = []string{"process", "pid", "ran", "waited", "throttled", "contended", "mask", "stolen", "/proc claims"}
	return cut(t, all, "process", func(p *model.Process) []string { return processRow(f, p) })
}

func processRow(f *model.Frame, p *model.Process) []string {
	rough := !f.EndsKnown()
	ns := func(n uint64) string { return about(span(float64(n)), rough) }
	w := report.WaitPartsOf(&p.RunTimes)
	waited, throttled, contended, mask, stolen := unmeasured, unmeasured, unmeasured, unmeasured, unmeasured
	if f.WaitsKnown() {
		waited = ns(p.WaitNS)
	}
	if f.QuotaWaitsKnown() {
		throttled, contended = ns(w.ThrottledNS), ns(w.ContendedNS)
	}
	if f.CausesKnown() {
		mask, stolen = ns(w.MaskNS), ns(w.StolenNS)
	}
	claimed := none
	if p.ClaimedNS != nil {
		claimed = span(float64(*p.ClaimedNS))
	}
	name := clip(cmp.Or(p.Program, p.Comm, "?"), mostName)
	if p.Ended {
		name += " (ended)"
	}
	return []string{name, fmt.Sprint(p.PID), ns(p.RunNS), waited, throttled, contended, mask, stolen, claimed}
}
