// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"strconv"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// What is worth a word on a line or at the top of the screen. It is no finding:
// those have thresholds of their own, and a cause.
const (
	// A queue is long where so many run or wait there on average: while other
	// cores are idle for a noteworthy part of the time, or whatever they do.
	longPiled     = 2
	longAnyway    = 4
	noteUnclaimed = 0.1
	// noteBusy is the share of all cores' time from which on a host is busy: what
	// was sold more than once matters only then.
	noteBusy = 0.9
	// noteLoad is the same for a host that has some load at all.
	noteLoad = 0.1
)

// WaitParts is a wait taken apart by its causes, which add up to it.
type WaitParts struct{ ThrottledNS, ContendedNS, MaskNS, StolenNS uint64 }

// WaitPartsOf takes t's waits apart. They and their parts are not read at the
// same instant: what is more than the whole is left out.
func WaitPartsOf(t *sample.RunTimes) WaitParts {
	rest := t.WaitNS
	take := func(ns uint64) uint64 {
		ns = min(ns, rest)
		rest -= ns
		return ns
	}
	p := WaitParts{ThrottledNS: take(t.ThrottledNS), MaskNS: take(t.MaskNS), StolenNS: take(t.StolenNS)}
	p.ContendedNS = rest
	return p
}

// Piled reports whether threads waited at c for a noteworthy part of the
// interval while another core was idle.
func Piled(c *model.CPU) bool {
	return c.Runq != nil && c.Runq.UnclaimedRatio >= noteUnclaimed && QueueLen(c) >= longPiled
}

// QueueLen is how many threads ran or waited at c, as a mean over the interval;
// those that waited for a CPU quota are not among them.
func QueueLen(c *model.CPU) float64 {
	if c.Runq == nil {
		return model.Unknown()
	}
	return c.Runq.BusyRatio + c.Runq.Waiting
}

// PeakText is the most that ran or waited at c; their mean where that is not known.
func PeakText(c *model.CPU) string {
	if c.Runq.Partial {
		return "~" + model.Num(QueueLen(c))
	}
	return strconv.FormatUint(uint64(c.Runq.Peak), 10)
}

// LongestQueue is the core whose run queue is long, one where threads piled up
// before others, the longest first; nil where there is none.
func LongestQueue(f *model.Frame) *model.CPU {
	var out *model.CPU
	for i := range f.CPUs {
		c := &f.CPUs[i]
		switch {
		case !Piled(c) && !(QueueLen(c) >= longAnyway):
		case out == nil, Piled(c) && !Piled(out), Piled(c) == Piled(out) && QueueLen(c) > QueueLen(out):
			out = c
		}
	}
	return out
}

// Throttled counts the cgroups that ran out of their quota in the interval, and
// returns the one with the greatest share of its periods; nil where none did.
func Throttled(f *model.Frame) (n int, worst *model.CGroup) {
	for _, g := range f.CGroups {
		if g.CFS == nil || g.ThrottledPeriods == 0 {
			continue
		}
		if n++; worst == nil || cmp.Compare(g.ThrottledRatio, worst.ThrottledRatio) > 0 {
			worst = g
		}
	}
	return n, worst
}

// HostBusy is the share of all cores' time in which they had something to do.
func HostBusy(f *model.Frame) float64 {
	if len(f.CPUs) == 0 {
		if f.Header == nil || f.Header.CPUs == 0 {
			return model.Unknown()
		}
		return 1 - f.HostIdle/float64(f.Header.CPUs)
	}
	sum := 0.0
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.Runq == nil {
			sum += c.BusyRatio
		} else {
			sum += c.Runq.BusyRatio
		}
	}
	return sum / float64(len(f.CPUs))
}

// Loaded reports whether the cores have something to do.
func Loaded(f *model.Frame) bool { return HostBusy(f) >= noteLoad }

// busySinceAttach is HostBusy for the time since the first Sample.
func busySinceAttach(f *model.Frame) float64 {
	var ns uint64
	for i := range f.CPUs {
		if q := f.CPUs[i].Runq; q != nil && q.Runq != nil {
			ns += q.BusyNS
		}
	}
	return float64(ns) / float64(f.Elapsed.Nanoseconds()) / float64(len(f.CPUs))
}

// waitingSinceAttach is how many threads waited at c, as a mean over the time
// since the first Sample; those that waited for a CPU quota are not among them.
func waitingSinceAttach(c *model.CPU, elapsed time.Duration) float64 {
	q := c.Runq.Runq
	return float64(q.WaitNS-min(q.ThrottledNS, q.WaitNS)) / float64(elapsed.Nanoseconds())
}

// Oversold reports whether more cores were promised by quotas than there are,
// and there was no room left to keep the promise.
func Oversold(f *model.Frame) bool {
	return f.Sold.Ratio > 1 && HostBusy(f) >= noteBusy
}
