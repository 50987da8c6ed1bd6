// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

const (
	// lopsided is the share of all NET_RX on one core from which on the tick line
	// has a word for it, where that core spends at least netRXNotable on it.
	lopsided     = 0.5
	netRXNotable = 0.1
	// summaryDrops bounds the lists of cores and devices at the end.
	summaryDrops = 4
)

// netRXTick is the tick line's part about the receive path: "" where it is idle
// or even, and nothing was dropped.
func netRXTick(f *model.Frame) string {
	n := f.NetRX
	if n == nil {
		return ""
	}
	out := ""
	if n.Top >= 0 && n.Top < len(f.CPUs) && len(f.CPUs) > 1 && n.Share >= lopsided {
		c := &f.CPUs[n.Top]
		spent := c.NetRXRatio
		if !model.Known(spent) {
			spent = c.SoftIRQRatio
		}
		if spent >= netRXNotable {
			out += fmt.Sprintf(" rx=%.0f%%(cpu%d)", 100*n.Share, c.CPU.CPU)
		}
	}
	if n.DroppedPerS > 0 {
		out += " rxdrop=" + model.Num(n.DroppedPerS) + "/s"
	}
	return out
}

// netRX is the receive path since attach: the core that served most of it, and
// what full CPU backlogs dropped.
func (l *Line) netRX(f *model.Frame) error {
	if text := shareText(f); text != "" {
		if err := l.print("  NET_RX: %s", text); err != nil {
			return err
		}
	}
	if text := dropsText(f); text != "" {
		return l.print("  CPU backlog: %s", text)
	}
	return nil
}

// shareText is the busiest core's part of NET_RX, where it cost a hundredth of
// that core's time or more; of packets where the time is not measured.
func shareText(f *model.Frame) string {
	share, top := netRXShare(f.CPUs)
	if top < 0 || len(f.CPUs) < 2 || f.Elapsed <= 0 {
		return ""
	}
	c := &f.CPUs[top]
	if !timed(c) {
		if share < lopsided {
			return ""
		}
		return fmt.Sprintf("%.0f%% of all packets on cpu%d", 100*share, c.CPU.CPU)
	}
	spent := float64(c.SoftIRQ.RunNS) / float64(f.Elapsed.Nanoseconds())
	if spent < 0.01 {
		return ""
	}
	return fmt.Sprintf("%.0f%% of its time on cpu%d, %.0f%% of that core", 100*share, c.CPU.CPU, 100*spent)
}

// part is what one core or device has of a total.
type part struct {
	name string
	n    uint64
}

// mostFirst names the greatest parts of a total and sums up the others, with
// what is known of no one.
func mostFirst(parts []part, unknown uint64) string {
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.n, a.n) })
	var out []string
	for i, p := range parts {
		if i >= summaryDrops {
			unknown += p.n
		} else if p.n > 0 {
			out = append(out, fmt.Sprintf("%s %d", p.name, p.n))
		}
	}
	if len(out) == 1 && unknown == 0 { // it has them all
		return parts[0].name
	}
	if unknown > 0 {
		out = append(out, fmt.Sprintf("others %d", unknown))
	}
	return strings.Join(out, ", ")
}

// dropsText is what full CPU backlogs dropped since attach: at which cores, of
// which devices.
func dropsText(f *model.Frame) string {
	if f.NetRX == nil {
		return ""
	}
	var total uint64
	var at, of []part
	for i := range f.CPUs {
		if s := f.CPUs[i].Softnet; s != nil {
			total += s.Dropped
			at = append(at, part{fmt.Sprintf("cpu%d", f.CPUs[i].CPU.CPU), s.Dropped})
		}
	}
	if total == 0 {
		return ""
	}
	for _, d := range f.NetRX.NetRX.Drops {
		of = append(of, part{fmt.Sprintf("%s from cpu%d", model.Printable(d.Device), d.FromCPU), d.Dropped})
	}
	devices := "of " + mostFirst(of, f.NetRX.DropsUnattributed)
	if !f.DropDevicesKnown() {
		devices = "which device is not measured"
	}
	return fmt.Sprintf("%d packets dropped (netdev_max_backlog %d) at %s; %s", total, f.NetRX.MaxBacklog, mostFirst(at, 0), devices)
}
