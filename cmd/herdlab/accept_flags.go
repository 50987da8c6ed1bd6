// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
)

// acceptConfig is what the flags of `herdlab accept` ask for, validated.
type acceptConfig struct {
	mode      *acceptMode
	then      *acceptMode // of a second course on the same socket; nil: there is none
	kind      *listenKind
	workers   int
	rate      float64
	conns     int64
	duration  time.Duration
	clients   int
	port      int
	backlog   int
	work      time.Duration
	burst     int64
	settle    bool
	timeout   time.Duration
	comm      string
	linger    time.Duration
	readyFile string
	waitFile  string
}

// commMax is TASK_COMM_LEN less its NUL: the kernel would cut a longer name.
const commMax = 15

// parseAccept returns the configuration, or pflag.ErrHelp after printing the
// help to helpOut, or a usageError.
func parseAccept(args []string, helpOut io.Writer) (*acceptConfig, error) {
	var c acceptConfig
	var mode, kind, then string
	fs := pflag.NewFlagSet("accept", pflag.ContinueOnError)
	fs.StringVar(&mode, "mode", "", "how workers wait (required; see below)")
	fs.StringVar(&then, "then", "", "replace the workers by ones in this mode, on the same socket, and repeat the load: before and after a cure")
	fs.StringVar(&kind, "listen", "tcp4", "what they listen on (see below)")
	fs.IntVar(&c.workers, "workers", 8, "worker processes (go-net: always 1)")
	fs.Float64Var(&c.rate, "rate", 0, "connections per second; 0 saturates: each client connects again at once")
	fs.Int64Var(&c.conns, "conns", 1000, "stop after so many connections")
	fs.DurationVar(&c.duration, "duration", 30*time.Second, "stop after this time, if it comes first")
	fs.IntVar(&c.clients, "clients", 16, "concurrent clients at saturation; with --rate slots in flight, default 1")
	fs.Int64Var(&c.burst, "burst", 1, "with --rate: connections opened at once per slot")
	fs.BoolVar(&c.settle, "settle", true, "with --rate: before each slot wait until every worker sleeps")
	fs.DurationVar(&c.timeout, "timeout", 3*time.Second, "a client gives up on a connection after this time")
	fs.DurationVar(&c.work, "work", 0, "CPU time a worker burns per connection before it answers")
	fs.IntVar(&c.port, "port", 0, "TCP port; 0: the kernel picks a free one")
	fs.IntVar(&c.backlog, "backlog", 4096, "listen(2) backlog (the kernel cuts it to net.core.somaxconn)")
	fs.StringVar(&c.comm, "comm", "herdlab-worker", "name of the worker processes, 1 to 15 bytes")
	fs.DurationVar(&c.linger, "linger", 0, "keep the workers idle this long after the load")
	fs.StringVar(&c.readyFile, "ready-file", "", "write the address here when all workers wait")
	fs.StringVar(&c.waitFile, "wait-file", "", "start the load when this file exists; fail after --duration")
	if err := parseFlags(fs, args); errors.Is(err, pflag.ErrHelp) {
		printAcceptHelp(helpOut, fs)
		return nil, err
	} else if err != nil {
		return nil, err
	}
	if c.mode = findAcceptMode(mode); c.mode == nil {
		return nil, usagef("--mode %q is not a mode: use one of: %s", mode, acceptModeNames())
	}
	if c.then = findAcceptMode(then); c.then == nil && then != "" {
		return nil, usagef("--then %q is not a mode: use one of: %s", then, acceptModeNames())
	}
	if c.kind = findListenKind(kind); c.kind == nil {
		return nil, usagef("--listen %q is not known: use one of: %s", kind, listenKindNames())
	}
	if c.rate > 0 && !fs.Changed("clients") {
		c.clients = 1
	}
	if c.mode.serve != nil {
		if fs.Changed("workers") && c.workers != 1 {
			return nil, usagef("--workers %d: mode %s is one process (leave --workers out)", c.workers, c.mode.name)
		}
		c.workers = 1
	}
	return &c, c.validate()
}

// validate checks the ranges: everything herdlab does is bounded.
func (c *acceptConfig) validate() error {
	checks := []struct {
		bad bool
		msg string
	}{
		{c.workers < 1 || c.workers > 512, fmt.Sprintf("--workers %d: use 1 to 512", c.workers)},
		{!(c.rate >= 0 && c.rate <= 1e6), fmt.Sprintf("--rate %v: use 0 (saturation) to 1000000 per second", c.rate)},
		{c.conns < 1, fmt.Sprintf("--conns %d: use 1 or more", c.conns)},
		{c.duration <= 0, fmt.Sprintf("--duration %v: use a positive time such as 30s", c.duration)},
		{c.clients < 1 || c.clients > 1024, fmt.Sprintf("--clients %d: use 1 to 1024", c.clients)},
		{c.burst < 1 || c.burst > 4096, fmt.Sprintf("--burst %d: use 1 to 4096", c.burst)},
		{c.burst > 1 && c.rate == 0, "--burst needs --rate: at saturation there are no slots (use --clients)"},
		{c.timeout < time.Millisecond, fmt.Sprintf("--timeout %v: use 1ms or more", c.timeout)},
		{c.work < 0, fmt.Sprintf("--work %v: use 0 or more", c.work)},
		{c.linger < 0, fmt.Sprintf("--linger %v: use 0 or more", c.linger)},
		{c.port < 0 || c.port > 65535, fmt.Sprintf("--port %d: use 0 to 65535", c.port)},
		{c.backlog < 1, fmt.Sprintf("--backlog %d: use 1 or more", c.backlog)},
		{len(c.comm) < 1 || len(c.comm) > commMax, fmt.Sprintf("--comm %q: use 1 to %d bytes", c.comm, commMax)},
		{c.kind.bind == "" && c.mode.perWorker, fmt.Sprintf("--mode %s needs ports: use --listen tcp4 instead of %s", c.mode.name, c.kind.name)},
		{c.kind.bind == "" && c.port != 0, "--port does not apply to --listen unix: leave it out"},
	}
	if c.then != nil && !(c.mode.sharesSocket() && c.then.sharesSocket()) {
		return usagef("--then: %s and %s cannot take over each other's socket (use poll or one of epoll-*)", c.mode.name, c.then.name)
	}
	for _, check := range checks {
		if check.bad {
			return usagef("%s", check.msg)
		}
	}
	return nil
}

// expectedWakeups is how many worker wake-ups each connection causes, where
// that is exact: one connection at a time, met by workers that all sleep.
func (c *acceptConfig) expectedWakeups() *float64 {
	if c.rate == 0 || !c.settle || c.burst != 1 || c.clients != 1 {
		return nil
	}
	var n float64
	switch c.mode.wakes {
	case wakesOne:
		n = 1
	case wakesAll:
		n = float64(c.workers)
	default:
		return nil
	}
	return &n
}

func printAcceptHelp(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprint(w, "herdlab accept makes an accept pathology on loopback and prints what a tracer must see.\n\n"+
		"usage: herdlab accept --mode MODE [flags]\n\n", fs.FlagUsages(), "\nmodes:\n")
	for _, m := range acceptModes {
		fmt.Fprintf(w, "  %-16s %s\n", m.name, m.brief)
	}
	fmt.Fprint(w, "\nlisten:\n")
	for _, k := range listenKinds {
		fmt.Fprintf(w, "  %-16s %s\n", k.name, k.brief)
	}
	fmt.Fprint(w, "\nexamples:\n"+
		"  herdlab accept --mode epoll-lt --rate 200 --conns 1000     a herd: 8 wake-ups per connection\n"+
		"  herdlab accept --mode epoll-exclusive --rate 200           its cure: 1 per connection\n"+
		"  herdlab accept --mode epoll-et-noloop --workers 2 --rate 100 --burst 50 --work 1ms --conns 200\n"+
		"                                                             lost edges: a queue that nobody empties\n")
}
