// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// WaitMixed stands where the workers of a listener wait in different ways.
const WaitMixed = "mixed"

func buildAccept(f *Frame, prev *sample.Accept) *Accept {
	now := f.Sample.Accept
	before := make(map[uint64]*sample.Listener)
	if prev != nil {
		for i := range prev.Listeners {
			before[prev.Listeners[i].Inode] = &prev.Listeners[i]
		}
	}
	a := &Accept{}
	groups := make(map[groupKey][]*Listener)
	for i := range now.Listeners {
		l := buildListener(&now.Listeners[i], before[now.Listeners[i].Inode], prev != nil, f)
		a.Listeners = append(a.Listeners, l)
		if !l.Closed {
			k := groupOf(l)
			groups[k] = append(groups[k], l)
		}
	}
	a.ConnsPerS = a.sum(func(l *Listener) float64 {
		if !Known(l.AcceptsPerS) {
			return l.CompletionsPerS
		}
		return max(l.AcceptsPerS, known0(l.CompletionsPerS))
	})
	a.AcceptsPerS = a.sum(func(l *Listener) float64 { return l.AcceptsPerS })
	a.WakeupsPerS = a.sum(func(l *Listener) float64 { return l.WakeupsPerS })
	a.EAGAINPerS = a.sum(func(l *Listener) float64 { return l.EAGAINPerS })
	a.WastedPerS = a.sum(func(l *Listener) float64 { return l.WastedPerS })
	a.EmptyCPU = a.sum(func(l *Listener) float64 { return l.EmptyCPU })
	for _, g := range groups {
		group := buildGroup(g)
		for _, l := range g {
			l.Sockets, l.Group = len(g), group
		}
	}
	slices.SortFunc(a.Listeners, byAttention)
	if acc := f.Accuracy(SignalWake); acc != sample.Unavailable {
		a.Accuracy = acc
	}
	return a
}

// sum adds up what is known of the listeners; it is unknown where none is, and
// 0 where there are none.
func (a *Accept) sum(of func(l *Listener) float64) float64 {
	out, known := 0.0, len(a.Listeners) == 0
	for _, l := range a.Listeners {
		if v := of(l); Known(v) {
			out, known = out+v, true
		}
	}
	if !known {
		return Unknown()
	}
	return out
}

// byAttention puts first what hurts most.
func byAttention(a, b *Listener) int {
	return cmp.Or(
		cmp.Compare(known0(b.UselessPerS), known0(a.UselessPerS)),
		cmp.Compare(known0(b.AcceptsPerS), known0(a.AcceptsPerS)),
		cmp.Compare(b.AcceptsTotal, a.AcceptsTotal),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Inode, b.Inode),
	)
}

func known0(v float64) float64 {
	if !Known(v) {
		return 0
	}
	return v
}

// groupKey is what the members of a SO_REUSEPORT group have in common.
type groupKey struct {
	netns     sample.NetNSID
	name      string
	reuseport bool
	inode     uint64 // of those that are in no group
}

func groupOf(l *Listener) groupKey {
	if l.ReusePort {
		return groupKey{netns: l.NetNSID(), name: l.Name, reuseport: true}
	}
	return groupKey{inode: l.Inode}
}

func buildGroup(members []*Listener) *Group {
	g := &Group{}
	for _, l := range members {
		g.Accepts += l.AcceptsTotal
		for i := range l.Threads {
			w := &l.Threads[i]
			if w.Ended || !Known(w.Busy()) {
				continue
			}
			g.Others = append(g.Others, w.Busy())
			if g.Top == nil || w.RunRatio > g.Top.RunRatio {
				g.Top, g.TopAt = w, l
			}
		}
	}
	if g.Top != nil {
		i := slices.Index(g.Others, g.Top.Busy())
		g.Others = slices.Delete(g.Others, i, i+1)
		slices.Sort(g.Others)
	}
	return g
}

func buildListener(now, prev *sample.Listener, hadPrev bool, f *Frame) *Listener {
	l := &Listener{
		Listener: *now,
		Name:     ListenerName(now),
		Interval: f.Interval,
		New:      prev == nil,
		Closing:  now.Closed && (prev == nil || !prev.Closed),
		Sockets:  1,
	}
	if prev == nil {
		prev = &sample.Listener{}
		if !hadPrev {
			// The first Sample is the zero point: its totals cover no known span.
			l.Interval = 0
		}
	}
	l.Delta = countersSince(now.Counters, prev.Counters)
	l.CompletionsDelta = since(now.CompletionsTotal, prev.CompletionsTotal)
	l.QueuedChecks = since(now.QueuedChecksTotal, prev.QueuedChecksTotal)
	l.StalledChecks = since(now.StalledChecksTotal, prev.StalledChecksTotal)
	rate := func(n, p uint64) float64 { return perSecond(n, p, l.Interval) }
	l.AcceptsPerS = rate(now.AcceptsTotal, prev.AcceptsTotal)
	l.CompletionsPerS = rate(now.CompletionsTotal, prev.CompletionsTotal)
	l.WakeupsPerS = rate(now.WakeupsTotal, prev.WakeupsTotal)
	l.EAGAINPerS = rate(now.AcceptEAGAINTotal, prev.AcceptEAGAINTotal)
	l.WastedPerS = rate(now.WastedWakeupsTotal, prev.WastedWakeupsTotal)
	l.WakeupsPerAccept, l.EAGAINRatio = Unknown(), Unknown()
	l.UselessPerS, l.EmptyCPU = Unknown(), Unknown()
	if l.Interval > 0 {
		l.WakeupsPerAccept = wakeupsPerAccept(l.Delta, l.CompletionsDelta)
		l.EAGAINRatio = ratio(float64(l.Delta.AcceptEAGAINTotal), float64(l.Delta.AcceptEAGAINTotal+l.Delta.AcceptsTotal))
		l.UselessPerS = float64(since(l.Delta.WakeupsTotal, max(l.Delta.AcceptsTotal, l.CompletionsDelta))) / l.Interval.Seconds()
		l.EmptyCPU = emptyCPUNS(l.Delta) / float64(l.Interval.Nanoseconds())
	}
	l.Threads = buildWorkers(l, prev)
	l.Spent = buildSpent(l.Threads)
	l.forgetUnknown(prev, f)
	l.Program, l.Wait = commonOf(now)
	return l
}

// forgetUnknown makes unknown what was computed from a counter that was reset,
// or from one that this kernel does not deliver.
func (l *Listener) forgetUnknown(prev *sample.Listener, f *Frame) {
	wakes, accepts := f.MeasuredAt(l, SignalWake), f.MeasuredAt(l, SignalAccept)
	if !wakes {
		l.WakeupsPerS = Unknown()
	}
	if !f.ConnsKnown(l) {
		l.CompletionsPerS = Unknown()
	}
	if !wakes || !accepts {
		l.WastedPerS, l.EmptyCPU = Unknown(), Unknown()
	}
	if !accepts {
		l.AcceptsPerS, l.EAGAINPerS, l.EAGAINRatio = Unknown(), Unknown(), Unknown()
	}
	for i := range l.Threads {
		w := &l.Threads[i]
		if !wakes {
			w.WakeupsPerS = Unknown()
		}
		if !accepts {
			w.AcceptsPerS, w.EAGAINPerS, w.Share = Unknown(), Unknown(), Unknown()
		}
		if !wakes || !accepts {
			w.WakeupsPerAccept = Unknown()
		}
	}
	if !wakes || l.WakeupsTotal < prev.WakeupsTotal || l.AcceptsTotal < prev.AcceptsTotal || l.CompletionsTotal < prev.CompletionsTotal {
		l.WakeupsPerAccept, l.UselessPerS = Unknown(), Unknown()
	}
	if l.AcceptsTotal < prev.AcceptsTotal || l.AcceptEAGAINTotal < prev.AcceptEAGAINTotal {
		l.EAGAINRatio = Unknown()
	}
	if l.EmptyWakeupsTotal < prev.EmptyWakeupsTotal || l.EmptyBurstsTotal < prev.EmptyBurstsTotal || l.EmptyCPUNS < prev.EmptyCPUNS {
		l.EmptyCPU = Unknown()
	}
}

// wakeupsPerAccept falls back to completions where accepts cannot be seen
// (io_uring without its hook).
func wakeupsPerAccept(c sample.Counters, completions uint64) float64 {
	if c.AcceptsTotal == 0 && completions > 0 {
		return ratio(float64(c.WakeupsTotal), float64(completions))
	}
	return ratio(float64(c.WakeupsTotal), float64(c.AcceptsTotal))
}

// emptyCPUNS is the CPU time of all empty wake-ups, from the mean of the timed
// ones; Unknown where there were some and none could be timed.
func emptyCPUNS(c sample.Counters) float64 {
	if c.EmptyWakeupsTotal == 0 {
		return 0
	}
	return ratio(float64(c.EmptyCPUNS), float64(c.EmptyBurstsTotal)) * float64(c.EmptyWakeupsTotal)
}

// EmptyCPUSeconds is the CPU time that l's empty wake-ups took since attach,
// extrapolated from those of them that could be timed; Unknown where none could.
func EmptyCPUSeconds(l *sample.Listener) float64 { return emptyCPUNS(l.Counters) / 1e9 }

// TotalWakeupsPerAccept is the herd factor since attach; Unknown before the
// first connection.
func TotalWakeupsPerAccept(l *sample.Listener) float64 {
	return wakeupsPerAccept(l.Counters, l.CompletionsTotal)
}

func countersSince(n, p sample.Counters) sample.Counters {
	return sample.Counters{
		AcceptsTotal:       since(n.AcceptsTotal, p.AcceptsTotal),
		AcceptEAGAINTotal:  since(n.AcceptEAGAINTotal, p.AcceptEAGAINTotal),
		WakeupsTotal:       since(n.WakeupsTotal, p.WakeupsTotal),
		WastedWakeupsTotal: since(n.WastedWakeupsTotal, p.WastedWakeupsTotal),
		DrainEAGAINTotal:   since(n.DrainEAGAINTotal, p.DrainEAGAINTotal),
		EmptyWakeupsTotal:  since(n.EmptyWakeupsTotal, p.EmptyWakeupsTotal),
		EmptyBurstsTotal:   since(n.EmptyBurstsTotal, p.EmptyBurstsTotal),
		EmptyCPUNS:         since(n.EmptyCPUNS, p.EmptyCPUNS),
	}
}

func buildWorkers(l *Listener, prev *sample.Listener) []Worker {
	before := make(map[uint32]*sample.Worker, len(prev.Workers))
	for i := range prev.Workers {
		before[prev.Workers[i].TID] = &prev.Workers[i]
	}
	out := make([]Worker, 0, len(l.Workers))
	for _, w := range l.Workers {
		p := before[w.TID]
		m := Worker{Worker: w, RunRatio: Unknown(), WaitRatio: Unknown(), SleepsPerS: Unknown()}
		if p != nil && !w.NoTimes && !p.NoTimes {
			m.RunRatio = perSecond(w.RunNS, p.RunNS, l.Interval) / 1e9
			m.WaitRatio = perSecond(w.WaitNS, p.WaitNS, l.Interval) / 1e9
			m.SleepsPerS = perSecond(w.Sleeps, p.Sleeps, l.Interval)
		}
		if p == nil {
			p = &sample.Worker{}
		}
		m.Delta = countersSince(w.Counters, p.Counters)
		m.Share = ratio(float64(w.AcceptsTotal), float64(l.AcceptsTotal))
		m.WakeupsPerS = perSecond(w.WakeupsTotal, p.WakeupsTotal, l.Interval)
		m.AcceptsPerS = perSecond(w.AcceptsTotal, p.AcceptsTotal, l.Interval)
		m.EAGAINPerS = perSecond(w.AcceptEAGAINTotal, p.AcceptEAGAINTotal, l.Interval)
		m.WakeupsPerAccept = Unknown()
		if Known(m.WakeupsPerS) && Known(m.AcceptsPerS) {
			m.WakeupsPerAccept = ratio(float64(m.Delta.WakeupsTotal), float64(m.Delta.AcceptsTotal))
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Worker) int {
		return cmp.Or(
			cmp.Compare(b.AcceptsTotal, a.AcceptsTotal),
			cmp.Compare(b.WakeupsTotal, a.WakeupsTotal),
			cmp.Compare(a.TID, b.TID),
		)
	})
	return out
}

func buildSpent(workers []Worker) Spent {
	s := Spent{Run: Unknown(), Wait: Unknown(), Sleep: Unknown()}
	var run, wait float64
	for i := range workers {
		w := &workers[i]
		if w.Ended || !Known(w.Busy()) {
			continue
		}
		// Run and wait time are read one after the other, and not with the clock.
		r := min(w.RunRatio, 1)
		s.Workers, run, wait = s.Workers+1, run+r, wait+min(w.WaitRatio, 1-r)
	}
	if n := float64(s.Workers); n > 0 {
		s.Run, s.Wait = run/n, wait/n
		s.Sleep = max(1-s.Run-s.Wait, 0)
	}
	return s
}

// commonOf names the program of most workers and the way in which they all
// wait. The dead have no say while there are living ones: they may be what a
// cure has replaced.
func commonOf(l *sample.Listener) (program, wait string) {
	wait = sample.WaitUnknown
	living := slices.ContainsFunc(l.Workers, func(w sample.Worker) bool { return !w.Ended })
	votes := make(map[string]int)
	for _, w := range l.Workers {
		if living && w.Ended {
			continue
		}
		votes[w.Program]++
		if w.Program != "" && (program == "" || votes[w.Program] > votes[program]) {
			program = w.Program
		}
		switch {
		case w.Wait == sample.WaitUnknown || w.Wait == wait:
		case wait == sample.WaitUnknown:
			wait = w.Wait
		default:
			wait = WaitMixed
		}
	}
	if program == "" {
		program = l.HolderProgram
	}
	if program == "" && len(l.Workers) > 0 {
		program = l.Workers[0].Comm
	}
	return cmp.Or(program, "?"), wait
}

// ListenerName is how a person would name the listener: "127.0.0.1:80",
// "[::]:80", "unix:/run/app.sock", "unix:@name". It may hold any byte that an
// attacker puts in a socket path: sinks escape it.
func ListenerName(l *sample.Listener) string {
	if l.Proto == "unix" {
		return "unix:" + l.Addr
	}
	if a, err := netip.ParseAddr(l.Addr); err == nil {
		return netip.AddrPortFrom(a, l.Port).String()
	}
	return l.Addr + ":" + strconv.Itoa(int(l.Port))
}
