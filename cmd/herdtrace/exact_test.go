// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestExactAtSaturation: over 100,000 connections as fast as they go, what
// herdtrace counts is what the server and the kernel count, in two runs.
func TestExactAtSaturation(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"block", "poll", "epoll-lt", "epoll-et", "epoll-et-noloop", "epoll-exclusive", "reuseport", "go-net"} {
		t.Run(mode, func(t *testing.T) {
			for range 2 {
				r := lab(t, exactly, "--mode", mode, "--conns", "100000", "--duration", "120s")
				r.checkExact(t)
				o := &r.oracles[0]
				if o.Connections != 100_000 {
					t.Errorf("the lab made %d connections, wanted 100000", o.Connections)
				}
				sum, _ := r.at(t, o)
				if mode == "epoll-et" && sum.Drains+sum.Wasted > sum.EAGAINs {
					t.Errorf("%d drains and %d wasted are more than %d EAGAINs", sum.Drains, sum.Wasted, sum.EAGAINs)
				}
			}
		})
	}
}

// TestWakeupsPaced: where the server sleeps between connections, the number of
// wake-ups that each must cause is known.
func TestWakeupsPaced(t *testing.T) {
	needRoot(t)
	for _, listen := range []string{"tcp4", "tcp6", "dual", "mptcp", "unix"} {
		for _, mode := range []string{"block", "poll", "epoll-lt", "epoll-et", "epoll-exclusive", "reuseport"} {
			if listen == "unix" && mode == "reuseport" {
				continue // there is no such thing
			}
			if listen != "tcp4" && (mode == "poll" || mode == "epoll-et") {
				continue // as epoll-lt: the wait does not know of addresses
			}
			t.Run(listen+"/"+mode, func(t *testing.T) {
				r := lab(t, exactly, "--mode", mode, "--listen", listen, "--rate", "1000", "--conns", "500", "--duration", "60s")
				checkPaced(t, r, listen, mode)
			})
		}
	}
}

var waitNames = map[string]string{
	"block": "accept", "poll": "poll", "epoll-lt": "epoll", "epoll-et": "epoll-et",
	"epoll-exclusive": "epoll-exclusive", "reuseport": "epoll",
}

func checkPaced(t *testing.T, r *traced, listen, mode string) {
	t.Helper()
	r.checkExact(t)
	o := &r.oracles[0]
	sum, list := r.at(t, o)
	want := 8.0 // what epoll-et shows, too: it cures stranding, not the herd
	if o.WakeExpected != nil {
		want = *o.WakeExpected
	}
	got := float64(sum.Wakeups) / float64(sum.Accepts)
	slack := 0.01*want + want*float64(o.Unsettled)/float64(o.Accepts)
	if math.Abs(got-want) > slack {
		t.Errorf("%.3f wake-ups per connection, want %.0f within 1 %%", got, want)
	}
	// An exclusive wait may wake the same worker each time: fewer are seen then.
	if workers := sum.Workers; workers > 8 || (want == 8 && workers != 8) {
		t.Errorf("%d workers, want 8", workers)
	}
	sockets := 1
	if mode == "reuseport" {
		sockets = 8
	}
	for _, l := range list {
		if l.Wait != waitNames[mode] {
			t.Errorf("waits by %q, want %q", l.Wait, waitNames[mode])
		}
		if l.Program != "herdlab" || l.Sockets > sockets {
			t.Errorf("program %q, %d sockets; want herdlab, %d", l.Program, l.Sockets, sockets)
		}
		if proto := map[string]string{"mptcp": "mptcp", "unix": "unix"}[listen]; proto != "" && l.Proto != proto {
			t.Errorf("proto %q, want %q", l.Proto, proto)
		}
	}
	if o.Drains != nil && mode == "epoll-et" && *o.Drains != sum.Drains {
		t.Errorf("drain_eagain_total %d, the server counted %d", sum.Drains, *o.Drains)
	}
}

// TestEveryVariant forces each variant that this host takes; at least one more
// than the best of each signal must be there to fall back to.
func TestEveryVariant(t *testing.T) {
	needRoot(t)
	for signal, names := range map[string][]string{
		"accept": {"fexit", "syscall", "sys_exit"},
		"wake":   {"fentry", "data_ready", "set_state"},
	} {
		worked := 0
		for _, name := range names {
			t.Run(signal+"="+name, func(t *testing.T) {
				force := []string{unbound, "--variant", signal + "=" + name}
				r := lab(t, force, "--mode", "epoll-lt", "--rate", "1000", "--conns", "500", "--duration", "60s")
				for _, s := range r.of("header")[0].Signals {
					if s.Name == signal && s.Accuracy == "unavailable" {
						t.Logf("%s=%s does not attach here", signal, name)
						return
					}
				}
				worked++
				r.checkExact(t)
				sum, _ := r.at(t, &r.oracles[0])
				if got := float64(sum.Wakeups) / float64(sum.Accepts); math.Abs(got-8) > 0.08 {
					t.Errorf("%.3f wake-ups per connection, want 8 within 1 %%", got)
				}
			})
		}
		if worked < 2 {
			t.Errorf("%s: %d variants work on this host, want two at least", signal, worked)
		}
	}
}

// TestReopenedListener: a listener that is closed and opened again on the same
// port is another one, also when no tick saw the first one die and both have
// the same struct sock.
func TestReopenedListener(t *testing.T) {
	needRoot(t)
	herdlab := tool(t, "herdlab") + " accept --mode epoll-lt --rate 2000 --conns 50 --port 8099 --workers 2"
	for _, interval := range []string{"100ms", "1m"} {
		t.Run(interval, func(t *testing.T) {
			script := "set -e; " + strings.Repeat(herdlab+"; ", 5)
			r := herdtrace(t, append([]string{unbound, "-i", interval, "--"}, inNetns("sh", "-c", script)...)...)
			if r.code != 0 || len(r.oracles) != 5 {
				t.Fatalf("exit %d, %d oracles: %s", r.code, len(r.oracles), r.stderr)
			}
			inodes := make(map[uint64]bool)
			for _, l := range r.summary(t).Listeners {
				if l.Port != 8099 {
					continue
				}
				inodes[l.Inode] = true
				if l.Accepts != 50 || l.Completions != 50 {
					t.Errorf("inode %d: %d accepts of %d connections, want 50 of 50", l.Inode, l.Accepts, l.Completions)
				}
			}
			if len(inodes) != 5 {
				t.Errorf("%d listeners, want 5", len(inodes))
			}
		})
	}
}

// TestPortFilter: what was not asked for is not there.
func TestPortFilter(t *testing.T) {
	needRoot(t)
	r := lab(t, []string{unbound, "-P", "8098"}, "--mode", "block", "--rate", "2000", "--conns", "20", "--port", "8098")
	r.checkExact(t)
	if n := len(r.summary(t).Listeners); n != 1 {
		t.Errorf("%d listeners, want the one asked for", n)
	}
	r = lab(t, []string{unbound, "-P", "8097"}, "--mode", "block", "--rate", "2000", "--conns", "20", "--port", "8098")
	if n := len(r.summary(t).Listeners); n != 0 {
		t.Errorf("%d listeners, want none", n)
	}
}

// TestPidFilter: a process and its children, nobody else.
func TestPidFilter(t *testing.T) {
	needRoot(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	dir := t.TempDir()
	up, start := filepath.Join(dir, "up"), filepath.Join(dir, "start")
	load := exec.Command(tool(t, "herdlab"), "accept", "--mode", "epoll-lt", "--rate", "1000", "--conns", "500",
		"--linger", "60s", "--duration", "60s", "--ready-file", up, "--wait-file", start)
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	defer load.Wait()
	defer load.Process.Signal(os.Interrupt)
	eventually(t, "the lab is up", func() bool { _, err := os.Stat(up); return err == nil })
	writeFile(t, start, "")
	r := herdtrace(t, "-p", strconv.Itoa(load.Process.Pid), "-d", "2s")
	ls := r.summary(t).Listeners
	if len(ls) != 1 || ls[0].Program != "herdlab" || ls[0].Workers != 8 || ls[0].Processes != 9 {
		t.Errorf("listeners %+v, want the lab's only, with 8 workers in 9 processes", ls)
	}
}

// TestHostileName: what a process calls itself does not break the output.
func TestHostileName(t *testing.T) {
	needRoot(t)
	name := "\x1b[2J\"}\n<b>"
	r := lab(t, exactly, "--mode", "epoll-lt", "--rate", "2000", "--conns", "200", "--comm", name)
	r.checkExact(t)
	for i, line := range strings.Split(strings.TrimRight(string(r.raw), "\n"), "\n") {
		if strings.ContainsAny(line, "\x1b") {
			t.Errorf("line %d holds an escape: %q", i+1, line)
		}
	}
	for _, f := range r.of("finding") {
		if text := fmt.Sprint(f.Subject, f.Evidence, f.Cause, f.Remedy); strings.ContainsAny(text, "\x1b\n") {
			t.Errorf("finding holds a control byte: %q", text)
		}
	}
}
