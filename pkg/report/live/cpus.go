// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// cpuColumns are those of the CPU panel.
func (v *View) cpuColumns() []column[*model.CPU] {
	type c = *model.CPU
	timed := func(r c) bool { return r.Times != nil }
	hooked := func(r c) bool { return r.SoftIRQ != nil }
	counted := func(r c) bool { return r.Softnet != nil }
	dropped := func(r c) float64 { return v.perSecondOf(r, r.DroppedDelta) }
	squeezed := func(r c) float64 { return v.perSecondOf(r, r.SqueezedDelta) }
	add := func(title string, keep, min int, has func(c) bool, of func(c) float64, form func(float64) string) column[c] {
		return partly(title, keep, min, has, of, func(r c) string { return form(of(r)) })
	}
	latency := func(ns float64) string { return seconds(ns / 1e9) }
	return []column[c]{
		number("CPU", 10, 4, func(r c) float64 { return float64(r.CPU.CPU) }, whole),
		add("BUSY", 6, 5, timed, func(r c) float64 { return r.BusyRatio }, percent),
		add("IDLE", 2, 5, timed, func(r c) float64 { return r.IdleRatio }, percent),
		add("NET_RX%", 9, 7, hooked, func(r c) float64 { return r.NetRXRatio }, percentFine),
		add("RXPKT/s", 7, 7, counted, func(r c) float64 { return r.PacketsPerS }, count),
		add("DROP/s", 8, 6, counted, dropped, count),
		add("SQUEEZE/s", 4, 9, counted, squeezed, count),
		number("KSOFTIRQD", 3, 9, func(r c) float64 { return r.KsoftirqdRatio }, percentFine),
		add("LATp99", 5, 6, hooked, func(r c) float64 { return r.LatencyP99NS }, latency),
	}
}

// perSecondOf is the rate of a softnet counter of c, unknown where its packets
// are.
func (v *View) perSecondOf(c *model.CPU, delta uint64) float64 {
	if !model.Known(c.PacketsPerS) || v.Frame.Interval <= 0 {
		return model.Unknown()
	}
	return float64(delta) / v.Frame.Interval.Seconds()
}

// cpus are the rows of the CPU panel: what drops first, then what is busiest
// with the receive path, then what is busiest.
func (v *View) cpus() []*model.CPU {
	if v.Frame == nil {
		return nil
	}
	rows := make([]*model.CPU, len(v.Frame.CPUs))
	for i := range rows {
		rows[i] = &v.Frame.CPUs[i]
	}
	slices.SortStableFunc(rows, func(a, b *model.CPU) int {
		return cmp.Or(
			cmp.Compare(b.DroppedDelta, a.DroppedDelta),
			byNumber(a.NetRXRatio, b.NetRXRatio, false),
			byNumber(a.BusyRatio, b.BusyRatio, false),
			cmp.Compare(a.CPU.CPU, b.CPU.CPU),
		)
	})
	return rows
}

func (v *View) cpuTable() *table[*model.CPU] {
	worst := make(map[int]diagnose.Severity)
	for i := range v.Active {
		if f := &v.Active[i]; panelOf(f) == CPUs {
			worst[f.CPU] = max(worst[f.CPU], f.Severity)
		}
	}
	return &table[*model.CPU]{
		cols:  v.cpuColumns(),
		rows:  v.cpus(),
		id:    func(c *model.CPU) uint64 { return uint64(c.CPU.CPU) + 1 }, // 0 selects nothing
		place: v.UI.CPU,
		mark: func(c *model.CPU) (string, Style) {
			if s := worst[c.CPU.CPU]; s > 0 {
				return mark(s)
			}
			return "", Normal
		},
	}
}

// cpuFacts is the line over the CPU panel: what belongs to no single core.
func (v *View) cpuFacts() []string {
	if v.Frame == nil || v.Frame.NetRX == nil {
		return nil
	}
	n := v.Frame.NetRX
	out := fmt.Sprintf("netdev_max_backlog %d", n.MaxBacklog)
	if model.Known(n.Share) && n.Top >= 0 && n.Top < len(v.Frame.CPUs) {
		c, what := &v.Frame.CPUs[n.Top], "NET_RX"
		if c.SoftIRQ == nil {
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
	return []string{out}
}
