// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// load is what is measured beside a tool. Its processes saturate what they use.
type load struct {
	name   string
	brief  string
	unit   string
	target float64 // of the throughput's loss with herdtrace; 0: none
	// start prepares what all runs share, and returns one run and what ends it.
	start func(ctx context.Context, e *env, per time.Duration) (once func() (result, error), stop func(), err error)
	peers []string // tools that ask of this load what herdtrace answers
	extra bool     // only where --loads names it
}

// result is one run of a load.
type result struct {
	ops     float64
	seconds float64
	cpuNS   uint64
}

// wholePeers look at every load.
var wholePeers = []string{"bpftrace all three", "perf sched record"}

var loads = []load{
	{name: "nginx-keepalive", brief: "nginx, 2 workers, return 200; wrk with 32 connections that stay", unit: "requests/s", target: 0.01, peers: wholePeers, start: nginxLoad(true)},
	{name: "nginx-conn", brief: "the same, with a connection for each request", unit: "connections/s", target: 0.01, peers: wholePeers, start: nginxLoad(false)},
	{name: "sched-pipe", brief: "perf bench sched pipe on one core, two context switches for each operation", unit: "switches/s", target: 0.03, peers: append(wholePeers, "bpftrace runq"), start: pipeLoad(true)},
	{name: "sched-pipe-free", brief: "the same on any core: the scheduler's choice makes more difference than any tool", unit: "switches/s", peers: append(wholePeers, "bpftrace runq"), start: pipeLoad(false), extra: true},
	{name: "accept", brief: "8 workers on one socket, EPOLLEXCLUSIVE, 16 clients", unit: "connections/s", peers: wholePeers, start: acceptLoad("epoll-exclusive")},
	{name: "accept-herd", brief: "the same without EPOLLEXCLUSIVE: each connection wakes all that sleep", unit: "connections/s", peers: wholePeers, start: acceptLoad("epoll-lt"), extra: true},
	{name: "accept-go", brief: "a Go server", unit: "connections/s", peers: wholePeers, start: acceptLoad("go-net"), extra: true},
}

// pickLoads returns the loads of these names, or those that are not extra.
func pickLoads(names []string) (picked []load, err error) {
	var known []string
	left := make(map[string]bool)
	for _, n := range names {
		left[n] = true
	}
	for _, l := range loads {
		known = append(known, l.name)
		if left[l.name] || (len(names) == 0 && !l.extra) {
			picked = append(picked, l)
		}
		delete(left, l.name)
	}
	for n := range left {
		return nil, usagef("--loads: %q is not one of: %s", n, strings.Join(known, ", "))
	}
	return picked, nil
}

// runOnce runs a command to its end and returns its output and the CPU time of
// it and of its children, which the kernel scales to the scheduler's clock
// (kernel/sched/cputime.c: cputime_adjust()).
func runOnce(ctx context.Context, argv ...string) (out string, cpuNS uint64, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	b, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, firstLines(string(exit.Stderr)))
		}
		return "", 0, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return string(b), uint64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), nil
}

// pipeLoad makes perf's pipe benchmark as long as asked for, by a first run.
func pipeLoad(oneCore bool) func(context.Context, *env, time.Duration) (func() (result, error), func(), error) {
	return func(ctx context.Context, _ *env, per time.Duration) (func() (result, error), func(), error) {
		argv := []string{"perf", "bench", "-f", "simple", "sched", "pipe", "-l"}
		if oneCore {
			var all unix.CPUSet
			if err := unix.SchedGetaffinity(0, &all); err != nil {
				return nil, nil, fmt.Errorf("read own affinity: %w", err)
			}
			argv = append([]string{"taskset", "-c", strconv.Itoa(lastCPU(&all))}, argv...)
		}
		run := func(loops int) (result, error) {
			out, cpu, err := runOnce(ctx, append(argv, strconv.Itoa(loops))...)
			if err != nil {
				return result{}, err
			}
			s, err := parsePerfBench(out)
			return result{2 * float64(loops), s, cpu}, err
		}
		const first = 200_000
		r, err := run(first)
		if err != nil {
			return nil, nil, err
		}
		loops := int(first * per.Seconds() / r.seconds)
		return func() (result, error) { return run(loops) }, func() {}, nil
	}
}

// lastCPU is one that interrupts and the first processes of a machine like less.
func lastCPU(set *unix.CPUSet) (last int) {
	for i, left := 0, set.Count(); left > 0; i++ {
		if set.IsSet(i) {
			last, left = i, left-1
		}
	}
	return last
}

// parsePerfBench reads the one figure of perf bench -f simple: seconds.
func parsePerfBench(out string) (float64, error) {
	s, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil || s <= 0 {
		return 0, fmt.Errorf("read perf bench: it said %q, not seconds", firstLines(out))
	}
	return s, nil
}

// acceptLoad saturates herdlab's workers for a time.
func acceptLoad(mode string) func(context.Context, *env, time.Duration) (func() (result, error), func(), error) {
	return func(ctx context.Context, e *env, per time.Duration) (func() (result, error), func(), error) {
		return func() (result, error) {
			out, cpu, err := runOnce(ctx, e.herdlab, "accept", "--mode", mode, "--conns", "100000000", "--duration", per.String())
			if err != nil {
				return result{}, err
			}
			r, err := parseOracle(out)
			r.cpuNS = cpu
			return r, err
		}, func() {}, nil
	}
}

// parseOracle reads herdlab's line.
func parseOracle(out string) (result, error) {
	var o struct {
		Served  float64 `json:"served"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal([]byte(out), &o); err != nil || o.Served == 0 || o.Seconds == 0 {
		return result{}, fmt.Errorf("read oracle of herdlab: %q tells no connections (%v)", firstLines(out), err)
	}
	return result{ops: o.Served, seconds: o.Seconds}, nil
}

var (
	wrkTotal  = regexp.MustCompile(`(\d+) requests in ([0-9.]+)(us|ms|s|m|h),`)
	wrkErrors = regexp.MustCompile(`Socket errors: (.*)|Non-2xx or 3xx responses: (.*)`)
)

// parseWrk reads how many requests in how many seconds. wrk's rate has two
// digits more than its time, so it is what the seconds are taken from. With a
// connection for each request, wrk counts some that the server has closed as
// errors of reading; connections that failed, and timeouts, are none of a sound
// run.
func parseWrk(out string) (result, error) {
	m := wrkTotal.FindStringSubmatch(out)
	rate := wrkRate.FindStringSubmatch(out)
	if m == nil || rate == nil {
		return result{}, fmt.Errorf("read wrk: there is no total in %q", firstLines(out))
	}
	n, err := strconv.ParseFloat(m[1], 64)
	perSecond, err2 := strconv.ParseFloat(rate[1], 64)
	if err := errors.Join(err, err2); err != nil || n == 0 || perSecond == 0 {
		return result{}, fmt.Errorf("read wrk: no requests in %q", firstLines(out))
	}
	for _, e := range wrkErrors.FindAllStringSubmatch(out, -1) {
		if e[2] != "" || !wrkOnlyReads.MatchString(e[1]) {
			return result{}, fmt.Errorf("run wrk: %s", e[0])
		}
	}
	return result{ops: n, seconds: n / perSecond}, nil
}

var (
	wrkRate      = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkOnlyReads = regexp.MustCompile(`^connect 0, read \d+, write 0, timeout 0$`)
)
