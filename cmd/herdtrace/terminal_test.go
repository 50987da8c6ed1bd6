// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func recordingOf(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// replayAt starts a replay at a terminal, and waits for the screen.
func replayAt(t *testing.T, columns, lines int, recording string, flags ...string) *pty {
	t.Helper()
	p := openPTY(t, columns, lines)
	p.start(person(), plainly, append([]string{tool(t, "herdtrace"), "replay", recordingOf(t, recording)}, flags...)...)
	p.opened()
	return p
}

// listening is what the summary of herd-cured.jsonl tells of.
const listening = "0.0.0.0:8080"

// TestTerminalRestored: whatever ends herdtrace, the terminal is as before, and
// the summary is on its normal screen.
func TestTerminalRestored(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(p *pty)
		code int
		says []string
	}{
		{"q", func(p *pty) { p.press("q") }, 0, []string{listening}},
		{"ctrl-c", func(p *pty) { p.press("\x03") }, 0, []string{listening}},
		{"SIGTERM", func(p *pty) { p.signal(unix.SIGTERM) }, 0, []string{listening}},
		{"SIGINT", func(p *pty) { p.signal(unix.SIGINT) }, 0, []string{listening}},
		{"SIGHUP", func(p *pty) { p.signal(unix.SIGHUP) }, 0, []string{listening}},
		{"SIGQUIT", func(p *pty) { p.signal(unix.SIGQUIT) }, 2, []string{"SIGQUIT: quit", "goroutine 1 ", "main.main"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := replayAt(t, 120, 40, "herd-cured", "--speed", "8")
			p.redraws("7.9 wake-ups per connection") // a finding: some ticks were judged
			tt.end(p)
			p.ended(tt.code)
			after := p.restored()
			for _, want := range tt.says {
				if !strings.Contains(after, want) {
					t.Errorf("on the normal screen is no %q: %q", want, tail(after))
				}
			}
			if strings.Contains(strings.ReplaceAll(after, "\r\n", ""), "\n") {
				t.Errorf("lines were written while the terminal was raw: %q", tail(after))
			}
		})
	}
}

func (p *pty) signal(s syscall.Signal) {
	p.t.Helper()
	if err := unix.Kill(p.pid, s); err != nil {
		p.t.Fatalf("send %s: %v", s, err)
	}
}

// TestEndOfRecording: the last picture stays until the user has seen enough.
func TestEndOfRecording(t *testing.T) {
	p := replayAt(t, 120, 40, "not-measured", "--speed", "8")
	p.shows("END")
	select {
	case rc := <-p.rc:
		t.Fatalf("it ended by itself: %s", rc)
	default:
	}
	if m := p.modes(); m == p.before {
		t.Error("at the end of the recording the screen is gone")
	}
	p.press("q")
	p.ended(0)
	p.restored()
}

// TestPipedReplay: what comes through standard input has the screen, too, and no way
// back.
func TestPipedReplay(t *testing.T) {
	p := openPTY(t, 160, 40)
	p.start(person(), "cat "+recordingOf(t, "not-measured")+" | %s", tool(t, "herdtrace"), "replay", "-", "--speed", "8")
	p.opened()
	p.shows("END")
	p.press(",")
	p.redraws("there is no way back")
	p.press("q")
	p.ended(0)
	p.restored()
}

// TestHangup: it ends when its terminal goes away.
func TestHangup(t *testing.T) {
	p := replayAt(t, 120, 40, "herd-cured")
	p.master.Close()
	// The shell is gone as well, so that nobody tells its exit code.
	eventually(t, "herdtrace ends with its terminal", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
	p.pid = 0
}

// TestPanic: its words can be read, on the normal screen, wherever it happens.
func TestPanic(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for where, want := range panics {
		t.Run(where, func(t *testing.T) {
			p := openPTY(t, 120, 40)
			p.start(person(panicVariable+"="+where), plainly, self)
			p.ended(2)
			after := p.restored()
			for _, w := range append([]string{"panic: ", "goroutine "}, want) {
				if !strings.Contains(after, w) {
					t.Errorf("on the normal screen is no %q: %q", w, tail(after))
				}
			}
		})
	}
}

// TestLinesOrScreen: where the screen cannot be, a person is told why.
func TestLinesOrScreen(t *testing.T) {
	const needs = "the screen needs 60x15"
	for _, tt := range []struct {
		name           string
		columns, lines int
		env            []string
		script         string // "": the command alone
		flags          []string
		says           string // "": the screen
	}{
		{name: "large", columns: 200, lines: 60},
		{name: "just large enough", columns: 60, lines: 15},
		{name: "too narrow", columns: 59, lines: 15, says: "the terminal is 59x15, " + needs},
		{name: "too low", columns: 60, lines: 14, says: "the terminal is 60x14, " + needs},
		{name: "tiny", columns: 1, lines: 1, says: "the terminal is 1x1, " + needs},
		{name: "of no known size"},
		{name: "dumb", columns: 80, lines: 24, env: []string{"TERM=dumb"}, says: "TERM is dumb"},
		{name: "no TERM", columns: 80, lines: 24, env: []string{"TERM="}, says: "TERM is not set"},
		{name: "CI", columns: 80, lines: 24, env: []string{"CI=true"}, says: "CI is set"},
		{name: "standard input elsewhere", columns: 80, lines: 24, script: "%s </dev/null"},
		{name: "no keys", columns: 80, lines: 24, script: "setsid %s", says: "no terminal is in control of this session"},
		// Who asked for lines, or reads them elsewhere, knows.
		{name: "batch", columns: 50, lines: 12, flags: []string{"-b"}, says: silent},
		{name: "quiet", columns: 50, lines: 12, flags: []string{"-q"}, says: silent},
		{name: "JSON", columns: 50, lines: 12, flags: []string{"--json"}, says: silent},
		{name: "piped", columns: 50, lines: 12, script: "%s | cat", says: silent},
		{name: "stderr elsewhere", columns: 50, lines: 12, script: "%s 2>/dev/null", says: silent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := openPTY(t, tt.columns, tt.lines)
			argv := append([]string{tool(t, "herdtrace"), "replay", recordingOf(t, "not-measured")}, tt.flags...)
			p.start(person(tt.env...), cmp.Or(tt.script, plainly), argv...)
			if tt.says == "" {
				p.opened()
				p.press("q")
			}
			p.ended(0)
			if tt.says == "" {
				p.restored()
				return
			}
			sent := p.sent()
			if strings.Contains(sent, "\x1b") {
				t.Errorf("lines have escape sequences: %q", sent)
			}
			line := "herdtrace: " + tt.says
			if told := strings.Contains(sent, lineMode); told != (tt.says != silent) || told && !strings.HasPrefix(sent, line) {
				t.Errorf("it wrote %q, want %q first", sent, line)
			}
		})
	}
}

const (
	lineMode = "lines instead"
	silent   = "no word"
)
