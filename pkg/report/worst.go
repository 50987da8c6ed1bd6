// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"maps"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// mostStalls is of how many cgroups the longest stall is remembered.
const mostStalls = 4096

// Worst is what a Frame has of its interval only, at its worst since attach.
// The zero Worst is that of no Frame.
type Worst struct {
	RunqPeak map[int]uint32    // of the cores that are there, by number
	StallNS  map[uint64]uint64 // longest stall of cgroups, ended ones too, by id; at most mostStalls
	Sold     model.Sold        // by its Ratio
	Oversold model.Sold        // likewise, of the intervals in which the host was busy
	SoldBusy float64           // how busy it was then
}

// add takes what is worse in f.
func (w *Worst) add(f *model.Frame) {
	peaks := make(map[int]uint32, len(f.CPUs))
	for i := range f.CPUs {
		if c := &f.CPUs[i]; c.Runq != nil && c.Runq.Runq != nil {
			peaks[c.CPU.CPU] = max(w.RunqPeak[c.CPU.CPU], c.Runq.Peak)
		}
	}
	w.RunqPeak = peaks
	for _, g := range f.CGroups {
		w.stall(g.ID, g.WorstStallNS)
	}
	if f.Sold.Ratio > w.Sold.Ratio {
		w.Sold = f.Sold
	}
	if Oversold(f) && f.Sold.Ratio > w.Oversold.Ratio {
		w.Oversold, w.SoldBusy = f.Sold, HostBusy(f)
	}
}

// stall takes a stall of a cgroup. Where there are too many of them, the half
// with the shortest stalls is forgotten.
func (w *Worst) stall(id, ns uint64) {
	if ns <= w.StallNS[id] {
		return
	}
	if w.StallNS == nil {
		w.StallNS = make(map[uint64]uint64)
	}
	w.StallNS[id] = ns
	if len(w.StallNS) <= mostStalls {
		return
	}
	ids := slices.SortedFunc(maps.Keys(w.StallNS), func(a, b uint64) int {
		return cmp.Or(cmp.Compare(w.StallNS[a], w.StallNS[b]), cmp.Compare(a, b))
	})
	for _, id := range ids[:len(ids)/2] {
		delete(w.StallNS, id)
	}
}
