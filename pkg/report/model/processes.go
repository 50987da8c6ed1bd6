// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// So many processes, threads and pairs are remembered while they are idle.
const (
	mostProcesses = 8192
	mostThreads   = 8192
	mostContended = 4096
)

// ProcessKey tells processes apart: a pid is used again.
type ProcessKey struct {
	PID     uint32
	StartNS uint64
}

// Key is p's identity.
func (p *Process) Key() ProcessKey { return ProcessKey{p.PID, p.StartNS} }

type threadKey struct {
	process ProcessKey
	tid     uint32
}

type rivals struct{ pid, holder uint32 }

type processTotals struct {
	sample.RunTimes
	sample.Switches
	claimed *uint64
	tick    int
}

// schedState is what a Builder remembers of the scheduler's totals.
type schedState struct {
	processes *bases[ProcessKey, processTotals]
	threads   *bases[threadKey, sample.RunTimes]
	contended *bases[rivals, uint64]
	cgroups   *bases[uint64, cgroupTotals]
	demands   map[uint64]*demand // by cgroup

	looked   *Sched            // the last one; threads may be looked at less often than each tick
	lookedAt uint64            // MonoNS of its Sample
	span     time.Duration     // that it covers
	ran      map[uint64]CGroup // what their threads did then, by id
}

func newSchedState() schedState {
	return schedState{
		processes: newBases[ProcessKey, processTotals](mostProcesses),
		threads:   newBases[threadKey, sample.RunTimes](mostThreads),
		contended: newBases[rivals, uint64](mostContended),
		cgroups:   newBases[uint64, cgroupTotals](mostCGroups),
		demands:   make(map[uint64]*demand),
	}
}

// buildSched is nil where the runq signal is not measured. Where threads were not
// looked at in this tick, to save the cost, they go on as at the last look.
func (b *schedState) buildSched(f *Frame) *Sched {
	s := f.Sample.Sched
	if s == nil && b.looked != nil && f.held() {
		return b.looked.scaled(f.Interval, b.span)
	}
	b.span = f.Interval
	if s != nil && b.looked != nil {
		b.span = span(b.lookedAt, f.Sample.MonoNS)
	}
	whole := f.Interval
	f.Interval = b.span
	defer func() { f.Interval = whole }()
	b.processes.begin()
	b.threads.begin()
	b.contended.begin()
	var out *Sched
	if s != nil {
		out = &Sched{Sched: s}
		for i := range s.Processes {
			out.Processes = append(out.Processes, b.buildProcess(f, &s.Processes[i]))
		}
		slices.SortStableFunc(out.Processes, func(x, y Process) int {
			return cmp.Or(cmp.Compare(y.Delta.RunNS+y.Delta.WaitNS, x.Delta.RunNS+x.Delta.WaitNS), cmp.Compare(x.PID, y.PID))
		})
		out.Contended = b.buildContended(s.Contended)
	}
	b.processes.end(s == nil || len(s.Processes) >= sample.MaxProcesses)
	b.threads.end(false) // see buildThread
	b.contended.end(s == nil || len(s.Contended) >= sample.MaxContended)
	b.looked, b.lookedAt = out, f.Sample.MonoNS
	return out.scaled(whole, b.span)
}

// held reports whether threads are looked at less often than each tick.
func (f *Frame) held() bool {
	return f.Sample.Self.Budget.Degraded(sample.ShedThreads) != "" && f.Measured(SignalRunq)
}

// scaled is what s, which covers the span, comes to in an interval.
func (s *Sched) scaled(interval, span time.Duration) *Sched {
	if s == nil || span <= 0 || interval == span {
		return s
	}
	part := float64(interval) / float64(span)
	out := *s
	out.Processes = slices.Clone(s.Processes)
	for i := range out.Processes {
		p := &out.Processes[i]
		p.Delta, p.Switched = scaledTimes(p.Delta, part), scaledSwitches(p.Switched, part)
		p.Top = slices.Clone(p.Top)
		for k := range p.Top {
			p.Top[k].Delta = scaledTimes(p.Top[k].Delta, part)
		}
	}
	out.Contended = slices.Clone(s.Contended)
	for i := range out.Contended {
		out.Contended[i].Delta = scaled(out.Contended[i].Delta, part)
	}
	return &out
}

func scaled(n uint64, part float64) uint64 { return uint64(float64(n) * part) }

func scaledTimes(t sample.RunTimes, part float64) sample.RunTimes {
	return sample.RunTimes{
		RunNS: scaled(t.RunNS, part), WaitNS: scaled(t.WaitNS, part), ThrottledNS: scaled(t.ThrottledNS, part),
		MaskNS: scaled(t.MaskNS, part), StolenNS: scaled(t.StolenNS, part),
	}
}

func scaledSwitches(s sample.Switches, part float64) sample.Switches {
	return sample.Switches{
		Voluntary: scaled(s.Voluntary, part), Involuntary: scaled(s.Involuntary, part),
		Wakes: scaled(s.Wakes, part), Migrations: scaled(s.Migrations, part),
	}
}

func (b *schedState) buildProcess(f *Frame, p *sample.Process) Process {
	out := Process{Process: *p, Run: Unknown(), Wait: Unknown(), Claimed: Unknown()}
	key := out.Key()
	was, isNew, ok := b.processes.of(key)
	if isNew && key.StartNS != 0 { // that of one whose main thread was not seen yet is 0
		if w, other, sure := b.processes.of(ProcessKey{PID: p.PID}); !other {
			was, isNew, ok = w, false, sure
			delete(b.processes.known, ProcessKey{PID: p.PID})
		}
	}
	now := processTotals{p.RunTimes, p.Switches, p.ClaimedNS, b.processes.tick}
	b.processes.set(key, now, p.Ended)
	out.fill(f, was, isNew, ok || isNew && b.beganSince(f, key))
	// /proc is looked up for the busiest only: a difference that is older than
	// the interval is no rate.
	if c := was.claimed; Known(out.Run) && c != nil && p.ClaimedNS != nil && was.tick == b.processes.tick-1 {
		out.Claimed = perSecond(*p.ClaimedNS, *c, f.Interval) / 1e9
	}
	for i := range p.Top {
		out.Top = append(out.Top, b.buildThread(f, &out, &p.Top[i]))
	}
	slices.SortStableFunc(out.Top, func(x, y Thread) int {
		return cmp.Or(cmp.Compare(y.Delta.RunNS+y.Delta.WaitNS, x.Delta.RunNS+x.Delta.WaitNS), cmp.Compare(x.TID, y.TID))
	})
	return out
}

// fill compares p with what it was. The last Sample lists those with the largest
// totals: what ended and was forgotten may be among them.
func (p *Process) fill(f *Frame, was processTotals, isNew, ok bool) {
	forgotten := isNew && p.Ended && f.Sample.Final
	run, grew := minus(p.RunTimes, was.RunTimes)
	switched, grew2 := minusSwitches(p.Switches, was.Switches)
	if !ok || !grew || !grew2 || forgotten || f.Interval <= 0 || isNew && !possible(run.RunNS, f.Header.CPUs, f.Interval) {
		return
	}
	p.Delta, p.Switched = run, switched
	p.Run, p.Wait = cores(run.RunNS, f.Interval), cores(run.WaitNS, f.Interval)
}

// beganSince reports whether a process began after the Sample before, so that
// its totals are all of the interval. That it was not listed there is no proof
// where the list was full. (Times since boot run ahead of the Sample's clock
// where the host was suspended: then nothing seems to have begun by now.)
func (b *schedState) beganSince(f *Frame, k ProcessKey) bool {
	return b.processes.tick > 1 && k.StartNS <= f.Sample.MonoNS && since(f.Sample.MonoNS, k.StartNS) < uint64(f.Interval)
}

// buildThread takes what was never listed for new, though a list of threads is
// often cut short, where it can have done all of it in the interval: as a part of
// what its process did, and of the time.
func (b *schedState) buildThread(f *Frame, of *Process, t *sample.Thread) Thread {
	out := Thread{Thread: *t, Run: Unknown(), Wait: Unknown()}
	key := threadKey{of.Key(), t.TID}
	was, isNew, ok := b.threads.of(key)
	b.threads.set(key, t.RunTimes, false)
	d, grew := minus(t.RunTimes, was)
	if !ok && !isNew || b.threads.tick < 2 || !grew || f.Interval <= 0 || !possible(d.RunNS, 1, f.Interval) {
		return out
	}
	whole := of.Delta
	if isNew && !(Known(of.Run) && d.RunNS <= whole.RunNS && d.WaitNS <= whole.WaitNS && possible(d.RunNS+d.WaitNS, 1, f.Interval)) {
		return out
	}
	out.Delta = d
	out.Run, out.Wait = min(cores(d.RunNS, f.Interval), 1), cores(d.WaitNS, f.Interval)
	return out
}

// possible reports whether n cores can have run for so long within the
// interval. The counters and the clock are not read at the same instant.
func possible(ns uint64, n int, interval time.Duration) bool {
	const skew = 50 * time.Millisecond
	return n <= 0 || float64(ns) <= 1.1*float64(n)*float64(interval+skew)
}

// buildContended leaves out what did not grow, and what is not known.
func (b *schedState) buildContended(now []sample.Contention) []Contention {
	var out []Contention
	for _, c := range now {
		key := rivals{c.PID, c.Holder}
		was, _, ok := b.contended.of(key)
		b.contended.set(key, c.WaitNS, false)
		if ok && c.WaitNS > was {
			out = append(out, Contention{c, c.WaitNS - was})
		}
	}
	slices.SortStableFunc(out, func(x, y Contention) int {
		return cmp.Or(cmp.Compare(y.Delta, x.Delta), cmp.Compare(x.PID, y.PID), cmp.Compare(x.Holder, y.Holder))
	})
	return out
}

// ContendedNS is the part of a wait in which others ran.
func ContendedNS(t sample.RunTimes) uint64 {
	rest := t.WaitNS
	for _, part := range []uint64{t.ThrottledNS, t.MaskNS, t.StolenNS} {
		rest -= min(part, rest)
	}
	return rest
}

// minus is now - then; not ok where one of them was reset.
func minus(now, then sample.RunTimes) (d sample.RunTimes, ok bool) {
	if now.RunNS < then.RunNS || now.WaitNS < then.WaitNS || now.ThrottledNS < then.ThrottledNS ||
		now.MaskNS < then.MaskNS || now.StolenNS < then.StolenNS {
		return d, false
	}
	return sample.RunTimes{
		RunNS: now.RunNS - then.RunNS, WaitNS: now.WaitNS - then.WaitNS, ThrottledNS: now.ThrottledNS - then.ThrottledNS,
		MaskNS: now.MaskNS - then.MaskNS, StolenNS: now.StolenNS - then.StolenNS,
	}, true
}

func minusSwitches(now, then sample.Switches) (d sample.Switches, ok bool) {
	if now.Voluntary < then.Voluntary || now.Involuntary < then.Involuntary || now.Wakes < then.Wakes || now.Migrations < then.Migrations {
		return d, false
	}
	return sample.Switches{
		Voluntary: now.Voluntary - then.Voluntary, Involuntary: now.Involuntary - then.Involuntary,
		Wakes: now.Wakes - then.Wakes, Migrations: now.Migrations - then.Migrations,
	}, true
}
