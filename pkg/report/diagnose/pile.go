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
// another core could have taken them, and did not.
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
	if !(waiting >= l.PileWaiting) || len(f.CPUs) < 2 {
		return v
	}
	p := newPile(l, f, now, waiting)
	switch {
	case unclaimed >= l.PileUnclaimed && p.spare >= l.PileIdle && !p.ledElsewhere(l):
	case waiting >= l.CrowdWaiting && p.findRival(l):
		v.after = l.CrowdFor
	default:
		return v
	}
	v.bad, v.calm = true, false
	v.finding = Finding{
		Severity: Warn,
		Subject:  p.subject(),
		Evidence: p.evidence(),
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
	why     why
	allowed []int // by mask or cpuset
	rival   rival
}

// waiter is a thread that waits at a core, and how much: of the interval.
type waiter struct {
	*model.Thread
	process *model.Process
	wait    float64
}

// rival is who has another core alone.
type rival struct {
	waiter
	cpu   int
	group *model.CGroup // nil: not known
	mine  *model.CGroup // of those that wait
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
	p.threads = waitersAt(f, now.CPU.CPU)
	return p
}

// waitersAt are the threads that wait at a core for anything but a quota. The
// listed ones are the most active.
func waitersAt(f *model.Frame, cpu int) []waiter {
	// What waits less is there by and by, as everybody.
	const least = 0.05
	if f.Sched == nil {
		return nil
	}
	var out []waiter
	for i := range f.Sched.Processes {
		proc := &f.Sched.Processes[i]
		for k := range proc.Top {
			t := &proc.Top[k]
			if t.CPU != cpu || !model.Known(t.Wait) {
				continue
			}
			wait := t.Wait - float64(t.Delta.ThrottledNS)/float64(f.Interval)
			if t.Delta.WaitNS == 0 { // a wait that began before the interval and goes on
				wait = float64(min(t.PendingNS, uint64(f.Interval))) / float64(f.Interval)
			}
			if wait >= least {
				out = append(out, waiter{t, proc, min(wait, 1)})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b waiter) int {
		switch {
		case a.wait > b.wait:
			return -1
		case a.wait < b.wait:
			return 1
		}
		return 0
	})
	return out
}

// heldBy is what keeps w from all of these cores.
func (w *waiter) heldBy(cores []int) why {
	switch {
	case len(w.Allowed) == 0 || slices.ContainsFunc(cores, func(c int) bool { return slices.Contains(w.Allowed, c) }):
		return byChoice
	case w.CPUSet:
		return byCPUSet
	}
	return byMask
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
	if p.why == byMask || p.why == byCPUSet {
		i := slices.IndexFunc(p.threads, func(w waiter) bool { return w.heldBy(p.others()) == p.why })
		p.allowed = p.threads[i].Allowed
	}
}

// ledElsewhere reports whether the pile is one of several cores to which the
// same mask holds its threads, and another has the finding.
func (p *pile) ledElsewhere(l *Limits) bool {
	p.explain()
	for i := range p.f.CPUs {
		c := &p.f.CPUs[i]
		if slices.Contains(p.allowed, c.CPU.CPU) {
			return c.CPU.CPU != p.core.CPU.CPU && c.Runq != nil && c.Runq.Waiting >= l.PileWaiting/2
		}
	}
	return false
}

// findRival looks for a core that runs a thread of another cgroup alone, one
// that weighs no more than the cgroup whose threads wait here and that the
// scheduler could move: what is pinned to a core was given it.
func (p *pile) findRival(l *Limits) bool {
	p.why, p.allowed = notSeen, nil
	mine := p.group()
	if mine == nil {
		return false
	}
	all := groups(p.f)
	for i := range p.f.CPUs {
		c := &p.f.CPUs[i]
		q := c.Runq
		if c.CPU.CPU == p.core.CPU.CPU || q == nil || !(q.Waiting <= min(l.RivalWaiting, l.PileApart*p.waiting)) {
			continue
		}
		w, ok := runnerAt(p.f, c.CPU.CPU)
		if !ok || w.Run < l.RivalRun || w.process.Kernel || len(w.Allowed) == 1 || !fair(w.Policy) || !p.mayUse(c.CPU.CPU) {
			continue
		}
		theirs := all[w.process.CGroupID]
		if theirs == nil || !p.rivals(mine, theirs, w.process) || mine.Weight > 0 && mine.Weight < theirs.Weight {
			continue
		}
		p.why, p.rival = byWeight, rival{w, c.CPU.CPU, theirs, mine}
		return true
	}
	return false
}

// group is the cgroup of nearly all that waits here, nil where there is none, or
// where most of it is meant to wait.
func (p *pile) group() *model.CGroup {
	const nearly = 0.7
	sum, all := make(map[uint64]float64), 0.0
	for i := range p.threads {
		w := &p.threads[i]
		all += w.wait
		if w.Nice <= 0 && w.Policy == "" {
			sum[w.process.CGroupID] += w.wait
		}
	}
	for id, n := range sum {
		if n >= nearly*all {
			return groups(p.f)[id]
		}
	}
	return nil
}

// mayUse reports whether the threads that wait here may run on cpu.
func (p *pile) mayUse(cpu int) bool {
	var free, all float64
	for i := range p.threads {
		w := &p.threads[i]
		if all += w.wait; w.heldBy([]int{cpu}) == byChoice {
			free += w.wait
		}
	}
	return free > all/2
}

// rivals reports whether two groups are weighed against each other. Those of the
// root may be in autogroups, one for each session.
func (p *pile) rivals(mine, theirs *model.CGroup, who *model.Process) bool {
	if mine.ID != theirs.ID {
		return !inside(mine, theirs.ID) && !inside(theirs, mine.ID)
	}
	return mine.Parent == nil && !slices.ContainsFunc(p.threads, func(w waiter) bool { return w.process.PID == who.PID })
}

// fair reports whether a policy is one that weights are for.
func fair(policy string) bool { return policy == "" || policy == "batch" }

// runnerAt is the thread that runs most on a core.
func runnerAt(f *model.Frame, cpu int) (best waiter, ok bool) {
	for i := range f.Sched.Processes {
		proc := &f.Sched.Processes[i]
		for k := range proc.Top {
			if t := &proc.Top[k]; t.CPU == cpu && t.Run > 0 && (!ok || t.Run > best.Run) {
				best, ok = waiter{Thread: t, process: proc}, true
			}
		}
	}
	return best, ok
}

// runnable is how many threads run or wait there.
func (p *pile) runnable() int {
	return int(math.Round(min(p.waiting+p.core.Runq.BusyRatio, math.MaxInt32)))
}
