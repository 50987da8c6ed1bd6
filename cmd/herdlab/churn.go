// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

const (
	roleChurnPart = "_churn"

	// churnReportLimit is how long a part may take to end what it has begun.
	churnReportLimit = 30 * time.Second
)

// churnParts are the processes that do the work, each of one kind. This process
// only watches over them, and removes the cgroups when all of them are gone,
// however they went.
var churnParts = []struct {
	name  string
	wants func(*churnConfig) bool
	run   func(*churnPart) error
}{
	{"threads", func(c *churnConfig) bool { return c.Threads+c.Processes > 0 }, (*churnPart).threads},
	{"listeners", func(c *churnConfig) bool { return c.Listeners > 0 }, (*churnPart).listeners},
	{"namespaces", func(c *churnConfig) bool { return c.Namespaces > 0 }, (*churnPart).namespaces},
	{"cgroups", func(c *churnConfig) bool { return c.Cgroups > 0 }, (*churnPart).cgroups},
	{"drops", func(c *churnConfig) bool { return c.Drops > 0 }, (*churnPart).drops},
	{"space", nil, (*churnPart).space}, // of the namespaces
	{"job", nil, (*churnPart).job},     // of the threads, and of the cgroups
}

// churnCounts is what was done, counted where it was done.
type churnCounts struct {
	Threads      int64 `json:"threads"`
	Processes    int64 `json:"processes"`
	Execs        int64 `json:"execs"`         // of them, with an exec from a second thread
	LeadersFirst int64 `json:"leaders_first"` // of them, whose first thread ended before the others
	Listeners    int64 `json:"listeners"`     // sockets
	Namespaces   int64 `json:"namespaces"`
	Cgroups      int64 `json:"cgroups"`
	Renamed      int64 `json:"cgroups_renamed"`
	Accepts      int64 `json:"accepts_total"`
	EAGAINs      int64 `json:"accept_eagain_total"`
	QueuedAtEnd  int64 `json:"queued_at_close"` // connections in a queue whose listener was closed
	Unaccepted   int64 `json:"connect_errors"`
	Refusals     int64 `json:"refusals_total"` // TcpExt ListenDrops, of all namespaces
	SpaceRefused int64 `json:"refusals_in_namespaces"`
	SpaceAccepts int64 `json:"accepts_in_namespaces"`
	ThrottledNS  int64 `json:"throttled_ns"` // cpu.stat's, before each cgroup was removed
	BacklogDrops int64 `json:"backlog_drops"`
	StartFailed  int64 `json:"start_errors"`
}

func (c *churnCounts) add(d *churnCounts) {
	for _, p := range [][2]*int64{
		{&c.Threads, &d.Threads}, {&c.Processes, &d.Processes}, {&c.Execs, &d.Execs}, {&c.LeadersFirst, &d.LeadersFirst},
		{&c.Listeners, &d.Listeners}, {&c.Namespaces, &d.Namespaces}, {&c.Cgroups, &d.Cgroups}, {&c.Renamed, &d.Renamed},
		{&c.Accepts, &d.Accepts}, {&c.EAGAINs, &d.EAGAINs}, {&c.QueuedAtEnd, &d.QueuedAtEnd}, {&c.Unaccepted, &d.Unaccepted},
		{&c.Refusals, &d.Refusals}, {&c.SpaceRefused, &d.SpaceRefused}, {&c.SpaceAccepts, &d.SpaceAccepts},
		{&c.ThrottledNS, &d.ThrottledNS}, {&c.BacklogDrops, &d.BacklogDrops}, {&c.StartFailed, &d.StartFailed},
	} {
		*p[0] += *p[1]
	}
}

// churnOracle is what a tracer must have seen.
type churnOracle struct {
	V          int    `json:"v"`
	Type       string `json:"type"`
	Mode       string `json:"mode"`
	DurationNS int64  `json:"duration_ns"`
	Cgroup     string `json:"cgroup"`     // all of the load ran in it, or below it
	FirstPort  int    `json:"first_port"` // of the TCP listeners
	Ports      int    `json:"ports"`
	UnixPrefix string `json:"unix_prefix"` // of the abstract names of the unix listeners
	RunNS      int64  `json:"run_ns"`      // of the load since it was let go
	churnCounts
}

// churnLab is one run.
type churnLab struct {
	cfg   *churnConfig
	talk  io.Writer
	group churnGroup
	unix  string // what the names of unix listeners begin with

	mu     sync.Mutex // abandon may come from a signal
	gone   bool
	parts  []*child
	names  []string
	before []int64 // run time of each part when it was let go
}

// runChurn is the scenario `herdlab churn`.
func runChurn(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseChurn(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return report(stderr, err)
	}
	lab := &churnLab{cfg: cfg, talk: stderr}
	ctx, done := interruptible(stderr, nil, lab.abandon)
	defer done()
	err = lab.run(ctx, stdout)
	return report(stderr, errors.Join(err, lab.close()))
}

func (l *churnLab) run(ctx context.Context, stdout io.Writer) error {
	if err := l.start(); err != nil {
		return err
	}
	if err := l.rendezvous(ctx); err != nil {
		return err
	}
	begin := time.Now()
	counts, err := l.load(ctx)
	if err != nil {
		return err
	}
	o := churnOracle{
		V: 1, Type: "oracle", Mode: "churn", DurationNS: time.Since(begin).Nanoseconds(), churnCounts: counts,
		Cgroup: l.group.path, FirstPort: l.cfg.Port, Ports: churnPorts, UnixPrefix: l.unix,
	}
	for i, p := range l.parts {
		if usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			// kernel/sys.c: getrusage(RUSAGE_BOTH), with all that the part has waited for.
			o.RunNS += usage.Utime.Nano() + usage.Stime.Nano() - l.before[i]
		}
	}
	if err := json.NewEncoder(stdout).Encode(&o); err != nil {
		return fmt.Errorf("write the oracle: %w", err)
	}
	pause(ctx, l.cfg.Linger)
	return nil
}

// start makes the cgroup and the parts, and waits until all of them wait.
func (l *churnLab) start() (err error) {
	// No files, which would stay if this process were killed.
	l.unix = fmt.Sprintf("@herdlab-churn-%d-", os.Getpid())
	if err := l.group.create(l.talk); err != nil {
		return err
	}
	for _, part := range churnParts {
		if part.wants == nil || !part.wants(l.cfg) {
			continue
		}
		c, err := startChild(roleChurnPart, churnPartConfig{Part: part.name, Unix: l.unix, Group: l.group.paths, churnConfig: *l.cfg}, churnEnv())
		if err != nil {
			return err
		}
		if err := l.adopt(c, part.name); err != nil {
			return err
		}
	}
	for i, p := range l.parts {
		var ready churnCounts
		if err := p.receive(&ready, startLimit); err != nil {
			return fmt.Errorf("start the part %s: %w", l.names[i], err)
		}
		if err := l.group.join(p.pid()); err != nil {
			return err
		}
	}
	return nil
}

// adopt adds a part to those that close and abandon end.
func (l *churnLab) adopt(c *child, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts, l.names = append(l.parts, c), append(l.names, name)
	if l.gone {
		_ = c.cmd.Process.Kill()
		return errors.New("start the parts: interrupted")
	}
	return nil
}

// rendezvous tells others that all is ready and waits for their go.
func (l *churnLab) rendezvous(ctx context.Context) error {
	fmt.Fprintf(l.talk, "herdlab: churn: %d processes wait in the cgroup %s\n", len(l.parts), l.group.path)
	if f := l.cfg.ReadyFile; f != "" {
		if err := writeWhole(f, l.group.path+"\n"); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	if l.cfg.WaitFile != "" {
		for end := time.Now().Add(schedWaitLimit); ctx.Err() == nil; pause(ctx, pollEvery) {
			if _, err := os.Stat(l.cfg.WaitFile); err == nil {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("wait for %s: it did not appear within %v (create it to start the load)", l.cfg.WaitFile, schedWaitLimit)
			}
		}
	}
	for _, p := range l.parts {
		tasks, err := readTasks(p.pid())
		if err != nil {
			return fmt.Errorf("read what the parts have run: %w", err)
		}
		var sum schedTask
		for _, t := range tasks {
			sum = sum.plus(t)
		}
		l.before = append(l.before, sum.Run)
		if _, err := p.ctl.Write([]byte{0}); err != nil {
			return fmt.Errorf("let the parts go: %w", err)
		}
	}
	return nil
}

// load waits until the time is over, or a part is gone, and adds up what the
// parts say.
func (l *churnLab) load(ctx context.Context) (sum churnCounts, err error) {
	type said struct {
		part   int
		counts churnCounts
		err    error
	}
	heard := make(chan said, len(l.parts))
	for i, p := range l.parts {
		go func() {
			s := said{part: i}
			s.err = p.receive(&s.counts, l.cfg.Duration+churnReportLimit)
			heard <- s
		}()
	}
	timer := time.NewTimer(l.cfg.Duration)
	defer timer.Stop()
	stop := func() {
		for _, p := range l.parts {
			p.stop()
		}
	}
	over := ctx.Done()
	for left := len(l.parts); left > 0; {
		select {
		case <-over:
			over = nil
			stop()
		case <-timer.C:
			stop()
		case s := <-heard:
			left--
			if s.err != nil {
				return sum, fmt.Errorf("run the part %s: %w", l.names[s.part], s.err)
			}
			sum.add(&s.counts)
		}
	}
	for _, p := range l.parts {
		p.reap(stopLimit)
	}
	return sum, nil
}

// close ends the parts and removes what they may have left.
func (l *churnLab) close() error {
	for _, p := range l.parts {
		p.stop()
	}
	for _, p := range l.parts {
		p.reap(stopLimit)
	}
	return l.group.remove()
}

// abandon is close in a hurry, beside whatever run is doing.
func (l *churnLab) abandon() {
	l.mu.Lock()
	l.gone = true
	for _, p := range l.parts {
		_ = p.cmd.Process.Kill()
	}
	l.mu.Unlock()
	if err := l.group.remove(); err != nil {
		fmt.Fprintf(l.talk, "herdlab: %v\n", err)
	}
}
