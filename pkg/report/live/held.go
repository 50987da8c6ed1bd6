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

// held is where the rows of a panel are, until they may change places.
type held struct {
	rank  map[uint64]int
	since time.Duration // on the Frames' clock
	place Place         // by which they were sorted, the selection aside
	match string        // the filter
	marks map[uint64]string
}

// at is the place of a row; that of a new one is behind them all.
func (h *held) at(id uint64) int {
	if n, ok := h.rank[id]; ok {
		return n
	}
	return math.MaxInt
}

// settle decides for the panels where their rows are, given where they were: where
// the values have them now, if that was decided long enough ago, the severity of
// one changed, or the user sorts or filters them in another way.
func (v *View) settle(was map[Panel]*held) map[Panel]*held {
	out := make(map[Panel]*held, len(was))
	if v.Frame == nil {
		return out
	}
	for p := range Panel(panels) {
		t := v.on(p).table()
		place := t.where()
		place.Selected = 0
		old := was[p]
		ids, marks := t.hold()
		if old != nil && old.place == place && old.match == v.UI.Filter && maps.Equal(old.marks, marks) &&
			v.Frame.Elapsed >= old.since && v.Frame.Elapsed-old.since < holdFor {
			out[p] = old
			continue
		}
		h := &held{rank: make(map[uint64]int, len(ids)), since: v.Frame.Elapsed, place: place, match: v.UI.Filter, marks: marks}
		for i, id := range ids {
			h.rank[id] = i
		}
		out[p] = h
	}
	return out
}
