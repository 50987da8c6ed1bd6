// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asNobody is a command that runs another one as uid 65534 with these
// capabilities only.
func asNobody(t *testing.T, caps string, argv ...string) []string {
	t.Helper()
	dir, err := tools()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all," + caps, "--ambient-caps=-all," + caps}, argv...)
}

func execute(t *testing.T, argv ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// says is the line of that name, and those that go on with it.
func says(out, name string) string {
	here, found := false, ""
	for line := range strings.Lines(out) {
		if len(line) > 6 && line[6] != ' ' {
			here = strings.HasPrefix(line[6:], name+" ")
		}
		if here {
			found += line
		}
	}
	return found
}

// TestCheckNamespaces: in real namespaces, what check says is what tracing does.
func TestCheckNamespaces(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name, line string
		wrap       []string
		says       []string
		refused    bool
	}{
		{"pid", "pid namespace", []string{"unshare", "--fork", "--pid", "--mount-proc"}, []string{"FAIL", "--pid=host"}, true},
		{"user", "user namespace", []string{"unshare", "--user", "--map-root-user"}, []string{"FAIL", "on the host"}, true},
		{"cgroup", "cgroup ns", []string{"unshare", "--cgroup"}, []string{"ok", "looks through the host's"}, false},
		{"network", "network ns", []string{"unshare", "--net"}, []string{"warn", "--network=host"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := 0
			if tt.refused {
				want = exitHost
			}
			out, talk, code := execute(t, append(tt.wrap, tool(t, "herdtrace"), "check")...)
			if code != want {
				t.Errorf("exit %d, want %d: %s%s", code, want, out, talk)
			}
			line := says(out, tt.line)
			for _, words := range tt.says {
				if !strings.Contains(line, words) {
					t.Errorf("%s does not say %q: %q", tt.line, words, line)
				}
			}
			if rung := says(out, "rung"); tt.refused != strings.Contains(rung, "procfs: ") || tt.refused && !strings.Contains(rung, "next step: ") {
				t.Errorf("rung: %s", rung)
			}
			_, talk, code = execute(t, append(tt.wrap, tool(t, "herdtrace"), "-q", "-d", "1s", "-o", filepath.Join(t.TempDir(), "r"))...)
			if code != 0 || tt.refused != strings.Contains(talk, "NO BPF: ") {
				t.Errorf("tracing: exit %d: %s", code, talk)
			}
		})
	}
}

// TestFewCapabilities: with CAP_BPF and CAP_PERFMON alone tracing works, and
// what check says of it is so.
func TestFewCapabilities(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name string
		caps string
		says []string
		not  string
	}{
		{"the least", "+bpf,+perfmon", []string{"warn", "enough to trace with: CAP_BPF, CAP_PERFMON", "without CAP_DAC_READ_SEARCH"}, "without CAP_BPF"},
		{"the named others", "+bpf,+perfmon,+dac_read_search,+sys_ptrace,+syslog", []string{"warn", "without CAP_SYS_ADMIN"}, "without CAP_SYS_PTRACE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, talk, code := execute(t, asNobody(t, tt.caps, tool(t, "herdtrace"), "check")...)
			if code != 0 || !strings.Contains(out, "8 of 8 signals work") {
				t.Errorf("check: exit %d: %s%s", code, out, talk)
			}
			line := says(out, "capabilities")
			for _, words := range tt.says {
				if !strings.Contains(line, words) {
					t.Errorf("it does not say %q: %s", words, line)
				}
			}
			if strings.Contains(line, tt.not) {
				t.Errorf("it says %q: %s", tt.not, line)
			}
			out, talk, code = execute(t, inNetns(asNobody(t, tt.caps, tool(t, "herdtrace"), "--json", "--",
				tool(t, "herdlab"), "accept", "--mode", "epoll-lt", "--rate", "1000", "--conns", "500", "--duration", "60s")...)...)
			if code != 0 {
				t.Fatalf("trace: exit %d: %s", code, talk)
			}
			r := &traced{}
			r.parse(t, []byte(out))
			r.checkExact(t)
			if cost := r.summary(t).Cost.BPFCPURatio; cost != nil {
				t.Errorf("without CAP_SYS_ADMIN the cost of the programs is not known, and it says: %v", *cost)
			}
		})
	}
}
