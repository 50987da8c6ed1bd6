// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestStoppedWorker: connections wait for a worker that a signal holds. It is named
// as that, and not as one that lacks a loop.
func TestStoppedWorker(t *testing.T) {
	needRoot(t)
	dir, comm := t.TempDir(), fmt.Sprintf("halted-%d", os.Getpid())
	ready, start, out := filepath.Join(dir, "ready"), filepath.Join(dir, "go"), filepath.Join(dir, "out")
	args := append([]string{"-q", "--json=" + out, "--"}, inNetns(tool(t, "herdlab"), "accept", "--mode", "epoll-et", "--workers", "1", "--clients", "4",
		"--conns", "1000000", "--duration", "30s", "--comm", comm, "--ready-file", ready, "--wait-file", start)...)
	cmd := exec.Command(tool(t, "herdtrace"), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(syscall.SIGINT)
	eventually(t, "the lab is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	pid := named(comm)
	if pid == 0 {
		t.Fatalf("there is no process %s", comm)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	if err := os.WriteFile(start, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	finding := func(state string) (found record) {
		b, _ := os.ReadFile(out)
		for line := range bytes.Lines(b) {
			var r record
			if json.Unmarshal(line, &r) == nil && r.Type == "finding" && r.ID == "accept-stall" && r.State == state {
				found = r
			}
		}
		return found
	}
	eventually(t, "the stall is named", func() bool { return finding("raised").ID != "" })
	if f := finding("raised"); !strings.Contains(f.Evidence, "while the worker is stopped") || !strings.HasPrefix(f.Remedy, "kill -CONT "+strconv.Itoa(pid)) {
		t.Errorf("evidence %q, remedy %q; worker %d is stopped", f.Evidence, f.Remedy, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it clears when the remedy is applied", func() bool { return finding("cleared").ID != "" })
}

// named returns the process of that name; 0: there is none.
func named(comm string) int {
	paths, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range paths {
		if b, _ := os.ReadFile(path); strings.TrimSpace(string(b)) == comm {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}
