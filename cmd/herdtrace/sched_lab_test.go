// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// schedRecord is what records say of the scheduler.
type schedRecord struct {
	Type        string          `json:"type"`
	Kind        string          `json:"kind"`
	CGroupID    uint64          `json:"cgroup_id"`
	ThrottledNS uint64          `json:"throttled_ns"`
	DurationNS  uint64          `json:"duration_ns"`
	Cores       int             `json:"cores"`
	Threads     int             `json:"threads"`
	CPUs        []cpuRecord     `json:"cpus"`
	CGroups     []cgroupRecord  `json:"cgroups"`
	Processes   []processRecord `json:"processes"`
	SoldRatio   float64         `json:"cpu_sold_ratio"`
}

type cpuRecord struct {
	CPU       int     `json:"cpu"`
	Busy      float64 `json:"busy_seconds_total"`
	Wait      float64 `json:"runq_wait_seconds_total"`
	WaitP99   float64 `json:"runq_wait_p99_ns"`
	Peak      int     `json:"runq_peak"`
	Unclaimed float64 `json:"unclaimed_idle_seconds_total"`
	Switches  int64   `json:"switches_total"`
}

// waitRecord is runnable without a core, and why.
type waitRecord struct {
	Wait      float64 `json:"wait_seconds_total"`
	Throttled float64 `json:"wait_throttled_seconds_total"`
	Contended float64 `json:"wait_contended_seconds_total"`
	Mask      float64 `json:"wait_mask_seconds_total"`
	Stolen    float64 `json:"wait_stolen_seconds_total"`
}

type cgroupRecord struct {
	Path             string  `json:"path"`
	CGroupID         uint64  `json:"cgroup_id"`
	CPU              float64 `json:"cpu_seconds_total"`
	QuotaUS          int64   `json:"cpu_quota_us"`
	PeriodUS         int64   `json:"cpu_period_us"`
	Periods          int64   `json:"cfs_periods_total"`
	Throttled        int64   `json:"cfs_throttled_periods_total"`
	ThrottledSeconds float64 `json:"cfs_throttled_seconds_total"`
	waitRecord
}

type processRecord struct {
	PID     int      `json:"pid"`
	Comm    string   `json:"comm"`
	Run     float64  `json:"run_seconds_total"`
	Claimed *float64 `json:"claimed_seconds_total"`
	waitRecord
	Voluntary   int64 `json:"voluntary_switches_total"`
	Involuntary int64 `json:"involuntary_switches_total"`
	TopThreads  []struct {
		TID int     `json:"tid"`
		Run float64 `json:"run_seconds_total"`
		waitRecord
		Allowed []int `json:"cpus_allowed"`
	} `json:"top_threads"`
	ContendedBy []struct {
		PID  int     `json:"pid"`
		Wait float64 `json:"wait_seconds_total"`
	} `json:"contended_by"`
}

// ns is the number of nanoseconds that a JSON number of seconds stands for.
func ns(seconds float64) int64 { return int64(math.Round(seconds * 1e9)) }

// schedTimes is what schedstat says of a thread.
type schedTimes struct {
	Run      int64 `json:"run_ns"`
	Wait     int64 `json:"wait_ns"`
	Switches int64 `json:"switches"`
}

// schedOracle is what herdlab sched prints.
type schedOracle struct {
	DurationNS int64 `json:"duration_ns"`
	CPU        *int  `json:"cpu"`
	CPUs       []struct {
		CPU    int   `json:"cpu"`
		IdleNS int64 `json:"idle_ns"`
	} `json:"cpus"`
	Workers []struct {
		PID       int  `json:"pid"`
		TID       int  `json:"tid"`
		CPUPinned *int `json:"cpu_pinned"`
		schedTimes
		Voluntary   int64 `json:"voluntary_switches"`
		Involuntary int64 `json:"involuntary_switches"`
	} `json:"workers"`
	Ended     *struct{ Threads, Processes int64 } `json:"ended"`
	Total     schedTimes                          `json:"total"`
	Processes []struct {
		PID       int   `json:"pid"`
		RunNS     int64 `json:"run_ns"`
		ClaimedNS int64 `json:"claimed_ns"`
	} `json:"processes"`
	Cgroups []struct {
		Path        string `json:"path"`
		CgroupID    uint64 `json:"cgroup_id"`
		QuotaUS     *int64 `json:"quota_us"`
		NrPeriods   int64  `json:"nr_periods"`
		NrThrottled int64  `json:"nr_throttled"`
		ThrottledNS int64  `json:"throttled_ns"`
		RunNS       int64  `json:"run_ns"`
		WaitNS      int64  `json:"wait_ns"`
	} `json:"cgroups"`
	SoldRatio float64 `json:"cpu_sold_ratio"`
}

// schedRun is one load of herdlab sched, and what herdtrace said of it.
type schedRun struct {
	*traced
	oracle schedOracle
	begun  uint64 // CLOCK_MONOTONIC, when the load was let go
	sched  []schedRecord
}

// schedLab attaches herdtrace while all of the lab's workers sleep, lets the load
// go, and stops herdtrace when they sleep again: both have then counted the same.
func schedLab(t *testing.T, args ...string) *schedRun { return schedLabBy(t, nil, args...) }

// schedLabBy is schedLab with more arguments for herdtrace.
func schedLabBy(t *testing.T, traceArgs []string, args ...string) *schedRun {
	t.Helper()
	dir := t.TempDir()
	ready, start, attached, ndjson := filepath.Join(dir, "ready"), filepath.Join(dir, "start"), filepath.Join(dir, "attached"), filepath.Join(dir, "out.ndjson")
	lab := exec.Command(tool(t, "herdlab"), append([]string{"sched", "--ready-file", ready, "--wait-file", start, "--linger", "30s"}, args...)...)
	var labErr, traceErr bytes.Buffer
	lab.Stderr = &labErr
	out, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	defer lab.Wait()
	defer lab.Process.Signal(syscall.SIGINT)
	there := func(file string) func() bool {
		return func() bool { _, err := os.Stat(file); return err == nil }
	}
	eventually(t, "the lab is ready: "+labErr.String(), there(ready))
	trace := exec.Command(tool(t, "herdtrace"), append([]string{"--json=" + ndjson, "-q", "--ready-file", attached}, traceArgs...)...)
	trace.Stderr = &traceErr
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		trace.Process.Signal(syscall.SIGINT)
		trace.Wait()
	}
	defer stop()
	eventually(t, "herdtrace is ready: "+traceErr.String(), there(attached))
	r := &schedRun{traced: &traced{}, begun: monoNS()}
	if err := os.WriteFile(start, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() && !strings.Contains(sc.Text(), `"type":"oracle"`) {
	}
	if err := json.Unmarshal(sc.Bytes(), &r.oracle); err != nil {
		t.Fatalf("herdlab sched %v said no oracle: %v: %s", args, err, labErr.String())
	}
	stop()
	if r.raw, err = os.ReadFile(ndjson); err != nil {
		t.Fatalf("%v: %s", err, traceErr.String())
	}
	r.stderr = traceErr.String()
	r.parse(t, r.raw)
	for line := range bytes.Lines(r.raw) {
		if bytes.Contains(line, []byte(`"type":"header"`)) {
			continue // its cpus is a number
		}
		var s schedRecord
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatal(err)
		}
		r.sched = append(r.sched, s)
	}
	return r
}

func monoNS() uint64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return uint64(now.Nano())
}

// last is the summary.
func (r *schedRun) last(t *testing.T) *schedRecord {
	t.Helper()
	for i := range r.sched {
		if r.sched[i].Type == "summary" {
			return &r.sched[i]
		}
	}
	t.Fatalf("no summary: %s", r.stderr)
	return nil
}

// after is how long after the load was let go the finding was raised.
func (r *schedRun) after(f *record) time.Duration {
	return time.Duration(int64(f.MonoNS) - int64(r.begun))
}
