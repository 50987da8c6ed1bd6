// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// bar is a share of w columns.
func bar(share float64, w int) string {
	n := min(max(int(share*float64(w)+0.5), 0), w)
	return strings.Repeat("█", n) + strings.Repeat(" ", w-n)
}

// trailLine is a gauge of a row over time; no lines where nothing is known of it.
func (v *View) trailLine(of rowID, gauge int) func(w int) []line {
	p := proof{of, gauge}
	return func(w int) []line {
		k, t := gaugeOf(p), v.History.trail(of, gauge)
		room := min(w-tableLeft-48, keepTicks)
		if room < 8 || len(t) == 0 || !(t.least() <= t.most()) {
			return nil
		}
		t = t.tail(room)
		text := fmt.Sprintf("%s: %s now, at most %s in %s", k.name, k.form(float64(t[len(t)-1])), k.form(t.most()), span(v.History.span(len(t))))
		return []line{{text: clip(text, w-tableLeft-2-len(t)), indent: tableLeft, gauge: k, trail: t}}
	}
}

// waitSlots are the upper bounds, as powers of two of ns, by which waits for a core
// are shown, and how a person would name them.
var waitSlots = []struct {
	log  int
	name string
}{{13, "8us"}, {17, "130us"}, {20, "1ms"}, {22, "4ms"}, {24, "17ms"}, {26, "67ms"}, {28, "270ms"}, {64, "more"}}

// waitLines are the histogram of the waits for a core in the interval.
func (v *View) waitLines(c *model.CPU) func(w int) []line {
	return both(v.trailLine(rowID{CPUs, uint64(c.CPU.CPU) + 1}, gRunnable), func(w int) []line {
		if c.Runq == nil || c.Runq.Runq == nil {
			return nil
		}
		counts, total := make([]uint64, len(waitSlots)), uint64(0)
		for i, n := range c.Runq.Waited {
			for k := range waitSlots {
				if i < waitSlots[k].log {
					counts[k] += n
					break
				}
			}
			total += n
		}
		if total == 0 {
			return nil
		}
		last := 0
		for k, n := range counts {
			if n > 0 {
				last = k
			}
		}
		out := []line{{text: fmt.Sprintf("how long threads waited for this core, %s waits in %s:",
			about(v.isSampled(model.SignalRunq), count(float64(total))), span(v.interval())), indent: tableLeft}}
		for k := range counts[:last+1] {
			sign, share := "<", float64(counts[k])/float64(total)
			if k == len(waitSlots)-1 {
				sign = ""
			}
			out = append(out, line{text: fmt.Sprintf("  %1s %-6s %6s %5s  %s", sign, waitSlots[k].name, count(float64(counts[k])), percentFine(share),
				bar(share, min(max(w-tableLeft-28, 0), 60))), indent: tableLeft})
		}
		return out
	})
}

// mostStops is how many stops of a cgroup are listed.
const mostStops = 8

// stopLines are the last times at which g's quota stopped it: of a period, how long
// it ran, and then did not.
func (v *View) stopLines(g *model.CGroup) func(w int) []line {
	return both(v.trailLine(rowID{CGroups, g.ID}, gPeriods), func(w int) []line {
		if g.CFS == nil || g.CFS.PeriodUS == 0 {
			return nil
		}
		var stops []model.Event
		for i := range v.Events {
			if e := &v.Events[i]; e.Kind == sample.EventThrottle && e.CGroupID == g.ID {
				stops = append(stops, *e)
			}
		}
		stops = stops[max(len(stops)-mostStops, 0):]
		if len(stops) == 0 {
			if g.ThrottledPeriods > 0 && v.eventsShed() {
				return []line{{text: "single stops are not looked at, to keep the cost within --budget", indent: tableLeft, st: Dim}}
			}
			return nil
		}
		period := time.Duration(g.CFS.PeriodUS) * time.Microsecond
		out := []line{{text: fmt.Sprintf("its last stops, each in a period of %s (# it ran, . it was stopped):", nanoseconds(float64(period))), indent: tableLeft}}
		for i := range stops {
			out = append(out, line{text: v.stopText(&stops[i], period, min(max(w-tableLeft-60, 10), 40)), indent: tableLeft})
		}
		return out
	})
}

func (v *View) eventsShed() bool {
	return v.Frame != nil && v.Frame.Sample != nil && v.Frame.Sample.Self.Budget.Degraded(sample.ShedEvents) != ""
}

// stopText is one stop: when it ended, and of the period in which that was, the
// part before it.
func (v *View) stopText(e *model.Event, period time.Duration, w int) string {
	stopped := time.Duration(min(e.DurationNS, 1<<62))
	n := w
	if stopped < period {
		n = int(float64(w) * float64(stopped) / float64(period))
	}
	out := fmt.Sprintf("%s [%s%s] stopped %s", v.clockTime(e.Wall), strings.Repeat("#", w-n), strings.Repeat(".", n), nanoseconds(float64(stopped)))
	if stopped > period {
		out += fmt.Sprintf(" (%.1f periods)", float64(stopped)/float64(period))
	}
	if e.Cores > 1 {
		out += fmt.Sprintf(", %d cores", e.Cores)
	}
	return out + ", " + model.Plural(int(e.Threads), "thread") + " waited"
}

// clientLines are the clients that a listener refused most.
func clientLines(l *model.Listener) func(w int) []line {
	return func(w int) []line {
		if l.Queue == nil || l.Queue.Clients.Total == 0 {
			return nil
		}
		c := &l.Queue.Clients
		out := []line{{text: fmt.Sprintf("clients refused since attach: %s; once %d, twice %d, 3 to 5 times %d, more often %d",
			about(c.Estimated, itoa(c.Total)), c.Retries[0], c.Retries[1], c.Retries[2], c.Retries[3]), indent: tableLeft}}
		if len(c.Top) == 0 {
			return out
		}
		text := "the worst: "
		for i := range c.Top {
			who := sample.Listener{Proto: l.Proto, Addr: c.Top[i].Addr, Port: c.Top[i].Port}
			item := fmt.Sprintf("%s %dx", safe(model.ListenerName(&who)), c.Top[i].Refusals)
			if i > 0 && width(text)+2+width(item) > w-tableLeft-2 {
				out = append(out, line{text: "  " + text, indent: tableLeft})
				text = ""
			} else if i > 0 {
				text += ", "
			}
			text += item
		}
		return append(out, line{text: "  " + text, indent: tableLeft})
	}
}
