// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	term "github.com/herdtrace/herdtrace/cmd/internal/pty"
)

// pty is a terminal that keeps what it is sent, and a shell at it as a person
// has: it outlives the program, for a terminal forgets its modes with its session.
type pty struct {
	t             *testing.T
	master, slave *os.File
	before        unix.Termios
	shell         *exec.Cmd
	pid           int // of the program, below the shell
	rc            chan string

	mu  sync.Mutex
	out []byte
}

func openPTY(t *testing.T, columns, lines int) *pty {
	t.Helper()
	master, slave, err := term.Open(uint16(columns), uint16(lines))
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: master, slave: slave, rc: make(chan string, 1)}
	t.Cleanup(func() { master.Close() })
	t.Cleanup(func() { slave.Close() })
	p.before = p.modes()
	go p.drain()
	return p
}

func (p *pty) drain() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.out = append(p.out, buf[:n]...)
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// sent is what the terminal was sent up to now.
func (p *pty) sent() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

func (p *pty) resize(columns, lines int) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(lines)}); err != nil {
		p.t.Fatalf("resize terminal: %v", err)
	}
}

// modes are the terminal's, as stty shows them.
func (p *pty) modes() unix.Termios {
	p.t.Helper()
	m, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatalf("read the terminal's modes: %v", err)
	}
	return *m
}

func (p *pty) press(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatalf("press %q: %v", keys, err)
	}
}

// person is the environment of one at an ordinary terminal, changed by env.
func person(env ...string) []string {
	out := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TERM=xterm-256color", "LC_ALL=C.UTF-8"}
	return append(out, env...)
}

// start runs a command at the terminal. script is what the shell does with it.
func (p *pty) start(env []string, script string, argv ...string) {
	p.t.Helper()
	says, told, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	stays, ends, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	// The inner shell becomes the program.
	inner := `sh -c 'echo pid=$$ >&3; exec "$@" 3>&- 4>&-' sh "$@"`
	all := fmt.Sprintf(script, inner) + `; rc=$?; printf ` + endMark + `; echo rc=$rc >&3; read x <&4`
	p.shell = exec.Command("sh", append([]string{"-c", all, "sh"}, argv...)...)
	p.shell.Env, p.shell.Dir = env, p.t.TempDir()
	p.shell.Stdin, p.shell.Stdout, p.shell.Stderr = p.slave, p.slave, p.slave
	p.shell.ExtraFiles = []*os.File{told, stays}
	p.shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.shell.Start(); err != nil {
		p.t.Fatal(err)
	}
	told.Close()
	stays.Close()
	p.t.Cleanup(func() {
		if p.pid != 0 {
			unix.Kill(p.pid, unix.SIGKILL) // where the test failed
		}
		ends.Close()
		p.shell.Wait()
		says.Close()
	})
	lines := bufio.NewScanner(says)
	if !lines.Scan() {
		p.t.Fatal("the shell did not start")
	}
	if _, err := fmt.Sscanf(lines.Text(), "pid=%d", &p.pid); err != nil {
		p.t.Fatalf("the shell said %q", lines.Text())
	}
	go func() {
		lines.Scan()
		p.rc <- lines.Text()
	}()
}

// endMark is the last that the terminal is sent.
const endMark = "END-OF-TEST"

const plainly = "%s" // the script that only runs the command

// ended waits for the program, and checks its exit code.
func (p *pty) ended(code int) {
	p.t.Helper()
	select {
	case rc := <-p.rc:
		p.pid = 0 // another one may have it by now
		if want := fmt.Sprintf("rc=%d", code); rc != want {
			p.t.Errorf("it ended with %q, want %s; it wrote %q", rc, want, tail(p.sent()))
		}
		p.shows(endMark)
	case <-time.After(60 * time.Second):
		p.t.Fatalf("it does not end; it wrote %q", tail(p.sent()))
	}
}

func tail(s string) string { return s[max(len(s)-4000, 0):] }

// shows waits until text was written. A screen writes only what changes, so it
// must be one that is written in one go.
func (p *pty) shows(text string) {
	p.t.Helper()
	end := time.Now().Add(60 * time.Second)
	for ; time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(p.sent(), text) {
			return
		}
	}
	p.t.Fatalf("it does not write %q, but %q", text, tail(p.sent()))
}

// redraws waits like shows, for what may be there in parts: a terminal of another
// size is drawn as a whole.
func (p *pty) redraws(text string) {
	p.t.Helper()
	w, err := unix.IoctlGetWinsize(int(p.slave.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		p.t.Fatalf("read the terminal's size: %v", err)
	}
	n := 0
	eventually(p.t, fmt.Sprintf("the screen shows %q", text), func() bool {
		n++
		p.resize(int(w.Col)-n%2, int(w.Row))
		return strings.Contains(p.sent(), text)
	})
}

const (
	entersScreen = "\x1b[?1049h"
	leavesScreen = "\x1b[?1049l"
)

// opened waits until the screen is drawn, and checks that it is one.
func (p *pty) opened() {
	p.t.Helper()
	p.shows(entersScreen)
	p.shows("herdtrace")
	if m := p.modes(); m.Lflag&(unix.ICANON|unix.ECHO) != 0 {
		p.t.Errorf("the terminal is not raw: %+v", m)
	}
}

var privateMode = regexp.MustCompile(`\x1b\[\?([0-9;]+)([hl])`)

// restored checks that the terminal is as it was: its modes, and those that are
// set by what is written. It returns what was written since.
func (p *pty) restored() (after string) {
	p.t.Helper()
	if m := p.modes(); m != p.before {
		p.t.Errorf("the terminal's modes are %+v, they were %+v", m, p.before)
	}
	sent := p.sent()
	modes := make(map[string]bool)
	for _, m := range privateMode.FindAllStringSubmatch(sent, -1) {
		for _, n := range strings.Split(m[1], ";") {
			modes[n] = m[2] == "h"
		}
	}
	for n, on := range modes {
		want := n == "25" || n == "7" // the cursor, and lines that wrap
		if on != want {
			p.t.Errorf("private mode %s: left %v, want %v", n, on, want)
		}
	}
	if pushed, popped := strings.Count(sent, "\x1b[>"), strings.Count(sent, "\x1b[<"); pushed > popped {
		p.t.Errorf("%d keyboard modes were pushed, and %d popped", pushed, popped)
	}
	if i := strings.LastIndex(sent, "\x1b="); i > strings.LastIndex(sent, "\x1b>") {
		p.t.Error("the keypad is left in application mode")
	}
	at := strings.LastIndex(sent, leavesScreen)
	if at < 0 || strings.LastIndex(sent, entersScreen) > at {
		p.t.Fatalf("the alternate screen was not left: %q", tail(sent))
	}
	return strings.TrimSuffix(sent[at+len(leavesScreen):], endMark)
}
