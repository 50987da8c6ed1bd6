// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beHerdlab in the environment makes the test binary behave as herdlab, so
// that the tests run real processes without building anything.
const beHerdlab = "HERDLAB_TEST_BE_HERDLAB"

func TestMain(m *testing.M) {
	if os.Getenv(beHerdlab) != "" {
		main()
	}
	os.Exit(m.Run())
}

type result struct {
	code           int
	stdout, stderr string
}

// herdlab prepares a run; the caller starts it.
func herdlab(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command("/proc/self/exe", args...)
	// Under -race each process would sleep 1 s at its exit.
	cmd.Env = append(os.Environ(), beHerdlab+"=1", "GORACE=atexit_sleep_ms=0")
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = 5 * time.Second
	return cmd, stdout, stderr
}

// wait ends a started run and returns what came of it.
func wait(t *testing.T, cmd *exec.Cmd, stdout, stderr *bytes.Buffer) result {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("wait for herdlab: %v\n%s", err, stderr)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func runHerdlab(t *testing.T, args ...string) result {
	t.Helper()
	cmd, stdout, stderr := herdlab(args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, cmd, stdout, stderr)
}

// oracleOf demands a successful run with exactly one line on stdout, whose
// sums hold and whose processes are gone.
func oracleOf(t *testing.T, r result) acceptOracle {
	t.Helper()
	var o acceptOracle
	decodeOracle(t, r, &o)
	var accepts, eagains, drains int64
	for _, w := range o.PerWorker {
		accepts += w.AcceptsTotal
		if w.AcceptEagainTotal != nil {
			eagains += *w.AcceptEagainTotal
			drains += *w.DrainEagainTotal
		}
		if w.TID != w.PID {
			t.Errorf("worker %d: tid %d, want the main thread", w.PID, w.TID)
		}
		if _, err := os.Stat("/proc/" + strconv.Itoa(w.PID)); err == nil {
			t.Errorf("worker %d is left behind", w.PID)
		}
	}
	if accepts != o.AcceptsTotal {
		t.Errorf("per_worker accepts sum to %d, accepts_total is %d", accepts, o.AcceptsTotal)
	}
	if o.AcceptEagainTotal != nil && (eagains != *o.AcceptEagainTotal || drains != *o.DrainEagainTotal || drains > eagains) {
		t.Errorf("per_worker EAGAINs sum to %d (%d drains), totals are %d (%d)",
			eagains, drains, *o.AcceptEagainTotal, *o.DrainEagainTotal)
	}
	if o.AcceptsTotal != o.Connections {
		t.Errorf("accepts_total %d, connections %d: want them equal", o.AcceptsTotal, o.Connections)
	}
	// Others may connect meanwhile: at least ours must be in it.
	if o.PassiveOpensDelta != nil && *o.PassiveOpensDelta < o.Connections {
		t.Errorf("passive_opens_delta %d < connections %d", *o.PassiveOpensDelta, o.Connections)
	}
	return o
}

func wantAllServed(t *testing.T, o acceptOracle, conns int64) {
	t.Helper()
	if o.Connections != conns || o.Served != conns || o.Timeouts != 0 || o.Failed != 0 {
		t.Errorf("connections %d, served %d, timeouts %d, failed %d; want %d served and no others",
			o.Connections, o.Served, o.Timeouts, o.Failed, conns)
	}
}

func TestAcceptModes(t *testing.T) {
	expected := map[string]float64{"block": 1, "poll": 8, "epoll-lt": 8, "epoll-exclusive": 1, "reuseport": 1}
	for _, m := range acceptModes {
		t.Run(m.name+"/paced", func(t *testing.T) {
			o := oracleOf(t, runHerdlab(t, "accept", "--mode", m.name, "--rate", "400", "--conns", "200", "--comm", "lab (x) y"))
			wantAllServed(t, o, 200)
			want, exact := expected[m.name]
			switch got := o.WakeupsPerAcceptExpected; {
			case exact && (got == nil || *got != want):
				t.Errorf("wakeups_per_accept_expected is %v, want %v", got, want)
			case !exact && got != nil:
				t.Errorf("wakeups_per_accept_expected is %v, want null", *got)
			}
			if (o.AcceptEagainTotal == nil) != (m.serve != nil) {
				t.Errorf("accept_eagain_total is %v", o.AcceptEagainTotal)
			}
			if c := o.PerWorker[0].Comm; c != "lab (x) y" {
				t.Errorf("comm is %q", c)
			}
		})
		if m.name == "epoll-et-noloop" {
			continue // at saturation it may strand a connection, by design
		}
		t.Run(m.name+"/saturated", func(t *testing.T) {
			o := oracleOf(t, runHerdlab(t, "accept", "--mode", m.name, "--conns", "2000"))
			wantAllServed(t, o, 2000)
			if o.WakeupsPerAcceptExpected != nil {
				t.Errorf("wakeups_per_accept_expected is %v at saturation, want null", *o.WakeupsPerAcceptExpected)
			}
		})
	}
}

func TestAcceptListenKinds(t *testing.T) {
	for _, k := range listenKinds {
		for _, mode := range []string{"epoll-exclusive", "block", "go-net"} {
			t.Run(k.name+"/"+mode, func(t *testing.T) {
				r := runHerdlab(t, "accept", "--mode", mode, "--listen", k.name, "--conns", "100")
				if k.name == "mptcp" && strings.Contains(r.stderr, "make a mptcp listener") {
					need(t, r.stderr) // a kernel without MPTCP, on somebody's own machine
				}
				o := oracleOf(t, r)
				wantAllServed(t, o, 100)
				if (o.PassiveOpensDelta == nil) != (k.name == "unix") {
					t.Errorf("passive_opens_delta is %v", o.PassiveOpensDelta)
				}
				if k.name == "unix" {
					if _, err := os.Stat(filepath.Dir(o.Addr)); err == nil {
						t.Errorf("%s is left behind", filepath.Dir(o.Addr))
					}
				}
			})
		}
	}
}

// TestAcceptWakeups proves the heart of the oracle without a tracer: a waiter
// that is woken and sleeps again made one voluntary context switch.
func TestAcceptWakeups(t *testing.T) {
	const conns = 100
	for _, mode := range []string{"epoll-lt", "poll", "epoll-exclusive", "block", "reuseport"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			ready, goAhead := filepath.Join(dir, "ready"), filepath.Join(dir, "go")
			cmd, stdout, stderr := herdlab("accept", "--mode", mode, "--rate", "200", "--conns", strconv.Itoa(conns),
				"--linger", "300ms", "--ready-file", ready, "--wait-file", goAhead)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the ready file", func() bool { _, err := os.Stat(ready); return err == nil })
			workers := childrenOf(cmd.Process.Pid)
			before := voluntarySwitches(t, workers)
			if err := os.WriteFile(goAhead, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the client", func() bool { return len(childrenOf(cmd.Process.Pid)) > len(workers) })
			waitFor(t, "the client's end", func() bool { return len(childrenOf(cmd.Process.Pid)) == len(workers) })
			time.Sleep(50 * time.Millisecond)
			switches := voluntarySwitches(t, workers) - before
			o := oracleOf(t, wait(t, cmd, stdout, stderr))
			wantAllServed(t, o, conns)
			// The Go runtime of a worker adds a few switches of its own.
			want := *o.WakeupsPerAcceptExpected * conns
			if got := float64(switches); o.Unsettled == 0 && (got < want || got > want*1.1+conns) {
				t.Errorf("the workers switched %v times, want %v and little more", got, want)
			}
		})
	}
}

func TestAcceptStranding(t *testing.T) {
	burst := []string{"--rate", "100", "--burst", "20", "--conns", "20", "--work", "1ms", "--timeout", "1500ms"}
	t.Run("epoll-et-noloop", func(t *testing.T) {
		o := oracleOf(t, runHerdlab(t, append([]string{"accept", "--mode", "epoll-et-noloop", "--workers", "1"}, burst...)...))
		if o.Timeouts == 0 || o.Timeouts+o.Served != o.Connections || *o.FinalAcceptsTotal == 0 {
			t.Errorf("nothing was stranded: served %d, timeouts %d, final accepts %d", o.Served, o.Timeouts, *o.FinalAcceptsTotal)
		}
		if s := *o.AcceptStallLongestSeconds; s < 1 {
			t.Errorf("the queue stalled for %.2f s, want more than 1 s", s)
		}
	})
	t.Run("epoll-et", func(t *testing.T) {
		o := oracleOf(t, runHerdlab(t, append([]string{"accept", "--mode", "epoll-et", "--workers", "1"}, burst...)...))
		wantAllServed(t, o, 20)
		if s := *o.AcceptStallLongestSeconds; s > 0.1 {
			t.Errorf("the queue of the healthy twin stalled for %.2f s", s)
		}
	})
}

// waitFor polls for a condition, at most 10 s.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 1000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// childrenOf lists the living children of a process.
func childrenOf(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// voluntarySwitches sums nvcsw over the main threads of pids.
func voluntarySwitches(t *testing.T, pids []int) (sum int64) {
	t.Helper()
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

func goneSoon(t *testing.T, pids []int) {
	t.Helper()
	waitFor(t, "the children's end", func() bool {
		for _, pid := range pids {
			if unix.Kill(pid, 0) == nil && threadState("/proc/"+strconv.Itoa(pid)) != 'Z' {
				return false
			}
		}
		return true
	})
}
