// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startedSched is a run whose load has not begun, or with begin has ended, and
// whose workers sleep.
type startedSched struct {
	pid     int
	workers []int
	begin   func() (o schedOracle, line string)
	signal  func(unix.Signal)
	end     func() result
}

func startSched(t *testing.T, args ...string) startedSched {
	t.Helper()
	dir := t.TempDir()
	ready, goAhead := filepath.Join(dir, "ready"), filepath.Join(dir, "go")
	cmd, stdout, stderr := herdlab(append([]string{"sched", "--ready-file", ready, "--wait-file", goAhead, "--mode"}, args...)...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := startedSched{pid: cmd.Process.Pid, signal: func(sig unix.Signal) { _ = unix.Kill(cmd.Process.Pid, sig) }}
	s.end = func() result { return wait(t, cmd, stdout, stderr) }
	waitFor(t, "the ready file", func() bool { _, err := os.Stat(ready); return err == nil })
	text, err := os.ReadFile(ready)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		s.workers = append(s.workers, pid)
	}
	s.begin = func() (o schedOracle, line string) {
		if err := os.WriteFile(goAhead, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(r).ReadString('\n')
		if err == nil {
			err = json.Unmarshal([]byte(line), &o)
		}
		if err != nil {
			t.Fatalf("read the oracle: %v\n%s", err, stderr)
		}
		return o, line
	}
	return s
}

// schedFiles reads what anybody can read of a run: schedstat of all threads by
// tid, and the quota's counters of the cgroup of the first worker.
func schedFiles(t *testing.T, s startedSched) (tasks map[int]schedTask, group cpuStat) {
	t.Helper()
	tasks = map[int]schedTask{}
	for _, pid := range s.workers {
		of, err := readTasks(pid)
		if err != nil {
			t.Fatal(err)
		}
		for tid, task := range of {
			tasks[tid] = task
		}
	}
	h, err := openCPUHierarchy(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(h.mount + "/" + cgroupPrefix + strconv.Itoa(s.pid) + "-0")
	if err != nil || len(dirs) > 1 {
		t.Fatal(err, dirs)
	}
	if len(dirs) == 1 {
		if group, err = h.stat(dirs[0]); err != nil {
			t.Fatal(err)
		}
	}
	return tasks, group
}

// TestSchedAtRest looks from outside, as a tracer does, before and after.
func TestSchedAtRest(t *testing.T) {
	needSched(t)
	for _, args := range []string{
		"pile --workers 6 --pinned 4 --duration 300ms",
		"throttle --quota 0.2 --period 50ms --threads 3 --duration 500ms --nested",
		"churn --switches 50000",
	} {
		t.Run(args, func(t *testing.T) {
			s := startSched(t, append(strings.Fields(args), "--linger", "1m")...)
			before, groupBefore := schedFiles(t, s)
			o, line := s.begin()
			after, groupAfter := schedFiles(t, s)
			for _, w := range o.Workers {
				got := after[w.TID].minus(before[w.TID])
				if want := (schedTask{Run: w.Run, Wait: w.Wait, Switches: w.Switches}); got != want {
					t.Errorf("thread %d: schedstat moved by %+v, the oracle says %+v", w.TID, got, want)
				}
			}
			for _, c := range o.Cgroups[:min(len(o.Cgroups), 1)] {
				periods, throttled, ns := groupAfter.NrPeriods-groupBefore.NrPeriods, groupAfter.NrThrottled-groupBefore.NrThrottled, groupAfter.ThrottledNS-groupBefore.ThrottledNS
				if periods != c.NrPeriods || throttled != c.NrThrottled || ns != c.ThrottledNS || groupAfter.CgroupID != c.CgroupID {
					t.Errorf("cpu.stat moved by %d, %d, %d: the oracle says %+v", periods, throttled, ns, c)
				}
			}
			s.signal(unix.SIGINT) // ends the linger
			r := s.end()
			r.stdout = line
			schedOracleOf(t, r)
		})
	}
}

func TestSchedInterrupted(t *testing.T) {
	needSched(t)
	s := startSched(t, "throttle", "--quota", "0.2", "--duration", "1m", "--linger", "1m", "--nested")
	time.AfterFunc(500*time.Millisecond, func() { s.signal(unix.SIGINT) })
	_, line := s.begin()
	r := s.end()
	r.stdout = line
	if o := schedOracleOf(t, r); o.DurationNS > 10e9 {
		t.Errorf("the load ran for %d ns: want an early stop with an oracle", o.DurationNS)
	}
	goneSoon(t, s.workers)
}

func TestSchedInterruptedTwice(t *testing.T) {
	needSched(t)
	// The counters of such a long period take seconds to stand still.
	s := startSched(t, "oversold", "--period", "1s", "--duration", "1m")
	_, group := schedFiles(t, s)
	s.signal(unix.SIGINT)
	time.Sleep(200 * time.Millisecond)
	s.signal(unix.SIGINT)
	if r := s.end(); r.code != exitInterrupted {
		t.Errorf("exit code %d, stderr %s", r.code, r.stderr)
	}
	goneSoon(t, s.workers)
	if left, _ := filepath.Glob(strings.TrimSuffix(group.Dir, "0") + "*"); group.Dir == "" || left != nil {
		t.Errorf("the cgroups %v are left behind", left)
	}
}

// TestSchedKilled proves that what a killed run leaves is swept by the next
// one, and that a run which lives is not.
func TestSchedKilled(t *testing.T) {
	needSched(t)
	alive := startSched(t, "throttle", "--nested")
	killed := startSched(t, "throttle", "--nested")
	_, aliveGroup := schedFiles(t, alive)
	_, killedGroup := schedFiles(t, killed)
	killed.signal(unix.SIGKILL)
	killed.end()
	goneSoon(t, killed.workers)
	if _, err := os.Stat(killedGroup.Dir); err != nil || killedGroup.Dir == "" {
		t.Fatalf("the killed run left nothing: %v", err)
	}
	schedOracleOf(t, runHerdlab(t, "sched", "--mode", "throttle", "--quota", "0.2", "--period", "50ms", "--duration", "200ms"))
	if _, err := os.Stat(killedGroup.Dir); err == nil {
		t.Errorf("%s of a killed run is left behind", killedGroup.Dir)
	}
	if _, err := os.Stat(aliveGroup.Dir + "/" + cgroupInner); err != nil {
		t.Errorf("a living run has lost its cgroup: %v", err)
	}
	alive.signal(unix.SIGINT)
	alive.begin()
	if r := alive.end(); r.code != exitOK {
		t.Errorf("exit code %d, stderr %s", r.code, r.stderr)
	}
}
