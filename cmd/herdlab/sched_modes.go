// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// schedMode is one reason for a thread not to run, or to run and not be seen,
// or a healthy load that looks like it.
type schedMode struct {
	name     string
	brief    string
	flags    string // which of schedFlags it has
	twoCPUs  bool
	calm     bool // nothing is to be throttled
	defaults func(c *schedConfig)
	plan     func(c *schedConfig) schedPlan
}

// schedPlan is who does what, and in which cgroup.
type schedPlan struct {
	groups []schedGroupPlan
	teams  []schedTeam
}

// sold is the sum of the quotas, in cores.
func (p *schedPlan) sold() (cores float64) {
	for _, g := range p.groups {
		cores += g.quota
	}
	return cores
}

// schedGroupPlan is one cgroup.
type schedGroupPlan struct {
	quota  float64 // in cores; 0: none
	nested bool    // the tasks are in a child of it
}

// schedTeam is some processes that do the same.
type schedTeam struct {
	role      string
	processes int
	group     int // index of the cgroup, noGroup: none
	config    schedWorkerConfig
}

const (
	noGroup = -1

	// oversoldRatio is how often the quotas of oversold sell the host: 80 cores
	// of quota on 48, as in the incident.
	oversoldRatio = 1.67
)

var schedModes = []schedMode{
	{name: "pile", flags: "workers pinned cpu", twoCPUs: true, defaults: defaultWorkers, plan: planPile,
		brief: "busy workers pinned to one core, on which they wait; the rest mostly sleep, so other cores idle"},
	{name: "spread", flags: "workers", defaults: defaultWorkers, plan: planSpread,
		brief: "as much work as one core can do, in equal parts, unpinned: hardly a wait"},
	{name: "crowd", flags: "workers", twoCPUs: true, defaults: defaultWorkers, plan: planCrowd,
		brief: "all workers busy in one cgroup, which weighs as much as another with one busy thread for each other core"},
	{name: "throttle", flags: "threads quota period burst every nested", defaults: defaultThrottle, plan: planThrottle,
		brief: "a cgroup whose threads want more than its quota"},
	{name: "unthrottled", flags: "threads quota period burst every nested", calm: true, defaults: defaultUnthrottled, plan: planThrottle,
		brief: "the same threads under a quota that they cannot reach"},
	{name: "below-quota", flags: "threads quota period burst every nested", defaults: defaultBelowQuota, plan: planThrottle,
		brief: "bursts that are throttled, though the mean use is below half of the quota"},
	{name: "oversold", flags: "groups threads quota period", calm: true, defaults: defaultOversold, plan: planOversold,
		brief: "cgroups whose quotas exceed the cores: none reaches its quota, none is throttled, and the host has no time left"},
	{name: "undersold", flags: "groups threads quota period", calm: true, defaults: defaultOversold, plan: planUndersold,
		brief: "the same cgroups and quotas with a third of the work: the host has time left"},
	{name: "hide", flags: "cpu", plan: planHide,
		brief: "a process that runs between timer ticks: busy, and /proc/stat calls its core idle"},
	{name: "seen", flags: "cpu", plan: planSeen,
		brief: "the same process out of step with the ticks: /proc/stat sees it"},
	{name: "compile", flags: "workers", defaults: defaultCompile, plan: planCompile,
		brief: "healthy: more short CPU-bound jobs at a time than cores, like make -j"},
	{name: "nice", flags: "threads", defaults: defaultNice, plan: planNice,
		brief: "healthy: a batch job at nice 19 on all cores, beside a modest server"},
	{name: "spin", flags: "cpu", twoCPUs: true, plan: planSpin,
		brief: "healthy: a spinner alone on the core that it is pinned to, like DPDK; other load elsewhere"},
	{name: "churn", flags: "pairs switches churn", plan: planChurn,
		brief: "context switches by the million, while threads and processes come and go"},
}

func defaultWorkers(c *schedConfig) {
	if c.workers == 0 {
		c.workers = 34
	}
}

func defaultThrottle(c *schedConfig) {
	if c.threads == 0 {
		c.threads = 2
	}
	if c.quota == 0 {
		c.quota = 0.4
	}
}

// defaultUnthrottled sells ten times what there is: a period timer that comes
// late (on a stalled virtual CPU) throttles nobody either.
func defaultUnthrottled(c *schedConfig) {
	if c.quota == 0 {
		c.quota = float64(10 * len(c.cpus))
	}
	defaultThrottle(c)
}

// defaultBelowQuota makes each burst worth the quota of nearly five periods: it
// is throttled in four of the seven or so that are counted for it, wherever in
// a period it begins. Then the group rests until the mean is 45 % of the quota.
func defaultBelowQuota(c *schedConfig) {
	if c.threads == 0 {
		c.threads = 2
	}
	defaultThrottle(c)
	if c.burst == 0 {
		work := 4.75 * c.quota * float64(c.period)
		c.burst = time.Duration(work / float64(c.threads))
		c.every = time.Duration(work / (0.45 * c.quota))
	}
}

func defaultOversold(c *schedConfig) {
	if c.threads == 0 {
		c.threads = 2 * len(c.cpus)
	}
	if c.quota == 0 {
		c.quota = oversoldRatio * float64(len(c.cpus)) / float64(c.groups)
	}
}

func defaultCompile(c *schedConfig) {
	if c.workers == 0 {
		c.workers = 2 * len(c.cpus)
	}
}

func defaultNice(c *schedConfig) {
	if c.threads == 0 {
		c.threads = len(c.cpus)
	}
}

// spinJob is busy without end; burn looks at the stop pipe every chunk.
var spinJob = schedJob{Burn: burnChunk}

// dutyJob uses share of a core in closed loop. The i-th of n begins a part of
// its cycle later, so that they do not all wake at once.
func dutyJob(burn time.Duration, share float64, i, n int) schedJob {
	if share >= 1 {
		return schedJob{Burn: burn}
	}
	cycle := time.Duration(float64(burn) / share)
	return schedJob{Burn: burn, Nap: cycle - burn, Offset: cycle * time.Duration(i) / time.Duration(n)}
}

// dutyTeams are n processes of one thread which use cores together.
func dutyTeams(n int, burn time.Duration, cores float64, config schedWorkerConfig) (teams []schedTeam) {
	for i := range n {
		config.Threads, config.Job = 1, dutyJob(burn, cores/float64(n), i, n)
		teams = append(teams, schedTeam{role: roleSchedWorker, processes: 1, group: noGroup, config: config})
	}
	return teams
}

func planPile(c *schedConfig) schedPlan {
	pinned := schedTeam{role: roleSchedWorker, processes: c.pinned, group: noGroup,
		config: schedWorkerConfig{Comm: c.comm, Threads: 1, CPUs: []int{c.cpu}, Job: spinJob}}
	sleepy := c.workers - c.pinned
	return schedPlan{teams: append(dutyTeams(sleepy, 200*time.Microsecond, 0.002*float64(sleepy), schedWorkerConfig{Comm: c.comm}), pinned)}
}

// planSpread shares out one core's worth of work, what pile can do at most; on
// a single core half of that, as there is to be no queue.
func planSpread(c *schedConfig) schedPlan {
	cores := 1.0
	if len(c.cpus) == 1 {
		cores = 0.5
	}
	return schedPlan{teams: dutyTeams(c.workers, time.Millisecond, cores, schedWorkerConfig{Comm: c.comm})}
}

// planCrowd has no affinity and no quota in it: the load balancer equalises
// the weight of groups, not the number of threads.
func planCrowd(c *schedConfig) schedPlan {
	return schedPlan{groups: make([]schedGroupPlan, 2), teams: []schedTeam{
		{role: roleSchedWorker, processes: c.workers, group: 0, config: schedWorkerConfig{Comm: c.comm, Threads: 1, Job: spinJob}},
		{role: roleSchedWorker, processes: 1, group: 1, config: schedWorkerConfig{Comm: schedOtherComm, Threads: len(c.cpus) - 1, Job: spinJob}},
	}}
}

func planThrottle(c *schedConfig) schedPlan {
	job := spinJob
	if c.burst > 0 {
		job = schedJob{Burn: c.burst, Every: c.every, Offset: c.every / 2}
	}
	return schedPlan{
		groups: []schedGroupPlan{{quota: c.quota, nested: c.nested}},
		teams: []schedTeam{{role: roleSchedWorker, processes: 1, group: 0,
			config: schedWorkerConfig{Comm: c.comm, Threads: c.threads, Job: job}}},
	}
}

// planOversold lets each group want 90 % of its quota at most, so that quotas
// are not the reason for anything.
func planOversold(c *schedConfig) schedPlan { return planSold(c, 0.9) }

func planUndersold(c *schedConfig) schedPlan { return planSold(c, 0.3) }

// planSold has c.groups groups that use a part of their quota in closed loop,
// with a burn that is small against the period: no period has many more of
// them than another.
func planSold(c *schedConfig, part float64) (p schedPlan) {
	burn := min(time.Millisecond, c.period/100)
	for g := range c.groups {
		p.groups = append(p.groups, schedGroupPlan{quota: c.quota})
		p.teams = append(p.teams, schedTeam{role: roleSchedWorker, processes: 1, group: g,
			config: schedWorkerConfig{Comm: c.comm, Threads: c.threads, Job: dutyJob(burn, part*c.quota/float64(c.threads), 0, 1)}})
	}
	return p
}

func planHide(c *schedConfig) schedPlan {
	return schedPlan{teams: []schedTeam{{role: roleSchedWorker, processes: 1, group: noGroup,
		config: schedWorkerConfig{Comm: c.comm, Reports: true, Threads: 1, CPUs: []int{c.cpu}, Job: schedJob{TickGap: 400 * time.Microsecond}}}}}
}

// planSeen is as busy as hide, in steps that no length of a tick (1, 4 or
// 10 ms) is a multiple of.
func planSeen(c *schedConfig) schedPlan {
	return schedPlan{teams: []schedTeam{{role: roleSchedWorker, processes: 1, group: noGroup,
		config: schedWorkerConfig{Comm: c.comm, Reports: true, Threads: 1, CPUs: []int{c.cpu}, Job: dutyJob(2700*time.Microsecond, 0.87, 0, 1)}}}}
}

func planCompile(c *schedConfig) schedPlan {
	return schedPlan{teams: []schedTeam{{role: roleSchedMake, processes: 1, group: noGroup,
		config: schedWorkerConfig{Comm: c.comm, Reports: true, Threads: 1, Jobs: c.workers, Job: schedJob{Burn: 40 * time.Millisecond}}}}}
}

func planNice(c *schedConfig) schedPlan {
	batch := schedTeam{role: roleSchedWorker, processes: 1, group: noGroup,
		config: schedWorkerConfig{Comm: schedOtherComm, Threads: c.threads, Nice: 19, Job: spinJob}}
	return schedPlan{teams: append(dutyTeams(4, time.Millisecond, 0.15*float64(len(c.cpus)), schedWorkerConfig{Comm: c.comm}), batch)}
}

func planSpin(c *schedConfig) schedPlan {
	var others []int
	for _, cpu := range c.cpus {
		if cpu != c.cpu {
			others = append(others, cpu)
		}
	}
	spinner := schedTeam{role: roleSchedWorker, processes: 1, group: noGroup,
		config: schedWorkerConfig{Comm: c.comm, Threads: 1, CPUs: []int{c.cpu}, Job: spinJob}}
	elsewhere := schedWorkerConfig{Comm: schedOtherComm, CPUs: others}
	return schedPlan{teams: append(dutyTeams(4, time.Millisecond, 0.4*float64(len(others)), elsewhere), spinner)}
}

func planChurn(c *schedConfig) schedPlan {
	return schedPlan{teams: []schedTeam{{role: roleSchedChurn, processes: 1, group: noGroup,
		config: schedWorkerConfig{Comm: c.comm, Reports: true, Threads: 1 + 2*c.pairs, Switches: c.switches, Churn: c.churn}}}}
}

func findSchedMode(name string) *schedMode {
	for i := range schedModes {
		if schedModes[i].name == name {
			return &schedModes[i]
		}
	}
	return nil
}

func schedModeNames() string {
	names := ""
	for i, m := range schedModes {
		if i > 0 {
			names += ", "
		}
		names += m.name
	}
	return names
}

// ownCPUs are the CPUs that this process may use, at least one.
func ownCPUs() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read the CPUs of this process: %w", err)
	}
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
