// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// SchedLimits are the thresholds about cores, quotas and CPU times.
type SchedLimits struct {
	// A pile: PileWaiting threads wait at one core (a wait threshold misfires on
	// synchronous clients, and so does wait against run time; the difference
	// between cores does not: 50 to 100-fold when pinned, 0.8 to 1.3-fold when
	// healthy, both measured), and for PileUnclaimed of the time one waited while
	// another core was idle, over PileSmooth, for PileFor. Affinity noise is
	// below 1 % (bcc's cpuunclaimed). The other core must be idle for PileIdle of
	// the time (or all of those with few waiters together), with at most PileApart
	// of the waiters.
	PileWaiting   float64
	PileUnclaimed float64
	PileSmooth    time.Duration
	PileFor       time.Duration
	PileIdle      float64
	PileApart     float64
	// What is idle by turns must be PileTurns of the cores with few waiters, unless
	// a mask is why: of many cores one is always idle. PileListed of PileWaiting
	// must be threads that are listed and have a right to run.
	PileTurns  float64
	PileListed float64
	// A crowd is a pile without an idle core: CrowdWaiting threads wait while
	// another core runs one of another cgroup nearly alone: RivalRun of the time,
	// while RivalWaiting others wait, for CrowdFor. The load balancer takes
	// seconds at the most for what it means to even out. Who uses more than
	// CrowdCores, and twice what the rival does, is no victim but has more threads
	// than cores (34 threads of the incident use 1.0 to 1.3).
	CrowdWaiting float64
	CrowdFor     time.Duration
	CrowdCores   float64
	RivalRun     float64
	RivalWaiting float64

	// Throttling: ThrottleShare of the periods in ThrottleWindow (of
	// ThrottlePeriods at least, two of them throttled), which costs something:
	// ThrottleCost of the time in which its threads ran or wanted to, or a stall
	// of ThrottleStallNS. Before v6.18 a core that ran dry as it went idle counts
	// as throttled and costs nothing. Lost must be ThrottleLost of the time, or so
	// many threads' worth of it. Calm is half of that share, for ThrottleStays:
	// what runs every 15 seconds, as a scraper, is one finding. It is critical where
	// the group is stopped for ThrottleCritStop of the time, or in ThrottleCrit of
	// its periods, and these are ThrottleActive of the time: so often meets a
	// request a stall.
	ThrottleShare    float64
	ThrottleWindow   time.Duration
	ThrottlePeriods  uint64
	ThrottleCost     float64
	ThrottleStallNS  uint64
	ThrottleLost     float64
	ThrottleStays    time.Duration
	ThrottleCrit     float64
	ThrottleCritStop float64
	ThrottleActive   float64
	// It is below the quota where the mean use is less than BelowUse of it. With
	// less than BelowStranded of what the throttled periods had, some were
	// throttled with quota left. At BurstUse of the quota it is no burst, and in
	// ThrottleSustained of the periods nothing else either.
	BelowUse      float64
	BelowStranded float64
	// A larger quota is no remedy where less than QuotaSpare of the host is idle.
	QuotaSpare        float64
	BurstUse          float64
	ThrottleSustained float64

	// Oversold: quotas of more than SoldRatio times the host's cores, which have
	// less than SoldIdle to spare, and a group that gets less than SoldUse of its
	// quota, is throttled in less than SoldThrottled of the periods and waits for
	// others for SoldWait of the time in which it runs or wants to: over
	// SoldSmooth, for SoldFor. It must want SoldWants of its quota, and weigh no
	// less than SoldLight of what those weigh that it competes with. (3.0 cores sold on 2, measured: 40 to 77 % of the
	// quota, not one throttled period, idle 0.) SoldMine of what is used must be
	// used by groups with a quota, or those are not what fills the host; a group
	// that uses less than SoldLeast of its quota wants little. It is critical
	// where it waits for half of the time. SoldSteal is worth a word.
	SoldRatio     float64
	SoldIdle      float64
	SoldUse       float64
	SoldThrottled float64
	SoldWait      float64
	SoldCritWait  float64
	SoldMine      float64
	SoldLeast     float64
	SoldWants     float64
	SoldLight     float64
	SoldSmooth    time.Duration
	SoldFor       time.Duration
	SoldSteal     float64

	// A frozen account: it did not move for FrozenTicks while the scheduler ran
	// the process for FrozenRunNS, and FrozenRun of a core. One that jumped grew by
	// more than JumpRatio times what its threads could have used. One that drifts is
	// off, over FrozenSpan, by DriftNS plus DriftSkewNS for each core used and
	// DriftShare of all: a sound kernel is within 30 ms (measured, 3 ticks of
	// HZ=100), and the two figures are not read at the same instant. It may be missing
	// in FrozenGrace ticks in a row; what drifts is summed up from there on.
	FrozenTicks int
	FrozenGrace int
	FrozenRunNS float64
	FrozenRun   float64
	FrozenSpan  time.Duration
	JumpRatio   float64
	DriftNS     float64
	DriftSkewNS float64
	DriftShare  float64

	// Hidden time: a core is busy for HiddenRatio more than /proc/stat shows, over
	// HiddenSmooth, for HiddenFor, and that shows at most HiddenShown of it. A
	// tick every 10 ms samples a busy half to within 5 % in a second. It must be
	// idle for HiddenIdle, for it is at the tick, and switch HiddenSwitches times a
	// second: a core that does not, and misses ticks, has a hypervisor that takes
	// time and does not say so.
	HiddenRatio    float64
	HiddenShown    float64
	HiddenSmooth   time.Duration
	HiddenFor      time.Duration
	HiddenIdle     float64
	HiddenSwitches float64
}

func defaultSchedLimits() SchedLimits {
	l := SchedLimits{
		PileWaiting:   2,
		PileUnclaimed: 0.3,
		PileSmooth:    500 * time.Millisecond,
		PileFor:       time.Second,
		PileIdle:      0.3,
		PileApart:     0.25,
		CrowdWaiting:  4,
		PileTurns:     0.1,
		PileListed:    0.8,
		CrowdFor:      3 * time.Second,
		CrowdCores:    1.5,
		RivalRun:      0.7,
		RivalWaiting:  1.5,

		SoldRatio:     1,
		SoldIdle:      0.08,
		SoldUse:       0.9,
		SoldThrottled: 0.1,
		SoldWait:      0.3,
		SoldCritWait:  0.5,
		SoldMine:      0.6,
		SoldLeast:     0.1,
		SoldWants:     0.8,
		SoldLight:     0.25,
		SoldSmooth:    time.Second,
		SoldFor:       time.Second,
		SoldSteal:     0.05,

		FrozenTicks: 3,
		FrozenGrace: 3,
		FrozenRunNS: 50e6,
		FrozenRun:   0.05,
		FrozenSpan:  10 * time.Second,
		JumpRatio:   1.2,
		DriftNS:     50e6,
		DriftSkewNS: 20e6,
		DriftShare:  0.02,

		HiddenRatio:    0.2,
		HiddenShown:    0.5,
		HiddenSmooth:   time.Second,
		HiddenFor:      3 * time.Second,
		HiddenIdle:     0.03,
		HiddenSwitches: 50,
	}
	l.throttle()
	return l
}

// throttle sets the thresholds for quotas.
func (l *SchedLimits) throttle() {
	l.ThrottleShare = 0.1
	l.ThrottleWindow = 2 * time.Second
	l.ThrottlePeriods = 5
	l.ThrottleCost = 0.05
	l.ThrottleStallNS = 5e6
	l.ThrottleLost = 0.02
	l.ThrottleStays = 20 * time.Second
	l.ThrottleCrit = 0.5
	l.ThrottleCritStop = 0.3
	l.ThrottleActive = 0.8
	l.BelowUse = 0.6
	l.BelowStranded = 0.9
	l.QuotaSpare = 0.04
	l.BurstUse = 0.9
	l.ThrottleSustained = 0.7
}

// coreSpan is how long a core's past is kept.
func (l *Limits) coreSpan() time.Duration { return max(l.NetRXSmooth, l.PileSmooth, l.HiddenSmooth) }

// throttleSpan is what g's throttling is judged over: ten periods, which may be
// a second each.
func (l *Limits) throttleSpan(g *model.CGroup) time.Duration {
	return max(l.ThrottleWindow, 10*periodOf(g))
}

// cgroupSpan is how long g's past is kept: two ticks at the least.
func (l *Limits) cgroupSpan(f *model.Frame, g *model.CGroup) time.Duration {
	return max(l.throttleSpan(g), f.Interval+1)
}

// periodOf is g's, within what the kernel allows (kernel/sched/core.c:
// tg_set_cfs_bandwidth()).
func periodOf(g *model.CGroup) time.Duration {
	return time.Duration(min(g.CFS.PeriodUS, 1e6)) * time.Microsecond
}
