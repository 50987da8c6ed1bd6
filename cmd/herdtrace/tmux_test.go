// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
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
		pane = m.tmux("capture-pane", "-p", "-S", "-500") // what a long summary pushed up is there, too
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

// hostileHost is what is left of the host's name, in the header.
const hostileHost = "web?[2J?3"

// TestHostileInTerminal: names that are escape sequences have no effect on a real
// terminal, and the picture keeps its frame.
func TestHostileInTerminal(t *testing.T) {
	needTmux(t)
	const columns, lines = 80, 24
	term := newTerminal(t, columns, lines, tool(t, "herdtrace")+" replay "+recordingOf(t, "hostile")+" --speed 8")
	for _, panel := range []string{"0", "1", "2", "3", "4", "5"} {
		term.tmux("send-keys", panel)
		term.shows(hostileHost, "q quit")
		term.checkFrame(columns, lines)
	}
	term.shows("END")
	for _, key := range []string{"1", "Enter", "Escape", "3", "Enter", "Escape", "5", "Enter", "Escape"} {
		term.tmux("send-keys", key)
		term.shows(hostileHost)
		term.checkFrame(columns, lines)
	}
	eventually(t, "q ends it", func() bool {
		term.tmux("send-keys", "q") // one right after Escape is another key
		return strings.Contains(term.tmux("capture-pane", "-p"), "rc=0")
	})
	if got := term.asks("alternate_on"); got != "0" {
		t.Errorf("alternate_on is %s after the end", got)
	}
}

// asks returns one of tmux's variables of the pane.
func (m *terminal) asks(variable string) string {
	m.t.Helper()
	return strings.TrimSpace(m.tmux("display-message", "-p", "#{"+variable+"}"))
}

// styling is all that may be left of escape sequences: colours, bold, dim,
// underline and reverse; no blinking and no hidden text.
var styling = regexp.MustCompile(`\x1b\[(?:(?:0|1|2|4|7|3[0-7]|39|4[0-7]|49|9[0-7])(?:;|m))*m?|\x1b\[m|\x0f|\x0e`)

// checkFrame looks for what a name did that was obeyed.
func (m *terminal) checkFrame(columns, lines int) {
	m.t.Helper()
	pane := strings.TrimSuffix(m.tmux("capture-pane", "-p"), "\n")
	rows := strings.Split(pane, "\n")
	if len(rows) != lines || !strings.HasPrefix(rows[0], "herdtrace ") || !strings.Contains(rows[0], hostileHost) {
		m.t.Errorf("%d lines, want %d, the first one herdtrace's", len(rows), lines)
	}
	for _, r := range rows {
		if utf8.RuneCountInString(r) > columns {
			m.t.Errorf("a line is wider than %d columns: %q", columns, r)
		}
		for _, c := range r {
			if unicode.IsControl(c) || unicode.In(c, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || c == '\u200b' {
				m.t.Errorf("%q is on the screen: %q", c, r)
			}
		}
	}
	if left := styling.ReplaceAllString(m.tmux("capture-pane", "-p", "-e"), ""); strings.Contains(left, "\x1b") {
		m.t.Errorf("more than colours are on the screen: %q", left)
	}
	for variable, want := range map[string]string{
		"alternate_on": "1", "cursor_flag": "0", "origin_flag": "0", "insert_flag": "0",
		"scroll_region_upper": "0", "scroll_region_lower": fmt.Sprint(lines - 1), "pane_width": fmt.Sprint(columns), "pane_height": fmt.Sprint(lines),
	} {
		if got := m.asks(variable); got != want {
			m.t.Errorf("%s is %s, want %s", variable, got, want)
		}
	}
	if title := m.asks("pane_title"); strings.Contains(title, "owned") {
		m.t.Errorf("the terminal's title is %q", title)
	}
	if m.t.Failed() {
		m.t.Fatalf("the pane:\n%s", pane)
	}
}
