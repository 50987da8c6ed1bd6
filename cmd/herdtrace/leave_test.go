// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullAfter returns a FIFO that nobody reads, with room for so many bytes. A write
// of no more than a page goes in as a whole, or waits (fs/pipe.c: anon_pipe_write()).
func fullAfter(t *testing.T, room int) (path string, full func() bool) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	size, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, unix.Getpagesize())
	if err != nil || room > size {
		t.Fatalf("a pipe of %d bytes, want room for %d: %v", size, room, err)
	}
	if n, err := unix.Write(fd, bytes.Repeat([]byte("\n"), size-room)); err != nil || n != size-room {
		t.Fatalf("%d bytes written: %v", n, err)
	}
	return path, func() bool {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err != nil || n == size
	}
}

// TestLeftWhileItHangs: where somebody does not read what herdtrace writes, it still
// can be left, by a second wish of any kind, and the terminal is as before.
func TestLeftWhileItHangs(t *testing.T) {
	all, _, _ := cli(t, nil, "replay", recordingOf(t, "herd-cured"), "--json")
	room := strings.LastIndexByte(all[:strings.Index(all, `"type":"interval"`)], '\n') + 1 // up to the first one
	signals := func(list ...unix.Signal) func(*pty, int) {
		return func(p *pty, n int) { unix.Kill(p.pid, list[n%len(list)]) } // it may be gone
	}
	for name, wish := range map[string]func(p *pty, n int){
		"SIGINT":          signals(unix.SIGINT),
		"SIGTERM":         signals(unix.SIGTERM),
		"SIGTERM, SIGINT": signals(unix.SIGTERM, unix.SIGINT),
		"SIGHUP, SIGTERM": signals(unix.SIGHUP, unix.SIGTERM),
		"q":               func(p *pty, _ int) { p.press("q") },
		"q, SIGTERM": func(p *pty, n int) {
			if n == 0 {
				p.press("q")
			}
			unix.Kill(p.pid, unix.SIGTERM)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has patience for a second
			path, full := fullAfter(t, room)
			// On its way to a time it does not wait between two ticks.
			p := replayAt(t, 120, 40, "herd-cured", "--from", "1h", "--json="+path)
			eventually(t, "the FIFO is full", full)
			n := 0
			eventually(t, "it ends", func() bool {
				if wish(p, n); p.alive() {
					n++
					return false
				}
				return true
			})
			p.ended(exitInterrupt)
			if after := p.restored(); !strings.Contains(after, "left without a summary") {
				t.Errorf("on the normal screen is %q", tail(after))
			}
		})
	}
}

// TestStopped: stopped by whatever means, and let go on, the screen is there again
// and takes keys.
func TestStopped(t *testing.T) {
	const says = "IT-IS-STOPPED"
	for _, tt := range []struct {
		name  string
		stop  func(p *pty)
		asked bool // it can do something before
	}{
		{"ctrl-z", func(p *pty) { p.press("\x1a") }, true},
		{"SIGTSTP", func(p *pty) { p.signal(unix.SIGTSTP) }, true},
		{"SIGSTOP", func(p *pty) { p.signal(unix.SIGSTOP) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := openPTY(t, 120, 40)
			p.start(person(), "set -m; %s; printf "+says+"; read x; fg", tool(t, "herdtrace"), "replay", recordingOf(t, "herd-cured"))
			for round := 1; round <= 2; round++ {
				eventually(t, "the screen is opened", func() bool {
					return strings.Count(p.sent(), entersScreen) == round && p.modes().Lflag&unix.ICANON == 0
				})
				p.press("?")
				p.redraws("HELP")
				if round == 2 {
					break
				}
				tt.stop(p)
				p.shows(says)
				if tt.asked {
					p.restored()
				} else if err := unix.IoctlSetTermios(int(p.slave.Fd()), unix.TCSETS, &p.before); err != nil { // as a shell does
					t.Fatal(err)
				}
				p.press("\n")
			}
			p.press("q")
			p.ended(0)
			p.restored()
		})
	}
}
