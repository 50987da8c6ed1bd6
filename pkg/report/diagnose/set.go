// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// verdict is what a detector says of one listener at one tick. A finding is
// raised by bad, cleared by calm that lasts, and kept in between.
type verdict struct {
	bad, calm bool
	after     time.Duration // how long it must be bad before that is a finding
	weight    float64       // how bad, to tell the worst moment
	finding   Finding       // what to say, when bad
	outcome   string        // what to say, when it clears
}

// detector judges one listener. It may keep state for it in the track.
type detector struct {
	id    string
	judge func(l *Limits, t *track, f *model.Frame, now *model.Listener) verdict
}

// detectors is every pathology of the accept signal.
var detectors = []detector{
	{"accept-herd", judgeHerd},
	{"accept-stall", judgeStall},
	{"accept-skew", judgeSkew},
}

// Set runs the detectors over the Frames of one trace. It is not safe for
// concurrent use.
type Set struct {
	limits Limits
	tracks map[trackKey]*track
	// all are the findings that are kept, in the order in which they were raised.
	all     []*Finding
	dropped int
}

// maxFindings bounds what a Set keeps: a trace may run for weeks.
const maxFindings = 1000

type trackKey struct {
	id    string
	inode uint64
}

// track is what a detector remembers of one listener.
type track struct {
	recent  []tick // that the window covers, oldest first
	badFor  time.Duration
	calmFor time.Duration
	finding *Finding // while raised
	worst   float64  // its greatest weight
}

// tick is what one Frame adds to a window.
type tick struct {
	interval         time.Duration
	accepts, conns   uint64
	wakeups, eagains uint64
	emptyNS          float64
	queued, stalled  uint64
}

const outcomeClosed = "the listener was closed"

// NewSet returns a Set that has seen nothing.
func NewSet(l Limits) *Set {
	return &Set{limits: l, tracks: make(map[trackKey]*track)}
}

// Update judges f and returns the findings that it raised or cleared, and those
// that it raised to a higher severity.
func (s *Set) Update(f *model.Frame) []Finding {
	if f.Accept == nil {
		return nil // not measured is not gone
	}
	var changed []Finding
	seen := make(map[uint64]bool)
	for _, l := range f.Accept.Listeners {
		seen[l.Inode] = true
		for _, d := range detectors {
			if c := s.update(&d, f, l); c != nil {
				changed = append(changed, *c)
			}
		}
	}
	for k, t := range s.tracks {
		if seen[k.inode] {
			continue
		}
		if t.finding != nil {
			changed = append(changed, *t.clear(f, outcomeClosed))
		}
		delete(s.tracks, k)
	}
	slices.SortStableFunc(changed, worstFirst)
	return changed
}

func (s *Set) update(d *detector, f *model.Frame, l *model.Listener) *Finding {
	key := trackKey{d.id, l.Inode}
	t := s.tracks[key]
	if l.Closed && (!l.Closing || (t != nil && t.finding != nil)) {
		delete(s.tracks, key)
		if t != nil && t.finding != nil {
			return t.clear(f, outcomeClosed)
		}
		return nil
	}
	// What closed a moment ago is judged by what it did until then.
	if t == nil {
		t = &track{}
		s.tracks[key] = t
	}
	if l.Interval <= 0 {
		return nil
	}
	t.push(l, s.limits.Window)
	if l.Closing {
		defer func() {
			if t.finding == nil {
				delete(s.tracks, key)
			}
		}()
	}
	v := d.judge(&s.limits, t, f, l)
	t.badFor, t.calmFor = lasted(v.bad, t.badFor, l.Interval), lasted(v.calm, t.calmFor, l.Interval)
	switch {
	case v.bad && t.finding == nil && t.badFor < v.after:
		return nil
	case v.bad && t.finding == nil:
		n := v.finding
		n.ID, n.Inode, n.State = d.id, l.Inode, Raised
		n.Since, n.Elapsed = f.Wall, f.Elapsed
		t.finding, t.worst = &n, v.weight
		s.keep(&n)
		return t.finding
	case v.bad && t.refresh(&v):
		return t.finding // it got worse: say it again
	case v.calm && t.finding != nil && t.calmFor >= s.limits.ClearAfter:
		return t.clear(f, v.outcome)
	}
	return nil
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
	f.Subject, f.Evidence, f.Cause, f.Remedy, f.Verify, f.Values = n.Subject, n.Evidence, n.Cause, n.Remedy, n.Verify, n.Values
	return worse
}

func (t *track) clear(f *model.Frame, outcome string) *Finding {
	c := t.finding
	c.State, c.Outcome, c.Until, c.Elapsed = Cleared, outcome, f.Wall, f.Elapsed
	t.finding = nil
	return c
}

// push adds l's deltas and drops what the window no longer covers.
func (t *track) push(l *model.Listener, window time.Duration) {
	t.recent = append(t.recent, tick{
		interval: l.Interval,
		accepts:  l.Delta.AcceptsTotal,
		conns:    max(l.Delta.AcceptsTotal, l.CompletionsDelta),
		wakeups:  l.Delta.WakeupsTotal,
		eagains:  l.Delta.AcceptEAGAINTotal,
		emptyNS:  l.EmptyCPU * float64(l.Interval),
		queued:   l.QueuedChecks,
		stalled:  l.StalledChecks,
	})
	for len(t.recent) > 1 && t.sum().interval-t.recent[0].interval >= window {
		t.recent = t.recent[1:]
	}
}

// sum adds up the window.
func (t *track) sum() tick {
	var s tick
	for _, r := range t.recent {
		s.interval += r.interval
		s.accepts += r.accepts
		s.conns += r.conns
		s.wakeups += r.wakeups
		s.eagains += r.eagains
		s.emptyNS += r.emptyNS
		s.queued += r.queued
		s.stalled += r.stalled
	}
	return s
}

// Active returns the findings that are raised and not cleared, worst first.
func (s *Set) Active() []Finding {
	var out []Finding
	for _, t := range s.tracks {
		if t.finding != nil {
			out = append(out, *t.finding)
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
	)
}
