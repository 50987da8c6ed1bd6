// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// terminal is a tmux server with one pane, which nobody is attached to.
type terminal struct {
	t    *testing.T
	name string
}

func newTerminal(t *testing.T, w, h int, command string) *terminal {
	t.Helper()
	term := &terminal{t, fmt.Sprintf("herdtrace-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))}
	// The command is the shell's, which then says the exit code and stays.
	script := "unset CI NO_COLOR; export LANG=C.UTF-8 LC_ALL=C.UTF-8; " + command + `; echo "rc=$?"; exec cat`
	term.tmux("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h), script)
	t.Cleanup(func() { term.tmux("kill-server") })
	return term
}

func (m *terminal) tmux(args ...string) string {
	m.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-L", m.name}, args...)...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (m *terminal) shows(texts ...string) {
	m.t.Helper()
	var pane string
	defer func() {
		if m.t.Failed() {
			m.t.Logf("the pane:\n%s", pane)
		}
	}()
	eventually(m.t, fmt.Sprintf("the terminal shows %q", texts), func() bool {
		pane = m.tmux("capture-pane", "-p")
		for _, s := range texts {
			if !strings.Contains(pane, s) {
				return false
			}
		}
		return true
	})
}

// TestTerminal looks at the live screen as a person would.
func TestTerminal(t *testing.T) {
	needRoot(t)
	term := newTerminal(t, 100, 30, tool(t, "herdtrace")+" -P 8951")
	term.shows("herdtrace", "q quit")
	load := exec.Command(tool(t, "herdlab"), "accept", "--mode", "epoll-lt", "--rate", "1000", "--conns", "100000", "--duration", "60s", "--port", "8951")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	defer load.Wait()
	defer load.Process.Signal(os.Interrupt)
	term.shows("127.0.0.1:8951", "8.0 wake-ups per connection", "remedy:", "cost ", "lost 0")
	term.tmux("send-keys", "Enter")
	term.shows("8 x epoll", "herdlab-worker")
	term.tmux("resize-window", "-x", "20", "-y", "8")
	term.shows("LISTENER 127.0", "q quit")
	term.tmux("resize-window", "-x", "100", "-y", "30")
	term.shows("8 x epoll")
	term.tmux("send-keys", "Escape")
	term.shows("HERD")
	term.tmux("send-keys", "q")
	term.shows("accept-herd", "trace cost", "rc=0")
}

// TestIntervalKeys: + and - change how often a running trace looks.
func TestIntervalKeys(t *testing.T) {
	needRoot(t)
	out := filepath.Join(t.TempDir(), "out.ndjson")
	term := newTerminal(t, 100, 30, tool(t, "herdtrace")+" -i 1h --json="+out)
	term.shows("every 60 min")
	asked := func(ns string) {
		t.Helper()
		eventually(t, "a record says that "+ns+" ns were asked for", func() bool {
			b, err := os.ReadFile(out)
			return err == nil && bytes.Contains(b, []byte(`"asked_interval_ns":`+ns+","))
		})
	}
	for range 8 { // 5 min, 1 min, 30 s, 10 s, 5 s, 2 s, 1 s, 500 ms
		term.tmux("send-keys", "--", "-")
	}
	asked("500000000")
	term.shows("every 500 ms")
	term.tmux("send-keys", "+")
	asked("1000000000")
	term.tmux("send-keys", "q")
	term.shows("rc=0")
}
