// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

const (
	schedWaitLimit   = time.Minute      // for --wait-file to appear
	schedStartLimit  = 30 * time.Second // for all workers to start and to wait
	schedRestLimit   = time.Second      // for the Go runtimes of the workers
	schedReportLimit = 30 * time.Second // from the stop to the last report: the last jobs end, under a quota too
)

// schedProcess is a worker process and its threads that do the work.
type schedProcess struct {
	*child
	team *schedTeam
	tids []int
}

// schedLab is one run: what it started, to be undone by close.
type schedLab struct {
	cfg     *schedConfig
	talk    io.Writer
	plan    schedPlan
	groups  cpuGroups
	mu      sync.Mutex // of the next two: the second signal kills the workers
	workers []*schedProcess
	gone    bool
	gates   [2]*schedGate // start, stop
}

// schedGate is a pipe that all workers wait at; closing it lets them through.
type schedGate struct{ r, w *os.File }

// runSched is the scenario `herdlab sched`.
func runSched(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseSched(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return report(stderr, err)
	}
	lab := &schedLab{cfg: cfg, talk: stderr, plan: cfg.mode.plan(cfg)}
	ctx, done := interruptible(stderr, nil, lab.abandon)
	defer done()
	err = lab.run(ctx, stdout)
	return report(stderr, errors.Join(err, lab.close()))
}

// run is one course and its oracle; the workers then sleep for a while, so
// that others can take a last look at them, too.
func (l *schedLab) run(ctx context.Context, stdout io.Writer) error {
	if err := l.start(); err != nil {
		return err
	}
	if err := l.rendezvous(ctx); err != nil {
		return err
	}
	oracle, err := l.course(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(oracle); err != nil {
		return fmt.Errorf("write the oracle: %w", err)
	}
	pause(ctx, l.cfg.linger)
	return nil
}

// start makes the cgroups, starts the workers, and waits until all wait and
// the counters stand still.
func (l *schedLab) start() error {
	if err := l.groups.create(l.plan.groups, l.cfg.period, l.talk); err != nil {
		return err
	}
	for i := range l.gates {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make a gate for the workers: %w", err)
		}
		l.gates[i] = &schedGate{r, w}
	}
	for i := range l.plan.teams {
		team := &l.plan.teams[i]
		for range team.processes {
			c, err := startChild(team.role, team.config, schedEnv(team.config.Threads), l.gates[0].r, l.gates[1].r)
			if err != nil {
				return err
			}
			if err := l.adopt(&schedProcess{child: c, team: team}); err != nil {
				return err
			}
		}
	}
	for _, w := range l.workers {
		var ready schedReady
		if err := w.receive(&ready, schedStartLimit); err != nil {
			return fmt.Errorf("start the workers: %w", err)
		}
		w.tids = ready.TIDs
		if w.team.group != noGroup {
			if err := l.groups.join(w.team.group, w.pid()); err != nil {
				return err
			}
		}
	}
	if err := l.await(schedStartLimit); err != nil {
		return err
	}
	_, err := l.rest()
	return err
}

// adopt adds a process to those that close and abandon end.
func (l *schedLab) adopt(w *schedProcess) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workers = append(l.workers, w)
	if l.gone {
		_ = w.cmd.Process.Kill()
		return errors.New("start the workers: interrupted")
	}
	return nil
}

// await waits until every thread of the load sleeps in its own system call.
func (l *schedLab) await(limit time.Duration) error {
	end := time.Now().Add(limit)
	for _, w := range l.workers {
		for _, tid := range w.tids {
			for !threadWaits(taskDir(w.pid(), tid)) {
				if time.Now().After(end) {
					return fmt.Errorf("wait for the workers to sleep: thread %d of pid %d does not after %v (is the machine overloaded?)", tid, w.pid(), limit)
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	return nil
}

// rest waits until the counters of all threads stand still: those of the Go
// runtimes' own threads (sysmon) take a moment, those of the cgroups a period.
func (l *schedLab) rest() (*schedLook, error) {
	if l.plan.sold() > 0 {
		if err := l.groups.settle(l.cfg.period); err != nil {
			return nil, err
		}
	}
	look, err := lookAt(l.workers, &l.groups)
	for end := time.Now().Add(schedRestLimit); err == nil && time.Now().Before(end); {
		time.Sleep(2 * pollEvery)
		var again *schedLook
		if again, err = lookAt(l.workers, &l.groups); err != nil {
			break
		}
		same := true
		for pid, clock := range again.clocks {
			same = same && clock == look.clocks[pid]
		}
		look = again
		if same {
			break
		}
	}
	return look, err
}

// rendezvous tells others that all is ready and waits for their go.
func (l *schedLab) rendezvous(ctx context.Context) error {
	var pids strings.Builder
	threads := 0
	for _, w := range l.workers {
		pids.WriteString(strconv.Itoa(w.pid()) + "\n")
		threads += len(w.tids)
	}
	fmt.Fprintf(l.talk, "herdlab: %s: %d processes with %d threads wait\n", l.cfg.mode.name, len(l.workers), threads)
	if f := l.cfg.readyFile; f != "" {
		if err := writeWhole(f, pids.String()); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	if l.cfg.waitFile == "" {
		return nil
	}
	for end := time.Now().Add(schedWaitLimit); ctx.Err() == nil; pause(ctx, pollEvery) {
		if _, err := os.Stat(l.cfg.waitFile); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for %s: it did not appear within %v (create it to start the load)", l.cfg.waitFile, schedWaitLimit)
		}
	}
	return nil
}

// course is look, load, and look again when all is at rest.
func (l *schedLab) course(ctx context.Context) (*schedOracle, error) {
	before, err := lookAt(l.workers, &l.groups)
	if err != nil {
		return nil, err
	}
	cpusBefore, err := readCPUs()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	l.open(0)
	reports, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.await(schedReportLimit); err != nil {
		return nil, err
	}
	cpusAfter, err := readCPUs()
	if err != nil {
		return nil, err
	}
	duration := time.Since(start)
	after, err := l.rest()
	if err != nil {
		return nil, err
	}
	o := l.newOracle(duration, before, after, cpuDeltas(cpusBefore, cpusAfter), reports)
	l.judge(o)
	return o, nil
}

// judge says where the machine did not do what the mode is for. The oracle
// holds all the same.
func (l *schedLab) judge(o *schedOracle) {
	h := o.Hidden
	if l.cfg.mode.name == "hide" && h.UnseenNS < h.RunNS/2 {
		fmt.Fprintf(l.talk, "herdlab: hide: /proc/stat saw %d of %d ms: others were busy on CPU %d, or this kernel does not sample CPU time at ticks\n",
			(h.RunNS-h.UnseenNS)/1e6, h.RunNS/1e6, h.CPU)
	}
	for _, c := range o.Cgroups {
		if l.cfg.mode.calm && c.NrThrottled > 0 {
			fmt.Fprintf(l.talk, "herdlab: %s: %s was throttled in %d of %d periods all the same\n", o.Mode, c.Path, c.NrThrottled, c.NrPeriods)
		}
	}
}

// load lets the workers work for the duration, or until those that report have
// done so, and returns what they say by pid.
func (l *schedLab) load(ctx context.Context) (map[int]schedReport, error) {
	type said struct {
		pid int
		schedReport
		err error
	}
	waiting := 0
	heard := make(chan said, len(l.workers))
	for _, w := range l.workers {
		if !w.team.config.Reports {
			continue
		}
		waiting++
		go func() {
			s := said{pid: w.pid()}
			s.err = w.receive(&s.schedReport, l.cfg.duration+schedReportLimit)
			heard <- s
		}()
	}
	reports := map[int]schedReport{}
	timer := time.NewTimer(l.cfg.duration)
	defer timer.Stop()
	stop := ctx.Done()
	for forever := waiting == 0; waiting > 0 || forever; {
		select {
		case <-stop:
			stop, forever = nil, false
			l.open(1)
		case <-timer.C:
			forever = false
			l.open(1)
		case s := <-heard:
			if s.err != nil {
				return nil, fmt.Errorf("run the load: %w", s.err)
			}
			reports[s.pid] = s.schedReport
			waiting--
		}
	}
	l.open(1)
	return reports, nil
}

// open lets the workers through a gate; they hold only the other end.
func (l *schedLab) open(gate int) { _ = l.gates[gate].w.Close() }

// close ends the workers and removes the cgroups.
func (l *schedLab) close() error {
	for _, g := range l.gates {
		if g != nil {
			_, _ = g.w.Close(), g.r.Close()
		}
	}
	for _, w := range l.workers {
		w.stop()
	}
	for _, w := range l.workers {
		w.reap(stopLimit)
	}
	return l.groups.remove()
}

// abandon is close in a hurry, beside whatever run is doing.
func (l *schedLab) abandon() {
	l.mu.Lock()
	l.gone = true
	for _, w := range l.workers {
		_ = w.cmd.Process.Kill()
	}
	l.mu.Unlock()
	if err := l.groups.remove(); err != nil {
		fmt.Fprintf(l.talk, "herdlab: %v\n", err)
	}
}

// cpuDeltas subtracts two readings of the same CPUs.
func cpuDeltas(before, after []schedCPU) (deltas []schedCPU) {
	for _, now := range after {
		for _, was := range before {
			if was.CPU == now.CPU {
				deltas = append(deltas, schedCPU{now.CPU, now.BusyNS - was.BusyNS, now.IdleNS - was.IdleNS, now.StealNS - was.StealNS})
			}
		}
	}
	return deltas
}
