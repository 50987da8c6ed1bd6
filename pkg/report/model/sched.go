// SPDX-License-Identifier: Apache-2.0

package model

import (
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The signals of the scheduler, as the Header names them.
const (
	SignalRunq     = "runq"     // run queues and waits, by core, thread, process and cgroup
	SignalThrottle = "throttle" // CPU quotas
	SignalCPUTime  = "cputime"  // what /proc claims against what the scheduler ran
)

// Runq is one core's run queue during the interval. All ratios are of the
// interval; what is not known is NaN.
type Runq struct {
	*sample.Runq                // the totals
	BusyRatio           float64 // exact, where CPU.BusyRatio is sampled
	Waiting             float64 // threads that waited here, as a mean; throttled ones are not
	ThrottledWaiting    float64 // threads that waited for a quota, as a mean
	UnclaimedRatio      float64 // share of the time in which one waited while another core was idle
	SwitchesPerS        float64
	WaitP99NS           float64 // upper bound of its power-of-two slot
	WaitNS, ThrottledNS uint64  // in the interval
	// Waited is sample.Runq.Wait of the interval alone; nil where not known.
	Waited []uint64
	// StealRatio is what the hypervisor took, as the scheduler sees it; unknown
	// where the kernel was not built to.
	StealRatio float64
}

// Sched is who used the cores during the interval.
type Sched struct {
	*sample.Sched
	Processes []Process    // most active first
	Contended []Contention // of the interval, longest first
}

// Process is one process during the interval.
type Process struct {
	sample.Process                 // the totals
	Delta          sample.RunTimes // in the interval
	Switched       sample.Switches // in the interval
	Run, Wait      float64         // cores that it ran on, threads of it that waited, as means
	Claimed        float64         // cores, by /proc/PID/stat; unknown where not looked up twice
	Top            []Thread        // most active first; hides that of sample.Process
}

// Thread is one thread during the interval.
type Thread struct {
	sample.Thread
	Delta     sample.RunTimes
	Run, Wait float64 // share of the interval
}

// Contention is how long one process's threads waited for another's, in the
// interval.
type Contention struct {
	sample.Contention
	Delta uint64 // ns
}

// CGroup is one cgroup during the interval.
type CGroup struct {
	sample.CGroup
	title  string  // see Title; "" where it was not compared with the others yet
	Parent *CGroup // nil: the root, or not listed
	Delta  sample.RunTimes
	// Used is cores used, by the scheduler; Waiting its threads that waited, as
	// a mean; of these, for a quota and while others ran.
	Used, Waiting        float64
	UsedAtLeast          bool // Used is that of the threads that were looked at: there may be others
	Throttled, Contended float64
	// Of a group with a quota, else 0 or unknown. Quota is in cores. Demand is
	// the quota, in cores, that would have covered 99 % of the last
	// DemandPeriods periods; it is estimated from the stalls.
	Quota                          float64
	PeriodsDelta, ThrottledPeriods uint64
	ThrottledNSDelta               uint64
	ThrottledRatio                 float64 // of the periods
	WorstStallNS                   uint64  // longest stall of a core in the interval
	Demand                         float64 // unknown where nothing was throttled
	DemandPeriods                  uint64
	// Lately covers the last two seconds.
	LatelyPeriods, LatelyThrottled uint64
}

// Sold is what the host's quotas promise.
type Sold struct {
	Cores float64 // sum of the quotas of the groups that ran or waited, outermost ones only
	Ratio float64 // of the host's cores: cpu_sold_ratio
	Used  float64 // cores that those groups used
}
