// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// Worst is what a Frame has of its interval only, at its worst since attach.
// The zero Worst is that of no Frame.
type Worst struct {
	RunqPeak map[int]uint32    // of the cores that are there, by number
	StallNS  map[uint64]uint64 // longest stall of the cgroups that are there, by id
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
	stalls := make(map[uint64]uint64, len(f.CGroups))
	for _, g := range f.CGroups {
		stalls[g.ID] = max(w.StallNS[g.ID], g.WorstStallNS)
	}
	w.RunqPeak, w.StallNS = peaks, stalls
	if f.Sold.Ratio > w.Sold.Ratio {
		w.Sold = f.Sold
	}
	if Oversold(f) && f.Sold.Ratio > w.Oversold.Ratio {
		w.Oversold, w.SoldBusy = f.Sold, HostBusy(f)
	}
}

// quantile99 is the upper bound of the slot that holds the 99th percentile:
// slot i holds less than 2^(i+1).
func quantile99(slots []uint64) float64 {
	var n uint64
	for _, v := range slots {
		n += v
	}
	rest := n / 100 // so many may be above it
	for i := len(slots) - 1; i >= 0; i-- {
		if slots[i] > rest {
			return math.Ldexp(1, i+1)
		}
		rest -= slots[i]
	}
	return model.Unknown()
}
