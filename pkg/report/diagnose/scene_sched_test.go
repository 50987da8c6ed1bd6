// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"math/rand/v2"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// schedScene is the scheduler's part of a scene.
type schedScene struct {
	queues  []*queue
	procs   []*process
	cgroups []*group
	rivals  []sample.Contention // per second
	noSched bool
	noise   *rand.Rand // of /proc/stat's samples; nil: none
}

// queue is what one core does: shares of the time, and threads as means.
type queue struct {
	busy, waiting, throttled, unclaimed float64
	shown, steal                        float64 // by /proc/stat
	switches                            float64 // per second
	slot                                int     // of all waits: 2^slot ns
	sum                                 [8]float64
}

// th is a thread: shares of its time.
type th struct {
	cpu                        int
	run, wait, throttled, mask float64
	stolen                     float64
	allowed                    []int
	cpuset                     bool
	nice                       int
	policy                     string
	pending                    bool // waits, and gets no core at all
}

type process struct {
	sample.Process
	threads []th
	claims  float64 // cores, by /proc; below 0: not looked up
	claimed float64
	sum     [][5]float64 // for each thread
}

// group is a cgroup: cores, threads as means, periods.
type group struct {
	sample.CGroup
	run, wait, throttledWait, masked, stolen float64
	throttled                                float64 // share of its periods
	active                                   float64 // share of the time in which it has periods; 0: all
	stall                                    time.Duration
	stallThreads                             uint32
	noEvents                                 bool
	sum                                      [7]float64
	periods, throttledPeriods                uint64
}

// queuesOf makes a host of cores with run queues.
func (s *scene) queuesOf(qs ...queue) []*queue {
	s.queues = nil
	for _, q := range qs {
		s.queues = append(s.queues, &q)
	}
	s.header.CPUs = len(qs)
	return s.queues
}

// runs adds a process with these threads, in the group of that id.
func (s *scene) runs(program string, in uint64, threads ...th) *process {
	pid := uint32(100 * (len(s.procs) + 1))
	p := &process{Process: sample.Process{PID: pid, StartNS: uint64(pid), Comm: program, Program: program, CGroupID: in},
		threads: threads, claims: -1, sum: make([][5]float64, len(threads))}
	s.procs = append(s.procs, p)
	return p
}

// groups adds a cgroup with a quota of so many cores, 0 for none, in periods of
// 100 ms.
func (s *scene) group(path string, parent *group, quota float64) *group {
	g := &group{CGroup: sample.CGroup{ID: uint64(len(s.cgroups) + 1), Path: path, Weight: 100}, stall: 30 * time.Millisecond, stallThreads: 4}
	if parent != nil {
		g.ParentID = parent.ID
	}
	if quota > 0 {
		g.CFS = &sample.Bandwidth{QuotaUS: uint64(quota * 1e5), PeriodUS: 1e5}
	}
	s.cgroups = append(s.cgroups, g)
	return g
}

// schedule fills in what out has of the scheduler.
func (s *scene) schedule(out *sample.Sample, d time.Duration) {
	for i, q := range s.queues {
		s.fillCore(out, i, q, d)
	}
	for _, g := range s.cgroups {
		out.CGroups = append(out.CGroups, g.after(out, d))
	}
	if s.noSched || s.queues == nil {
		return
	}
	out.Sched = &sample.Sched{}
	for _, c := range s.rivals {
		c.WaitNS = count(float64(c.WaitNS) * float64(s.mono) / 1e9)
		out.Sched.Contended = append(out.Sched.Contended, c)
	}
	for _, p := range s.procs {
		out.Sched.Processes = append(out.Sched.Processes, p.after(d))
	}
}

func (s *scene) fillCore(out *sample.Sample, i int, q *queue, d time.Duration) {
	const jiffy = 10 * time.Millisecond
	shown := q.shown
	if s.noise != nil { // each tick finds it busy, or does not
		hits := 0
		for range d / jiffy {
			if s.noise.Float64() < q.shown {
				hits++
			}
		}
		shown = float64(hits) * float64(jiffy) / float64(max(d, 1))
	}
	ns, waits := float64(d), 1000*d.Seconds()
	for j, v := range []float64{q.busy * ns, (1 - q.busy) * ns, (q.waiting + q.throttled) * ns, q.throttled * ns,
		q.unclaimed * ns, q.switches * d.Seconds(), shown * ns, q.steal * ns} {
		q.sum[j] += v
	}
	n := func(j int) uint64 { return count(q.sum[j]) }
	hist := make([]uint64, 40)
	hist[q.slot] = count(float64(s.mono) / 1e9 * waits / max(d.Seconds(), 1e-9))
	r := &sample.Runq{BusyNS: n(0), IdleNS: n(1), WaitNS: n(2), ThrottledNS: n(3), UnclaimedNS: n(4), Switches: n(5), Wait: hist, Waits: hist[q.slot]}
	times := &sample.CPUTimes{BusyNS: n(6), IdleNS: count(q.sum[0] + q.sum[1] - q.sum[6] - q.sum[7]), StealNS: n(7)}
	if s.noSched {
		r = nil
	}
	if len(out.CPUs) <= i {
		out.CPUs = append(out.CPUs, sample.CPU{CPU: i, Times: times})
	}
	out.CPUs[i].Runq = r
}

func (p *process) after(d time.Duration) sample.Process {
	out := p.Process
	for i, t := range p.threads {
		sum := &p.sum[i]
		for j, v := range []float64{t.run, t.wait, t.throttled, t.mask, t.stolen} {
			sum[j] += v * float64(d)
		}
		rt := sample.RunTimes{RunNS: count(sum[0]), WaitNS: count(sum[1]), ThrottledNS: count(sum[2]), MaskNS: count(sum[3]), StolenNS: count(sum[4])}
		out.RunTimes.Add(rt)
		out.Top = append(out.Top, sample.Thread{TID: p.PID + uint32(i), Comm: p.Comm, CPU: t.cpu, RunTimes: rt,
			Allowed: t.allowed, CPUSet: t.cpuset, Nice: t.nice, Policy: t.policy})
		if t.pending {
			out.Top[i].PendingNS = uint64(d)
		}
	}
	out.Threads = len(p.threads)
	if p.claims >= 0 {
		p.claimed += p.claims * float64(d)
		ns := count(p.claimed) / 1e7 * 1e7
		out.ClaimedNS = &ns
	}
	return out
}

// after is the group when d has passed. Its throttled periods are the last ones
// before that.
func (g *group) after(s *sample.Sample, d time.Duration) sample.CGroup {
	for j, v := range []float64{g.run, g.wait, g.throttledWait, g.masked, g.stolen} {
		g.sum[j] += v * float64(d)
	}
	out := g.CGroup
	out.RunTimes = sample.RunTimes{RunNS: count(g.sum[0]), WaitNS: count(g.sum[1]), ThrottledNS: count(g.sum[2]), MaskNS: count(g.sum[3]), StolenNS: count(g.sum[4])}
	if g.CFS == nil {
		return out
	}
	share, period := g.active, float64(g.CFS.PeriodUS)*1e3
	if share == 0 {
		share = 1
	}
	g.sum[5] += share * float64(d) / period
	g.sum[6] += g.throttled * share * float64(d) / period
	c := *g.CFS
	c.Periods, c.Throttled = g.periods+count(g.sum[5]), g.throttledPeriods+count(g.sum[6])
	c.ThrottledNS = c.Throttled * uint64(g.stall)
	usage := out.RunNS
	c.UsageNS = &usage
	now := count(g.sum[6])
	before := count(g.sum[6] - g.throttled*share*float64(d)/period)
	for i := range now - before {
		if !g.noEvents {
			s.Events = append(s.Events, sample.Event{Kind: sample.EventThrottle, MonoNS: s.MonoNS - i*uint64(period), CGroupID: g.ID, CGroup: g.Path,
				DurationNS: uint64(g.stall), ThrottledNS: uint64(g.stall), Cores: 2, Threads: g.stallThreads})
		}
	}
	out.CFS = &c
	return out
}

// equal are n cores that all do the same.
func equal(n int, q queue) []queue {
	out := make([]queue, n)
	for i := range out {
		out[i] = q
	}
	return out
}

// many are n threads that all do the same.
func many(n int, t th) []th {
	out := make([]th, n)
	for i := range out {
		out[i] = t
	}
	return out
}
