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

// subject is whom a finding is about, and what it says.
type subject struct {
	id    string
	inode uint64
	cpu   int
	group uint64
	pid   uint32
}

func subjectOf(f *diagnose.Finding) subject {
	if diagnose.OfHost(f.ID) { // what it names first may change
		return subject{id: f.ID, cpu: -1}
	}
	return subject{f.ID, f.Inode, f.CPU, f.CGroupID, f.PID}
}

// raising tells the findings of one subject apart.
type raising struct {
	of    subject
	since int64
}

func raisingOf(f *diagnose.Finding) raising { return raising{subjectOf(f), f.Since.UnixNano()} }

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
	v  map[subject]float64
}

// step takes a tick, and the findings that it raised.
func (s *strips) step(t *report.Step) {
	now := gauged{at: t.Frame.Elapsed}
	if len(s.recent) > ticksBefore {
		now.v = s.recent[0].v
		clear(now.v)
		s.recent = slices.Delete(s.recent, 0, 1)
	} else {
		now.v = make(map[subject]float64)
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
	k := raisingOf(f)
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
func (s *strips) forget(for_ diagnose.Severity) bool {
	var oldest raising
	found := false
	for k, e := range s.of {
		if e.severity < for_ && (!found || k.before(oldest)) {
			oldest, found = k, true
		}
	}
	if found {
		delete(s.of, oldest)
	}
	return found
}

func (k raising) before(other raising) bool {
	a, b := k.of, other.of
	return cmp.Or(cmp.Compare(k.since, other.since), cmp.Compare(a.id, b.id), cmp.Compare(a.inode, b.inode),
		cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.group, b.group), cmp.Compare(a.pid, b.pid)) < 0
}

func (g *gauged) of(on subject) point {
	v, ok := g.v[on]
	if !ok {
		v = math.NaN()
	}
	return point{g.at, v}
}

// measure is what a strip draws of a finding.
type measure struct {
	name  string
	form  func(float64) string
	least float64 // the top of the scale is no lower
}

var measures = map[string]measure{
	"accept-herd":              {"wake-ups per connection", num, 1},
	"accept-stall":             {"connections in the accept queue", num, 4},
	"accept-skew":              {"of a core: its busiest worker", percent, 1},
	"accept-queue-overflow":    {"refusals per second", num, 1},
	"accept-queue-wait":        {"~seconds in the accept queue", num, 0.1},
	"syn-queue-overflow":       {"SYNs refused or answered by cookie, per second", num, 1},
	"netrx-imbalance":          {"of the core's time in softirqs", percent, 1},
	"runq-pile":                {"threads that wait for the core", num, 2},
	"cputime-hidden":           {"of the core's time that /proc/stat does not show", percent, 0.5},
	"cfs-throttle":             {"of its periods throttled", percent, 1},
	"cfs-throttle-below-quota": {"of its periods throttled", percent, 1},
	"cputime-frozen":           {"cores used beyond what /proc claims", num, 0.5},
	"netdev-backlog-drop":      {"packets dropped per second", num, 1},
	"cpu-oversold":             {"cores sold by quotas for each one that there is", cores, 1},
}

// gauge measures what findings may be about.
func gauge(f *model.Frame, into map[subject]float64) {
	set := func(on subject, v float64) {
		if model.Known(v) && len(into) < mostGauged {
			into[on] = v
		}
	}
	if f.NetRX != nil {
		set(subject{id: "netdev-backlog-drop", cpu: -1}, f.NetRX.DroppedPerS)
	}
	if f.CGroups != nil {
		set(subject{id: "cpu-oversold", cpu: -1}, f.Sold.Ratio)
	}
	if f.Accept != nil {
		for _, l := range f.Accept.Listeners {
			gaugeListener(l, func(id string, v float64) { set(subject{id: id, inode: l.Inode, cpu: -1}, v) })
		}
	}
	for i := range f.CPUs {
		c := &f.CPUs[i]
		on := func(id string, v float64) { set(subject{id: id, cpu: c.CPU.CPU}, v) }
		if model.Known(c.NetRXRatio) {
			on("netrx-imbalance", c.NetRXRatio)
		} else {
			on("netrx-imbalance", c.SoftIRQRatio)
		}
		if c.Runq != nil {
			on("runq-pile", c.Runq.Waiting)
			on("cputime-hidden", max(c.Runq.BusyRatio-c.BusyRatio, 0))
		}
	}
	for _, g := range f.CGroups {
		if g.CFS != nil {
			set(subject{id: "cfs-throttle", cpu: -1, group: g.ID}, g.ThrottledRatio)
			set(subject{id: "cfs-throttle-below-quota", cpu: -1, group: g.ID}, g.ThrottledRatio)
		}
	}
	if f.Sched != nil {
		for i := range f.Sched.Processes {
			p := &f.Sched.Processes[i]
			set(subject{id: "cputime-frozen", cpu: -1, pid: p.PID}, p.Run-p.Claimed)
		}
	}
}

func gaugeListener(l *model.Listener, set func(id string, v float64)) {
	set("accept-herd", l.WakeupsPerAccept)
	if l.Group != nil && l.Group.Top != nil && l.Group.TopAt == l {
		set("accept-skew", l.Group.Top.RunRatio)
	}
	q := l.Queue
	if q == nil {
		return
	}
	set("accept-stall", float64(l.AcceptQueueLen))
	set("accept-queue-overflow", q.RefusalsPerS-q.SynPerS)
	set("syn-queue-overflow", q.SynPerS+q.CookiesPerS)
	switch {
	case model.Known(q.WaitS):
		set("accept-queue-wait", q.WaitS)
	case l.AcceptQueueLen == 0:
		set("accept-queue-wait", 0)
	}
}
