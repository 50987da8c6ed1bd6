// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The signals that are attached on their own, and may fail on their own.
const (
	// SignalAccept is what accept(2) returned, to whom.
	SignalAccept = "accept"
	// SignalWake is which threads a listener's readiness woke.
	SignalWake = "wake"
	// SignalListen is whom a TCP listener turned away, and where.
	SignalListen = "listen"
	// SignalNetRX is each core's NET_RX softirq: count, run time, latency.
	SignalNetRX = "netrx"
	// SignalBacklog is whose packets a full CPU backlog refused.
	SignalBacklog = "cpu-backlog"
	// SignalRunq is who ran, who waited for a core, and why.
	SignalRunq = "runq"
	// SignalThrottle is which cgroups' CPU quotas stopped them.
	SignalThrottle = "throttle"
	// SignalCPUTime is what /proc claims that processes used.
	SignalCPUTime = "cputime"
)

// flagByState is set where the wake window opens at the child's ESTABLISHED.
const flagByState = "window_by_state"

// hook is one program and where it goes. Raw and BTF tracepoints, fentry and
// fexit carry their target in the object; a classic tracepoint or kprobe names it
// here.
type hook struct {
	program  string
	name     string // as a person knows it
	group    string // of a classic tracepoint
	event    string
	function string // of a kprobe
	ret      bool   // at its return
	// optional: the variant works without it. demand: it is attached only
	// while there is something for it to see.
	optional, demand bool
}

// key tells hooks apart: one program may go to several functions.
func (h *hook) key() string { return h.program + " " + h.function }

// variant is one way to get a signal: all of its hooks attach, or it is rejected.
type variant struct {
	name     string
	accuracy string
	note     string
	flags    []string // global variables of the object that it sets: see maps.bpf.h
	hooks    []hook
	// noBPF: it takes no BPF program. alone: it is only for where there are none;
	// elsewhere something else does the same better.
	noBPF, alone bool
	// pollNote is what it cannot see beyond note where there are none at all: its
	// accuracy is Approximate then.
	pollNote string
	// prepare finds out what the programs must be told; nil: nothing.
	prepare func(k *kernel) error
}

// hookListen learns what listen(2) was asked for.
var hookListen = hook{program: "sys_exit_listen", name: "tracepoint/syscalls:sys_exit_listen", group: "syscalls", event: "sys_exit_listen", optional: true}

func kprobe(program, function string) hook {
	return hook{program: program, name: "kprobe/" + function, function: function}
}

func kretprobe(program, function string) hook {
	return hook{program: program, name: "kretprobe/" + function, function: function, ret: true}
}

func optional(h hook) hook {
	h.optional = true
	return h
}

// variants lists for each signal its variants, the one to prefer first: the
// order is that of their measured cost, exact ones first. What attaches decides,
// never the kernel's version.
var variants = map[string][]variant{
	// No kprobe: a kretprobe on do_accept() would be held by each worker that
	// sleeps in accept(2), and there are about as many instances as twice the CPUs
	// (kernel/kprobes.c: register_kretprobe()); what finds none is not counted. The
	// system call's tracepoint sees as much.
	SignalAccept: {
		{
			name:     "fexit",
			accuracy: sample.Exact,
			hooks:    []hook{{program: "do_accept_exit", name: "fexit/do_accept"}},
		},
		{
			name:     "syscall",
			accuracy: sample.Exact,
			note:     "accepts through io_uring and of 32-bit programs are not seen",
			hooks: []hook{
				{program: "sys_exit_accept", name: "tracepoint/syscalls:sys_exit_accept", group: "syscalls", event: "sys_exit_accept"},
				{program: "sys_exit_accept4", name: "tracepoint/syscalls:sys_exit_accept4", group: "syscalls", event: "sys_exit_accept4"},
			},
		},
		{
			name:     "sys_exit",
			accuracy: sample.Exact,
			note:     "accepts through io_uring and of 32-bit programs are not seen; every system call of the machine pays for it",
			hooks:    []hook{{program: "sys_exit", name: "tp_btf/sys_exit"}},
		},
	},
	// data_ready before fentry: one program for each packet that makes a socket
	// readable instead of two, and no preemption in it before 7.2. Counts agreed
	// wherever both run; under preempt=full fentry lost some.
	SignalWake: {
		{
			name:     "data_ready",
			accuracy: sample.Exact,
			note:     "completions are exact, wake-ups to within 1 %",
			hooks: []hook{
				{program: "sk_data_ready", name: "tp_btf/sk_data_ready"},
				{program: "inet_sock_set_state", name: "tp_btf/inet_sock_set_state"},
				{program: "sched_waking", name: "tp_btf/sched_waking"},
			},
		},
		{
			name:     "fentry",
			accuracy: sample.Exact,
			flags:    []string{"window_has_exit"},
			hooks: []hook{
				{program: "readable_entry", name: "fentry/sock_def_readable"},
				{program: "readable_exit", name: "fexit/sock_def_readable"},
				{program: "sched_waking", name: "tp_btf/sched_waking"},
			},
		},
		{
			name:     "set_state",
			accuracy: sample.Approximate,
			note:     "a SO_REUSEPORT group's completions are counted at one of its members; unix sockets are not seen",
			flags:    []string{flagByState},
			hooks: []hook{
				{program: "inet_sock_set_state", name: "tp_btf/inet_sock_set_state"},
				{program: "netif_receive_skb", name: "tp_btf/netif_receive_skb"},
				{program: "softirq_exit", name: "tp_btf/softirq_exit"},
				{program: "sched_waking", name: "tp_btf/sched_waking"},
			},
		},
	},
	// All of them count the same, for the kernel's own TcpExt counters have the
	// last word; they differ in what else they know of a refusal.
	SignalListen: {
		{
			name:     "fexit",
			accuracy: sample.Exact,
			prepare:  prepareFexit,
			hooks: []hook{
				{program: "conn_request_entry", name: "fentry/tcp_conn_request"},
				{program: "conn_request_exit", name: "fexit/tcp_conn_request"},
				{program: "check_req_entry", name: "fentry/tcp_check_req"},
				{program: "check_req_exit", name: "fexit/tcp_check_req"},
				{program: "cookie_v4_entry", name: "fentry/cookie_v4_check"},
				{program: "cookie_v4_exit", name: "fexit/cookie_v4_check"},
				{program: "cookie_v6_entry", name: "fentry/cookie_v6_check", optional: true},
				{program: "cookie_v6_exit", name: "fexit/cookie_v6_check", optional: true},
				hookListen,
			},
		},
		{
			name:     "kprobe",
			accuracy: sample.Exact,
			note:     "a refusal that interrupts another probe is counted without its client",
			prepare:  prepareFexit,
			// Each return before its entry: see bpf/listen_kprobe.bpf.h.
			hooks: []hook{
				kretprobe("conn_request_return", "tcp_conn_request"), kprobe("conn_request_call", "tcp_conn_request"),
				kretprobe("check_req_return", "tcp_check_req"), kprobe("check_req_call", "tcp_check_req"),
				kretprobe("cookie_return", "cookie_v4_check"), kprobe("cookie_call", "cookie_v4_check"),
				optional(kretprobe("cookie_return", "cookie_v6_check")), optional(kprobe("cookie_call", "cookie_v6_check")),
				hookListen,
			},
		},
		{
			name:     "consume_skb",
			accuracy: sample.Exact,
			note:     "a refused SYN's client is seen from a tenth of a second after the queue was half full; before, refusals are counted without their clients",
			prepare:  prepareConsume,
			hooks: []hook{
				{program: "listen_kfree_skb", name: "tp_btf/kfree_skb"},
				{program: "listen_consume_skb", name: "tp_btf/consume_skb", demand: true},
				hookListen,
			},
		},
		{
			name:     "tcp_ext",
			accuracy: sample.Approximate,
			note:     "from TcpExt and sk_drops: sums are exact, how they divide among listeners and places is inferred, and clients are not seen",
			hooks:    []hook{hookListen},
		},
		{
			name:     "sock_diag",
			accuracy: sample.Approximate,
			noBPF:    true,
			alone:    true,
			note:     "from sock_diag and TcpExt: sums are exact, how they divide among listeners and places is inferred from sk_drops; clients, connections and the SYN queue's length are not seen",
			prepare:  prepareSockDiag,
		},
		{
			name:     "proc_net",
			accuracy: sample.Approximate,
			noBPF:    true,
			alone:    true,
			note:     "from /proc/net/tcp and TcpExt: sums are exact, but not at which listener of several; limits, clients, connections and the SYN queue are not seen",
			prepare:  prepareProcNet,
		},
	},
	SignalNetRX: {
		{
			name:     "softirq",
			accuracy: sample.Exact,
			note:     "the latency from raise to run is measured a tenth of the time",
			// The raise last: one that no entry follows would make a long wait.
			hooks: []hook{
				{program: "net_rx_entry", name: "tp_btf/softirq_entry"},
				{program: "net_rx_exit", name: "tp_btf/softirq_exit"},
				{program: "net_rx_raise", name: "tp_btf/softirq_raise", demand: true},
			},
		},
		{
			name:     "softnet",
			accuracy: sample.Approximate,
			noBPF:    true,
			note:     "from /proc/net/softnet_stat: packets and drops are exact, NET_RX time and latency are not seen",
		},
	},
	// One hook, since the kernel notes when a thread became runnable. Where it
	// does not, the classical three and a map.
	SignalRunq: {
		{
			name:     "sched_info",
			accuracy: sample.Exact,
			note:     "what a wait was for is found out from 100 us on; whom it was for is who ran at its end",
			prepare:  prepareSchedInfo,
			hooks:    []hook{{program: "sched_switch", name: "tp_btf/sched_switch"}},
		},
		{
			name:     "wakeups",
			accuracy: sample.Approximate,
			note:     "waits of single threads are not known, and none that began before attach",
			prepare:  prepareRunq,
			hooks: []hook{
				{program: "sched_switch_classic", name: "tp_btf/sched_switch"},
				{program: "sched_wakeup_classic", name: "tp_btf/sched_wakeup"},
				{program: "sched_wakeup_new_classic", name: "tp_btf/sched_wakeup_new"},
			},
		},
		{
			name:     "schedstat",
			accuracy: sample.Approximate,
			noBPF:    true,
			alone:    true,
			note:     "from /proc/PID/task: what a thread ran and waited is the scheduler's own, but of one that ended what came after the last look is missing; no wait histogram, and not why a thread waited",
			prepare:  prepareSchedstat,
		},
	},
	// No hook of its own: no kernel has a tracepoint for it, and the function
	// that stops a run queue is called for many that it then does not stop. The
	// counters are cpu.stat's in all of them.
	SignalThrottle: {
		{
			name:     "stall_clock",
			accuracy: sample.Exact,
			flags:    []string{"stalls_wanted"},
			prepare:  prepareStalls("throttled_clock_self_time"),
		},
		{
			name:     "pelt_clock",
			accuracy: sample.Approximate,
			flags:    []string{"stalls_wanted"},
			note:     "quota, periods and throttled time are cpu.stat's; how long single stops are is on a clock that goes slower on a core that does",
			prepare:  prepareStalls("throttled_clock_pelt_time", "throttled_clock_task_time"),
		},
		{
			name:     "cpu_stat",
			accuracy: sample.Approximate,
			noBPF:    true,
			note:     "quota, periods and throttled time are cpu.stat's; single stops and whose waits they are is not seen",
			prepare:  prepareCPUStat,
		},
	},
	SignalCPUTime: {
		{
			name:     "proc_stat",
			accuracy: sample.Exact,
			noBPF:    true,
			note:     "of the 32 busiest processes",
			pollNote: "threads that end between two looks are in the claims alone",
			prepare:  needsRunq,
		},
	},
	// No fexit/enqueue_to_backlog, which every packet would pay for.
	SignalBacklog: {
		{
			name:     "reason",
			accuracy: sample.Exact,
			hooks:    []hook{{program: "backlog_by_reason", name: "tp_btf/kfree_skb"}},
		},
		{
			name:     "location",
			accuracy: sample.Exact,
			prepare:  prepareLocation,
			hooks:    []hook{{program: "backlog_by_location", name: "tp_btf/kfree_skb"}},
		},
		{
			name:     "softnet",
			accuracy: sample.Approximate,
			noBPF:    true,
			alone:    true,
			note:     "from /proc/net/softnet_stat: drops by core are exact, of which device they were is not seen",
			prepare:  prepareSoftnet,
		},
	},
}

// signals is the order in which they are attached.
var signals = []string{SignalAccept, SignalWake, SignalListen, SignalNetRX, SignalBacklog, SignalRunq, SignalThrottle, SignalCPUTime}
