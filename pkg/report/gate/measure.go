// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"math"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// leastWaits is from how many waits on a core's 99th percentile says something.
const leastWaits = 100

func sumOf(of func(t *totals) uint64) func(*meter) value {
	return func(m *meter) value { return exactly(float64(of(m.all())), "") }
}

func (m *meter) conns() value { return exactly(float64(m.all().conns), "") }

func (m *meter) eagainRatio() value {
	t := m.all()
	return known(float64(t.eagain)/float64(t.accepts+t.eagain), "", "nothing was accepted")
}

// known is v, or nothing where v is none.
func known(v float64, at, why string) value {
	if math.IsNaN(v) {
		return nothing(why)
	}
	return exactly(v, at)
}

// wakeupsPerAccept is by completions where accepts cannot be seen, as
// model.TotalWakeupsPerAccept is.
func (m *meter) wakeupsPerAccept() value {
	v, at := m.worst(func(t *totals) float64 {
		by := t.accepts
		if by == 0 {
			by = t.completions
		}
		if t.noWakeups || t.conns < max(m.minConns, 1) || by == 0 {
			return math.NaN()
		}
		return float64(t.wakeups) / float64(by)
	})
	return known(v, at, fmt.Sprintf("no listener had %d connections whose wake-ups are seen", max(m.minConns, 1)))
}

func (m *meter) emptyCPU() value {
	return known(m.all().emptyCPU, "", "no wake-up for nothing could be timed")
}

func (m *meter) refusals() value {
	if m.queues == nil {
		return nothing("no listen queue was read")
	}
	return exactly(float64(m.queues.RefusalsTotal), "")
}

func (m *meter) refusalsPerConn() value {
	r := m.refusals()
	if r.doubt != "" {
		return r
	}
	return known(r.measured/float64(m.all().conns), "", "there was no connection")
}

func (m *meter) queueFull() value {
	ns := float64(m.last.Elapsed)
	v, at := m.worst(func(t *totals) float64 { return min(float64(t.fullNS)/ns, 1) })
	return known(v, at, "there was no listener")
}

func (m *meter) queuePeak() value {
	v, at := m.worst(func(t *totals) float64 { return t.peak })
	return known(v, at, "there was no listener")
}

func (m *meter) queueWait() value { return exactly(1e3*m.waitS, m.waitAt) }

// waits is the histogram over all cores.
func (m *meter) waits() []uint64 {
	var sum []uint64
	for i := range m.last.CPUs {
		if q := m.last.CPUs[i].Runq; q != nil {
			sum = addUp(sum, q.Wait)
		}
	}
	return sum
}

func addUp(sum, h []uint64) []uint64 {
	for len(sum) < len(h) {
		sum = append(sum, 0)
	}
	for i, n := range h {
		sum[i] += n
	}
	return sum
}

func (m *meter) waitP99() value {
	return known(model.Quantile99(m.waits(), nil)/1e6, "", "no wait was seen")
}

func (m *meter) coreWaitP99() value {
	return m.worstCore("no core had 100 waits", func(c *model.CPU) float64 {
		if c.Runq == nil || c.Runq.Waits < leastWaits {
			return math.NaN()
		}
		return model.Quantile99(c.Runq.Wait, nil) / 1e6
	})
}

// worstCore is the core at which of is greatest.
func (m *meter) worstCore(why string, of func(c *model.CPU) float64) value {
	v, at := math.NaN(), ""
	for i := range m.last.CPUs {
		c := &m.last.CPUs[i]
		if x := of(c); !math.IsNaN(x) && !(x <= v) {
			v, at = x, fmt.Sprintf("cpu%d", c.CPU.CPU)
		}
	}
	return known(v, at, why)
}

// perTime sums over the cores a time by the time that the trace took.
func (m *meter) perTime(of func(q *model.Runq) uint64) (sum, cores float64) {
	for i := range m.last.CPUs {
		if q := m.last.CPUs[i].Runq; q != nil && q.Runq != nil {
			sum += float64(of(q))
			cores++
		}
	}
	if cores == 0 {
		return math.NaN(), 0
	}
	return sum / float64(m.last.Elapsed), cores
}

const noTime = "no time was measured"

func (m *meter) waiting() value {
	v, _ := m.perTime(func(q *model.Runq) uint64 { return q.Runq.WaitNS - min(q.Runq.ThrottledNS, q.Runq.WaitNS) })
	return known(v, "", noTime)
}

func (m *meter) busy() value {
	v, cores := m.perTime(func(q *model.Runq) uint64 { return q.BusyNS })
	return known(min(v/cores, 1), "", noTime)
}

func (m *meter) peak() value {
	return m.worstCore(noTime, func(c *model.CPU) float64 {
		if c.Runq == nil || c.Runq.Runq == nil {
			return math.NaN()
		}
		return float64(max(c.Runq.Peak, m.summary.Worst.RunqPeak[c.CPU.CPU]))
	})
}

func (m *meter) unclaimed() value {
	return m.worstCore(noTime, func(c *model.CPU) float64 {
		if c.Runq == nil || c.Runq.Runq == nil {
			return math.NaN()
		}
		return min(float64(c.Runq.UnclaimedNS)/float64(m.last.Elapsed), 1)
	})
}

func (m *meter) throttledRatio() value {
	b := m.bandwidth()
	return exactly(b.worst, b.worstAt)
}

func (m *meter) throttledPeriods() value { return exactly(float64(m.bandwidth().throttled), "") }

func (m *meter) throttledSeconds() value {
	return exactly(float64(m.bandwidth().throttledNS)/1e9, "")
}

func (m *meter) worstStall() value {
	var ns uint64
	for _, n := range m.summary.Worst.StallNS {
		ns = max(ns, n)
	}
	return exactly(float64(ns)/1e6, "")
}

func (m *meter) sold() value { return exactly(m.summary.Worst.Sold.Ratio, "") }

func (m *meter) drops() value {
	return m.softnet(func(c *model.CPU) uint64 { return c.Softnet.Dropped })
}

func (m *meter) squeezed() value {
	return m.softnet(func(c *model.CPU) uint64 { return c.Softnet.TimesSqueeze })
}

func (m *meter) softnet(of func(c *model.CPU) uint64) value {
	var n uint64
	for i := range m.last.CPUs {
		if c := &m.last.CPUs[i]; c.Softnet != nil {
			n += of(c)
		}
	}
	return exactly(float64(n), "")
}

func (m *meter) netRXCore() value {
	return m.worstCore(noTime, func(c *model.CPU) float64 {
		if c.SoftIRQ == nil || c.SoftIRQ.CountOnly {
			return math.NaN()
		}
		return min(float64(c.SoftIRQ.RunNS)/float64(m.last.Elapsed), 1)
	})
}

func (m *meter) netRXLatency() value {
	var sum []uint64
	for i := range m.last.CPUs {
		if s := m.last.CPUs[i].SoftIRQ; s != nil {
			sum = addUp(sum, s.Latency)
		}
	}
	if v := model.Quantile99(sum, nil); model.Known(v) {
		return exactly(v/1e3, "")
	}
	return exactly(0, "")
}

func (m *meter) cost() value {
	c := &m.last.CostMean
	return known(c.UserRatio+c.BPFRatio, "", "the cost of the BPF programs is not known (it takes CAP_SYS_ADMIN)")
}

// shownFindings bounds how many of them are named.
const shownFindings = 3

// countOf counts findings of a severity, 0 for all, and id, "" for all.
func countOf(severity diagnose.Severity, id string) func(*meter) value {
	return func(m *meter) value {
		var names []string
		n := 0
		for i := range m.summary.Findings {
			f := &m.summary.Findings[i]
			if severity > 0 && f.Severity != severity || id != "" && f.ID != id {
				continue
			}
			if n++; n <= shownFindings {
				names = append(names, f.ID+" "+f.Subject)
			}
		}
		if severity == 0 && id == "" {
			n += m.summary.Dropped // milder ones
		}
		if n > shownFindings {
			names = append(names, fmt.Sprintf("and %d more", n-shownFindings))
		}
		return exactly(float64(n), strings.Join(names, ", "))
	}
}
