// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestChurnUsage(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		code       int
		want       string // in stdout when the code is 0, else in stderr
	}{
		{"help", "-h", exitOK, "--namespace-life"},
		{"duration", "--duration 0s", exitUsage, "use a positive time"},
		{"NaN threads", "--threads NaN", exitUsage, "--threads NaN"},
		{"processes", "--processes 101", exitUsage, "use 0 (none) to 100"},
		{"listeners", "--listeners -1", exitUsage, "--listeners -1"},
		{"connections", "--connections 1001", exitUsage, "use 0 to 1000"},
		{"refusals", "--refusals -1", exitUsage, "--refusals -1"},
		{"namespaces", "--namespaces 11", exitUsage, "use 0 (none) to 10"},
		{"namespace-life", "--namespace-life 2m", exitUsage, "use 0 to 1m"},
		{"cgroups", "--cgroups 21", exitUsage, "use 0 (none) to 20"},
		{"cgroup-life", "--cgroup-life -1s", exitUsage, "--cgroup-life -1s"},
		{"drops", "--drops 2", exitUsage, "use 0 (none) to 1"},
		{"port", "--port 65535", exitUsage, "use 1 to 65528"},
		{"linger", "--linger -1s", exitUsage, "--linger -1s"},
		{"argument", "now", exitUsage, "takes only flags"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := runHerdlab(t, append([]string{"churn"}, strings.Fields(tc.args)...)...)
			data, silent := r.stdout, r.stderr
			if tc.code != exitOK {
				data, silent = r.stderr, r.stdout
			}
			if r.code != tc.code || !strings.Contains(data, tc.want) || silent != "" {
				t.Errorf("exit code %d, got %q and %q; want %d, %q and nothing", r.code, data, silent, tc.code, tc.want)
			}
		})
	}
}

// churnArgs are a load that gets to everything but lost packets within seconds.
var churnArgs = []string{"churn", "--drops", "0", "--namespaces", "2", "--namespace-life", "100ms", "--cgroups", "4", "--cgroup-life", "200ms", "--processes", "10"}

func TestChurn(t *testing.T) {
	needSched(t)
	var o churnOracle
	decodeOracle(t, runHerdlab(t, append(churnArgs, "--duration", "4s")...), &o)
	if min(o.Threads, o.Processes, o.Execs, o.LeadersFirst, o.Listeners, o.Namespaces, o.Cgroups, o.Accepts, o.QueuedAtEnd,
		o.Refusals, o.SpaceRefused, o.SpaceAccepts, o.ThrottledNS, o.RunNS) <= 0 {
		t.Errorf("something was not done: %+v", o)
	}
	if o.StartFailed+o.Unaccepted > 0 {
		t.Errorf("something failed: %+v", o)
	}
	if left := churnLeft(t, o.Cgroup); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// churnLeft lists what there still is of a run.
func churnLeft(t *testing.T, cgroup string) (left []string) {
	t.Helper()
	left, err := filepath.Glob(churnDir(t, cgroup) + "*")
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// churnDir is the directory of a run's cgroup.
func churnDir(t *testing.T, cgroup string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	h, err := findCPUHierarchy(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(h.mount, filepath.Base(cgroup))
}

// TestChurnEnds: nothing is left, and no process, when it is told to stop, when
// one of its parts is killed, and, after the next run, when it is itself.
func TestChurnEnds(t *testing.T) {
	needSched(t)
	for _, how := range []string{"SIGTERM", "part", "SIGKILL"} {
		t.Run(how, func(t *testing.T) {
			ready := filepath.Join(t.TempDir(), "ready")
			cmd, out, said := herdlab(append(churnArgs, "--duration", "1h", "--ready-file", ready)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			cgroup := strings.TrimSpace(awaitFile(t, ready))
			pids := awaitProcs(t, cgroup)
			code := exitOK
			switch how {
			case "SIGTERM":
				cmd.Process.Signal(unix.SIGTERM)
			case "part":
				code = exitFailed
				if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			case "SIGKILL":
				code = -1
				cmd.Process.Kill()
			}
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit code %d, want %d: %s", got, code, said.String())
			}
			if how == "SIGTERM" {
				var o churnOracle
				if err := json.Unmarshal(out.Bytes(), &o); err != nil || o.Threads == 0 {
					t.Errorf("got the oracle %q: %v", out.String(), err)
				}
			}
			if how == "SIGKILL" {
				decodeOracle(t, runHerdlab(t, append(churnArgs, "--duration", "100ms")...), &churnOracle{})
			}
			if left := churnLeft(t, cgroup); len(left) > 0 {
				t.Errorf("left: %q: %s", left, said.String())
			}
			awaitDead(t, pids)
		})
	}
}

// awaitDead polls until all have ended; whoever inherited them may not have waited
// for them yet.
func awaitDead(t *testing.T, pids []int) {
	t.Helper()
	for end := time.Now().Add(startLimit); len(pids) > 0; time.Sleep(pollEvery) {
		if state := threadState("/proc/" + strconv.Itoa(pids[0])); state == 0 || state == 'Z' {
			pids = pids[1:]
		} else if time.Now().After(end) {
			t.Fatalf("the process %d is left, in state %c", pids[0], state)
		}
	}
}

// awaitFile polls for a file and returns what is in it.
func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(pollEvery) {
		if text, err := os.ReadFile(path); err == nil {
			return string(text)
		}
	}
	t.Fatalf("there is no %s", path)
	return ""
}

// awaitProcs polls until there are processes beside the parts, and returns all.
func awaitProcs(t *testing.T, cgroup string) (pids []int) {
	t.Helper()
	procs := filepath.Join(churnDir(t, cgroup), churnWork, "cgroup.procs")
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(pollEvery) {
		text, err := os.ReadFile(procs)
		if err != nil {
			t.Fatal(err)
		}
		pids = nil
		for _, line := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		if len(pids) > 4 {
			return pids
		}
	}
	t.Fatalf("%s has %d processes", procs, len(pids))
	return nil
}
