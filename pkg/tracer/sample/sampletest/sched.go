// SPDX-License-Identifier: Apache-2.0

package sampletest

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	piled      = 3 // the core that pinned threads wait for
	pinned     = 10
	throttled  = 3 // the first cgroups use their quota up
	parent     = 7
	firstGroup = 7000
)

// core is the i-th one. It runs for a half of the time.
func (l Load) core(i int, t uint64) sample.CPU {
	seed := seedCore + uint64(i)*16
	r := &sample.Runq{
		BusyNS: grown(seed, t, 300*milli+uint64(i*3)*milli/2), Switches: grown(seed+1, t, 9000), WaitNS: grown(seed+2, t, 60*milli), Waits: grown(seed+3, t, 4000),
		Len: uint32(level(seed+4, t, 3)), Peak: 3 + uint32(level(seed+5, t, 5)), UnclaimedNS: grown(seed+6, t, 9*milli),
		Wait: histogram(seed+7, t, 24),
	}
	if i == piled {
		r.BusyNS, r.WaitNS, r.UnclaimedNS, r.Len, r.Peak = t*second, grown(seed+2, t, 9*second), t*980*milli, pinned+1, pinned+1
	}
	r.IdleNS = t*second - min(r.BusyNS, t*second)
	soft := grown(seed+8, t, 20*milli)
	return sample.CPU{
		CPU: i, Runq: r, KsoftirqdRunNS: grown(seed+9, t, milli),
		Times:   &sample.CPUTimes{BusyNS: r.BusyNS, IdleNS: r.IdleNS, SoftIRQNS: soft},
		SoftIRQ: &sample.NetRXSoftIRQ{RunNS: soft, Count: grown(seed+10, t, 5000), LatencyNS: grown(seed+11, t, milli), LatencyCount: grown(seed+12, t, 500), Latency: histogram(seed+13, t, 24)},
		Softnet: &sample.Softnet{Processed: grown(seed+14, t, 14_000), TimesSqueeze: grown(seed+15, t, 2), BacklogLen: uint32(level(seed+8, t, 9))},
	}
}

func histogram(seed, t uint64, slots int) []uint64 {
	h := make([]uint64, slots)
	for i := 8; i < slots; i++ {
		h[i] = grown(seed+uint64(i)<<10, t, 4000>>(i-8))
	}
	return h
}

func runTimes(seed, t, run, wait uint64) sample.RunTimes {
	r := sample.RunTimes{RunNS: grown(seed, t, run), WaitNS: grown(seed+1, t, wait)}
	r.ThrottledNS, r.MaskNS, r.StolenNS = r.WaitNS/5, r.WaitNS/7, r.WaitNS/9
	return r
}

func switches(seed, t uint64) sample.Switches {
	return sample.Switches{Voluntary: grown(seed, t, 200), Involuntary: grown(seed+1, t, 90), Wakes: grown(seed+2, t, 200), Migrations: grown(seed+3, t, 20)}
}

// sched are processes of two threads, but the first, which is pinned to a core.
func (l Load) sched(t uint64) *sample.Sched {
	s := &sample.Sched{ThreadsTotal: 4000 + int(level(seedProcess-1, t, 90))}
	for i := range l.Processes {
		s.Processes = append(s.Processes, l.process(i, t))
	}
	for i := range min(l.Processes, sample.MaxContended) {
		s.Contended = append(s.Contended, sample.Contention{
			PID: firstPID + uint32(i), Holder: firstPID + uint32((i+1)%l.Processes), HolderComm: program(i + 1), WaitNS: grown(seedProcess-2-uint64(i), t, 9*milli),
		})
	}
	return s
}

func (l Load) process(i int, t uint64) sample.Process {
	pid := uint32(firstPID + i)
	p := sample.Process{PID: pid, StartNS: uint64(pid) * second, Comm: program(i), Program: program(i)}
	if l.CGroups > 0 {
		p.CGroupID = firstGroup + uint64(i%l.CGroups)
	}
	threads := 2
	if i == 0 {
		threads = pinned
	}
	for n := range threads {
		seed := seedProcess + uint64(i*16+n)*16
		th := sample.Thread{
			TID: pid + uint32(n)*10_000, Comm: fmt.Sprintf("%s-w%d", program(i), n), CPU: int(level(seed, t, uint64(l.Cores-1))),
			RunTimes: runTimes(seed, t, 20*milli+uint64(i)*milli/8, 4*milli), Switches: switches(seed+4, t),
		}
		if i == 0 {
			th.RunTimes = sample.RunTimes{RunNS: t * second / pinned, WaitNS: t * 9 * second / pinned, MaskNS: t * 8 * second / pinned}
			th.CPU, th.Allowed = piled, []int{piled}
		}
		p.RunTimes.Add(th.RunTimes)
		p.Switches.Add(th.Switches)
		p.Top = append(p.Top, th)
	}
	p.Threads = threads
	claimed := p.RunNS / (10 * milli) * (10 * milli)
	p.ClaimedNS = &claimed
	return p
}

// cgroups are pods with a quota of a tenth of a core, of which they use the half.
func (l Load) cgroups(t uint64) []sample.CGroup {
	root, pods := sample.CGroup{ID: 1, Path: "/"}, sample.CGroup{ID: parent, ParentID: 1, Path: "/kubepods.slice", Weight: 100}
	gs := []sample.CGroup{root, pods}
	for i := range l.CGroups {
		g := group(i, t)
		for above := range 2 {
			gs[above].RunTimes.Add(g.RunTimes)
			gs[above].Switches.Add(g.Switches)
			gs[above].Threads += g.Threads
		}
		gs = append(gs, g)
	}
	return gs
}

func group(i int, t uint64) sample.CGroup {
	seed := seedCGroup + uint64(i)*16
	g := sample.CGroup{
		ID: firstGroup + uint64(i), ParentID: parent, Path: groupPath(i), Weight: 100, Threads: 2 + int(level(seed, t, 6)),
		RunTimes: runTimes(seed+1, t, 50*milli, 8*milli), Switches: switches(seed+3, t),
		CFS: &sample.Bandwidth{QuotaUS: 10_000, PeriodUS: 100_000, Periods: 10 * t, Throttled: t * uint64(i%9) / 16, ThrottledNS: grown(seed+7, t, uint64(i%9)*milli/9)},
	}
	if i < throttled {
		g.CFS.Throttled, g.CFS.ThrottledNS = 5*t, grown(seed+7, t, 300*milli)
		g.RunTimes = runTimes(seed+1, t, 80*milli, 400*milli)
		g.RunTimes.ThrottledNS = g.WaitNS * 3 / 4
		g.RunTimes.MaskNS, g.RunTimes.StolenNS = 0, 0
	}
	usage := g.RunNS
	g.CFS.UsageNS = &usage
	for n := range 3 {
		g.ContendedBy = append(g.ContendedBy, sample.Rival{PID: uint32(firstPID + n), Comm: program(n), WaitNS: grown(seed+8+uint64(n), t, milli)})
	}
	return g
}

// groupPath is as kubelet and containerd name them.
func groupPath(i int) string {
	a, b := hash(uint64(i)), hash(uint64(i)+1<<32)
	return fmt.Sprintf("/kubepods.slice/kubepods-pod%08x_%04x_%04x_%04x_%012x.slice/cri-containerd-%016x%016x%016x%016x.scope",
		a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff, a, b, a^b, a+b)
}
