// SPDX-License-Identifier: Apache-2.0

package sample

// Runq is one core's run queue, counted at each context switch since attach.
type Runq struct {
	BusyNS   uint64 `json:"busy_ns"` // some thread ran; interrupts that came meanwhile are part of it
	IdleNS   uint64 `json:"idle_ns"` // the idle thread ran
	Switches uint64 `json:"switches_total"`
	// WaitNS sums, over the Waits that ended here, the time from runnable to
	// running. A wait that was cut by a migration counts from there on.
	WaitNS uint64 `json:"wait_ns"`
	Waits  uint64 `json:"waits_total"`
	// Wait[i] counts those of at least 2^i ns and less than 2^(i+1), the first
	// slot also what was shorter, the last also what was longer.
	Wait []uint64 `json:"wait,omitempty"`
	// ThrottledNS is the part of WaitNS in which a CPU quota was used up.
	ThrottledNS uint64 `json:"throttled_ns"`
	Len         uint32 `json:"len"`  // runnable threads at the last switch, the running one included
	Peak        uint32 `json:"peak"` // most since the last tick, at switches
	// UnclaimedNS is for how long a thread waited here while another core was idle.
	UnclaimedNS uint64 `json:"unclaimed_idle_ns"`
	// StealNS is what the hypervisor took, by /proc/stat; nil where that cannot
	// be read.
	StealNS *uint64 `json:"steal_ns,omitempty"`
	// Partial: it is from /proc/schedstat and /proc/stat, and of BusyNS, IdleNS,
	// Switches, WaitNS and Waits alone; BusyNS and IdleNS are sampled.
	Partial bool `json:"partial,omitempty"`
}

// Sched is who used the cores and who waited for them.
type Sched struct {
	// Processes are those that ran or waited since the last tick, the most
	// active first, at most MaxProcesses; and on the last tick those with the
	// largest totals. What is not listed did less.
	Processes []Process `json:"processes,omitempty"`
	// Contended says which process had the core while threads of another waited:
	// cumulative, the longest first, at most MaxContended pairs. It is
	// approximate: a wait counts for who ran at its end.
	Contended []Contention `json:"contended,omitempty"`
	// ThreadsTotal is how many threads the host has.
	ThreadsTotal int `json:"threads,omitempty"`
}

// The bounds on what a Sample lists.
const (
	MaxProcesses = 256
	MaxThreads   = 512 // of all processes together
	MaxContended = 128
	MaxCGroups   = 512
	MaxRivals    = 8 // of each cgroup
)

// RunTimes are what the scheduler gave to a thread, a process or a cgroup, and
// what it made them wait for, since attach. The waits are completed ones.
type RunTimes struct {
	RunNS uint64 `json:"run_ns"`
	// WaitNS is runnable without a core (schedstat's run_delay). Of it,
	// ThrottledNS is because a CPU quota was used up, MaskNS because the
	// affinity mask or cpuset forbade the cores that were idle, StolenNS because
	// the hypervisor had the core. The rest is contention: others ran there.
	WaitNS      uint64 `json:"wait_ns"`
	ThrottledNS uint64 `json:"wait_throttled_ns,omitempty"`
	MaskNS      uint64 `json:"wait_mask_ns,omitempty"`
	StolenNS    uint64 `json:"wait_stolen_ns,omitempty"`
}

// Add adds d to t.
func (t *RunTimes) Add(d RunTimes) {
	t.RunNS += d.RunNS
	t.WaitNS += d.WaitNS
	t.ThrottledNS += d.ThrottledNS
	t.MaskNS += d.MaskNS
	t.StolenNS += d.StolenNS
}

// Switches count what happened to a thread, since attach.
type Switches struct {
	Voluntary   uint64 `json:"voluntary_switches_total"`
	Involuntary uint64 `json:"involuntary_switches_total"`
	Wakes       uint64 `json:"wakes_total"` // times that it became runnable
	Migrations  uint64 `json:"migrations_total"`
}

// Add adds d to s.
func (s *Switches) Add(d Switches) {
	s.Voluntary += d.Voluntary
	s.Involuntary += d.Involuntary
	s.Wakes += d.Wakes
	s.Migrations += d.Migrations
}

// Process is the sum of its threads, ended ones included.
type Process struct {
	PID      uint32 `json:"pid"`
	StartNS  uint64 `json:"start_ns"`          // since boot: with PID, its identity
	Comm     string `json:"comm"`              // raw: every sink escapes it
	Program  string `json:"program,omitempty"` // what a person would call it; "" when it was gone too soon to ask
	CGroupID uint64 `json:"cgroup_id"`         // of its main thread, or of any
	Kernel   bool   `json:"kernel,omitempty"`  // a kernel thread
	RunTimes
	Switches
	Threads int  `json:"threads"` // live ones that ran or waited lately
	Ended   bool `json:"ended,omitempty"`
	// ClaimedNS is what /proc/PID/stat says that it used since attach (utime +
	// stime, in units of 10 ms): nil where it was not looked up, which is done
	// for the busiest only.
	ClaimedNS *uint64 `json:"claimed_ns,omitempty"`
	// Top are its threads that were most active, and on the last tick the live
	// ones that did most since attach.
	Top []Thread `json:"top,omitempty"`
}

// Thread is one live thread.
type Thread struct {
	TID  uint32 `json:"tid"`
	Comm string `json:"comm"`
	CPU  int    `json:"cpu"` // where it runs, waits or ran last
	RunTimes
	Switches
	// PendingNS is how long it has been waiting by now; not part of WaitNS yet.
	PendingNS uint64 `json:"pending_ns,omitempty"`
	Nice      int    `json:"nice,omitempty"`
	Policy    string `json:"policy,omitempty"` // "" is SCHED_OTHER; batch, idle, fifo, rr, deadline, ext
	// Allowed are the cores it may use, where these are not all; CPUSet says
	// that its cpuset does not have more, so that no taskset would help.
	Allowed []int `json:"allowed,omitempty"`
	CPUSet  bool  `json:"cpuset,omitempty"`
}

// Contention is how long threads of one process waited while another's ran.
type Contention struct {
	PID    uint32 `json:"pid"` // who waited
	Holder uint32 `json:"holder"`
	// HolderComm is of one of the holder's threads.
	HolderComm string `json:"holder_comm"`
	WaitNS     uint64 `json:"wait_ns"`
}

// CGroup is one group of the cpu controller, v1 or v2: those with a quota, the
// most active others, and the ancestors of both, at most MaxCGroups.
type CGroup struct {
	ID       uint64 `json:"cgroup_id"` // inode number of its directory
	ParentID uint64 `json:"parent_id,omitempty"`
	Path     string `json:"path"` // below the mount, "/" for the root; raw: every sink escapes it
	// Name is what its container runtime calls it, as found on the traced host:
	// "web-1", of a pod "namespace/pod", of a container in one "namespace/pod/name".
	// It is "" for other groups, and where that could not be read, or was not yet.
	// Whoever starts containers may choose it: raw.
	Name string `json:"name,omitempty"`
	// RunTimes are the sum of all its threads since attach, those of its
	// descendants included.
	RunTimes
	Switches
	// ContendedBy is who had the core while threads of its own (not those of its
	// descendants) waited, the longest first, at most MaxRivals; approximate, as
	// Sched.Contended is.
	ContendedBy []Rival `json:"contended_by,omitempty"`
	Threads     int     `json:"threads"` // live ones that ran or waited lately, descendants included
	// Weight is cpu.weight, or what cpu.shares comes to; 0 where not known.
	Weight uint32 `json:"weight,omitempty"`
	// CFS is its bandwidth control; nil where it has no quota of its own.
	CFS *Bandwidth `json:"cfs,omitempty"`
}

// Rival is a process that had the core while others waited for it.
type Rival struct {
	PID    uint32 `json:"pid"`
	Comm   string `json:"comm"`
	WaitNS uint64 `json:"wait_ns"` // since attach
}

// Bandwidth is a quota and the kernel's account of it (cpu.stat), since attach.
type Bandwidth struct {
	QuotaUS  uint64 `json:"quota_us"` // of CPU time in each period
	PeriodUS uint64 `json:"period_us"`
	BurstUS  uint64 `json:"burst_us,omitempty"`
	// Periods are those in which it was active; Throttled those of them in which
	// some core had used up its share; ThrottledNS sums over cores, so it may
	// exceed the time that passed. Before v6.18 it counts cores as well that had
	// nothing to run.
	Periods     uint64 `json:"periods_total"`
	Throttled   uint64 `json:"throttled_periods_total"`
	ThrottledNS uint64 `json:"throttled_ns"`
	// UsageNS is the group's CPU time by the kernel's account, since attach; nil
	// where the controller does not say.
	UsageNS *uint64 `json:"usage_ns,omitempty"`
}
