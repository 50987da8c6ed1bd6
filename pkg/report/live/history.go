// SPDX-License-Identifier: Apache-2.0

package live

import (
	"maps"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// keepTicks is how many values of a gauge are remembered: as many as the widest
// sparkline has columns.
const keepTicks = 120

// History is what the gauges of all rows said at the last ticks.
type History struct {
	rows  map[rowID]*row
	tick  uint64
	times []time.Duration // when the last keepTicks ticks were, and the one before
}

// rowID is whose gauges they are: an id as in Place, in the panel that shows it.
type rowID struct {
	panel Panel
	id    uint64
}

// aHost is whose gauges the host's are.
var aHost = rowID{panel: noPanel}

type row struct {
	trails []trail
	tick   uint64 // when it was seen last
}

// meter is a gauge and what it reads.
type meter[T any] struct {
	gauge
	of func(*model.Frame, T) float64
}

// The gauges of a listener.
const (
	gWakeups = iota
	gEmptyCPU
	gEAGAIN
	gConns
	gFull
	gRefused
	gQueueWait
)

var listenerMeters = []meter[*model.Listener]{
	gWakeups:   {gauge{"wake-ups per connection", factor, 1, 8, 2}, func(_ *model.Frame, l *model.Listener) float64 { return covered(l, l.WakeupsPerAccept) }},
	gEmptyCPU:  {gauge{"CPU spent on nothing", estimate, 0, 0.01, 0}, func(_ *model.Frame, l *model.Listener) float64 { return emptyCPU(l) }},
	gEAGAIN:    {gauge{"accepts that found nothing", percent, 0, 1, 0}, func(_ *model.Frame, l *model.Listener) float64 { return covered(l, l.EAGAINRatio) }},
	gConns:     {gauge{"accepts per second", perSecond, 0, 1, 0}, func(_ *model.Frame, l *model.Listener) float64 { return l.AcceptsPerS }},
	gFull:      {gauge{"accept queue, of its limit", percent, 0, 1, 1}, func(_ *model.Frame, l *model.Listener) float64 { return peakFullness(l) }},
	gRefused:   {gauge{"refused per second", perSecond, 0, 1, 1}, func(_ *model.Frame, l *model.Listener) float64 { return ofQueue(refusedPerS)(l) }},
	gQueueWait: {gauge{"wait for an accept", seconds, 0, 0.001, 0}, func(_ *model.Frame, l *model.Listener) float64 { return ofQueue(queueWait)(l) }},
}

func refusedPerS(q *model.Queue) float64 { return q.RefusalsPerS }
func queueWait(q *model.Queue) float64   { return q.WaitS }

// peakFullness is how full the accept queue was at most: 1 at its limit.
func peakFullness(l *model.Listener) float64 {
	if l.NoLimit || l.AcceptQueueMax == 0 {
		return model.Unknown()
	}
	n := l.AcceptQueueLen
	if l.Queue != nil {
		n = max(n, l.Queue.AcceptQueuePeak)
	}
	return float64(n) / float64(l.AcceptQueueMax)
}

// The gauges of a core.
const (
	gRunnable = iota
	gUnclaimed
	gWaitP99
	gNetRX
	gDropped
	gBusy
)

var cpuMeters = []meter[*model.CPU]{
	gRunnable: {gauge{"threads that run or wait", factor, 0, 2, 2}, func(_ *model.Frame, c *model.CPU) float64 { return ofRunq(runnable)(c) }},
	gUnclaimed: {gauge{"waited beside an idle core", percent, 0, 1, 0}, func(_ *model.Frame, c *model.CPU) float64 {
		return ofRunq(func(q *model.Runq) float64 { return q.UnclaimedRatio })(c)
	}},
	gWaitP99: {gauge{"wait for the core, p99", nanoseconds, 0, 1e6, 0}, func(_ *model.Frame, c *model.CPU) float64 {
		return ofRunq(func(q *model.Runq) float64 { return q.WaitP99NS })(c)
	}},
	gNetRX:   {gauge{"time in NET_RX", percentFine, 0, 1, 0}, func(_ *model.Frame, c *model.CPU) float64 { return c.NetRXRatio }},
	gDropped: {gauge{"packets dropped per second", perSecond, 0, 1, 1}, droppedPerS},
	gBusy:    {gauge{"busy", percent, 0, 1, 0}, func(_ *model.Frame, c *model.CPU) float64 { return c.BusyRatio }},
}

func droppedPerS(f *model.Frame, c *model.CPU) float64 { return softnetPerS(f, c, c.DroppedDelta) }

// The gauges of a cgroup.
const (
	gPeriods = iota
	gThrottled
	gUsed
	gWaiting
)

var cgroupMeters = []meter[*model.CGroup]{
	gPeriods: {gauge{"periods throttled", percent, 0, 1, 0.1}, func(_ *model.Frame, g *model.CGroup) float64 {
		return ofQuota(func(g *model.CGroup) float64 { return g.ThrottledRatio })(g)
	}},
	gThrottled: {gauge{"stopped a second, all cores", nanoseconds, 0, 1e6, 0}, func(f *model.Frame, g *model.CGroup) float64 { return throttledPerS(f, g) }},
	gUsed:      {gauge{"cores used", cores, 0, 1, 0}, func(_ *model.Frame, g *model.CGroup) float64 { return g.Used }},
	gWaiting:   {gauge{"threads waiting for a core", factor, 0, 1, 0}, func(_ *model.Frame, g *model.CGroup) float64 { return g.Waiting }},
}

// The gauges of a process.
const (
	gRun = iota
	gClaimed
	gWait
)

var processMeters = []meter[*model.Process]{
	gRun:     {gauge{"cores used", cores, 0, 1, 0}, func(_ *model.Frame, p *model.Process) float64 { return p.Run }},
	gClaimed: {gauge{"used, by /proc/PID/stat", cores, 0, 1, 0}, func(_ *model.Frame, p *model.Process) float64 { return p.Claimed }},
	gWait:    {gauge{"threads waiting for a core", factor, 0, 1, 0}, func(_ *model.Frame, p *model.Process) float64 { return p.Wait }},
}

// The gauges of the host.
const (
	gHostBusy = iota
	gSold
	gHostDrops
)

var hostMeters = []meter[struct{}]{
	gHostBusy:  {gauge{"cores busy, of all", percent, 0, 1, 0}, func(f *model.Frame, _ struct{}) float64 { return report.HostBusy(f) }},
	gSold:      {gauge{"cores sold, of those here", factor, 0, 1, 1.01}, func(f *model.Frame, _ struct{}) float64 { return f.Sold.Ratio }},
	gHostDrops: {gauge{"packets dropped per second", perSecond, 0, 1, 1}, hostDrops},
}

func hostDrops(f *model.Frame, _ struct{}) float64 {
	if f.NetRX == nil {
		return model.Unknown()
	}
	return f.NetRX.DroppedPerS
}

// newHistory has seen nothing.
func newHistory() *History { return &History{rows: make(map[rowID]*row)} }

// add reads all gauges at f.
func (h *History) add(f *model.Frame) {
	h.tick++
	h.times = append(h.times, f.Elapsed)
	if len(h.times) >= 2*keepTicks {
		h.times = slices.Clone(h.times[len(h.times)-keepTicks-1:])
	}
	if f.Interval > 0 {
		record(h, f, aHost, struct{}{}, hostMeters)
		if f.Accept != nil {
			for _, l := range f.Accept.Listeners {
				if !l.Closed {
					record(h, f, rowID{Herd, l.Inode}, l, listenerMeters)
				}
			}
		}
		for i := range f.CPUs {
			record(h, f, rowID{CPUs, uint64(f.CPUs[i].CPU.CPU) + 1}, &f.CPUs[i], cpuMeters)
		}
		for _, g := range f.CGroups {
			record(h, f, rowID{CGroups, g.ID}, g, cgroupMeters)
		}
		if f.Sched != nil {
			for i := range f.Sched.Processes {
				p := &f.Sched.Processes[i]
				record(h, f, rowID{Processes, uint64(p.PID)}, p, processMeters)
			}
		}
	}
	maps.DeleteFunc(h.rows, func(_ rowID, r *row) bool { return h.tick-r.tick >= keepTicks })
}

func record[T any](h *History, f *model.Frame, id rowID, of T, meters []meter[T]) {
	r := h.rows[id]
	if r == nil {
		r = &row{trails: make([]trail, len(meters)), tick: h.tick - 1}
		h.rows[id] = r
	}
	for gap := r.tick + 1; gap < h.tick; gap++ { // it was not listed then
		for i := range r.trails {
			r.trails[i] = r.trails[i].append(model.Unknown())
		}
	}
	r.tick = h.tick
	for i := range meters {
		r.trails[i] = r.trails[i].append(meters[i].of(f, of))
	}
}

// append keeps the last keepTicks values, and copies them rarely.
func (t trail) append(v float64) trail {
	if len(t) == cap(t) && len(t) >= keepTicks {
		next := make(trail, keepTicks-1, 2*keepTicks)
		copy(next, t[len(t)-(keepTicks-1):])
		t = next
	}
	return append(t, float32(v))
}

// trail is what a gauge of a row said, up to the last tick; nil where nothing is
// known.
func (h *History) trail(id rowID, gauge int) trail {
	if h == nil {
		return nil
	}
	r := h.rows[id]
	if r == nil || gauge >= len(r.trails) {
		return nil
	}
	t := r.trails[gauge]
	for range min(h.tick-r.tick, keepTicks) { // gone since
		t = slices.Clip(t).append(model.Unknown())
	}
	return t.tail(keepTicks)
}

// span is how long the last n ticks took, or as many as there were.
func (h *History) span(n int) time.Duration {
	if h == nil || len(h.times) == 0 {
		return 0
	}
	last := len(h.times) - 1
	return h.times[last] - h.times[max(last-n, 0)]
}

// clone is a copy that does not change any more.
func (h *History) clone() *History {
	if h == nil {
		return nil
	}
	out := &History{rows: make(map[rowID]*row, len(h.rows)), tick: h.tick, times: slices.Clone(h.times)}
	for id, r := range h.rows {
		out.rows[id] = &row{trails: slices.Clone(r.trails), tick: r.tick}
	}
	return out
}
