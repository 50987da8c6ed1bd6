// SPDX-License-Identifier: Apache-2.0

// Package sample is the seam between what touches a kernel and what does not:
// the typed facts of one tick, and the recording that carries them.
//
// All counters are cumulative since the tracer attached; a name that ends in
// _ns is a duration or a CLOCK_MONOTONIC time in nanoseconds. What was not
// collected is nil or absent, never 0.
package sample

import (
	"context"
	"time"
)

// Version is the version of the recording format. Fields are only added;
// Version is raised when an old reader would misread a new file.
const Version = 1

// The bounds of the time between two ticks of a live trace.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Hour
)

// A Source yields the ticks of one trace, live or recorded.
type Source interface {
	// Header describes the trace. It is the same for the Source's lifetime.
	Header() *Header
	// Next returns the next tick. It returns io.EOF after the last one, and
	// ctx's error when ctx ends first. The Sample belongs to the caller.
	Next(ctx context.Context) (*Sample, error)
}

// Header says once what every Sample of a trace needs to be understood.
type Header struct {
	V          int      `json:"v"`
	Type       string   `json:"type"` // "header"
	Version    string   `json:"version"`
	Host       string   `json:"host"`
	Kernel     string   `json:"kernel"`
	Arch       string   `json:"arch"`
	CPUs       int      `json:"cpus"`
	BootID     string   `json:"boot_id,omitempty"`
	WallNS     int64    `json:"wall_ns"` // Unix time at MonoNS
	MonoNS     uint64   `json:"mono_ns"`
	IntervalNS uint64   `json:"interval_ns"` // between two Samples, as begun: see Self.IntervalNS
	Command    []string `json:"command,omitempty"`
	// PIDs and Ports are the filters that the Samples went through.
	PIDs    []uint32 `json:"pids,omitempty"`
	Ports   []uint16 `json:"ports,omitempty"`
	Signals []Signal `json:"signals"`
	// Rung is what the signals are measured with, one of the Rung constants; ""
	// in recordings that are older than it. RungReason is why it is no better one.
	Rung       string `json:"rung,omitempty"`
	RungReason string `json:"rung_reason,omitempty"`
}

// The rungs of the ladder, from the best one down.
const (
	RungFexit       = "fexit"       // BPF programs at functions, and at tracepoints
	RungKprobe      = "kprobe"      // the same, at functions by breakpoints
	RungTracepoints = "tracepoints" // BPF programs at tracepoints alone
	RungProcFS      = "procfs"      // no BPF: /proc, cgroupfs and sock_diag
)

// How well a Signal's numbers agree with the kernel's own.
const (
	Exact       = "exact"
	Approximate = "approximate"
	Unavailable = "unavailable"
)

// Signal says which variant of a signal runs on this kernel.
type Signal struct {
	Name     string      `json:"name"`
	Variant  string      `json:"variant,omitempty"` // "" where Accuracy is Unavailable
	Accuracy string      `json:"accuracy"`
	Hooks    []string    `json:"hooks,omitempty"`
	Note     string      `json:"note,omitempty"` // what the variant cannot see
	Rejected []Rejection `json:"rejected,omitempty"`
}

// Rejection is a variant that this kernel refused, and its words.
type Rejection struct {
	Variant string `json:"variant"`
	Error   string `json:"error"`
}

// Sample is one tick.
type Sample struct {
	Type   string  `json:"type"` // "sample"
	MonoNS uint64  `json:"mono_ns"`
	Final  bool    `json:"final,omitempty"` // the last one of its trace
	Self   Self    `json:"self"`
	Host   *Host   `json:"host,omitempty"`
	Accept *Accept `json:"accept,omitempty"`
	Listen *Listen `json:"listen,omitempty"`
	CPUs   []CPU   `json:"cpus,omitempty"`
	NetRX  *NetRX  `json:"netrx,omitempty"`
	// Sched is nil, and so are the Runq of CPUs, where the runq signal is not
	// measured. CGroups is nil where there is no cpu controller to be seen.
	Sched   *Sched   `json:"sched,omitempty"`
	CGroups []CGroup `json:"cgroups,omitempty"`
	Events  []Event  `json:"events,omitempty"`
}

// Self is the tracer's own cost and blind spots.
type Self struct {
	UserCPUNS   uint64 `json:"user_cpu_ns"` // of the tracer process, user and system
	BPFRunNS    uint64 `json:"bpf_run_ns"`  // of its programs, extrapolated from the share of time it was measured
	BPFRunTotal uint64 `json:"bpf_run_total"`
	// BPFUnmeasured: that takes CAP_SYS_ADMIN; the two above are then 0, and not known.
	BPFUnmeasured bool   `json:"bpf_unmeasured,omitempty"`
	MemoryBytes   uint64 `json:"memory_bytes"` // resident, and the maps
	// Lost has one entry for each way to lose something that did so.
	Lost map[string]uint64 `json:"lost_total,omitempty"`
	// RecursionMisses is how often a program that counts was skipped because it
	// was running on that CPU already; RecursionMissesBy says which ones. What
	// accept() returned plus the misses of its program is the truth.
	RecursionMisses   uint64            `json:"recursion_misses_total"`
	RecursionMissesBy map[string]uint64 `json:"recursion_misses_by,omitempty"`
	// Budget is nil where the cost has no bound.
	Budget *Budget `json:"budget,omitempty"`
	// TicksSkipped counts the ticks that were left out, for they would have cost
	// more than a hundredth of the machine: only without BPF.
	TicksSkipped uint64 `json:"ticks_skipped_total,omitempty"`
	// IntervalNS is the time between two Samples that was asked for when this one
	// was taken; 0 where it is still the Header's.
	IntervalNS uint64 `json:"interval_ns,omitempty"`
}

// Host is what /proc/stat says of all CPUs together, since boot. The kernel
// samples it once a tick, so it is approximate over short spans.
type Host struct {
	IdleNS  uint64 `json:"idle_ns"` // waiting for I/O included
	BusyNS  uint64 `json:"busy_ns"`
	StealNS uint64 `json:"steal_ns"`
}

// LostTotal is everything that Self counts as lost.
func (s *Self) LostTotal() uint64 {
	n := s.RecursionMisses
	for _, v := range s.Lost {
		n += v
	}
	return n
}

// Accept is the accept signal: one entry for each listening socket seen.
type Accept struct {
	Listeners []Listener `json:"listeners"`
}

// Listener is one listening socket. Its identity is Inode, which no two live
// sockets share; a listener reopened on the same port is another one.
type Listener struct {
	Inode  uint64 `json:"inode"`
	Proto  string `json:"proto"` // tcp, mptcp, unix
	Addr   string `json:"addr"`  // without brackets; a unix path, "@name" where abstract
	Port   uint16 `json:"port,omitempty"`
	V6Only bool   `json:"v6only,omitempty"`
	NetNS  uint32 `json:"netns"`
	// NetNSCookie is NetNS.Cookie.
	NetNSCookie uint64 `json:"netns_cookie,omitempty"`
	ReusePort   bool   `json:"reuseport,omitempty"`
	Closed      bool   `json:"closed,omitempty"`

	AcceptQueueLen uint32 `json:"accept_queue_len"` // connections, now
	AcceptQueueMax uint32 `json:"accept_queue_max"`
	// NoLimit: AcceptQueueMax is not known.
	NoLimit bool `json:"no_limit,omitempty"`

	// NoWakeups: the variant in use cannot see what this listener wakes.
	NoWakeups        bool   `json:"no_wakeups,omitempty"`
	CompletionsTotal uint64 `json:"completions_total"` // connections put on the accept queue
	Counters
	// QueuedChecksTotal counts the times the tracer looked and connections
	// were waiting; StalledChecksTotal those of them in which every worker
	// slept in its wait for new connections all the same.
	QueuedChecksTotal  uint64 `json:"queued_checks_total,omitempty"`
	StalledChecksTotal uint64 `json:"stalled_checks_total,omitempty"`

	// BurstsUnsentTotal counts the herd-burst events that the rate bound held back.
	BurstsUnsentTotal uint64 `json:"bursts_unsent_total,omitempty"`

	// Queues is the listen signal's part: nil where it is not measured, and for
	// unix sockets, which have no SYN queue and block instead of refusing.
	Queues *Queues `json:"queues,omitempty"`

	// Processes is how many processes hold the socket, 0 where not known;
	// Holders are the first of them by number, at most MaxHolders, and
	// HolderProgram is the program of the very first.
	Processes     int      `json:"processes,omitempty"`
	Holders       []uint32 `json:"holders,omitempty"`
	HolderProgram string   `json:"holder_program,omitempty"`
	Workers       []Worker `json:"workers,omitempty"`
	// Gone sums the GoneWorkers that ended and are no longer in Workers, which
	// keeps a limited number of the dead.
	Gone        Counters `json:"gone"`
	GoneWorkers int      `json:"gone_workers,omitempty"`
}

// MaxHolders is how many of a listener's processes are named.
const MaxHolders = 8

// Counters are what is counted for each worker; a Listener carries their sum.
type Counters struct {
	AcceptsTotal       uint64 `json:"accepts_total"`
	AcceptEAGAINTotal  uint64 `json:"accept_eagain_total"`
	WakeupsTotal       uint64 `json:"wakeups_total"`        // caused by the listener's readiness
	WastedWakeupsTotal uint64 `json:"wasted_wakeups_total"` // of them, those that ended in user space with an EAGAIN
	DrainEAGAINTotal   uint64 `json:"drain_eagain_total"`
	EmptyWakeupsTotal  uint64 `json:"empty_wakeups_total"` // followed by no accept before the next wake-up
	// EmptyBurstsTotal of the empty wake-ups could be timed; they ran for EmptyCPUNS.
	EmptyBurstsTotal uint64 `json:"empty_bursts_total"`
	EmptyCPUNS       uint64 `json:"empty_cpu_ns"`
}

// Add adds d to c.
func (c *Counters) Add(d Counters) {
	c.AcceptsTotal += d.AcceptsTotal
	c.AcceptEAGAINTotal += d.AcceptEAGAINTotal
	c.WakeupsTotal += d.WakeupsTotal
	c.WastedWakeupsTotal += d.WastedWakeupsTotal
	c.DrainEAGAINTotal += d.DrainEAGAINTotal
	c.EmptyWakeupsTotal += d.EmptyWakeupsTotal
	c.EmptyBurstsTotal += d.EmptyBurstsTotal
	c.EmptyCPUNS += d.EmptyCPUNS
}

// The ways in which a worker waits for connections.
const (
	WaitUnknown        = "unknown"
	WaitAccept         = "accept" // blocked in accept(2) itself
	WaitPoll           = "poll"
	WaitSelect         = "select"
	WaitEpoll          = "epoll" // level-triggered
	WaitEpollET        = "epoll-et"
	WaitEpollExclusive = "epoll-exclusive"
	WaitURing          = "io_uring"
)

// Worker is one thread that accepts from a listener, or was woken for it.
type Worker struct {
	PID     uint32 `json:"pid"` // the process: the kernel's tgid
	TID     uint32 `json:"tid"`
	Comm    string `json:"comm"`              // raw: every sink escapes it
	Program string `json:"program,omitempty"` // of the process: what a person would call it; "" when it was gone too soon to ask
	Wait    string `json:"wait"`
	RunNS   uint64 `json:"run_ns"`       // on a CPU, since the thread began
	WaitNS  uint64 `json:"wait_ns"`      // runnable and waiting for one, likewise
	Sleeps  uint64 `json:"sleeps_total"` // voluntary switches, since the thread began
	Asleep  bool   `json:"asleep,omitempty"`
	Stopped bool   `json:"stopped,omitempty"` // by a signal, a debugger or the freezer of its cgroup; then also Asleep, and not Ended
	Ended   bool   `json:"ended,omitempty"`   // the thread is gone, or its listener is
	// NoTimes: RunNS, WaitNS and Sleeps are not known, or not those of the whole worker.
	NoTimes bool `json:"no_times,omitempty"`
	Counters
}

// The kinds of an Event.
const (
	// EventHerdBurst: one connection woke Woken waiters at once.
	EventHerdBurst = "herd-burst"
	// EventListenerOpened and EventListenerClosed frame a listener's life.
	EventListenerOpened = "listener-opened"
	EventListenerClosed = "listener-closed"
	// EventRefusal: Refused clients' packets were turned away at Place since the
	// last such event of the listener; Client is the one that it was sent for.
	EventRefusal = "refusal"
	// EventBacklogDrop: the CPU backlog was full, and Refused packets of Device
	// were dropped since the last such event.
	EventBacklogDrop = "cpu-backlog-drop"
	// EventThrottle: a cgroup's quota was used up. MonoNS is when it could run
	// again; DurationNS how long the longest of its Cores that were let go
	// together was stopped, ThrottledNS the sum over them; Threads of it waited,
	// of which TIDs are some. In one period there may be several.
	EventThrottle = "throttle"
)

// Event is something rare that happened between two ticks.
type Event struct {
	MonoNS         uint64 `json:"mono_ns"`
	Kind           string `json:"kind"`
	Inode          uint64 `json:"inode,omitempty"`
	CPU            uint32 `json:"cpu,omitempty"`
	Woken          uint32 `json:"woken,omitempty"`
	AcceptQueueLen uint32 `json:"accept_queue_len,omitempty"`
	SynQueueLen    uint32 `json:"syn_queue_len,omitempty"`
	Place          string `json:"place,omitempty"`
	Client         string `json:"client,omitempty"` // address and port, as net.JoinHostPort writes them
	Refused        uint64 `json:"refused,omitempty"`
	Device         string `json:"device,omitempty"`

	CGroupID    uint64   `json:"cgroup_id,omitempty"`
	CGroup      string   `json:"cgroup,omitempty"` // its path
	DurationNS  uint64   `json:"duration_ns,omitempty"`
	ThrottledNS uint64   `json:"throttled_ns,omitempty"`
	Cores       uint32   `json:"cores,omitempty"`
	Threads     uint32   `json:"threads,omitempty"`
	TIDs        []uint32 `json:"tids,omitempty"`
}

// Budget is what tracing may cost, and what is done without to keep to it.
// Ratios are of the whole machine: 1 is all of its cores.
type Budget struct {
	Limit float64 `json:"limit_ratio"`
	Cost  float64 `json:"cost_ratio"` // BPF programs and tracer, when judged last
	// Exceeded: the cost is above the limit, and there is nothing left to shed.
	Exceeded bool `json:"exceeded,omitempty"`
	// Shed are the things that are, or were, done without, in the order in which
	// they are given up.
	Shed []Shed `json:"shed,omitempty"`
	// EventsShedTotal counts the events that were not sent for it.
	EventsShedTotal uint64 `json:"events_shed_total,omitempty"`
	// LooksShedTotal counts the ticks at which threads were not looked at.
	LooksShedTotal uint64 `json:"thread_looks_shed_total,omitempty"`
}

// What is shed, besides signals by name, and how.
const (
	ShedEvents  = "events"
	ShedThreads = "threads" // what single threads, processes and cgroups ran and waited
	// ShedSampled: it is looked at a part of the time, and extrapolated. ShedOff:
	// not at all.
	ShedSampled = "sampled"
	ShedOff     = "off"
)

// Shed is one thing that is, or was, done without.
type Shed struct {
	What       string `json:"what"` // events, threads, or a signal
	How        string `json:"how"`
	Now        bool   `json:"now,omitempty"`
	TimesTotal uint64 `json:"times_total"`
	ForNS      uint64 `json:"for_ns"` // in all, since attach
}

// Degraded says in what way the named thing is shed now: ShedSampled, ShedOff, or
// "" where it is not.
func (b *Budget) Degraded(what string) string {
	how := ""
	if b == nil {
		return how
	}
	for _, s := range b.Shed {
		if s.What == what && s.Now && how != ShedOff {
			how = s.How
		}
	}
	return how
}
