// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"slices"
	"strings"
)

// Names of tools that the tables know.
const (
	toolNothing   = "nothing"
	toolAgain     = "nothing again"
	toolHerdtrace = "herdtrace"
	toolUnbound   = "unbound herdtrace" // whatever it costs: growth must not be hidden by what is shed
)

// tool is what a load is run beside.
type tool struct {
	name    string
	brief   string
	argv    func(e *env, dir string) []string // nil: nothing
	ready   string                            // a file in dir, or
	says    string                            // what its output holds when it is attached
	files   []string                          // in dir, that it writes to
	lost    func(dir, output string) (uint64, error)
	usesBPF bool
}

// env is where the programs are.
type env struct {
	herdtrace, herdlab, self string
}

// tools in the order of the tables. herdtrace answers all the questions at once,
// its peers one each; "bpftrace all three" asks bpftrace all that it can be
// asked. Each of the peers prints its answer once a second, as herdtrace does.
var tools = []tool{
	{name: toolNothing, brief: "the baseline"},
	{name: toolAgain, brief: "the baseline once more: what it differs by is noise"},
	{name: toolHerdtrace, brief: "all signals: herdtrace -q", usesBPF: true, ready: "ready", lost: herdtraceLost,
		argv: func(e *env, dir string) []string {
			return []string{e.herdtrace, "-q", "--ready-file", filepath.Join(dir, "ready")}
		}},
	{name: "herdtrace -o", brief: "the same, recording to a file", usesBPF: true, ready: "ready", lost: herdtraceLost, files: []string{"recording"},
		argv: func(e *env, dir string) []string {
			return []string{e.herdtrace, "-q", "--ready-file", filepath.Join(dir, "ready"), "-o", filepath.Join(dir, "recording")}
		}},
	{name: toolUnbound, brief: "all signals, nothing shed: herdtrace -q --budget off", usesBPF: true, ready: "ready", lost: herdtraceLost,
		argv: func(e *env, dir string) []string {
			return []string{e.herdtrace, "-q", "--budget", "off", "--ready-file", filepath.Join(dir, "ready")}
		}},
	bpftrace("bpftrace runq", "run-queue latency: wake-up, switch, a map", bpftraceRunq, "clear(@woken);"),
	bpftrace("bpftrace accept", "EAGAIN of accept() by process", bpftraceAccept, ""),
	bpftrace("bpftrace softirq", "time of NET_RX by core", bpftraceSoftirq, "clear(@since);"),
	bpftrace("bpftrace all three", "these three in one", bpftraceRunq+bpftraceAccept+bpftraceSoftirq, "clear(@woken); clear(@since);"),
	{name: "perf sched record", brief: "every switch and wake-up, to a file", ready: "ready", lost: perfLost, files: []string{"perf.data"},
		argv: func(_ *env, dir string) []string {
			// perf starts its command when its events are on.
			return []string{"perf", "sched", "record", "-o", filepath.Join(dir, "perf.data"), "--",
				"sh", "-c", `: >"$0"; exec sleep 3600`, filepath.Join(dir, "ready")}
		}},
}

// What bpftrace is asked. 3 is NET_RX_SOFTIRQ, -11 is -EAGAIN; the state of a
// thread that was preempted is 0.
const (
	bpftraceRunq = `
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @woken[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
	if (args->prev_state == 0) { @woken[args->prev_pid] = nsecs; }
	$since = @woken[args->next_pid];
	if ($since) { @runq_us = hist((nsecs - $since) / 1000); delete(@woken[args->next_pid]); }
}
`
	bpftraceAccept = `
tracepoint:syscalls:sys_exit_accept, tracepoint:syscalls:sys_exit_accept4 /args->ret == -11/ { @eagain[pid, comm] = count(); }
`
	bpftraceSoftirq = `
tracepoint:irq:softirq_entry /args->vec == 3/ { @since[cpu] = nsecs; }
tracepoint:irq:softirq_exit /args->vec == 3 && @since[cpu]/ { @netrx_ns[cpu] = sum(nsecs - @since[cpu]); @since[cpu] = 0; }
`
	// bpftraceTick is what is printed when the first second is over, and all is
	// attached.
	bpftraceTick = "one second"
)

var bpftraceAnswers = []string{"@runq_us", "@eagain", "@netrx_ns"}

// bpftrace makes a tool of a program that prints its answers once a second.
func bpftrace(name, brief, program, end string) tool {
	tick := `printf("` + bpftraceTick + `\n");`
	for _, m := range bpftraceAnswers {
		if strings.Contains(program, m) {
			tick += " print(" + m + ");"
		}
	}
	program += "interval:s:1 { " + tick + " }\nEND { " + end + " }\n"
	return tool{name: name, brief: brief, usesBPF: true, says: bpftraceTick, lost: bpftraceLost,
		argv: func(*env, string) []string { return []string{"bpftrace", "-B", "line", "-e", program} }}
}

// isHerdtrace tells which rows the targets are about.
func (t *tool) isHerdtrace() bool { return strings.HasPrefix(t.name, toolHerdtrace) }

// pick returns the tools of these names, in the order of the tables, with the
// baseline, or all.
func pick(names []string) ([]tool, error) {
	if len(names) == 0 {
		return tools, nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(tools, func(t tool) bool { return t.name == n }) {
			return nil, usagef("--tools: %q is not one of: %s", n, strings.Join(toolNames(), "; "))
		}
	}
	return slices.DeleteFunc(slices.Clone(tools), func(t tool) bool {
		return t.name != toolNothing && !slices.Contains(names, t.name)
	}), nil
}

func toolNames() []string {
	var names []string
	for i := range tools {
		names = append(names, tools[i].name)
	}
	return names
}
