// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// schedConfig is what the flags of `herdlab sched` ask for, validated. A zero
// means "by the mode" until resolve has been there.
type schedConfig struct {
	mode      *schedMode
	cpus      []int // that this process may use
	workers   int
	pinned    int
	cpu       int
	threads   int
	groups    int
	quota     float64 // in cores
	period    time.Duration
	burst     time.Duration
	every     time.Duration
	nested    bool
	pairs     int
	switches  int64
	churn     float64
	duration  time.Duration
	comm      string
	linger    time.Duration
	readyFile string
	waitFile  string
}

// schedFlags are the flags that only some modes have.
var schedFlags = []string{"workers", "pinned", "cpu", "threads", "groups", "quota", "period", "burst", "every", "nested", "pairs", "switches", "churn"}

// parseSched returns the configuration, or pflag.ErrHelp after printing the
// help to helpOut, or a usageError.
func parseSched(args []string, helpOut io.Writer) (*schedConfig, error) {
	var c schedConfig
	var mode string
	fs := pflag.NewFlagSet("sched", pflag.ContinueOnError)
	fs.StringVar(&mode, "mode", "", "what goes wrong, or right (required; see below)")
	fs.DurationVar(&c.duration, "duration", 0, "stop after this time (default 5s; churn: 30s, if it comes first)")
	fs.IntVar(&c.workers, "workers", 0, "worker processes; compile: jobs at a time (default: by the mode)")
	fs.IntVar(&c.pinned, "pinned", 13, "of the workers: busy, and pinned to --cpu")
	fs.IntVar(&c.cpu, "cpu", -1, "the CPU to pin to; -1: the first one")
	fs.IntVar(&c.threads, "threads", 0, "busy threads, in each cgroup (default: by the mode)")
	fs.IntVar(&c.groups, "groups", 3, "cgroups")
	fs.Float64Var(&c.quota, "quota", 0, "quota of each cgroup, in cores (default: by the mode)")
	fs.DurationVar(&c.period, "period", 100*time.Millisecond, "enforcement period of the quota")
	fs.DurationVar(&c.burst, "burst", 0, "work in bursts: CPU time of each thread in a burst (default: by the mode; 0: always busy)")
	fs.DurationVar(&c.every, "every", 0, "time from burst to burst (default: by the mode)")
	fs.BoolVar(&c.nested, "nested", false, "put the quota on a parent cgroup and the threads in a child of it")
	fs.IntVar(&c.pairs, "pairs", 4, "pairs of threads that wake each other")
	fs.Int64Var(&c.switches, "switches", 1_000_000, "stop after so many context switches of theirs")
	fs.Float64Var(&c.churn, "churn", 200, "short-lived threads per second; every 20th is a process")
	fs.StringVar(&c.comm, "comm", "herdlab-worker", "name of the worker processes, 1 to 15 bytes")
	fs.DurationVar(&c.linger, "linger", 0, "keep the workers asleep this long after the load and its oracle")
	fs.StringVar(&c.readyFile, "ready-file", "", "write the pids of the workers here, one a line, when all of them wait")
	fs.StringVar(&c.waitFile, "wait-file", "", fmt.Sprintf("start the load when this file exists; fail after %v", schedWaitLimit))
	if err := parseFlags(fs, args); errors.Is(err, pflag.ErrHelp) {
		printSchedHelp(helpOut, fs)
		return nil, err
	} else if err != nil {
		return nil, err
	}
	if c.mode = findSchedMode(mode); c.mode == nil {
		return nil, usagef("--mode %q is not a mode: use one of: %s", mode, schedModeNames())
	}
	for _, flag := range schedFlags {
		if fs.Changed(flag) && !slices.Contains(strings.Fields(c.mode.flags), flag) {
			return nil, usagef("--%s does not apply to --mode %s: leave it out", flag, c.mode.name)
		}
	}
	if err := c.validate(fs); err != nil {
		return nil, err
	}
	return &c, c.resolve()
}

// validate checks the ranges: everything herdlab does is bounded.
func (c *schedConfig) validate(fs *pflag.FlagSet) error {
	for _, check := range []struct {
		flag string // "" or one that must have been given
		bad  bool
		msg  string
	}{
		{"duration", c.duration <= 0, fmt.Sprintf("--duration %v: use a positive time such as 5s", c.duration)},
		{"workers", c.workers < 1 || c.workers > 512, fmt.Sprintf("--workers %d: use 1 to 512", c.workers)},
		{"", c.pinned < 2 || c.pinned > 512, fmt.Sprintf("--pinned %d: use 2 to 512", c.pinned)},
		{"", c.cpu < -1, fmt.Sprintf("--cpu %d: use the number of a CPU, or -1 for the first one", c.cpu)},
		{"threads", c.threads < 1 || c.threads > 64, fmt.Sprintf("--threads %d: use 1 to 64", c.threads)},
		{"", c.groups < 1 || c.groups > 64, fmt.Sprintf("--groups %d: use 1 to 64", c.groups)},
		{"quota", !(c.quota >= 0.02 && c.quota <= 4096), fmt.Sprintf("--quota %v: use 0.02 to 4096 cores", c.quota)},
		{"", c.period < time.Millisecond || c.period > time.Second, fmt.Sprintf("--period %v: use 1ms to 1s, as the kernel does", c.period)},
		{"burst", c.burst < 0, fmt.Sprintf("--burst %v: use 0 (always busy) or more", c.burst)},
		{"every", c.every <= 0, fmt.Sprintf("--every %v: use a positive time such as 500ms", c.every)},
		{"", c.pairs < 1 || c.pairs > 64, fmt.Sprintf("--pairs %d: use 1 to 64", c.pairs)},
		{"", c.switches < 1, fmt.Sprintf("--switches %d: use 1 or more", c.switches)},
		{"", !(c.churn >= 0 && c.churn <= 2000), fmt.Sprintf("--churn %v: use 0 (none) to 2000 per second", c.churn)},
		{"", len(c.comm) < 1 || len(c.comm) > commMax, fmt.Sprintf("--comm %q: use 1 to %d bytes", c.comm, commMax)},
		{"", c.linger < 0, fmt.Sprintf("--linger %v: use 0 or more", c.linger)},
		{"burst", c.burst > 0 && !fs.Changed("every"), "--burst needs --every: the time from burst to burst"},
		{"every", c.burst == 0, "--every needs --burst: the CPU time of a burst"},
		{"every", c.burst >= c.every, fmt.Sprintf("--every %v: use more than the burst of %v", c.every, c.burst)},
	} {
		if check.bad && (check.flag == "" || fs.Changed(check.flag)) {
			return usagef("%s", check.msg)
		}
	}
	return nil
}

// resolve puts in what the mode says where the flags say nothing, and looks at
// the machine.
func (c *schedConfig) resolve() error {
	var err error
	if c.cpus, err = ownCPUs(); err != nil {
		return err
	}
	if c.cpu == -1 {
		c.cpu = c.cpus[0]
	}
	if !slices.Contains(c.cpus, c.cpu) {
		return usagef("--cpu %d: use one of the CPUs of this process: %v", c.cpu, c.cpus)
	}
	if c.mode.twoCPUs && len(c.cpus) < 2 {
		return fmt.Errorf("choose the CPUs: mode %s needs 2, this process may use only one (see taskset, cpuset)", c.mode.name)
	}
	if c.duration == 0 {
		c.duration = 5 * time.Second
		if c.mode.name == "churn" {
			c.duration = 30 * time.Second
		}
	}
	if c.mode.defaults != nil {
		c.mode.defaults(c)
	}
	if us := c.quotaUS(); c.quota > 0 && us < 1000 {
		return usagef("--quota %v: that is %d us in a --period of %v; the kernel wants 1000 us or more", c.quota, us, c.period)
	}
	if n := min(c.threads, len(c.cpus)); c.mode.name == "below-quota" && c.quota >= float64(n) {
		return usagef("--quota %v: %d threads on %d CPUs cannot exceed that: use less than %d", c.quota, c.threads, len(c.cpus), n)
	}
	if c.workers > 0 && c.mode.name == "pile" && c.pinned > c.workers {
		return usagef("--pinned %d: use at most the number of --workers, %d", c.pinned, c.workers)
	}
	return nil
}

func (c *schedConfig) quotaUS() int64 { return int64(c.quota * float64(c.period.Microseconds())) }

func printSchedHelp(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprint(w, "herdlab sched makes threads that want to run and do not, for each of the reasons that there are,\n"+
		"and prints what a tracer must see. Modes with cgroups need root, and leave none behind.\n\n"+
		"usage: herdlab sched --mode MODE [flags]\n\n", fs.FlagUsages(), "\nmodes:\n")
	for _, m := range schedModes {
		fmt.Fprintf(w, "  %-12s %s\n", m.name, m.brief)
		if m.flags != "" {
			fmt.Fprintf(w, "  %-12s (--%s)\n", "", strings.Join(strings.Fields(m.flags), " --"))
		}
	}
	fmt.Fprint(w, "\nexamples:\n"+
		"  herdlab sched --mode pile --workers 34 --pinned 13       13 workers share one core, the others watch\n"+
		"  herdlab sched --mode throttle --quota 0.4 --threads 2    two threads under 0.4 cores\n"+
		"  herdlab sched --mode throttle --quota 1 --threads 8 --burst 30ms --every 500ms --nested\n"+
		"                                                           240 ms of work at once where 100 ms are sold\n")
}
