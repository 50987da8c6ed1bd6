// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"cmp"
	"math"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// busyLooks is the least number of waits in an interval whose 99th percentile
// means something.
const busyLooks = 20

// sums are what the sockets of one address did in an interval, by metric.
type sums map[metric]pair

func (m sums) add(k metric, num, den float64) {
	if finite(num) && finite(den) {
		m[k] = m[k].plus(pair{num: num, den: den})
	}
}

// worst keeps the greatest of the sockets.
func (m sums) worst(k metric, num, den float64) {
	if finite(num) {
		m[k] = pair{num: max(m[k].num, num), den: den}
	}
}

// take adds an interval. What a share of the time is of the host counts from the
// begin of the load to its end.
func (u *subject) take(m sums) {
	load := 0.0
	if u.kind == aHost {
		load = m[busyCores].num
	}
	for k := range metricCount {
		if p, ok := m[k]; ok {
			u.series[k].addUnder(p.num, p.den, load)
		}
	}
}

// listenerKey is what a listener is found by in the other recording: namespaces
// have other numbers there.
func listenerKey(l *model.Listener) subjectKey {
	proto := l.Proto
	if proto == "mptcp" {
		proto = "tcp"
	}
	return subjectKey{aListener, proto + " " + l.Name}
}

func (s *Side) addListeners(f *model.Frame) {
	if f.Accept == nil {
		return
	}
	now := make(map[uint64]subjectKey, len(f.Accept.Listeners))
	byKey := make(map[subjectKey]sums)
	for _, l := range f.Accept.Listeners {
		key := listenerKey(l)
		now[l.Inode] = key
		if l.Closed && !l.Closing {
			continue
		}
		u := s.subject(key)
		if u == nil {
			continue
		}
		u.proto, u.port = l.Proto, l.Port
		if u.prog == "" || l.Program != "?" {
			u.prog = model.Printable(l.Program)
		}
		u.label = "listener " + model.Printable(l.Name) + " (" + u.prog + ")"
		if l.ReusePort && !l.Closed {
			u.sockets = max(u.sockets, l.Sockets)
		}
		u.sockets = max(u.sockets, 1)
		if l.Interval <= 0 {
			continue
		}
		if byKey[key] == nil {
			byKey[key] = make(sums)
		}
		s.addListener(byKey[key], u, f, l)
	}
	for key, m := range byKey {
		s.subjects[key].take(m)
	}
	s.listeners = now
}

// addListener adds one socket's part. Shares of the time are those of intervals
// in which it had something to do.
func (s *Side) addListener(m sums, u *subject, f *model.Frame, l *model.Listener) {
	dt := l.Interval.Seconds()
	conns := max(l.Delta.AcceptsTotal, l.CompletionsDelta)
	if f.ConnsKnown(l) {
		m[connsPerS] = pair{num: m[connsPerS].num + float64(conns), den: dt}
		s.conns += float64(conns)
	}
	s.counted += float64(conns) + float64(l.Delta.WakeupsTotal) + float64(l.Delta.AcceptEAGAINTotal)
	active := conns > 0 || l.AcceptQueueLen > 0
	if model.Known(l.WakeupsPerS) {
		m.add(wakeupsPerConn, float64(l.Delta.WakeupsTotal), float64(conns))
	}
	if model.Known(l.EAGAINRatio) {
		m.add(eagainRatio, float64(l.Delta.AcceptEAGAINTotal), float64(l.Delta.AcceptEAGAINTotal+l.Delta.AcceptsTotal))
	}
	m.add(emptyCPUPerConn, l.EmptyCPU*dt, float64(conns))
	if active && f.Measured(model.SignalAccept) {
		m[stalledLooks] = pair{num: m[stalledLooks].num + float64(l.StalledChecks), den: dt}
	}
	if g := l.Group; active && g != nil && g.TopAt == l && len(g.Others) > 0 {
		m.add(workerGap, (min(g.Top.Busy(), 1)-min(g.Others[len(g.Others)/2], 1))*dt, dt)
	}
	if q := l.Queue; q != nil {
		s.addQueue(m, u, f, l, float64(conns))
	}
}

func (s *Side) addQueue(m sums, u *subject, f *model.Frame, l *model.Listener, conns float64) {
	q, dt := l.Queue, l.Interval.Seconds()
	if !model.Known(q.RefusalsPerS) {
		return
	}
	d := &q.Delta
	refused := float64(d.Total())
	s.counted += refused
	s.refused += refused
	attempts := conns + refused
	m.add(refusalsPerAttempt, refused, attempts)
	m.add(refusedAtSYN, float64(d.AcceptQueueSYN), attempts)
	m.add(refusedAtACK, float64(d.AcceptQueueACK), attempts)
	m.add(refusedAtCookie, float64(d.AcceptQueueCookie), attempts)
	m.add(refusedAtSynQueue, float64(d.SynQueue), attempts)
	m.add(synCookies, float64(d.SynQueue)+float64(q.CookiesDelta), attempts+float64(q.CookiesDelta))
	if attempts > 0 || l.AcceptQueueLen > 0 {
		m.worst(acceptQueueFull, q.AcceptFull*dt, dt)
	}
	if model.Known(q.TakenPerS) {
		m.add(acceptQueueWait, float64(l.AcceptQueueLen)*dt, float64(q.TakenDelta))
	}
	if refused > 0 {
		if u.refusedBy == nil {
			u.refusedBy = make(map[uint64]uint64)
		}
		if _, known := u.refusedBy[l.Inode]; known || len(u.refusedBy) < maxSockets {
			u.refusedBy[l.Inode] += d.Total()
		}
	}
}

// addHost adds what belongs to the cores, by the worst of them, and to no one else.
func (s *Side) addHost(f *model.Frame) {
	m, dt := make(sums), f.Interval.Seconds()
	p99, unclaimed, hidden := math.NaN(), math.NaN(), math.NaN()
	var cores, netrx, packets, dropped float64
	some, timed := false, false
	for i := range f.CPUs {
		c := &f.CPUs[i]
		ran := c.BusyRatio
		if q := c.Runq; q != nil && model.Known(q.BusyRatio) {
			ran = q.BusyRatio
			unclaimed = worse(unclaimed, q.UnclaimedRatio)
			if countOf(q.Waited) >= busyLooks {
				p99 = worse(p99, q.WaitP99NS/1e9)
			}
			if !q.Partial && model.Known(c.BusyRatio) {
				hidden = worse(hidden, max(q.BusyRatio-c.BusyRatio, 0))
			}
		}
		if model.Known(ran) {
			cores, some = cores+ran, true
		}
		if model.Known(c.NetRXRatio) {
			netrx, timed = netrx+c.NetRXRatio, true
		}
		if model.Known(c.PacketsPerS) {
			packets += c.PacketsPerS * dt
			dropped += float64(c.DroppedDelta)
		}
	}
	if some {
		m.add(busyCores, cores*dt, dt)
	}
	m.add(runqWaitP99, p99*dt, dt)
	m.add(runqUnclaimed, unclaimed*dt, dt)
	m.add(hiddenCPU, hidden*dt, dt)
	if n := f.NetRX; n != nil {
		weight := netrx
		if !timed {
			weight = packets
		}
		m.add(netrxShare, n.Share*weight, weight)
		if model.Known(n.PacketsPerS) {
			m.add(packetsPerS, packets, dt)
			m.add(netrxDrops, dropped, packets+dropped)
		}
	}
	if f.Measured(model.SignalThrottle) {
		m.add(soldRatio, f.Sold.Ratio*dt, dt)
	}
	if u := s.subject(subjectKey{kind: aHost}); u != nil {
		u.label = "host"
		u.take(m)
	}
}

func worse(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}

func countOf(histogram []uint64) (n uint64) {
	for _, v := range histogram {
		n += v
	}
	return n
}

// addGroups adds the cgroups that have, or had, a quota.
func (s *Side) addGroups(f *model.Frame) {
	if f.CGroups == nil {
		return
	}
	now := make(map[uint64]subjectKey, len(f.CGroups))
	dt := f.Interval.Seconds()
	for _, g := range f.CGroups {
		key := subjectKey{aCGroup, g.Title()}
		now[g.ID] = key
		if g.CFS == nil && s.subjects[key] == nil && !model.Known(g.Used) {
			continue
		}
		u := s.subject(key)
		if u == nil {
			continue
		}
		u.label = "cgroup " + model.Printable(key.name)
		if f.Interval <= 0 {
			continue
		}
		m := make(sums)
		m.add(groupCores, g.Used*dt, dt)
		switch {
		case !f.Measured(model.SignalThrottle):
		case g.CFS == nil && g.Used > 0:
			// Without a quota none of its periods is throttled: of 100 ms, as they
			// are where nobody chose another length.
			m.add(throttledPeriods, 0, dt/0.1)
			m.add(throttledTime, 0, dt)
		case model.Known(g.ThrottledRatio):
			m.add(throttledPeriods, float64(g.ThrottledPeriods), float64(g.PeriodsDelta))
			m.add(throttledTime, float64(g.ThrottledNSDelta)/1e9, dt)
		}
		u.take(m)
	}
	s.groups = now
}

// addProcesses adds those whose claims were looked up, by program.
func (s *Side) addProcesses(f *model.Frame) {
	if f.Sched == nil {
		return
	}
	now := make(map[uint32]subjectKey)
	byKey := make(map[subjectKey]sums)
	dt := f.Interval.Seconds()
	for i := range f.Sched.Processes {
		p := &f.Sched.Processes[i]
		if p.Kernel {
			continue
		}
		key := subjectKey{aProcess, cmp.Or(p.Program, p.Comm)}
		now[p.PID] = key
		if !model.Known(p.Claimed) || !model.Known(p.Run) || f.Interval <= 0 || !f.Claims(p.Claimed*dt*1e9, p.Run*dt*1e9) {
			continue
		}
		u := s.subject(key)
		if u == nil {
			continue
		}
		u.label = "program " + model.Printable(key.name)
		if byKey[key] == nil {
			byKey[key] = make(sums)
		}
		byKey[key][processCores] = pair{num: byKey[key][processCores].num + p.Run*dt, den: dt}
		byKey[key].add(claimedOff, math.Abs(p.Claimed-p.Run)*dt, p.Run*dt)
	}
	for key, m := range byKey {
		s.subjects[key].take(m)
	}
	s.programs = now
}
