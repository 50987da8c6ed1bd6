// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"math"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// counterKey is one counter of one thing: a core, a listener, a cgroup.
type counterKey struct {
	what *counterInfo
	id   uint64
}

// counterInfo is a kind of counter.
type counterInfo struct {
	in   group
	name string // "": that of the core
	rank int
	unit unit
	// gauge: it is of the moment of a tick, not of the interval before it.
	gauge bool
	// quiet: most of them are 0 all the time, and get no track as long as they are.
	quiet bool
}

// counter is the state of one counter.
type counter struct {
	info   *counterInfo
	uuid   uint64 // 0: it has no track yet
	parent uint64
	name   string
	rank   int

	zeroAt  uint64 // of one that has no track yet, since when it is known to be 0
	isZero  bool
	written bool
	value   float64 // that was written last
	tick    uint64  // at which it was set last
	// With thinned counters, the highest since windowAt.
	waiting  bool
	windowAt uint64
	highest  float64
}

// counterOf returns a counter; nil where there are too many. Parent is 0 for
// that of its group.
func (t *Trace) counterOf(info *counterInfo, id, parent uint64) *counter {
	key := counterKey{info, id}
	c := t.counters[key]
	if c == nil {
		if len(t.counters) >= maxTracks {
			t.budget.untracked++
			return nil
		}
		c = &counter{info: info, parent: parent, name: info.name, rank: info.rank}
		t.counters[key] = c
		t.order = append(t.order, c)
	}
	return c
}

// set gives c the value that it has in this interval.
func (t *Trace) set(c *counter, v float64) {
	if c == nil {
		return
	}
	c.tick = t.ticks
	if !model.Known(v) || math.IsInf(v, 0) {
		return
	}
	at := t.from
	if c.info.gauge {
		at = t.last
	}
	if t.budget.stride == 1 {
		t.write(c, at, v)
		return
	}
	if !c.waiting {
		c.waiting, c.windowAt, c.highest = true, at, v
	}
	c.highest = max(c.highest, v)
}

// write writes a value that is another one than before.
func (t *Trace) write(c *counter, at uint64, v float64) {
	if c.written && c.value == v {
		return
	}
	if c.uuid == 0 {
		if c.info.quiet && v == 0 {
			if !c.isZero {
				c.isZero, c.zeroAt = true, at
			}
			return
		}
		if c.parent == 0 {
			c.parent = t.group(c.info.in)
		}
		u := c.info.unit
		if c.uuid = t.newTrack(track{parent: c.parent, name: c.name, rank: c.rank, counter: &u}); c.uuid == 0 {
			return
		}
		if c.isZero {
			t.writeValue(c, c.zeroAt, 0)
		}
	}
	t.writeValue(c, at, v)
}

// exactInt is below the number from which on a float64 does not hold each integer.
const exactInt = 1 << 53

func (t *Trace) writeValue(c *counter, at uint64, v float64) {
	if !t.budget.counter() {
		return
	}
	c.written, c.value = true, v
	b := &t.buf
	p := t.packetAt(at)
	e := b.begin(packetTrackEvent)
	b.uint(eventType, counterValue)
	b.uint(eventTrackUUID, c.uuid)
	if v >= 0 && v < exactInt && v == math.Trunc(v) {
		b.uint(eventCounter, uint64(v))
	} else {
		b.double(eventDoubleCounter, v)
	}
	b.end(e)
	t.emit(p)
}

// endTick lets go to 0 what was looked for and not found, writes what is thinned
// at the end of its window, and thins more where much has been written.
func (t *Trace) endTick() {
	for _, c := range t.order {
		if c.tick != t.ticks && t.looked[c.info.in] {
			t.set(c, 0)
		}
	}
	if t.ticks%t.budget.stride == 0 {
		t.flushCounters()
		if t.budget.thin() {
			t.noteThinned()
		}
	}
}

// flushCounters writes what is thinned.
func (t *Trace) flushCounters() {
	for _, c := range t.order {
		if c.waiting {
			c.waiting = false
			t.write(c, c.windowAt, c.highest)
		}
	}
}
