// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The signals of the receive path, as the Header names them.
const (
	SignalNetRX   = "netrx"       // NET_RX softirq time, count and latency by core
	SignalBacklog = "cpu-backlog" // which device's packets a full CPU backlog refused
)

// CPU is one core during the interval. All ratios are of the interval, 0..1.
type CPU struct {
	sample.CPU // the totals

	BusyRatio      float64 // by /proc/stat
	IdleRatio      float64
	StealRatio     float64 // by /proc/stat
	SoftIRQRatio   float64 // by /proc/stat, all softirqs
	NetRXRatio     float64 // in the NET_RX softirq, by the hooks
	NetRXPerS      float64 // softirqs
	PacketsPerS    float64 // softnet processed
	DroppedDelta   uint64
	SqueezedDelta  uint64
	SteeredDelta   uint64 // interrupts by which other cores' RPS woke it
	KsoftirqdRatio float64
	// LatencyP99NS is the 99th percentile of raise-to-run in the interval, the
	// upper bound of its power-of-two slot; unknown where nothing ran.
	// A latency in the last slot may have been longer than that.
	LatencyP99NS float64
	Runq         *Runq // nil: not measured
}

// NetRX is the receive path of all cores together during the interval.
type NetRX struct {
	*sample.NetRX // settings, devices, totals
	// Share is the busiest core's share of all NET_RX time in the interval (of
	// packets, where time is not measured); unknown where there was none. Top is
	// the index of that core in Frame.CPUs, -1 where there is none.
	Share        float64
	Top          int
	PacketsPerS  float64
	DroppedDelta uint64
	DroppedPerS  float64
	SqueezedPerS float64
	Devices      []Device      // busiest receiver first
	Drops        []BacklogDrop // of the interval, most first
}

// Device is one network device during the interval.
type Device struct {
	sample.NetDevice
	PacketsPerS float64 // received
}

// BacklogDrop is what one device lost at full CPU backlogs in the interval.
type BacklogDrop struct {
	sample.BacklogDrop
	Delta uint64
}

// buildCPUs is empty where nothing was collected. A core that was not there
// before has no rates yet.
func buildCPUs(now, prev []sample.CPU, interval time.Duration) []CPU {
	before := make(map[int]*sample.CPU, len(prev))
	for i := range prev {
		before[prev[i].CPU] = &prev[i]
	}
	var out []CPU
	for _, c := range now {
		out = append(out, buildCPU(c, before[c.CPU], interval))
	}
	slices.SortFunc(out, func(a, b CPU) int { return cmp.Compare(a.CPU.CPU, b.CPU.CPU) })
	return out
}

func buildCPU(now sample.CPU, p *sample.CPU, interval time.Duration) CPU {
	c := CPU{
		CPU:       now,
		BusyRatio: Unknown(), IdleRatio: Unknown(), StealRatio: Unknown(), SoftIRQRatio: Unknown(),
		NetRXRatio: Unknown(), NetRXPerS: Unknown(), PacketsPerS: Unknown(),
		KsoftirqdRatio: Unknown(), LatencyP99NS: Unknown(),
	}
	c.Runq = buildRunq(now.Runq, nil, 0)
	if p == nil || interval <= 0 {
		return c
	}
	// What counts and what tells the time are not read at the same instant.
	share := func(n, p uint64) float64 { return min(perSecond(n, p, interval)/1e9, 1) }
	c.Runq = buildRunq(now.Runq, p.Runq, interval)
	c.KsoftirqdRatio = share(now.KsoftirqdRunNS, p.KsoftirqdRunNS)
	if now.Times != nil && p.Times != nil {
		c.BusyRatio = share(now.Times.BusyNS, p.Times.BusyNS)
		c.IdleRatio = share(now.Times.IdleNS, p.Times.IdleNS)
		c.StealRatio = share(now.Times.StealNS, p.Times.StealNS)
		c.SoftIRQRatio = share(now.Times.SoftIRQNS, p.Times.SoftIRQNS)
	}
	if n, p := now.SoftIRQ, p.SoftIRQ; n != nil && p != nil {
		if !n.CountOnly {
			c.NetRXRatio = share(n.RunNS, p.RunNS)
		}
		c.NetRXPerS = perSecond(n.Count, p.Count, interval)
		c.LatencyP99NS = Quantile99(n.Latency, p.Latency)
	}
	if n, p := now.Softnet, p.Softnet; n != nil && p != nil {
		c.PacketsPerS = perSecond(n.Processed, p.Processed, interval)
		c.DroppedDelta = since(n.Dropped, p.Dropped)
		c.SqueezedDelta = since(n.TimesSqueeze, p.TimesSqueeze)
		c.SteeredDelta = since(n.ReceivedRPS, p.ReceivedRPS)
	}
	return c
}

// Quantile99 is the upper bound of the slot that holds the 99th percentile of
// what was added from prev to now: slot i holds less than 2^(i+1).
func Quantile99(now, prev []uint64) float64 {
	delta := grown(now, prev)
	var n uint64
	for _, v := range delta {
		n += v
	}
	rest := n / 100 // so many may be above it
	for i := len(delta) - 1; i >= 0; i-- {
		if delta[i] > rest {
			return math.Ldexp(1, i+1)
		}
		rest -= delta[i]
	}
	return Unknown()
}

// grown is by how much each slot of a histogram grew; nil where one did not.
func grown(now, prev []uint64) []uint64 {
	delta := make([]uint64, len(now))
	for i, v := range now {
		var p uint64
		if i < len(prev) {
			p = prev[i]
		}
		if v < p {
			return nil
		}
		delta[i] = v - p
	}
	return delta
}

// buildNetRX sums up f.CPUs and compares the devices.
func buildNetRX(f *Frame, prev *sample.NetRX) *NetRX {
	n := &NetRX{NetRX: f.Sample.NetRX, Top: -1}
	n.Share, n.Top = busiest(f.CPUs)
	n.PacketsPerS = Unknown()
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if Known(c.PacketsPerS) {
			n.PacketsPerS = known0(n.PacketsPerS) + c.PacketsPerS
		}
		n.DroppedDelta += c.DroppedDelta
		n.SqueezedPerS += float64(c.SqueezedDelta)
	}
	if Known(n.PacketsPerS) {
		n.DroppedPerS = float64(n.DroppedDelta) / f.Interval.Seconds()
		n.SqueezedPerS /= f.Interval.Seconds()
	} else {
		n.DroppedPerS, n.SqueezedPerS = Unknown(), Unknown()
	}
	n.Devices = buildDevices(n.NetRX.Devices, prev, f.Interval)
	if prev != nil {
		n.Drops = buildDrops(n.NetRX.Drops, prev.Drops)
	}
	return n
}

// busiest is the core that does most of NET_RX, and its share.
func busiest(cores []CPU) (share float64, top int) {
	timed := slices.ContainsFunc(cores, func(c CPU) bool { return Known(c.NetRXRatio) })
	var sum, most float64
	top = -1
	for i := range cores {
		v := known0(cores[i].PacketsPerS)
		if timed {
			v = known0(cores[i].NetRXRatio)
		}
		if sum += v; v > most {
			most, top = v, i
		}
	}
	return ratio(most, sum), top
}

func buildDevices(now []sample.NetDevice, prev *sample.NetRX, interval time.Duration) []Device {
	type key struct{ netns, index uint32 }
	before := make(map[key]uint64)
	if prev != nil {
		for i := range prev.Devices {
			d := &prev.Devices[i]
			before[key{d.NetNS, d.IfIndex}] = d.RXPackets
		}
	}
	var out []Device
	for _, d := range now {
		m := Device{NetDevice: d, PacketsPerS: Unknown()}
		if p, ok := before[key{d.NetNS, d.IfIndex}]; ok {
			m.PacketsPerS = perSecond(d.RXPackets, p, interval)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Device) int {
		return cmp.Or(
			cmp.Compare(known0(b.PacketsPerS), known0(a.PacketsPerS)),
			cmp.Compare(b.RXPackets, a.RXPackets),
			cmp.Compare(a.NetNS, b.NetNS),
			cmp.Compare(a.IfIndex, b.IfIndex),
		)
	})
	return out
}

// buildDrops leaves out what did not change. An entry that is new counts from
// its first drop.
func buildDrops(now, prev []sample.BacklogDrop) []BacklogDrop {
	type key struct {
		netns, index uint32
		from         int
	}
	before := make(map[key]uint64)
	for _, d := range prev {
		before[key{d.NetNS, d.IfIndex, d.FromCPU}] = d.Dropped
	}
	var out []BacklogDrop
	for _, d := range now {
		if n := since(d.Dropped, before[key{d.NetNS, d.IfIndex, d.FromCPU}]); n > 0 {
			out = append(out, BacklogDrop{BacklogDrop: d, Delta: n})
		}
	}
	slices.SortFunc(out, func(a, b BacklogDrop) int {
		return cmp.Or(
			cmp.Compare(b.Delta, a.Delta),
			cmp.Compare(a.NetNS, b.NetNS),
			cmp.Compare(a.IfIndex, b.IfIndex),
			cmp.Compare(a.FromCPU, b.FromCPU),
		)
	})
	return out
}
