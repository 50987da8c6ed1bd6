// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"math"
)

// tickNS is the unit of utime and stime (USER_HZ).
const tickNS = 10_000_000

// schedTimes is what schedstat says of a thread.
type schedTimes struct {
	Run  int64 `json:"run_ns"`
	Wait int64 `json:"wait_ns"`
}

// schedOracle is what herdlab sched prints.
type schedOracle struct {
	Workers []struct {
		PID int `json:"pid"`
		TID int `json:"tid"`
		schedTimes
	} `json:"workers"`
	Total     schedTimes `json:"total"`
	Processes []struct {
		PID       int   `json:"pid"`
		RunNS     int64 `json:"run_ns"`
		ClaimedNS int64 `json:"claimed_ns"`
	} `json:"processes"`
	Cgroups []cgroupOracle `json:"cgroups"`
}

type cgroupOracle struct {
	Path        string `json:"path"`
	Version     int    `json:"version"`
	CgroupID    uint64 `json:"cgroup_id"`
	QuotaUS     *int64 `json:"quota_us"`
	NrPeriods   int64  `json:"nr_periods"`
	NrThrottled int64  `json:"nr_throttled"`
	ThrottledNS int64  `json:"throttled_ns"`
	RunNS       int64  `json:"run_ns"`
	WaitNS      int64  `json:"wait_ns"`
}

func (j *judgement) schedOracle() *schedOracle {
	o := &schedOracle{}
	if err := json.Unmarshal(j.run.oracle, o); err != nil || len(o.Workers) == 0 {
		j.wrong("the lab said no oracle: %v", err)
		return nil
	}
	return o
}

// judgeRunq: run and wait time of each thread are schedstat's, to the nanosecond.
// A variant that is approximate knows them by process and by core.
func judgeRunq(j *judgement, _ string) {
	o := j.schedOracle()
	if o == nil {
		return
	}
	var sum schedTimes
	got := make(map[int]schedTimes)
	of := make(map[int]bool)
	for _, p := range o.Processes {
		of[p.PID] = true
	}
	s := j.run.summary()
	for i := range s.Processes {
		p := &s.Processes[i]
		checkParts(j, p.Comm, &p.waitRecord)
		for k := range p.TopThreads {
			th := &p.TopThreads[k]
			got[th.TID] = schedTimes{Run: ns(th.Run), Wait: ns(th.Wait)}
			checkParts(j, p.Comm, &th.waitRecord)
		}
		if of[p.PID] {
			sum.Run += ns(p.Run)
			sum.Wait += ns(p.Wait)
		}
	}
	if !j.exact {
		// The runtime's threads of the lab may run once more before we look.
		if d := sum.Run - o.Total.Run; d < 0 || d > o.Total.Run/1000 {
			j.wrong("run time %d, want %d", sum.Run, o.Total.Run)
		}
		var cores float64
		for _, c := range s.CPUList {
			cores += c.Wait
		}
		if ns(cores) < o.Total.Wait*95/100 {
			j.wrong("threads waited %.3f s for cores, the lab's alone %.3f", cores, float64(o.Total.Wait)/1e9)
		}
		return
	}
	j.equal("run time", sum.Run, o.Total.Run)
	j.equal("wait time", sum.Wait, o.Total.Wait)
	for _, w := range o.Workers {
		if g := got[w.TID]; w.Run+w.Wait >= 1e6 && g != w.schedTimes {
			j.wrong("thread %d ran and waited %+v, schedstat says %+v", w.TID, g, w.schedTimes)
		}
	}
}

// checkParts: the parts of each wait sum up to it.
func checkParts(j *judgement, who string, w *waitRecord) {
	least, sum := min(w.Mask, w.Stolen), w.Mask+w.Stolen
	slack := 0.01*w.Wait + 1e-6
	if w.Throttled == nil || w.Contended == nil {
		if w.Throttled != w.Contended || least < 0 || sum > w.Wait+slack {
			j.wrong("%s: two parts of %.6f s of waits are %.6f", who, w.Wait, sum)
		}
		return
	}
	sum += *w.Throttled + *w.Contended
	if math.Abs(sum-w.Wait) > slack || min(least, *w.Throttled, *w.Contended) < 0 {
		j.wrong("%s: the parts of %.6f s of waits sum up to %.6f", who, w.Wait, sum)
	}
}

// judgeThrottle: periods and throttled time are cpu.stat's by every variant; a
// variant that is exact has an event for each stop, which sum up to that.
func judgeThrottle(j *judgement, _ string) {
	o := j.schedOracle()
	if o == nil {
		return
	}
	groups := make(map[uint64]cgroupRecord)
	for _, g := range j.run.summary().CGroups {
		groups[g.CGroupID] = g
	}
	for i := range o.Cgroups {
		want := &o.Cgroups[i]
		g, ok := groups[want.CgroupID]
		if !ok || g.Path != want.Path {
			j.wrong("cgroup %s is not listed (but %q)", want.Path, g.Path)
			continue
		}
		checkParts(j, g.Path, &g.waitRecord)
		j.equal("run time of "+g.Path, ns(g.CPU), want.RunNS)
		j.equal("wait time of "+g.Path, ns(g.Wait), want.WaitNS)
		if want.QuotaUS != nil {
			judgeQuota(j, &g, want)
		}
	}
}

func judgeQuota(j *judgement, g *cgroupRecord, want *cgroupOracle) {
	j.equal("quota", g.QuotaUS, *want.QuotaUS)
	j.equal("throttled periods", g.Throttled, want.NrThrottled)
	j.equal("throttled time", ns(g.Seconds), want.ThrottledNS)
	// The timer ends a last period or two after the load.
	if d := g.Periods - want.NrPeriods; d < 0 || d > 2 {
		j.wrong("%d periods, cpu.stat says %d", g.Periods, want.NrPeriods)
	}
	if want.NrThrottled == 0 {
		j.wrong("nobody was throttled")
	}
	var sum, n int64
	for i := range j.run.records {
		if e := &j.run.records[i]; e.Type == "event" && e.Kind == "throttle" && e.CGroupID == want.CgroupID {
			sum += e.ThrottledNS
			n++
		}
	}
	unit := int64(1)
	if want.Version == 2 {
		unit = 1000 // cpu.stat is in microseconds, rounded down
	}
	switch d := sum - want.ThrottledNS; {
	case j.exact && (d < 0 || d >= unit):
		j.wrong("%d events have %d ns, cpu.stat says %d", n, sum, want.ThrottledNS)
	case n > 0 && d != 0:
		j.note("events have %.2f %% of cpu.stat's time", 100*float64(sum)/float64(want.ThrottledNS))
	}
}

// judgeCPUTime: what /proc claims of each of the lab's processes, to a tick at
// either end.
func judgeCPUTime(j *judgement, _ string) {
	o := j.schedOracle()
	if o == nil {
		return
	}
	got := make(map[int]*processRecord)
	s := j.run.summary()
	for i := range s.Processes {
		got[s.Processes[i].PID] = &s.Processes[i]
	}
	for _, want := range o.Processes {
		p := got[want.PID]
		switch {
		case want.RunNS < 10*tickNS:
		case p == nil || p.Claimed == nil:
			j.wrong("process %d, which ran %d ns, is not among the busiest", want.PID, want.RunNS)
		default:
			if d := ns(*p.Claimed) - want.ClaimedNS; d < -2*tickNS || d > 2*tickNS {
				j.wrong("process %d: /proc claims %d ns, by herdtrace %d", want.PID, want.ClaimedNS, ns(*p.Claimed))
			}
			j.note("ran %.2f s, /proc claims %.2f", p.Run, *p.Claimed)
		}
	}
}
