// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "slices"

// incident is one load of herdlab, and which signals it judges.
type incident struct {
	name    string
	signals []string
	args    []string // of herdlab
	// dependent signals are forced one at a time: one is a part of another.
	dependent bool
	v1        bool // with cgroup v1
	run       func(lab, variants []string) *traced
	judge     func(j *judgement, signal string)
}

// judged are the variants that the incidents know how to judge. Of any other one
// the matrix says whether it attaches.
var judged = map[string][]string{
	"accept":      {"fexit", "syscall", "sys_exit"},
	"wake":        {"data_ready", "fentry", "set_state"},
	"listen":      {"fexit", "kprobe", "consume_skb", "tcp_ext", "sock_diag", "proc_net"},
	"netrx":       {"softirq", "softnet"},
	"cpu-backlog": {"reason", "location", "softnet"},
	"runq":        {"sched_info", "wakeups", "schedstat"},
	"throttle":    {"stall_clock", "pelt_clock", "cpu_stat"},
	"cputime":     {"proc_stat"},
}

var (
	acceptSignals = []string{"accept", "wake"}
	netrxSignals  = []string{"netrx", "cpu-backlog"}
)

// incidents are all of them, those with cgroup v1 last: there is no way back. They
// are small, for an emulated machine is slow.
var incidents = []incident{
	paced("accept-herd", "epoll-lt"),
	paced("accept-exclusive", "epoll-exclusive"),
	paced("accept-block", "block"),
	paced("accept-reuseport", "reuseport"),
	paced("accept-go", "go-net"),
	{name: "accept-saturated", signals: acceptSignals, run: runTraced, judge: judgeAccept,
		args: []string{"accept", "--mode", "epoll-lt", "--conns", "3000", "--duration", "60s"}},
	flood("listen-syn", "accept-overflow"),
	flood("listen-ack", "ack-overflow"),
	flood("listen-cookie", "cookie-overflow"),
	flood("listen-synq", "syn-overflow", "--cookies", "off"),
	flood("listen-synq-cookies", "syn-overflow", "--cookies", "on"),
	{name: "netrx-backlog", signals: netrxSignals, run: runTraced, judge: judgeNetRX,
		args: []string{"netrx", "--mode", "backlog", "--cost", "100", "--duration", "3s", "--linger", "1500ms"}},
	scheduled("runq-pile", "runq", judgeRunq, "pile", "--workers", "8", "--pinned", "5"),
	scheduled("runq-spread", "runq", judgeRunq, "spread", "--workers", "8"),
	scheduled("cgroup-throttle", "throttle", judgeThrottle, "throttle"),
	scheduled("cgroup-nested", "throttle", judgeThrottle, "throttle", "--nested", "--threads", "4"),
	scheduled("cputime-hide", "cputime", judgeCPUTime, "hide"),
	v1(scheduled("cgroup-throttle-v1", "throttle", judgeThrottle, "throttle")),
	v1(scheduled("cgroup-nested-v1", "throttle", judgeThrottle, "throttle", "--nested", "--threads", "4")),
}

func isIncident(name string) bool {
	return name == incidentAttach || slices.ContainsFunc(incidents, func(in incident) bool { return in.name == name })
}

// paced: the workers sleep between connections, so that each wake-up is known.
func paced(name, mode string) incident {
	return incident{name: name, signals: acceptSignals, run: runTraced, judge: judgeAccept,
		args: []string{"accept", "--mode", mode, "--rate", "1000", "--conns", "500", "--duration", "60s"}}
}

func flood(name, mode string, more ...string) incident {
	return incident{name: name, signals: []string{"listen"}, run: runFlood, judge: judgeListen,
		args: append([]string{"listen", "--mode", mode, "--packets", "3000", "--clients", "200", "--linger", "1500ms"}, more...)}
}

func scheduled(name, signal string, judge func(*judgement, string), mode string, more ...string) incident {
	return incident{name: name, signals: []string{signal}, dependent: true, run: runSched, judge: judge,
		args: append([]string{"sched", "--mode", mode, "--duration", "2s"}, more...)}
}

func v1(in incident) incident {
	in.v1 = true
	return in
}
