// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Builder makes Frames of successive Samples of one trace. It is not safe for
// concurrent use.
type Builder struct {
	header *sample.Header
	first  *sample.Sample
	prev   *sample.Sample
	// names are those of the last Sample and, in gone, of the one before it:
	// a last event may still refer to a listener that is no longer there.
	names, gone map[uint64]named
	// refusals and clients are by listener, unattributed by namespace.
	refusals, clients tally[uint64]
	unattributed      tally[sample.NetNSID]
	tops              map[uint64]lengths // by listener
	sched             schedState
}

// lengths are of a listener's two queues.
type lengths struct{ accept, syn uint32 }

type named struct{ name, program string }

// NewBuilder returns a Builder for the trace that h heads.
func NewBuilder(h *sample.Header) *Builder {
	return &Builder{header: h, sched: newSchedState()}
}

// Build returns the Frame of s, whose deltas are against the Sample of the
// call before. The Frame refers to s, which must not change any more.
func (b *Builder) Build(s *sample.Sample) *Frame {
	if b.first == nil {
		b.first = s
	}
	f := &Frame{
		Header:  b.header,
		Sample:  s,
		Wall:    b.wall(s.MonoNS),
		Elapsed: span(b.first.MonoNS, s.MonoNS),
	}
	if b.prev != nil {
		f.Interval = span(b.prev.MonoNS, s.MonoNS)
	}
	f.Cost = cost(s, b.prev, f.Interval)
	f.CostMean = cost(s, b.first, f.Elapsed)
	f.HostIdle = Unknown()
	if b.prev != nil && s.Host != nil && b.prev.Host != nil {
		f.HostIdle = perSecond(s.Host.IdleNS, b.prev.Host.IdleNS, f.Interval) / 1e9
	}
	if s.Accept != nil {
		var prev *sample.Accept
		if b.prev != nil {
			prev = b.prev.Accept
		}
		f.Accept = buildAccept(f, prev)
		b.gone, b.names = b.names, make(map[uint64]named, len(f.Accept.Listeners))
		for _, l := range f.Accept.Listeners {
			b.names[l.Inode] = named{l.Name, l.Program}
		}
	}
	f.Queues = b.buildQueues(f)
	b.receive(f)
	f.Sched = b.sched.buildSched(f)
	f.CGroups = b.sched.buildCGroups(f)
	f.Sold = buildSold(f)
	addPending(f)
	f.Events = b.buildEvents(f)
	b.prev = s
	return f
}

func (b *Builder) buildEvents(f *Frame) []Event {
	var out []Event
	for _, e := range f.Sample.Events {
		n, ok := b.names[e.Inode]
		if !ok {
			n = b.gone[e.Inode]
		}
		out = append(out, Event{Event: e, Wall: b.wall(e.MonoNS), Listener: n.name, Program: n.program, Group: b.sched.titleOf(&e)})
	}
	return out
}

// receive builds what f has of the receive path.
func (b *Builder) receive(f *Frame) {
	prev := b.prev
	if prev == nil {
		prev = &sample.Sample{}
	}
	f.CPUs = buildCPUs(f.Sample.CPUs, prev.CPUs, f.Interval)
	if f.Sample.NetRX != nil {
		f.NetRX = buildNetRX(f, prev.NetRX)
	}
}

// wall converts a monotonic time by the header's pair of clocks.
func (b *Builder) wall(monoNS uint64) time.Time {
	return time.Unix(0, b.header.WallNS).Add(time.Duration(int64(monoNS - b.header.MonoNS)))
}

// cost is what the tracer took from one Sample, nil for none, to the next.
func cost(now, then *sample.Sample, interval time.Duration) Cost {
	c := Cost{
		UserRatio:   Unknown(),
		BPFRatio:    Unknown(),
		MemoryBytes: now.Self.MemoryBytes,
		LostTotal:   now.Self.LostTotal(),
	}
	if then == nil {
		return c
	}
	p := &then.Self
	c.UserRatio = perSecond(now.Self.UserCPUNS, p.UserCPUNS, interval) / 1e9
	if !now.Self.BPFUnmeasured {
		c.BPFRatio = perSecond(now.Self.BPFRunNS, p.BPFRunNS, interval) / 1e9
	}
	c.LostDelta = since(c.LostTotal, p.LostTotal())
	return c
}

func span(from, to uint64) time.Duration {
	return time.Duration(min(since(to, from), math.MaxInt64))
}

// since is now - then, and 0 for a counter that was reset.
func since(now, then uint64) uint64 {
	if now < then {
		return 0
	}
	return now - then
}

func perSecond(now, then uint64, interval time.Duration) float64 {
	if now < then || interval <= 0 {
		return Unknown()
	}
	return float64(now-then) / interval.Seconds()
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return Unknown()
	}
	return a / b
}
