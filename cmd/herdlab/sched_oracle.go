// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"time"
)

// schedOracle is the line on stdout. All counts are those of the load, from
// before its first moment to after its last one, both read while every thread
// slept: who reads the same files then finds exactly these differences. A nil
// is what does not exist in this mode or cannot be known here, never a zero.
type schedOracle struct {
	V            int           `json:"v"`
	Type         string        `json:"type"`
	Scenario     string        `json:"scenario"`
	Mode         string        `json:"mode"`
	DurationNS   int64         `json:"duration_ns"` // until the last worker slept again
	Cores        int           `json:"cores"`       // that this process may use
	CPU          *int          `json:"cpu"`         // the one to which workers were pinned
	CPUSoldRatio *float64      `json:"cpu_sold_ratio"`
	CPUs         []schedCPU    `json:"cpus"` // of the whole machine, by /proc/stat
	Workers      []schedThread `json:"workers"`
	Runtime      schedTask     `json:"runtime"` // the other threads of the workers' processes: Go's
	Ended        *schedEnded   `json:"ended"`
	Total        schedTask     `json:"total"` // of these three
	Processes    []schedClaim  `json:"processes"`
	Cgroups      []schedCgroup `json:"cgroups"`
	Hidden       *schedHidden  `json:"hidden"`
}

// schedThread is one thread that did the work.
type schedThread struct {
	PID         int     `json:"pid"`
	TID         int     `json:"tid"`
	Comm        string  `json:"comm"`
	CPUPinned   *int    `json:"cpu_pinned"` // nil: it may use more than one
	CPUsAllowed string  `json:"cpus_allowed"`
	Nice        int     `json:"nice"`
	Cgroup      *string `json:"cgroup"` // path of the one that it was put into
	schedTask
	VoluntarySwitches   int64 `json:"voluntary_switches"`
	InvoluntarySwitches int64 `json:"involuntary_switches"`
}

// schedClaim is one process, its ended threads included.
type schedClaim struct {
	PID       int    `json:"pid"`
	Comm      string `json:"comm"`
	RunNS     int64  `json:"run_ns"`     // by its CPU clock, exact
	ClaimedNS int64  `json:"claimed_ns"` // by utime+stime of /proc/PID/stat, in ticks of 10 ms
}

// schedCgroup is one cgroup, and the living threads in and below it.
type schedCgroup struct {
	cpuStat
	RunNS          int64    `json:"run_ns"`
	WaitNS         int64    `json:"wait_ns"`
	QuotaUsedRatio *float64 `json:"quota_used_ratio"` // run time against the quota of all the time
}

// schedHidden is what /proc/stat did not see of one process on its CPU.
type schedHidden struct {
	TickNS     int64 `json:"tick_ns"`
	CPU        int   `json:"cpu"`
	RunNS      int64 `json:"run_ns"`       // by the process's own clock
	HostBusyNS int64 `json:"host_busy_ns"` // of its CPU, everybody's, by /proc/stat
	HostIdleNS int64 `json:"host_idle_ns"`
	// UnseenNS is run time beyond all that was seen busy.
	UnseenNS int64 `json:"unseen_ns"`
	// MissingNS is wall time that is in no column of the CPU's line. Linux 7.3
	// calls it idle, hence it is about 0 there.
	MissingNS int64 `json:"missing_ns"`
}

// newOracle subtracts two looks.
func (l *schedLab) newOracle(duration time.Duration, before, after *schedLook, cpus []schedCPU, reports map[int]schedReport) *schedOracle {
	c := l.cfg
	o := &schedOracle{V: 1, Type: "oracle", Scenario: "sched", Mode: c.mode.name, DurationNS: int64(duration), Cores: len(c.cpus),
		CPUs: cpus, Workers: []schedThread{}, Cgroups: l.cgroupDeltas(before, after)}
	for _, w := range l.workers {
		l.addProcess(o, w, before, after, reports)
	}
	for i := range o.Cgroups {
		o.Cgroups[i].use(duration)
	}
	if sold := l.plan.sold(); sold > 0 {
		ratio := sold / float64(len(c.cpus))
		o.CPUSoldRatio = &ratio
	}
	for _, t := range o.Workers {
		o.Total = o.Total.plus(t.schedTask)
		if t.CPUPinned != nil {
			o.CPU = t.CPUPinned
		}
	}
	o.Total = o.Total.plus(o.Runtime)
	if e := o.Ended; e != nil {
		o.Total = o.Total.plus(schedTask{Run: e.RunNS, Wait: e.WaitNS, Switches: e.Switches})
	}
	return o
}

// addProcess adds one process: its threads, its dead and itself.
func (l *schedLab) addProcess(o *schedOracle, w *schedProcess, before, after *schedLook, reports map[int]schedReport) {
	pid, cfg := w.pid(), w.team.config
	was, now := before.tasks[pid], after.tasks[pid]
	alive := schedTask{}
	for tid, t := range now {
		alive = alive.plus(t.minus(was[tid]))
	}
	others := alive
	for _, tid := range w.tids {
		t := schedThread{PID: pid, TID: tid, Comm: cfg.Comm, CPUsAllowed: after.masks[tid], Nice: after.nices[tid], schedTask: now[tid].minus(was[tid])}
		t.VoluntarySwitches, t.InvoluntarySwitches = t.voluntary, t.involuntary
		if len(cfg.CPUs) == 1 {
			t.CPUPinned = &cfg.CPUs[0]
		}
		if g := l.groups.index(w.team.group); g >= 0 {
			t.Cgroup = &o.Cgroups[g].Path
		}
		o.Workers = append(o.Workers, t)
		others = others.minus(t.schedTask)
	}
	o.Runtime = o.Runtime.plus(others)
	run := after.clocks[pid] - before.clocks[pid]
	o.Processes = append(o.Processes, schedClaim{pid, cfg.Comm, run, after.claimed[pid] - before.claimed[pid]})
	if r, reported := reports[pid]; reported {
		o.addReport(w, r, run, run-alive.Run)
	}
	if g := l.groups.index(w.team.group); g >= 0 {
		path := o.Cgroups[g].Path
		for i := range o.Cgroups {
			if c := &o.Cgroups[i]; strings.HasPrefix(path+"/", c.Path+"/") {
				c.RunNS += alive.Run
				c.WaitNS += alive.Wait
			}
		}
	}
}

// addReport adds what only the process itself knows. The rest of its CPU clock
// is that of its ended threads.
func (o *schedOracle) addReport(w *schedProcess, r schedReport, run, rest int64) {
	if w.team.role != roleSchedWorker {
		r.Ended.RunNS += rest
		r.Ended.RunUnseenNS += rest
		o.Ended = &r.Ended
		return
	}
	h := &schedHidden{TickNS: int64(r.Tick.Length), CPU: w.team.config.CPUs[0], RunNS: run}
	for _, c := range o.CPUs {
		if c.CPU == h.CPU {
			h.HostBusyNS, h.HostIdleNS = c.BusyNS, c.IdleNS
			h.UnseenNS = max(run-c.BusyNS, 0)
			h.MissingNS = o.DurationNS - c.BusyNS - c.IdleNS - c.StealNS
		}
	}
	o.Hidden = h
}

// cgroupDeltas subtracts the counters of the cgroups.
func (l *schedLab) cgroupDeltas(before, after *schedLook) []schedCgroup {
	groups := []schedCgroup{}
	for i, now := range after.groups {
		was := before.groups[i]
		now.NrPeriods -= was.NrPeriods
		now.NrThrottled -= was.NrThrottled
		now.ThrottledNS -= was.ThrottledNS
		if now.UsageNS != nil && was.UsageNS != nil {
			usage := *now.UsageNS - *was.UsageNS
			now.UsageNS = &usage
		}
		groups = append(groups, schedCgroup{cpuStat: now})
	}
	return groups
}

// use says which part of its quota the cgroup has used.
func (c *schedCgroup) use(duration time.Duration) {
	if c.QuotaUS == nil {
		return
	}
	ratio := float64(c.RunNS) / float64(duration) * float64(*c.PeriodUS) / float64(*c.QuotaUS)
	c.QuotaUsedRatio = &ratio
}
