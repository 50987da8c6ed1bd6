// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// cpuColumns are those of the CPU panel.
func (v *View) cpuColumns() []column[*model.CPU] {
	type c = *model.CPU
	type q = *model.Runq
	timed := func(r c) bool { return r.Times != nil }
	queued := func(r c) bool { return r.Runq != nil && r.Runq.Runq != nil }
	complete := func(r c) bool { return queued(r) && !r.Runq.Partial }
	hooked := func(r c) bool { return r.SoftIRQ != nil && !r.SoftIRQ.CountOnly }
	counted := func(r c) bool { return r.Softnet != nil }
	dropped := func(r c) float64 { return droppedPerS(v.Frame, r) }
	squeezed := func(r c) float64 { return softnetPerS(v.Frame, r, r.SqueezedDelta) }
	add := func(title string, keep, min int, has func(c) bool, of func(c) float64, form func(float64) string) column[c] {
		return partly(title, keep, min, has, of, func(r c) string { return form(of(r)) })
	}
	runq := func(form func(float64) string) func(float64) string { return v.sampled(model.SignalRunq, form) }
	netrx := func(form func(float64) string) func(float64) string { return v.sampled(model.SignalNetRX, form) }
	return []column[c]{
		number("CPU", 11, 4, func(r c) float64 { return float64(r.CPU.CPU) }, whole),
		add("RUN", 10, v.wide(4), queued, ofRunq(runnable), runq(v.roughly(factor))),
		add("MAX", 7, 3, complete, ofRunq(func(q q) float64 { return float64(q.Peak) }), whole),
		add("BUSY", 6, 5, timed, func(r c) float64 { return r.BusyRatio }, v.roughly(percent)),
		add("IDLE", 2, 5, timed, func(r c) float64 { return r.IdleRatio }, v.roughly(percent)),
		add("UNCL", 9, 5, complete, ofRunq(func(q q) float64 { return q.UnclaimedRatio }), runq(percent)),
		add("WAITp99", 7, 7, complete, ofRunq(func(q q) float64 { return q.WaitP99NS }), runq(nanoseconds)),
		add("NET_RX%", 8, 7, hooked, func(r c) float64 { return r.NetRXRatio }, netrx(percentFine)),
		add("RXPKT/s", 7, 7, counted, func(r c) float64 { return r.PacketsPerS }, count),
		add("DROP/s", 8, 6, counted, dropped, count),
		add("SQUEEZE/s", 4, 9, counted, squeezed, count),
		number("KSOFTIRQD", 3, 9, func(r c) float64 { return r.KsoftirqdRatio }, percentFine),
		add("LATp99", 5, 6, hooked, func(r c) float64 { return r.LatencyP99NS }, netrx(nanoseconds)),
	}
}

// ofRunq is a value of a core's run queue, unknown where it has none.
func ofRunq(of func(*model.Runq) float64) func(*model.CPU) float64 {
	return func(c *model.CPU) float64 {
		if c.Runq == nil || c.Runq.Runq == nil {
			return model.Unknown()
		}
		return of(c.Runq)
	}
}

// runnable is how many threads ran or waited, as a mean over the interval.
func runnable(q *model.Runq) float64 { return q.BusyRatio + q.Waiting }

// softnetPerS is the rate of a softnet counter of c, unknown where its packets are.
func softnetPerS(f *model.Frame, c *model.CPU, delta uint64) float64 {
	if !model.Known(c.PacketsPerS) || f.Interval <= 0 {
		return model.Unknown()
	}
	return float64(delta) / f.Interval.Seconds()
}

// manyWait is how many threads must wait for a core, as a mean, to bring it to
// the top of the panel.
const manyWait = 1

// cpus are the rows of the CPU panel: what drops first, then where threads wait
// beside idle cores, then where many wait, then what is busiest with the receive
// path, then what is busiest.
func (v *View) cpus() []*model.CPU {
	if v.Frame == nil {
		return nil
	}
	rows := make([]*model.CPU, len(v.Frame.CPUs))
	for i := range rows {
		rows[i] = &v.Frame.CPUs[i]
	}
	piled := ofRunq(func(q *model.Runq) float64 { return q.UnclaimedRatio })
	waiting := ofRunq(func(q *model.Runq) float64 { return q.Waiting })
	// Less than that is not worth a place: the order would change at each tick.
	worth := func(is bool, v float64) float64 {
		if !is {
			return 0
		}
		return v
	}
	slices.SortStableFunc(rows, func(a, b *model.CPU) int {
		return cmp.Or(
			cmp.Compare(b.DroppedDelta, a.DroppedDelta),
			byNumber(worth(report.Piled(a), piled(a)), worth(report.Piled(b), piled(b)), false),
			byNumber(worth(waiting(a) >= manyWait, waiting(a)), worth(waiting(b) >= manyWait, waiting(b)), false),
			byNumber(a.NetRXRatio, b.NetRXRatio, false),
			byNumber(a.BusyRatio, b.BusyRatio, false),
			cmp.Compare(a.CPU.CPU, b.CPU.CPU),
		)
	})
	return rows
}

func (v *View) cpuTable() *table[*model.CPU] {
	worst := worstBy(v, func(f *diagnose.Finding) uint64 { // 0 where it is about no core
		if panelOf(f) != CPUs {
			return 0
		}
		return uint64(f.CPU + 1)
	})
	return filtered(v, &table[*model.CPU]{
		cols: withTrail(v, v.cpuColumns(), 6, &cpuMeters[gRunnable].gauge,
			func(c *model.CPU) trail { return v.History.trail(rowID{CPUs, uint64(c.CPU.CPU) + 1}, gRunnable) }),
		rows:  v.cpus(),
		id:    func(c *model.CPU) uint64 { return uint64(c.CPU.CPU) + 1 }, // 0 selects nothing
		place: v.UI.CPU, panel: CPUs, held: v.held[CPUs], span: v.History.span,
		mark: func(c *model.CPU) (string, Style) { return marked(worst[uint64(c.CPU.CPU)+1]) },
	}, v.cpuTraits, byCPU|byPID)
}

// cpuFacts is the line over the CPU panel: what belongs to no single core.
func (v *View) cpuFacts() []string {
	if v.Frame == nil {
		return nil
	}
	var lines []string
	if text := v.runqFacts(); text != "" {
		lines = append(lines, text)
	}
	if v.Frame.NetRX != nil {
		lines = append(lines, v.netRXFacts())
	}
	return lines
}

// runqFacts sums up the run queues, "" where they are not measured.
func (v *View) runqFacts() string {
	n, waiting, throttled, switches := 0, 0.0, 0.0, 0.0
	for i := range v.Frame.CPUs {
		if q := v.Frame.CPUs[i].Runq; q != nil && q.Runq != nil {
			n++
			waiting += q.Waiting
			throttled += q.ThrottledWaiting
			switches += q.SwitchesPerS
		}
	}
	if n == 0 {
		return v.polledRunqFacts()
	}
	out := fmt.Sprintf("%s, %s busy  %s wait for one", model.Plural(n, "core"), percent(report.HostBusy(v.Frame)), factor(waiting))
	if throttled > 0 {
		out += fmt.Sprintf(", %s for a quota", factor(throttled))
	}
	out += "  " + perSecond(switches) + " switches"
	if s := v.Frame.Sched; s != nil && s.Sched != nil && s.ThreadsTotal > 0 {
		out += "  " + model.Plural(s.ThreadsTotal, "thread")
	}
	return out
}

// netRXFacts is what the receive path has that belongs to no single core.
func (v *View) netRXFacts() string {
	n := v.Frame.NetRX
	out := fmt.Sprintf("netdev_max_backlog %d", n.MaxBacklog)
	if model.Known(n.Share) && n.Top >= 0 && n.Top < len(v.Frame.CPUs) {
		c, what := &v.Frame.CPUs[n.Top], "NET_RX"
		if c.SoftIRQ == nil || c.SoftIRQ.CountOnly {
			what = "packets"
		}
		out += fmt.Sprintf("  %s of %s on cpu%d", percent(n.Share), what, c.CPU.CPU)
	}
	if len(n.Devices) > 0 && n.Devices[0].PacketsPerS > 0 {
		d := &n.Devices[0]
		out += fmt.Sprintf("  %s %s, %s", clip(safe(d.Name), 16), perSecond(d.PacketsPerS), model.Plural(len(d.Queues), "queue"))
	}
	if len(n.Drops) > 0 && n.Drops[0].Delta > 0 {
		out += fmt.Sprintf("  most drops: %s from cpu%d", clip(safe(n.Drops[0].Device), 16), n.Drops[0].FromCPU)
	}
	return out
}
