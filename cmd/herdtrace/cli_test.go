// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
)

// cli runs herdtrace with args, perhaps as somebody else.
func cli(t *testing.T, as *syscall.Credential, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(tool(t, "herdtrace"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// oneLine checks an error: one sentence on stderr that says what and why.
func oneLine(t *testing.T, stderr string, wants ...string) {
	t.Helper()
	if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "herdtrace: ") {
		t.Errorf("stderr is no single line of herdtrace's: %q", stderr)
	}
	for _, w := range wants {
		if !strings.Contains(stderr, w) {
			t.Errorf("stderr %q does not say %q", stderr, w)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	writeFile(t, garbage, "no recording\n")
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--frobnicate"}, 2, "--frobnicate"},
		{[]string{"wrk", "http://x"}, 2, "herdtrace -- wrk http://x"},
		{[]string{"-i", "1ms"}, 2, "100ms"},
		{[]string{"-i", "soon"}, 2, "soon"},
		{[]string{"-P", "70000"}, 2, "70000"},
		{[]string{"-p", "x"}, 2, "pid"},
		{[]string{"--"}, 2, "no command"},
		{[]string{"--json", "-o", "-"}, 2, "standard output"},
		{[]string{"--color", "pink"}, 2, "pink"},
		{[]string{"replay"}, 2, "replay FILE"},
		{[]string{"replay", garbage, "--speed", "100"}, 2, "64"},
		{[]string{"replay", garbage, "--speed", "NaN"}, 2, "0.125"},
		{[]string{"replay", garbage, "--from", "-1s"}, 2, "from"},
		{[]string{"replay", garbage, "--from", "10000h"}, 2, "8760h"},
		{[]string{"-d", "10000h"}, 2, "8760h"},
		{[]string{"--speed", "2"}, 2, "herdtrace replay"},
		{[]string{"check", "--from", "2"}, 2, "herdtrace replay"},
		{[]string{"version", "--speed", "2"}, 2, "herdtrace replay"},
		{[]string{"--from", "2", "--", "true"}, 2, "herdtrace replay"},
		{[]string{"--fail-on", "worse"}, 2, "herdtrace diff"},
		{[]string{"check", "it"}, 2, "no arguments"},
		{[]string{"diff", garbage}, 2, "diff BEFORE AFTER"},
		{[]string{"diff", "-", "-"}, 2, "standard input"},
		{[]string{"diff", garbage, garbage, "--fail-on", "rain"}, 2, "there is no metric"},
		{[]string{"diff", "-o", "x", garbage, garbage}, 2, "drop -o"},
		{[]string{"diff", garbage, garbage}, 1, "garbage"},
		{[]string{"replay", filepath.Join(dir, "missing")}, 1, "missing"},
		{[]string{"replay", garbage}, 1, "garbage"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			out, stderr, code := cli(t, nil, tt.args...)
			if code != tt.code || out != "" {
				t.Errorf("exit %d, stdout %q; want %d and nothing", code, out, tt.code)
			}
			oneLine(t, stderr, tt.says)
		})
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"version"}, {"--version"}} {
		if out, stderr, code := cli(t, nil, args...); code != 0 || stderr != "" || !strings.HasPrefix(out, "herdtrace") {
			t.Errorf("%v: exit %d, stderr %q", args, code, stderr)
		}
	}
}

// TestReplayFlagsInLines: who reads lines is told that nothing is played.
func TestReplayFlagsInLines(t *testing.T) {
	rec := recordingOf(t, "not-measured")
	plain, _, _ := cli(t, nil, "replay", rec, "-b")
	for _, flag := range []string{"--from=2", "--speed=64"} {
		out, stderr, code := cli(t, nil, "replay", rec, "-b", flag)
		if code != 0 || out != plain {
			t.Errorf("%s: exit %d, stdout %q", flag, code, out)
		}
		oneLine(t, stderr, flag[:6], "no effect without the live screen")
	}
}

// TestNoRights: what is missing is named, and the cure.
func TestNoRights(t *testing.T) {
	needRoot(t)
	dir, err := tools()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	_, stderr, code := cli(t, nobody, "-d", "1s")
	if code != 0 {
		t.Errorf("exit %d, want 0: it does without BPF", code)
	}
	oneLine(t, stderr, "NO BPF", "CAP_BPF", "sudo", "NOT MEASURED")
	if _, stderr, code = cli(t, nobody, "-q", "--", "sh", "-c", "exit 3"); code != 3 || !strings.Contains(stderr, "NO BPF") {
		t.Errorf("with a command: exit %d, want its own 3: %s", code, stderr)
	}
	_, stderr, code = cli(t, nobody, "--variant", "accept=syscall", "-d", "1s")
	if code != 77 {
		t.Errorf("forced to do what takes BPF: exit %d, want 77", code)
	}
	oneLine(t, stderr, "accept=syscall", "CAP_BPF", "it takes BPF")
	out, _, code := cli(t, nobody, "check")
	if code != 77 || !strings.Contains(out, "FAIL  capabilities") || !strings.Contains(out, "sudo") {
		t.Errorf("check: exit %d: %s", code, out)
	}
	if out, _, code = cli(t, nil, "check"); code != 0 || !strings.Contains(out, "8 of 8 signals work") {
		t.Errorf("check as root: exit %d: %s", code, out)
	}
}

// TestRefused: hosts that look fine to a program that is root, and are not.
func TestRefused(t *testing.T) {
	needRoot(t)
	for name, tt := range map[string]struct {
		wrap []string
		says []string
	}{
		"no BTF":           {[]string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /sys/kernel/btf && exec "$@"`, "sh"}, []string{"CONFIG_DEBUG_INFO_BTF"}},
		"a user namespace": {[]string{"unshare", "--user", "--map-root-user"}, []string{"bpf(2)", "on the host"}},
	} {
		for _, args := range [][]string{{"-d", "1s"}, {"check"}} {
			argv := append(append(slices.Clone(tt.wrap), tool(t, "herdtrace")), args...)
			cmd := exec.Command(argv[0], argv[1:]...)
			var out, talk bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &talk
			cmd.Run()
			want := 0 // it does without BPF
			if args[0] == "check" {
				want = 77
			}
			if code := cmd.ProcessState.ExitCode(); code != want {
				t.Errorf("%s: %v: exit %d, want %d: %s", name, args, code, want, talk.String())
			}
			if args[0] == "check" {
				if !strings.Contains(out.String(), "FAIL") {
					t.Errorf("%s: check does not say FAIL: %s", name, out.String())
				}
				continue
			}
			oneLine(t, talk.String(), tt.says...)
		}
	}
}

// TestExitCodes: the command's own code is passed on.
func TestExitCodes(t *testing.T) {
	needRoot(t)
	plain := filepath.Join(t.TempDir(), "plain")
	writeFile(t, plain, "no program\n")
	for _, tt := range []struct {
		command []string
		code    int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137},
		{[]string{"no-such-program-anywhere"}, 127},
		{[]string{plain}, 126},
	} {
		out, stderr, code := cli(t, nil, append([]string{"--"}, tt.command...)...)
		if code != tt.code || out != "" {
			t.Errorf("%v: exit %d, stdout %q; want %d: %s", tt.command, code, out, tt.code, stderr)
		}
	}
	if _, stderr, code := cli(t, nil, "-p", "4194304", "-d", "1s"); code != 1 {
		t.Errorf("-p of no process: exit %d, want 1", code)
	} else {
		oneLine(t, stderr, "4194304")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := exec.Command(tool(t, "herdtrace"), "--json", "-d", "1s")
	cmd.Stdout = full
	if cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("stdout is full: exit %d, want 1", cmd.ProcessState.ExitCode())
	}
}

// TestSignalsEndIt: the first interrupt ends a trace in good order.
func TestSignalsEndIt(t *testing.T) {
	needRoot(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		ready := filepath.Join(t.TempDir(), "ready")
		cmd := exec.Command(tool(t, "herdtrace"), "--json", "--ready-file", ready)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
		cmd.Process.Signal(sig)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(out.String(), `"type":"summary"`) {
			t.Errorf("%s: exit %d, output %q", sig, code, out.String())
		}
	}
}

// programs counts the BPF programs in the kernel.
func programs(t *testing.T) int {
	t.Helper()
	n := 0
	for id, err := ebpf.ProgramGetNextID(0); ; id, err = ebpf.ProgramGetNextID(id) {
		if errors.Is(err, os.ErrNotExist) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// TestNothingStaysBehind: not even after SIGKILL.
func TestNothingStaysBehind(t *testing.T) {
	needRoot(t)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	before := programs(t)
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := exec.Command(tool(t, "herdtrace"), "-b", "--ready-file", ready)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	if programs(t) <= before {
		t.Error("no program is loaded while it runs: the count below proves nothing")
	}
	cmd.Process.Kill()
	cmd.Wait()
	// Fewer, where those of a test before this one were still on their way out.
	eventually(t, "its programs are gone", func() bool { return programs(t) <= before })
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !bytes.Equal(mounts, after) {
		t.Errorf("the mounts changed (%v)", err)
	}
}

// TestReplay: a recording says the same as the trace that made it, to the byte.
func TestReplay(t *testing.T) {
	needRoot(t)
	rec := filepath.Join(t.TempDir(), "herd.jsonl.gz")
	ready := filepath.Join(t.TempDir(), "ready")
	var live bytes.Buffer
	cmd := exec.Command(tool(t, "herdtrace"), "--json", "-o", rec, "--ready-file", ready)
	cmd.Stdout = &live
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	load := exec.Command(tool(t, "herdlab"), "accept", "--mode", "epoll-lt", "--rate", "1000", "--conns", "2000")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, p := range []string{filepath.Dir(rec), filepath.Dir(filepath.Dir(rec))} {
		os.Chmod(p, 0o755)
	}
	dir, _ := tools()
	os.Chmod(dir, 0o755)
	out, stderr, code := cli(t, nobody, "replay", rec, "--json")
	if code != 0 || out != live.String() {
		t.Errorf("exit %d, %d bytes replayed, %d live: %s", code, len(out), live.Len(), stderr)
	}
	if !strings.Contains(out, "accept-herd") {
		t.Error("the recorded herd was not found")
	}
	b, err := os.ReadFile(rec)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.jsonl.gz")
	if err := os.WriteFile(cut, b[:len(b)*2/3], 0o644); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := cli(t, nil, "replay", cut, "-b"); code != 0 || !strings.Contains(stderr, "middle of a line") || !strings.Contains(out, "herdtrace: ") {
		t.Errorf("cut recording: exit %d, stderr %q", code, stderr)
	}
}
