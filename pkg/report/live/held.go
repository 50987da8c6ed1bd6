// SPDX-License-Identifier: Apache-2.0

package live

import (
	"maps"
	"math"
	"time"
)

// holdFor is how long a row keeps its place at least, so that one can read it and
// click on it.
const holdFor = 3 * time.Second

// drillKey is under which what is behind the opened row is held.
const drillKey Panel = 254

// held is where the rows of a table are, until they may change places.
type held struct {
	rank  map[uint64]int
	since time.Duration // on the Frames' clock
	place Place         // by which they were sorted, the selection aside
	match string        // the filter
	of    uint64        // the row that is opened
	marks map[uint64]string
}

// at is the place of a row; that of a new one is behind them all.
func (h *held) at(id uint64) int {
	if n, ok := h.rank[id]; ok {
		return n
	}
	return math.MaxInt
}

// settle decides for the tables that may be seen where their rows are, given where
// they were: where the values have them now, if that was decided long enough ago,
// the severity of one changed, or the user sorts or filters them in another way.
func (v *View) settle(was map[Panel]*held) map[Panel]*held {
	out := make(map[Panel]*held, len(was))
	if v.Frame == nil {
		return out
	}
	if d := v.drill(); d != nil {
		maps.Copy(out, was) // until it is closed
		if !d.alone {
			out[drillKey] = v.settled(was[drillKey], d.table, v.UI.Opened)
		}
		return out
	}
	panels := []Panel{v.UI.Panel}
	if v.UI.Overview && v.UI.Panel < Processes {
		panels = overviewPanels
	}
	for _, p := range panels {
		out[p] = v.settled(was[p], v.on(p).table(), 0)
	}
	return out
}

func (v *View) settled(old *held, t lister, of uint64) *held {
	place, marks := t.where(), t.marks()
	place.Selected = 0
	if old != nil && old.place == place && old.match == v.UI.Filter && old.of == of && maps.Equal(old.marks, marks) &&
		v.Frame.Elapsed >= old.since && v.Frame.Elapsed-old.since < holdFor {
		return old
	}
	ids := t.ids()
	h := &held{rank: make(map[uint64]int, len(ids)), since: v.Frame.Elapsed, place: place, match: v.UI.Filter, of: of, marks: marks}
	for i, id := range ids {
		h.rank[id] = i
	}
	return h
}
