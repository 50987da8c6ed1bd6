// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// verdict is what a detector says of its subject at one tick. A finding is
// raised by bad, cleared by calm that lasts, and kept in between.
type verdict struct {
	bad, calm bool
	after     time.Duration // how long it must be bad before that is a finding
	stays     time.Duration // how long it must be calm before it clears, if longer than others
	weight    float64       // how bad, to tell the worst moment
	finding   Finding       // what to say, when bad
	outcome   func() string // what to say, when it clears
}

// detector judges a listener, a core, a cgroup, a process or the host by its
// recent past and by now.
type detector[S any] struct {
	id    string
	judge func(l *Limits, w *window, f *model.Frame, now S) verdict
	// unless is a detector before it in its list, "" for none, which says the same
	// better: while its finding is raised, there is none of this one.
	unless string
}

// Every pathology, by what it is about.
var (
	listenerDetectors = []detector[*model.Listener]{
		{"accept-herd", judgeHerd, ""},
		{"accept-stall", judgeStall, ""},
		{"accept-skew", judgeSkew, ""},
		{"accept-queue-overflow", judgeOverflow, ""},
		{"accept-queue-wait", judgeQueueWait, "accept-stall"},
		{"syn-queue-overflow", judgeSynQueue, ""},
	}
	coreDetectors = []detector[*model.CPU]{
		{"netrx-imbalance", judgeNetRX, ""},
		{"runq-pile", judgePile, ""},
		{"cputime-hidden", judgeHidden, ""},
	}
	cgroupDetectors = []detector[*model.CGroup]{
		{"cfs-throttle", judgeThrottle, ""},
		{"cfs-throttle-below-quota", judgeBelowQuota, "cfs-throttle"},
	}
	processDetectors = []detector[*model.Process]{
		{"cputime-frozen", judgeFrozen, ""},
	}
	hostDetectors = []detector[*model.Frame]{
		{"netdev-backlog-drop", judgeBacklog, ""},
		{"cpu-oversold", judgeOversold, ""},
	}
)

// Set runs the detectors over the Frames of one trace. It is not safe for
// concurrent use.
type Set struct {
	limits  Limits
	watches map[about]*watch
	// all are the findings that are kept, in the order in which they were raised.
	all     []*Finding
	dropped int
}

// maxFindings bounds what a Set keeps: a trace may run for weeks.
const maxFindings = 1000

// about is what a finding is about.
type about struct {
	kind    kind
	inode   uint64 // of a listener
	cpu     int    // -1: no core
	cgroup  uint64
	process model.ProcessKey
}

type kind int

const (
	aHost kind = iota
	aListener
	aCore
	aCGroup
	aProcess
)

const noCPU = -1

func aboutHost() about                 { return about{kind: aHost, cpu: noCPU} }
func aboutListener(inode uint64) about { return about{kind: aListener, inode: inode, cpu: noCPU} }
func aboutCore(cpu int) about          { return about{kind: aCore, cpu: cpu} }
func aboutCGroup(id uint64) about      { return about{kind: aCGroup, cgroup: id, cpu: noCPU} }
func aboutProcess(process model.ProcessKey) about {
	return about{kind: aProcess, process: process, cpu: noCPU}
}

// identify says in f whom it is about. The host's detectors do it themselves:
// they may name the one core or group that it is about.
func (on about) identify(f *Finding) {
	if on.kind != aHost {
		f.Inode, f.CPU, f.CGroupID, f.PID = on.inode, on.cpu, on.cgroup, on.process.PID
	}
}

// watch is what a Set remembers of one subject: a track for each detector.
type watch struct {
	window
	tracks []track
	missed int // ticks in a row that did not list it
}

// track is what becomes of one detector's verdicts.
type track struct {
	badFor  time.Duration
	calmFor time.Duration
	finding *Finding // while raised
	worst   float64  // its greatest weight
}

const outcomeClosed = "the listener was closed"

// outcomeGone is said when a subject is no longer listed.
var outcomeGone = map[kind]string{
	aListener: outcomeClosed,
	aCore:     "the core is offline",
	aCGroup:   "the cgroup is gone, or has no quota now",
	aProcess:  "the process is gone, or idle",
}

// NewSet returns a Set that has seen nothing.
func NewSet(l Limits) *Set {
	return &Set{limits: l, watches: make(map[about]*watch)}
}

// Update judges f and returns the findings that it raised or cleared, and those
// that it raised to a higher severity.
func (s *Set) Update(f *model.Frame) []Finding {
	var changed []Finding
	seen := make(map[about]bool)
	if f.Accept != nil {
		for _, l := range f.Accept.Listeners {
			on := aboutListener(l.Inode)
			seen[on] = true
			changed = append(changed, s.updateListener(on, f, l)...)
		}
	}
	for i := range f.CPUs {
		on := aboutCore(f.CPUs[i].CPU.CPU)
		seen[on] = true
		changed = append(changed, update(s, coreDetectors, on, f, coreTick(f, i), s.limits.coreSpan(), &f.CPUs[i])...)
	}
	changed = append(changed, s.updateSched(f, seen)...)
	if f.NetRX != nil || f.CGroups != nil {
		changed = append(changed, update(s, hostDetectors, aboutHost(), f, hostTick(&s.limits, f), s.limits.Window, f)...)
	}
	for on, w := range s.watches {
		switch {
		case seen[on] || !on.measured(f):
			w.missed = 0
		case on.kind == aProcess && w.missed < s.limits.FrozenGrace: // it may just have been idle
			w.missed++
			w.push(tick{interval: f.Interval}, s.limits.FrozenSpan)
		default:
			changed = append(changed, s.forget(on, w, f)...)
		}
	}
	slices.SortStableFunc(changed, worstFirst)
	return changed
}

// updateSched judges the cgroups that have a quota, and the processes whose
// claims were looked up.
func (s *Set) updateSched(f *model.Frame, seen map[about]bool) (changed []Finding) {
	for _, g := range f.CGroups {
		if g.CFS == nil {
			continue
		}
		on := aboutCGroup(g.ID)
		seen[on] = true
		changed = append(changed, update(s, cgroupDetectors, on, f, cgroupTick(f, g), s.limits.cgroupSpan(f, g), g)...)
	}
	if f.Sched != nil {
		for i := range f.Sched.Processes {
			p := &f.Sched.Processes[i]
			on := aboutProcess(p.Key())
			if s.watches[on] == nil && !model.Known(p.Claimed) {
				continue // there is nothing to compare
			}
			seen[on] = true
			changed = append(changed, update(s, processDetectors, on, f, processTick(f, p), s.limits.FrozenSpan, p)...)
		}
	}
	return changed
}

// measured reports whether f would show on, if it were there: what was not
// measured is not gone.
func (on about) measured(f *model.Frame) bool {
	switch on.kind {
	case aListener:
		return f.Accept != nil
	case aCore:
		return len(f.CPUs) > 0
	case aCGroup:
		return f.CGroups != nil
	case aProcess:
		return f.Sched != nil
	}
	return false
}

func (s *Set) updateListener(on about, f *model.Frame, l *model.Listener) (changed []Finding) {
	if !l.Closed || l.Closing { // what closed a moment ago is judged by what it did until then
		changed = update(s, listenerDetectors, on, f, listenerTick(l), s.limits.Window, l)
	}
	w := s.watches[on]
	if !l.Closed || w == nil {
		return changed
	}
	raised := false
	for i := range w.tracks {
		switch t := &w.tracks[i]; {
		case t.finding == nil:
		case t.finding.Since.Before(f.Wall):
			changed = append(changed, *t.clear(f, outcomeClosed))
		default:
			raised = true
		}
	}
	if !raised {
		delete(s.watches, on)
	}
	return changed
}

// update adds what happened to a subject and lets its detectors judge it.
func update[S any](s *Set, ds []detector[S], on about, f *model.Frame, t tick, span time.Duration, now S) []Finding {
	w := s.watches[on]
	if w == nil {
		w = &watch{tracks: make([]track, len(ds))}
		s.watches[on] = w
	}
	if t.interval <= 0 {
		return nil
	}
	w.push(t, span)
	var changed []Finding
	for i := range ds {
		v := ds[i].judge(&s.limits, &w.window, f, now)
		v.finding.ID = ds[i].id
		on.identify(&v.finding)
		if better := slices.IndexFunc(ds[:i], func(d detector[S]) bool { return d.id == ds[i].unless }); better >= 0 && w.tracks[better].finding != nil {
			v = verdict{}
			if w.tracks[i].finding != nil {
				changed = append(changed, *w.tracks[i].clear(f, "see "+ds[i].unless))
			}
		}
		if c := s.settle(&w.tracks[i], &v, f, t.interval); c != nil {
			changed = append(changed, *c)
		}
	}
	return changed
}

// settle turns a verdict into a change of its finding, nil where there is none.
func (s *Set) settle(t *track, v *verdict, f *model.Frame, interval time.Duration) *Finding {
	t.badFor, t.calmFor = lasted(v.bad, t.badFor, interval), lasted(v.calm, t.calmFor, interval)
	switch {
	case v.bad && t.finding == nil && t.badFor < v.after:
		return nil
	case v.bad && t.finding == nil:
		n := v.finding
		n.State, n.Since, n.Elapsed = Raised, f.Wall, f.Elapsed
		t.finding, t.worst = &n, v.weight
		s.keep(&n)
		return t.finding
	case v.bad && t.refresh(v):
		return t.finding // it got worse: say it again
	case v.calm && t.finding != nil && t.calmFor >= max(s.limits.ClearAfter, v.stays):
		return t.clear(f, v.outcome())
	}
	return nil
}

// forget drops a subject that is gone and clears its findings.
func (s *Set) forget(on about, w *watch, f *model.Frame) (changed []Finding) {
	for i := range w.tracks {
		if t := &w.tracks[i]; t.finding != nil {
			changed = append(changed, *t.clear(f, outcomeGone[on.kind]))
		}
	}
	delete(s.watches, on)
	return changed
}

// keep appends f. Where that is one too many, the oldest of the mildest that
// are cleared makes room, so that the worst of a trace is never forgotten.
func (s *Set) keep(f *Finding) {
	s.all = append(s.all, f)
	if len(s.all) <= maxFindings {
		return
	}
	least := 0
	for i, g := range s.all {
		if g.State == Cleared && (s.all[least].State != Cleared || g.Severity < s.all[least].Severity) {
			least = i
		}
	}
	s.all = slices.Delete(s.all, least, least+1)
	s.dropped++
}

func lasted(still bool, before, interval time.Duration) time.Duration {
	if !still {
		return 0
	}
	return before + interval
}

// refresh brings a raised finding's words up to date, unless its worst moment is
// past: what is left while a cause fades would make a poor record of it. It
// reports whether the severity grew.
func (t *track) refresh(v *verdict) (worse bool) {
	if v.weight < 0.9*t.worst {
		return false
	}
	t.worst = max(t.worst, v.weight)
	f, n := t.finding, &v.finding
	worse = n.Severity > f.Severity
	f.Severity = max(f.Severity, n.Severity)
	f.CPU, f.CGroupID, f.Subject, f.Evidence, f.Cause = n.CPU, n.CGroupID, n.Subject, n.Evidence, n.Cause
	f.Remedy, f.Verify, f.Values = n.Remedy, n.Verify, n.Values
	return worse
}

func (t *track) clear(f *model.Frame, outcome string) *Finding {
	c := t.finding
	c.State, c.Outcome, c.Until, c.Elapsed = Cleared, outcome, f.Wall, f.Elapsed
	t.finding = nil
	return c
}

// Active returns the findings that are raised and not cleared, worst first.
func (s *Set) Active() []Finding {
	var out []Finding
	for _, w := range s.watches {
		for i := range w.tracks {
			if g := w.tracks[i].finding; g != nil {
				out = append(out, *g)
			}
		}
	}
	slices.SortFunc(out, worstFirst)
	return out
}

// Dropped is how many findings were raised and are no longer in All.
func (s *Set) Dropped() int { return s.dropped }

// All returns the findings that were raised, oldest first, in their present
// state: every one, up to a bound.
func (s *Set) All() []Finding {
	out := make([]Finding, len(s.all))
	for i, f := range s.all {
		out[i] = *f
	}
	return out
}

func worstFirst(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(b.Severity, a.Severity),
		a.Since.Compare(b.Since),
		cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Inode, b.Inode),
		cmp.Compare(a.CPU, b.CPU),
		cmp.Compare(a.CGroupID, b.CGroupID),
		cmp.Compare(a.PID, b.PID),
	)
}

// OfHost reports whether findings of that id are about the host: which core, group
// or process they name may change while they are raised.
func OfHost(id string) bool {
	return slices.ContainsFunc(hostDetectors, func(d detector[*model.Frame]) bool { return d.id == id })
}
