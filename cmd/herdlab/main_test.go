// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asked reports whether somebody wants the tests that need more than a user has:
// then one that cannot run fails.
func asked() bool {
	return os.Getenv("HERDTRACE_ROOT_TESTS") != "" || os.Getenv("CI") != ""
}

// need ends a test for which something is missing, "" for nothing.
func need(t *testing.T, missing string) {
	t.Helper()
	switch {
	case testing.Short() && !asked():
		t.Skip("-short: it needs root and network namespaces")
	case missing == "":
	case asked():
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// decodeOracle demands a successful run with exactly one line on stdout.
func decodeOracle(t *testing.T, r result, oracle any) {
	t.Helper()
	if r.code != exitOK {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	if n := strings.Count(r.stdout, "\n"); n != 1 || !strings.HasSuffix(r.stdout, "\n") {
		t.Fatalf("stdout has %d lines, want 1:\n%s", n, r.stdout)
	}
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(oracle); err != nil {
		t.Fatalf("decode the oracle: %v\n%s", err, r.stdout)
	}
}

func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		code       int
		want       string // in stdout when the code is 0, else in stderr
	}{
		{"help", "-h", exitOK, "scenarios:"},
		{"accept help", "accept -h", exitOK, "--ready-file"},
		{"help lists the modes", "accept --help", exitOK, "epoll-et-noloop"},
		{"no scenario", "", exitUsage, "name a scenario: accept"},
		{"unknown scenario", "acept", exitUsage, `unknown scenario "acept": use one of: accept`},
		{"no mode", "accept", exitUsage, "use one of: block, poll"},
		{"unknown mode", "accept --mode epol", exitUsage, "use one of: block, poll"},
		{"unknown flag", "accept --mode block --frobnicate", exitUsage, "herdlab accept -h lists the flags"},
		{"bad value", "accept --mode block --conns many", exitUsage, "invalid argument"},
		{"argument", "accept --mode block now", exitUsage, `unexpected argument "now"`},
		{"unknown listen", "accept --mode block --listen udp", exitUsage, "use one of: tcp4, tcp6"},
		{"no workers", "accept --mode block --workers 0", exitUsage, "use 1 to 512"},
		{"burst without rate", "accept --mode block --burst 3", exitUsage, "--burst needs --rate"},
		{"NaN rate", "accept --mode block --rate NaN", exitUsage, "--rate NaN"},
		{"long comm", "accept --mode block --comm sixteen-bytes-xx", exitUsage, "1 to 15 bytes"},
		{"reuseport on unix", "accept --mode reuseport --listen unix", exitUsage, "use --listen tcp4"},
		{"go-net workers", "accept --mode go-net --workers 2", exitUsage, "leave --workers out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := runHerdlab(t, strings.Fields(tc.args)...)
			if r.code != tc.code {
				t.Fatalf("exit code %d, want %d; stderr: %s", r.code, tc.code, r.stderr)
			}
			data, silent := r.stdout, r.stderr
			if tc.code != exitOK {
				data, silent = r.stderr, r.stdout
				if strings.Count(data, "\n") != 1 || !strings.HasPrefix(data, "herdlab: ") {
					t.Errorf("want one line of herdlab's, got %q", data)
				}
			}
			if !strings.Contains(data, tc.want) || silent != "" {
				t.Errorf("got %q and %q, want %q and nothing", data, silent, tc.want)
			}
		})
	}
}

func TestRuntimeFailure(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	r := runHerdlab(t, "accept", "--mode", "epoll-lt", "--wait-file", missing, "--duration", "100ms")
	if r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, "create it to start the load") {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}

// started runs herdlab until its workers wait and its client runs.
func started(t *testing.T, args ...string) (kids []int, signal func(unix.Signal), end func() result) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	cmd, stdout, stderr := herdlab(append(args, "--workers", "2", "--ready-file", ready)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the ready file", func() bool { _, err := os.Stat(ready); return err == nil })
	waitFor(t, "the client", func() bool { kids = childrenOf(cmd.Process.Pid); return len(kids) == 3 })
	time.Sleep(200 * time.Millisecond)
	return kids, func(s unix.Signal) { _ = unix.Kill(cmd.Process.Pid, s) }, func() result { return wait(t, cmd, stdout, stderr) }
}

func TestInterruptOnce(t *testing.T) {
	kids, signal, end := started(t, "accept", "--mode", "epoll-exclusive", "--rate", "100", "--conns", "100000")
	signal(unix.SIGTERM)
	o := oracleOf(t, end())
	if o.Connections == 0 || o.Seconds > 5 {
		t.Errorf("connections %d in %.1f s: want an early stop with an oracle", o.Connections, o.Seconds)
	}
	goneSoon(t, kids)
}

func TestInterruptTwice(t *testing.T) {
	// Stranded connections keep the client from ending at once.
	kids, signal, end := started(t, "accept", "--mode", "epoll-et-noloop", "--rate", "100", "--burst", "40", "--work", "5ms")
	signal(unix.SIGINT)
	time.Sleep(100 * time.Millisecond)
	signal(unix.SIGINT)
	if r := end(); r.code != exitInterrupted || r.stdout != "" {
		t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
	}
	goneSoon(t, kids)
}

func TestParentKilled(t *testing.T) {
	for _, mode := range []string{"block", "epoll-lt"} {
		kids, signal, end := started(t, "accept", "--mode", mode, "--rate", "100", "--conns", "100000")
		signal(unix.SIGKILL)
		end()
		goneSoon(t, kids)
	}
}

func TestParsePassiveOpens(t *testing.T) {
	const snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm ActiveOpens PassiveOpens\nTcp: 1 20 300\n"
	if n, err := parsePassiveOpens(strings.NewReader(snmp)); n != 300 || err != nil {
		t.Errorf("got %d, %v; want 300", n, err)
	}
	if _, err := parsePassiveOpens(strings.NewReader("Tcp: A\nTcp: 1\n")); err == nil {
		t.Error("no error for a file without the column")
	}
}
