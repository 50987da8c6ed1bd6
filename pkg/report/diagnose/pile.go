// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"math"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgePile finds a core where threads wait while another core is idle; or, as
// long as none is, while another runs one thread of another cgroup alone. That
// threads wait is no fault by itself, nor is a long wait: what counts is that
// another core could have taken them, and did not. What the hypervisor takes of
// this core is no reason to go.
func judgePile(l *Limits, past *window, f *model.Frame, now *model.CPU) verdict {
	w := past.last(l.PileSmooth)
	waiting, unclaimed := w.share(w.waitingNS), w.share(w.unclaimedNS)
	v := verdict{
		calm:   waiting < l.PileWaiting/2 || unclaimed < l.PileUnclaimed/2 && waiting < l.CrowdWaiting/2,
		after:  l.PileFor,
		weight: waiting,
		outcome: func() string {
			return fmt.Sprintf("%s threads wait there now, and for %s of the time another core is idle meanwhile", model.Num(waiting), percent(unclaimed))
		},
	}
	if now.Runq == nil || !model.Known(now.Runq.UnclaimedRatio) || len(f.CPUs) < 2 || !(waiting*(1-taken(now)) >= l.PileWaiting) {
		return v
	}
	p := newPile(l, f, now, waiting)
	switch {
	case p.most < l.PileListed*l.PileWaiting:
		return v
	case unclaimed >= l.PileUnclaimed && p.hasRoom(l) && !p.ledElsewhere(l):
	case waiting >= l.CrowdWaiting && p.findRival(l):
		v.after = l.CrowdFor
	default:
		return v
	}
	v.bad, v.calm = true, false
	v.finding = Finding{
		Severity: Warn,
		Subject:  p.subject(),
		Evidence: p.evidence(l),
		Cause:    p.cause(),
		Remedy:   p.remedy(),
		Verify:   p.verify(),
		Values: map[string]float64{
			"waiting_threads": waiting,
			"unclaimed_ratio": unclaimed,
			"idle_cores":      p.spare,
		},
	}
	if q := now.Runq.WaitP99NS; model.Known(q) {
		v.finding.Values["wait_p99_seconds"] = q / 1e9
	}
	return v
}

// taken is the share of a core that the hypervisor took.
func taken(c *model.CPU) float64 {
	for _, v := range []float64{c.Runq.StealRatio, c.StealRatio} {
		if model.Known(v) {
			return min(max(v, 0), 1)
		}
	}
	return 0
}

// why threads do not leave a core.
type why int

const (
	notSeen why = iota
	byMask
	byCPUSet
	byChoice // of the scheduler
	byWeight
)

// pile is what waits at one core.
type pile struct {
	f       *model.Frame
	core    *model.CPU
	waiting float64
	apart   []int    // cores where hardly any thread waits, by number
	idle    []int    // of these, those that are idle for long
	spare   float64  // cores' worth of time that they are idle
	threads []waiter // longest wait first
	most    float64  // that may wait and should not have to
	why     why
	allowed []int // by mask or cpuset
	rival   rival
}

func newPile(l *Limits, f *model.Frame, now *model.CPU, waiting float64) *pile {
	p := &pile{f: f, core: now, waiting: waiting}
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.CPU.CPU == now.CPU.CPU || c.Runq == nil || !(c.Runq.Waiting <= l.PileApart*waiting) {
			continue
		}
		p.apart = append(p.apart, c.CPU.CPU)
		p.spare += 1 - c.Runq.BusyRatio
		if 1-c.Runq.BusyRatio >= l.PileIdle {
			p.idle = append(p.idle, c.CPU.CPU)
		}
	}
	p.threads, p.most = waitersAt(f, now.CPU.CPU)
	p.explain()
	return p
}

// hasRoom reports whether other cores could take threads. Of many cores one is
// idle at any moment, by turns: without a mask, that must be a fair part of them.
func (p *pile) hasRoom(l *Limits) bool {
	held := p.why == byMask || p.why == byCPUSet
	return p.spare >= l.PileIdle && (held || len(p.idle) > 0 || p.spare >= l.PileTurns*float64(len(p.apart)))
}

// others are the cores that could have taken threads from here: where none is
// idle for long, they are so by turns.
func (p *pile) others() []int {
	if len(p.idle) > 0 {
		return p.idle
	}
	return p.apart
}

// explain finds what keeps most of the threads from the idle cores.
func (p *pile) explain() {
	var sum [byWeight + 1]float64
	for i := range p.threads {
		sum[p.threads[i].heldBy(p.others())] += p.threads[i].wait
	}
	for y := byMask; y <= byChoice; y++ {
		if sum[y] > sum[p.why] {
			p.why = y
		}
	}
	if w := p.held(); w != nil {
		p.allowed = w.Allowed
	}
}

// held is the longest waiter of those that a mask or a cpuset holds, nil where
// that is not why.
func (p *pile) held() *waiter {
	if p.why != byMask && p.why != byCPUSet {
		return nil
	}
	for i := range p.threads {
		if w := &p.threads[i]; w.heldBy(p.others()) == p.why {
			return w
		}
	}
	return nil
}

// ledElsewhere reports whether the pile is one of several cores to which the
// same mask holds its threads, and an earlier one of them has the finding.
func (p *pile) ledElsewhere(l *Limits) bool {
	return slices.ContainsFunc(p.piled(l), func(c *model.CPU) bool { return c.CPU.CPU < p.core.CPU.CPU })
}

// piled are the cores of the mask where threads pile up.
func (p *pile) piled(l *Limits) (out []*model.CPU) {
	for i := range p.f.CPUs {
		c := &p.f.CPUs[i]
		if c.Runq != nil && slices.Contains(p.allowed, c.CPU.CPU) && c.Runq.Waiting*(1-taken(c)) >= l.PileWaiting && c.Runq.UnclaimedRatio >= l.PileUnclaimed {
			out = append(out, c)
		}
	}
	return out
}

// runnable is how many threads run or wait there.
func (p *pile) runnable() int { return runnable(p.core, p.waiting) }

func runnable(c *model.CPU, waiting float64) int {
	return int(math.Round(min(waiting+c.Runq.BusyRatio, math.MaxInt32)))
}
