// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgeBacklog finds packets that were dropped because a core's CPU backlog was
// full: the queue between a loopback, veth or RPS packet's sender and the core
// that receives it (net/core/dev.c: enqueue_to_backlog()). No socket sees them.
func judgeBacklog(l *Limits, past *window, _ *model.Frame, f *model.Frame) verdict {
	w, now := &past.sum, f.NetRX
	if now == nil {
		return verdict{}
	}
	v := verdict{
		bad:     w.dropped >= l.BacklogMin && now.DroppedDelta > 0,
		calm:    w.dropped == 0,
		weight:  w.rate(w.dropped, l),
		outcome: func() string { return "no packet is dropped at a CPU backlog now" },
	}
	if !v.bad {
		return v
	}
	hit := droppingCores(f)
	rate, devices := w.rate(w.dropped, l), droppingDevices(now)
	limit := ""
	if now.MaxBacklog > 0 {
		limit = fmt.Sprintf(", which holds %d", now.MaxBacklog)
	}
	of := ""
	if len(devices) > 0 {
		of = " of " + listed(devices)
	}
	lost := float64(w.dropped) / (float64(w.dropped) + w.packets)
	v.finding = Finding{
		CPU:      noCPU,
		Severity: Warn,
		Subject:  coreNames(hit),
		Evidence: fmt.Sprintf("%s packets a second%s dropped at the CPU backlog%s", model.Num(rate), of, limit),
		Cause:    backlogCause(l, f, hit),
		Remedy:   backlogRemedy(l, f, hit),
		Verify:   "dropped (column 2 of /proc/net/softnet_stat, hexadecimal) stops rising",
		Values: map[string]float64{
			"dropped_per_s":      rate,
			"cores":              float64(len(hit)),
			"netdev_max_backlog": float64(now.MaxBacklog),
		},
	}
	if len(hit) == 1 {
		v.finding.CPU = hit[0].CPU.CPU
	}
	if model.Known(lost) {
		v.finding.Values["dropped_ratio"] = lost
	}
	if rate >= l.BacklogCritPerS && lost >= l.BacklogCritRatio {
		v.finding.Severity = Crit
	}
	return v
}

// droppingCores are those whose backlog was full in the interval, worst first.
func droppingCores(f *model.Frame) []*model.CPU {
	var hit []*model.CPU
	for i := range f.CPUs {
		if f.CPUs[i].DroppedDelta > 0 {
			hit = append(hit, &f.CPUs[i])
		}
	}
	slices.SortStableFunc(hit, func(a, b *model.CPU) int { return cmp.Compare(b.DroppedDelta, a.DroppedDelta) })
	return hit
}

// droppingDevices names each device once, worst first.
func droppingDevices(n *model.NetRX) []string {
	var out []string
	for i := range n.Drops {
		if d := model.Printable(n.Drops[i].Device); d != "" && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// listed joins what is few and counts what is many.
func listed(names []string) string {
	const most = 4
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

func coreNames(cores []*model.CPU) string {
	var names []string
	for _, c := range cores {
		names = append(names, fmt.Sprint(c.CPU.CPU))
	}
	if len(names) == 1 {
		return "core " + names[0]
	}
	return "cores " + listed(names)
}

// aloneWhileOthersIdle reports whether the others could take some of the one
// core's packets.
func aloneWhileOthersIdle(l *Limits, f *model.Frame, hit []*model.CPU) bool {
	return len(hit) == 1 && len(f.CPUs) > 1 && idleBeside(f, hit[0]) >= spareCores(l, f)
}

// idleBeside is how many of the other cores are idle; unknown where one is not.
func idleBeside(f *model.Frame, c *model.CPU) float64 {
	idle := 0.0
	for i := range f.CPUs {
		if f.CPUs[i].CPU.CPU != c.CPU.CPU {
			idle += f.CPUs[i].IdleRatio
		}
	}
	return idle
}

// spareCores is how many idle cores are worth spreading packets to.
func spareCores(l *Limits, f *model.Frame) float64 {
	return min(1, l.NetRXSpare*float64(len(f.CPUs)-1))
}

func backlogCause(l *Limits, f *model.Frame, hit []*model.CPU) string {
	const slow = "packets come faster than they are taken from there; no limit of a socket or of the listen queues has to do with it"
	if aloneWhileOthersIdle(l, f, hit) {
		return fmt.Sprintf("it gets them all while %.1f other cores are idle: %s", idleBeside(f, hit[0]), slow)
	}
	return slow
}

func backlogRemedy(l *Limits, f *model.Frame, hit []*model.CPU) string {
	longer := "raise net.core.netdev_max_backlog"
	if m := f.NetRX.MaxBacklog; m > 0 {
		longer = fmt.Sprintf("sysctl -w net.core.netdev_max_backlog=%d", 2*uint64(m))
	}
	if !aloneWhileOthersIdle(l, f, hit) && exhausted(l, hit) {
		return "less work for each packet (taps, filters, firewall rules) or more cores, for there is no time left; a longer queue is for bursts only: " + longer
	}
	if !aloneWhileOthersIdle(l, f, hit) || len(f.NetRX.Drops) == 0 {
		return longer
	}
	worst := &f.NetRX.Drops[0]
	for i := range f.NetRX.Devices {
		d := &f.NetRX.Devices[i]
		if d.NetNS == worst.NetNS && d.IfIndex == worst.IfIndex && len(d.Queues) > 0 && len(steered(d)) <= 1 {
			return "spread them: " + steer(f, d, hit[0]) + "; or for bursts " + longer
		}
	}
	return longer
}

// exhausted reports whether no core that drops packets has time left.
func exhausted(l *Limits, hit []*model.CPU) bool {
	return !slices.ContainsFunc(hit, func(c *model.CPU) bool { return !(c.IdleRatio < l.NetRXIdle) })
}
