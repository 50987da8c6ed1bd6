// SPDX-License-Identifier: Apache-2.0

package html

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// A finding comes with what it is about, over time: from ticksBefore ticks before
// it was raised, for at most ticksShown in all.
const (
	ticksBefore = 15
	ticksShown  = 60
	// mostStrips is for how many findings that is kept, mostGauged how many values
	// of a tick are.
	mostStrips = 64
	mostGauged = 8192
)

// subject is what a finding says, and about whom: a listener's inode, the number of
// a core or process, or the id of a cgroup; 0 for the host.
type subject struct {
	what uint8 // an index of measures
	on   uint64
}

// subjectOf is not ok for a finding that nothing is measured of.
func subjectOf(f *diagnose.Finding) (s subject, ok bool) {
	i := slices.IndexFunc(measures, func(m measure) bool { return m.id == f.ID })
	if i < 0 {
		return s, false
	}
	s.what = uint8(i)
	switch {
	case diagnose.OfHost(f.ID): // what it names first may change
	case f.CPU >= 0:
		s.on = uint64(f.CPU)
	default:
		s.on = max(f.Inode, f.CGroupID, uint64(f.PID)) // it has one of them
	}
	return s, true
}

// raising tells the findings of one subject apart.
type raising struct {
	of    subject
	since int64
}

func raisingOf(f *diagnose.Finding) (k raising, ok bool) {
	s, ok := subjectOf(f)
	return raising{s, f.Since.UnixNano()}, ok
}

// point is a value at a tick that came so long after the first.
type point struct {
	at time.Duration
	v  float64 // NaN: not known
}

// strip is the evidence of one finding.
type strip struct {
	severity diagnose.Severity
	raised   time.Duration
	points   []point
}

// strips are the evidence of all findings.
type strips struct {
	of     map[raising]*strip
	recent []gauged // the last ticks, oldest first
}

// gauged is what was measured at one tick of all that a finding may be about.
type gauged struct {
	at time.Duration
	v  map[subject]float32
}

// step takes a tick, and the findings that it raised.
func (s *strips) step(t *report.Step) {
	now := gauged{at: t.Frame.Elapsed}
	if len(s.recent) > ticksBefore {
		now.v = s.recent[0].v
		clear(now.v)
		s.recent = slices.Delete(s.recent, 0, 1)
	} else {
		now.v = make(map[subject]float32)
	}
	gauge(t.Frame, now.v)
	s.recent = append(s.recent, now)
	for k, e := range s.of {
		if len(e.points) < ticksShown {
			e.points = append(e.points, now.of(k.of))
		}
	}
	for i := range t.Changed {
		if f := &t.Changed[i]; f.State == diagnose.Raised {
			s.raise(f, now.at)
		}
	}
}

// raise begins the strip of f with the ticks before.
func (s *strips) raise(f *diagnose.Finding, at time.Duration) {
	k, ok := raisingOf(f)
	if !ok {
		return
	}
	if e := s.of[k]; e != nil { // it got worse
		e.severity = max(e.severity, f.Severity)
		return
	}
	if s.of == nil {
		s.of = make(map[raising]*strip)
	}
	if len(s.of) >= mostStrips && !s.forget(f.Severity) {
		return
	}
	e := &strip{severity: f.Severity, raised: at}
	for _, g := range s.recent {
		e.points = append(e.points, g.of(k.of))
	}
	s.of[k] = e
}

// forget makes room for a finding of that severity: the oldest milder one goes.
func (s *strips) forget(severity diagnose.Severity) bool {
	var oldest raising
	found := false
	for k, e := range s.of {
		if e.severity < severity && (!found || k.before(oldest)) {
			oldest, found = k, true
		}
	}
	if found {
		delete(s.of, oldest)
	}
	return found
}

func (k raising) before(other raising) bool {
	return cmp.Or(cmp.Compare(k.since, other.since), cmp.Compare(k.of.what, other.of.what), cmp.Compare(k.of.on, other.of.on)) < 0
}

func (g *gauged) of(on subject) point {
	v, ok := g.v[on]
	if !ok {
		return point{g.at, math.NaN()}
	}
	return point{g.at, float64(v)}
}

// measure is what a strip draws of a finding.
type measure struct {
	id    string // of the finding
	name  string
	form  func(float64) string
	least float64 // the top of the scale is no lower
}

// The indices of measures.
const (
	ofHerd = iota
	ofStall
	ofSkew
	ofOverflow
	ofQueueWait
	ofSynQueue
	ofNetRX
	ofPile
	ofHidden
	ofThrottle
	ofBelowQuota
	ofFrozen
	ofBacklogDrop
	ofOversold
)

var measures = []measure{
	ofHerd:        {"accept-herd", "wake-ups per connection", num, 1},
	ofStall:       {"accept-stall", "connections in the accept queue", num, 4},
	ofSkew:        {"accept-skew", "of a core: its busiest worker", percent, 1},
	ofOverflow:    {"accept-queue-overflow", "refusals per second", num, 1},
	ofQueueWait:   {"accept-queue-wait", "~seconds in the accept queue", num, 0.1},
	ofSynQueue:    {"syn-queue-overflow", "SYNs refused or answered by cookie, per second", num, 1},
	ofNetRX:       {"netrx-imbalance", "of the core's time in softirqs", percent, 1},
	ofPile:        {"runq-pile", "threads that wait for the core", num, 2},
	ofHidden:      {"cputime-hidden", "of the core's time that /proc/stat does not show", percent, 0.5},
	ofThrottle:    {"cfs-throttle", "of its periods throttled", percent, 1},
	ofBelowQuota:  {"cfs-throttle-below-quota", "of its periods throttled", percent, 1},
	ofFrozen:      {"cputime-frozen", "cores used beyond what /proc claims", num, 0.5},
	ofBacklogDrop: {"netdev-backlog-drop", "packets dropped per second", num, 1},
	ofOversold:    {"cpu-oversold", "cores sold by quotas for each one that there is", cores, 1},
}

// gauge measures what findings may be about.
func gauge(f *model.Frame, into map[subject]float32) {
	set := func(what uint8, on uint64, v float64) {
		if model.Known(v) && len(into) < mostGauged {
			into[subject{what, on}] = float32(v)
		}
	}
	if f.NetRX != nil {
		set(ofBacklogDrop, 0, f.NetRX.DroppedPerS)
	}
	if f.CGroups != nil {
		set(ofOversold, 0, f.Sold.Ratio)
	}
	if f.Accept != nil {
		for _, l := range f.Accept.Listeners {
			gaugeListener(l, set)
		}
	}
	for i := range f.CPUs {
		c := &f.CPUs[i]
		on := uint64(c.CPU.CPU)
		if model.Known(c.NetRXRatio) {
			set(ofNetRX, on, c.NetRXRatio)
		} else {
			set(ofNetRX, on, c.SoftIRQRatio)
		}
		if c.Runq != nil {
			set(ofPile, on, c.Runq.Waiting)
			set(ofHidden, on, max(c.Runq.BusyRatio-c.BusyRatio, 0))
		}
	}
	for _, g := range f.CGroups {
		if g.CFS != nil {
			set(ofThrottle, g.ID, g.ThrottledRatio)
			set(ofBelowQuota, g.ID, g.ThrottledRatio)
		}
	}
	if f.Sched != nil {
		for i := range f.Sched.Processes {
			p := &f.Sched.Processes[i]
			set(ofFrozen, uint64(p.PID), p.Run-p.Claimed)
		}
	}
}

func gaugeListener(l *model.Listener, set func(what uint8, on uint64, v float64)) {
	set(ofHerd, l.Inode, l.WakeupsPerAccept)
	if l.Group != nil && l.Group.Top != nil && l.Group.TopAt == l {
		set(ofSkew, l.Inode, l.Group.Top.RunRatio)
	}
	q := l.Queue
	if q == nil {
		return
	}
	set(ofStall, l.Inode, float64(l.AcceptQueueLen))
	set(ofOverflow, l.Inode, q.RefusalsPerS-q.SynPerS)
	set(ofSynQueue, l.Inode, q.SynPerS+q.CookiesPerS)
	switch {
	case model.Known(q.WaitS):
		set(ofQueueWait, l.Inode, q.WaitS)
	case l.AcceptQueueLen == 0:
		set(ofQueueWait, l.Inode, 0)
	}
}
