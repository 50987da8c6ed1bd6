// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The bounds of one interval's record. A summary has all that its Sample has.
const (
	intervalProcesses  = 64
	intervalCGroups    = 64
	intervalThreads    = 16 // of a process
	intervalContenders = 8  // of a process; of a cgroup there are no more
)

// seconds keeps the nanoseconds: times 1e9 it rounds to ns again, up to 2^51 of
// them, which are 26 days.
func seconds(ns uint64) float64 { return float64(ns) / 1e9 }

func secondsOf(ns *uint64) *float64 {
	if ns == nil {
		return nil
	}
	s := seconds(*ns)
	return &s
}

// jsonRunq is a core's run queue: nil, and so absent, where the hook at the
// context switch does not attach.
type jsonRunq struct {
	BusySeconds      float64  `json:"busy_seconds_total"`
	WaitSeconds      float64  `json:"runq_wait_seconds_total"`
	ThrottledSeconds *float64 `json:"runq_throttled_seconds_total,omitempty"` // of them, for a CPU quota
	WaitP99NS        *float64 `json:"runq_wait_p99_ns,omitempty"`             // interval: in it; summary: since attach; so is the peak
	Len              *uint32  `json:"runq_len,omitempty"`
	Peak             *uint32  `json:"runq_peak,omitempty"`
	UnclaimedSeconds *float64 `json:"unclaimed_idle_seconds_total,omitempty"`
	Switches         uint64   `json:"switches_total"`
	StealSeconds     *float64 `json:"steal_seconds_total,omitempty"`
}

// jsonWaits is runnable without a core, and why: the four parts are the whole.
// It is nil where the waits of threads are not measured, and so are the parts that
// cannot be told from each other.
type jsonWaits struct {
	Wait      float64  `json:"wait_seconds_total"`
	Throttled *float64 `json:"wait_throttled_seconds_total,omitempty"`
	Contended *float64 `json:"wait_contended_seconds_total,omitempty"`
	Mask      *float64 `json:"wait_mask_seconds_total,omitempty"`
	Stolen    *float64 `json:"wait_stolen_seconds_total,omitempty"`
}

// jsonSwitches are a Sample's.
type jsonSwitches struct {
	Voluntary   uint64  `json:"voluntary_switches_total"`
	Involuntary uint64  `json:"involuntary_switches_total"`
	Wakes       uint64  `json:"wakes_total"`
	Migrations  *uint64 `json:"migrations_total,omitempty"`
}

func switchesRecord(f *model.Frame, s *sample.Switches) jsonSwitches {
	r := jsonSwitches{Voluntary: s.Voluntary, Involuntary: s.Involuntary, Wakes: s.Wakes}
	if !f.RunqPolled() {
		r.Migrations = &s.Migrations
	}
	return r
}

type jsonCGroup struct {
	Path       string   `json:"path"`
	Name       string   `json:"name,omitempty"` // by its container runtime
	CGroupID   uint64   `json:"cgroup_id"`
	ParentID   uint64   `json:"parent_cgroup_id,omitempty"`
	CPUSeconds *float64 `json:"cpu_seconds_total,omitempty"` // by the scheduler
	*jsonWaits
	*jsonSwitches // nil where the runq signal is not measured
	*jsonBandwidth
	Threads     int             `json:"threads"`
	Weight      uint32          `json:"cpu_weight,omitempty"`
	ContendedBy []jsonContender `json:"contended_by,omitempty"`
}

// jsonBandwidth is nil for a group without a quota of its own.
type jsonBandwidth struct {
	QuotaUS          uint64   `json:"cpu_quota_us"`
	PeriodUS         uint64   `json:"cpu_period_us"`
	BurstUS          uint64   `json:"cpu_burst_us"`
	Periods          uint64   `json:"cfs_periods_total"`
	ThrottledPeriods uint64   `json:"cfs_throttled_periods_total"`
	ThrottledSeconds float64  `json:"cfs_throttled_seconds_total"`
	Usage            *float64 `json:"cpu_usage_seconds_total,omitempty"` // by the kernel's account
	Demand           *float64 `json:"cpu_demand_cores,omitempty"`
}

type jsonProcess struct {
	PID      uint32  `json:"pid"`
	StartNS  uint64  `json:"start_ns"` // since boot: with pid, its identity
	Comm     string  `json:"comm"`
	Program  string  `json:"program,omitempty"`
	CGroupID uint64  `json:"cgroup_id"`
	Kernel   bool    `json:"kernel"`
	Ended    bool    `json:"ended"`
	Run      float64 `json:"run_seconds_total"`
	*jsonWaits
	Claimed *float64 `json:"claimed_seconds_total,omitempty"` // by /proc/PID/stat
	jsonSwitches
	Threads     int                 `json:"threads"`
	TopThreads  []jsonProcessThread `json:"top_threads"`
	ContendedBy []jsonContender     `json:"contended_by,omitempty"`
}

type jsonProcessThread struct {
	TID  uint32  `json:"tid"`
	Comm string  `json:"comm"`
	CPU  int     `json:"cpu"`
	Run  float64 `json:"run_seconds_total"`
	*jsonWaits
	jsonSwitches
	Pending float64 `json:"wait_pending_seconds,omitempty"` // so long now; not part of the waits yet
	Nice    int     `json:"nice,omitempty"`
	Policy  string  `json:"policy,omitempty"`
	Allowed []int   `json:"cpus_allowed,omitempty"` // absent: all
	CPUSet  bool    `json:"cpuset,omitempty"`
}

// jsonContender is another process that had the core meanwhile.
type jsonContender struct {
	PID  uint32  `json:"pid"`
	Comm string  `json:"comm"`
	Wait float64 `json:"wait_seconds_total"`
}

// jsonSold is nil where quotas are not measured.
type jsonSold struct {
	Ratio *float64 `json:"cpu_sold_ratio,omitempty"`
	Cores *float64 `json:"cpu_sold_cores,omitempty"`
}

// runqRecord is a core's run queue; w is nil but for a summary.
func runqRecord(f *model.Frame, c *model.CPU, w *Worst) *jsonRunq {
	q := c.Runq
	if q == nil || q.Runq == nil {
		return nil
	}
	r := &jsonRunq{
		BusySeconds: seconds(q.BusyNS), WaitSeconds: seconds(q.Runq.WaitNS),
		WaitP99NS: known(q.WaitP99NS), Switches: q.Switches, StealSeconds: secondsOf(q.StealNS),
	}
	if q.Partial {
		return r
	}
	peak := q.Peak
	r.Len, r.Peak, r.UnclaimedSeconds = &q.Len, &peak, secondsOf(&q.UnclaimedNS)
	if f.QuotaWaitsKnown() {
		r.ThrottledSeconds = secondsOf(&q.Runq.ThrottledNS)
	}
	if w != nil {
		r.WaitP99NS, peak = known(model.Quantile99(q.Wait, nil)), max(peak, w.RunqPeak[c.CPU.CPU])
	}
	return r
}

func waitsRecord(f *model.Frame, t *sample.RunTimes) *jsonWaits {
	if !f.WaitsKnown() {
		return nil
	}
	p := WaitPartsOf(t)
	w := &jsonWaits{Wait: seconds(t.WaitNS)}
	if f.CausesKnown() {
		w.Mask, w.Stolen = secondsOf(&p.MaskNS), secondsOf(&p.StolenNS)
	}
	if f.QuotaWaitsKnown() {
		w.Throttled, w.Contended = secondsOf(&p.ThrottledNS), secondsOf(&p.ContendedNS)
	}
	return w
}

// cgroupRecords is nil, and so null, where no cpu controller is to be seen.
func cgroupRecords(f *model.Frame, total bool) []jsonCGroup {
	if len(f.CGroups) == 0 {
		return nil
	}
	groups := f.CGroups
	if total {
		groups = slices.Clone(groups)
		slices.SortStableFunc(groups, func(a, b *model.CGroup) int {
			return cmp.Or(cmp.Compare(throttledNS(b), throttledNS(a)), cmp.Compare(active(&b.RunTimes), active(&a.RunTimes)))
		})
	} else {
		groups = groups[:min(len(groups), intervalCGroups)]
	}
	out := make([]jsonCGroup, 0, len(groups))
	for _, g := range groups {
		r := jsonCGroup{Path: g.Path, Name: g.Name, CGroupID: g.ID, ParentID: g.ParentID, Threads: g.Threads, Weight: g.Weight}
		if f.Sched != nil {
			switched := switchesRecord(f, &g.Switches)
			if !unseen(f, g) {
				r.CPUSeconds, r.jsonWaits, r.jsonSwitches = secondsOf(&g.RunNS), waitsRecord(f, &g.RunTimes), &switched
			}
			for _, by := range g.ContendedBy[:min(len(g.ContendedBy), sample.MaxRivals)] {
				r.ContendedBy = append(r.ContendedBy, jsonContender{by.PID, by.Comm, seconds(by.WaitNS)})
			}
		}
		if b := g.CFS; b != nil {
			r.jsonBandwidth = &jsonBandwidth{
				QuotaUS: b.QuotaUS, PeriodUS: b.PeriodUS, BurstUS: b.BurstUS,
				Periods: b.Periods, ThrottledPeriods: b.Throttled, ThrottledSeconds: seconds(b.ThrottledNS),
				Usage: secondsOf(b.UsageNS), Demand: known(g.Demand),
			}
		}
		out = append(out, r)
	}
	return out
}

// unseen reports whether no thread of g was looked at: what /proc does not show may
// run all the same.
func unseen(f *model.Frame, g *model.CGroup) bool { return f.RunqPolled() && g.RunNS+g.WaitNS == 0 }

// throttledNS is for how long g was stopped since attach.
func throttledNS(g *model.CGroup) uint64 {
	if g.CFS == nil {
		return 0
	}
	return g.CFS.ThrottledNS
}

// active is how long something ran or wanted to since attach.
func active(t *sample.RunTimes) uint64 { return t.RunNS + t.WaitNS }

// processRecords is nil, and so null, where the runq signal is not measured.
func processRecords(f *model.Frame, total bool) []jsonProcess {
	if f.Sched == nil {
		return nil
	}
	list, threads, contenders := f.Sched.Processes, intervalThreads, intervalContenders
	if total {
		threads, contenders = sample.MaxThreads, sample.MaxContended
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b model.Process) int { return cmp.Compare(active(&b.RunTimes), active(&a.RunTimes)) })
	} else {
		list = list[:min(len(list), intervalProcesses)]
	}
	by := contenderRecords(f.Sched)
	out := make([]jsonProcess, 0, len(list))
	for i := range list {
		p := &list[i]
		r := jsonProcess{
			PID: p.PID, StartNS: p.StartNS, Comm: p.Comm, Program: p.Program, CGroupID: p.CGroupID, Kernel: p.Kernel, Ended: p.Ended,
			Run: seconds(p.RunNS), jsonWaits: waitsRecord(f, &p.RunTimes), Claimed: secondsOf(p.ClaimedNS), jsonSwitches: switchesRecord(f, &p.Switches),
			Threads: p.Threads, TopThreads: make([]jsonProcessThread, 0, min(len(p.Top), threads)),
		}
		for k := range p.Top[:min(len(p.Top), threads)] {
			r.TopThreads = append(r.TopThreads, processThreadRecord(f, &p.Top[k].Thread))
		}
		r.ContendedBy = by[p.PID][:min(len(by[p.PID]), contenders)]
		out = append(out, r)
	}
	return out
}

func processThreadRecord(f *model.Frame, t *sample.Thread) jsonProcessThread {
	return jsonProcessThread{
		TID: t.TID, Comm: t.Comm, CPU: t.CPU, Run: seconds(t.RunNS), jsonWaits: waitsRecord(f, &t.RunTimes), jsonSwitches: switchesRecord(f, &t.Switches),
		Pending: seconds(t.PendingNS), Nice: t.Nice, Policy: t.Policy, Allowed: t.Allowed, CPUSet: t.CPUSet,
	}
}

// contenderRecords are, by the pid of who waited, the longest waits first.
func contenderRecords(s *model.Sched) map[uint32][]jsonContender {
	if s.Sched == nil {
		return nil
	}
	out := make(map[uint32][]jsonContender)
	for _, c := range s.Sched.Contended {
		out[c.PID] = append(out[c.PID], jsonContender{c.Holder, c.HolderComm, seconds(c.WaitNS)})
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b jsonContender) int { return cmp.Compare(b.Wait, a.Wait) })
	}
	return out
}

// soldRecord is of the interval; of a summary, the greatest of all intervals.
func soldRecord(f *model.Frame, w *Worst) *jsonSold {
	if len(f.CGroups) == 0 || !f.Measured(model.SignalThrottle) {
		return nil
	}
	s := f.Sold
	if w != nil && !(s.Ratio > w.Sold.Ratio) {
		s = w.Sold
	}
	return &jsonSold{known(s.Ratio), known(s.Cores)}
}
