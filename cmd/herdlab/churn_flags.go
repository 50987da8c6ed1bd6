// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
)

// churnPorts is how many ports the listeners take turns on, in each namespace.
const churnPorts = 8

// churnConfig is what the flags of `herdlab churn` ask for, validated. It
// travels to the parts in their argument.
type churnConfig struct {
	Threads     float64       `json:"threads"`
	Processes   float64       `json:"processes"`
	Listeners   float64       `json:"listeners"`
	Connections int           `json:"connections"`
	Refusals    int           `json:"refusals"`
	Namespaces  float64       `json:"namespaces"`
	SpaceLife   time.Duration `json:"space_life"`
	Cgroups     float64       `json:"cgroups"`
	CgroupLife  time.Duration `json:"cgroup_life"`
	Drops       float64       `json:"drops"`
	Port        int           `json:"port"`
	Duration    time.Duration `json:"duration"`
	Linger      time.Duration `json:"-"`
	ReadyFile   string        `json:"-"`
	WaitFile    string        `json:"-"`
}

// parseChurn returns the configuration, or pflag.ErrHelp after printing the
// help to helpOut, or a usageError.
func parseChurn(args []string, helpOut io.Writer) (*churnConfig, error) {
	var c churnConfig
	fs := pflag.NewFlagSet("churn", pflag.ContinueOnError)
	fs.DurationVar(&c.Duration, "duration", 10*time.Second, "stop after this time")
	fs.Float64Var(&c.Threads, "threads", 100, "short-lived threads per second, each with names of its own")
	fs.Float64Var(&c.Processes, "processes", 4, "short-lived processes per second: plain ones, some that exec from a second thread, some whose first thread ends first")
	fs.Float64Var(&c.Listeners, "listeners", 8, "listeners per second: TCP, a SO_REUSEPORT group, MPTCP, unix, and TCP with a full queue, in turn and on the same ports")
	fs.IntVar(&c.Connections, "connections", 6, "connections that each of them serves")
	fs.IntVar(&c.Refusals, "refusals", 10, "SYNs that each listener with a full queue refuses, each of another client")
	fs.Float64Var(&c.Namespaces, "namespaces", 0.5, "network namespaces per second, with two listeners each")
	fs.DurationVar(&c.SpaceLife, "namespace-life", 3*time.Second, "how long such a namespace stays after its last connection")
	fs.Float64Var(&c.Cgroups, "cgroups", 2, "cgroups per second, throttled; some are renamed, some removed while their quota is used up")
	fs.DurationVar(&c.CgroupLife, "cgroup-life", 2500*time.Millisecond, "how long a cgroup lives at least: one that no tick has seen has no name for a tracer")
	fs.Float64Var(&c.Drops, "drops", 0.1, "overflows of a CPU's input backlog per second, each in a namespace of its own (herdlab netrx)")
	fs.IntVar(&c.Port, "port", 20000, fmt.Sprintf("first of the %d ports that the listeners use, in namespaces of their own", churnPorts))
	fs.DurationVar(&c.Linger, "linger", 0, "keep the cgroup of the load this long after the oracle")
	fs.StringVar(&c.ReadyFile, "ready-file", "", "write the path of the load's cgroup here when all parts wait")
	fs.StringVar(&c.WaitFile, "wait-file", "", fmt.Sprintf("start the load when this file exists; fail after %v", schedWaitLimit))
	if err := parseFlags(fs, args); errors.Is(err, pflag.ErrHelp) {
		printChurnHelp(helpOut, fs)
		return nil, err
	} else if err != nil {
		return nil, err
	}
	return &c, c.validate()
}

// validate checks the ranges: everything herdlab does is bounded.
func (c *churnConfig) validate() error {
	for _, check := range []struct {
		bad bool
		msg string
	}{
		{c.Duration <= 0, fmt.Sprintf("--duration %v: use a positive time such as 10s", c.Duration)},
		{!(c.Threads >= 0 && c.Threads <= 2000), fmt.Sprintf("--threads %v: use 0 (none) to 2000 per second", c.Threads)},
		{!(c.Processes >= 0 && c.Processes <= 100), fmt.Sprintf("--processes %v: use 0 (none) to 100 per second", c.Processes)},
		{!(c.Listeners >= 0 && c.Listeners <= 200), fmt.Sprintf("--listeners %v: use 0 (none) to 200 per second", c.Listeners)},
		{c.Connections < 0 || c.Connections > 1000, fmt.Sprintf("--connections %d: use 0 to 1000", c.Connections)},
		{c.Refusals < 0 || c.Refusals > 1000, fmt.Sprintf("--refusals %d: use 0 to 1000", c.Refusals)},
		{!(c.Namespaces >= 0 && c.Namespaces <= 10), fmt.Sprintf("--namespaces %v: use 0 (none) to 10 per second", c.Namespaces)},
		{c.SpaceLife < 0 || c.SpaceLife > time.Minute, fmt.Sprintf("--namespace-life %v: use 0 to 1m", c.SpaceLife)},
		{!(c.Cgroups >= 0 && c.Cgroups <= 20), fmt.Sprintf("--cgroups %v: use 0 (none) to 20 per second", c.Cgroups)},
		{c.CgroupLife < 0 || c.CgroupLife > time.Minute, fmt.Sprintf("--cgroup-life %v: use 0 to 1m", c.CgroupLife)},
		{!(c.Drops >= 0 && c.Drops <= 1), fmt.Sprintf("--drops %v: use 0 (none) to 1 per second", c.Drops)},
		{c.Port < 1 || c.Port > 65536-churnPorts, fmt.Sprintf("--port %d: use 1 to %d", c.Port, 65536-churnPorts)},
		{c.Linger < 0, fmt.Sprintf("--linger %v: use 0 or more", c.Linger)},
	} {
		if check.bad {
			return usagef("%s", check.msg)
		}
	}
	return nil
}

func printChurnHelp(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprint(w, "herdlab churn makes and removes threads, processes, listeners, network namespaces and cgroups at\n"+
		"bounded rates, to wear out whoever watches, and prints what a tracer must have counted. It needs root.\n\n"+
		"usage: herdlab churn [flags]\n\n", fs.FlagUsages(), "\nexamples:\n"+
		"  herdlab churn --duration 1h                       an hour of everything\n"+
		"  herdlab churn --threads 500 --cgroups 0 --drops 0 many threads, no quotas, no lost packets\n")
}
