// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// rival is who has another core alone.
type rival struct {
	waiter
	cpu int
	// The cgroups that are weighed against each other: of those that wait, and
	// of the one who does not. They are siblings, or both the root, which stands
	// for autogroups.
	mine, theirs *model.CGroup
}

// findRival looks for a core that runs a thread of another cgroup alone, one
// that weighs no more than the cgroup whose threads wait here and that the
// scheduler could move: what is pinned to a core was given it.
func (p *pile) findRival(l *Limits) bool {
	p.why, p.allowed = notSeen, nil
	mine := p.group()
	if mine == nil || !p.crowdedHere(l, mine) {
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
		a, b := competing(mine, all[w.process.CGroupID])
		if a == nil || a == b && !p.autogroups(a, &w) || a.Weight > 0 && a.Weight < b.Weight {
			continue
		}
		if !(p.coresOf(a, a == b) <= max(l.CrowdCores, 2*w.Run)) {
			continue // it has its share, and more threads than that is good for
		}
		p.why, p.rival = byWeight, rival{w, c.CPU.CPU, a, b}
		return true
	}
	return false
}

// crowdedHere reports whether this core is the first of few where mine waits.
func (p *pile) crowdedHere(l *Limits, mine *model.CGroup) bool {
	crowded := 0
	for i := range p.f.CPUs {
		c := &p.f.CPUs[i]
		if c.Runq == nil || !(c.Runq.Waiting >= l.PileWaiting) {
			continue
		}
		crowded++
		if c.CPU.CPU < p.core.CPU.CPU && c.Runq.Waiting >= l.CrowdWaiting {
			there := &pile{f: p.f, core: c}
			there.threads, _ = waitersAt(p.f, c.CPU.CPU)
			if there.group() == mine {
				return false
			}
		}
	}
	return crowded <= max(1, len(p.f.CPUs)/4)
}

// group is the cgroup of nearly all that waits here, nil where there is none.
func (p *pile) group() *model.CGroup {
	const nearly = 0.7
	sum := make(map[uint64]float64)
	for i := range p.threads {
		sum[p.threads[i].process.CGroupID] += p.threads[i].wait
	}
	for id, n := range sum {
		if n >= nearly*sumOf(p.threads) {
			return groups(p.f)[id]
		}
	}
	return nil
}

// mayUse reports whether the threads that wait here may run on cpu.
func (p *pile) mayUse(cpu int) bool {
	free := 0.0
	for i := range p.threads {
		if w := &p.threads[i]; w.mayUse(cpu) {
			free += w.wait
		}
	}
	return free > sumOf(p.threads)/2
}

// competing are the groups whose weights decide between mine and theirs: those
// below their last common ancestor. Both are the same where mine is theirs, and
// nil where one holds the other.
func competing(mine, theirs *model.CGroup) (a, b *model.CGroup) {
	switch {
	case mine == nil || theirs == nil:
		return nil, nil
	case mine == theirs:
		return mine, mine
	case inside(mine, theirs.ID) || inside(theirs, mine.ID):
		return nil, nil
	}
	for a = mine; a.Parent != nil && !inside(theirs, a.Parent.ID); {
		a = a.Parent
	}
	for b = theirs; b.Parent != a.Parent; {
		if b = b.Parent; b == nil {
			return nil, nil // one of them hangs in the air
		}
	}
	return a, b
}

// autogroups reports whether who may be weighed as a session against those that
// wait here. The sessions are not known. A negative nice value is its right.
func (p *pile) autogroups(g *model.CGroup, who *waiter) bool {
	return g.Parent == nil && who.Nice >= 0 && !slices.ContainsFunc(p.threads, func(w waiter) bool { return w.process.PID == who.process.PID })
}

// coresOf is what g uses; of a session, what the programs that wait here use.
func (p *pile) coresOf(g *model.CGroup, session bool) float64 {
	if !session {
		return g.Used
	}
	sum, names := 0.0, p.counts()
	for i := range p.f.Sched.Processes {
		if q := &p.f.Sched.Processes[i]; names[processName(q)] > 0 && model.Known(q.Run) {
			sum += q.Run
		}
	}
	return sum
}

// fair reports whether a policy is one that weights are for.
func fair(policy string) bool { return policy == "" || policy == "batch" }
