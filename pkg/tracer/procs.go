// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// waitAgain is how often a worker's way of waiting is looked up again.
	waitAgain = 10 * time.Second
	// waitPerTick bounds the look-ups of one tick.
	waitPerTick = 256
)

// include/uapi/linux/eventpoll.h: what fdinfo prints of a descriptor's events.
const (
	epollExclusive = 1 << 28
	epollET        = 1 << 31
)

// procCache remembers what /proc says of processes.
type procCache struct {
	programs map[uint32]programEntry
	lookups  int // left in this tick
}

type programEntry struct {
	name string
	at   time.Time
}

func newProcCache() *procCache {
	return &procCache{programs: make(map[uint32]programEntry), lookups: waitPerTick}
}

// nextTick renews the bound on look-ups and forgets what is old.
func (c *procCache) nextTick() {
	c.lookups = waitPerTick
	for pid, e := range c.programs {
		if time.Since(e.at) > waitAgain {
			delete(c.programs, pid)
		}
	}
}

// program is what a person would call process pid: "gunicorn" for
// "python3 /usr/bin/gunicorn", "nginx" for "nginx: worker process". Empty when
// the process is gone.
func (c *procCache) program(pid uint32) string {
	if e, ok := c.programs[pid]; ok {
		return e.name
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	name := programOf(cmdline)
	if name == "" {
		name = readTrimmed(fmt.Sprintf("/proc/%d/comm", pid))
	}
	c.programs[pid] = programEntry{name, time.Now()}
	return name
}

var interpreters = []string{"python", "ruby", "node", "perl", "php", "bash", "sh", "uv"}

// programOf finds the program's name in the contents of /proc/PID/cmdline.
func programOf(cmdline []byte) string {
	args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	title, _, retitled := strings.Cut(args[0], ": ")
	name := baseName(title)
	if retitled || len(args) == 1 {
		return firstWord(name)
	}
	for _, i := range interpreters {
		if strings.TrimRight(strings.TrimPrefix(name, i), "0123456789.") == "" && strings.HasPrefix(name, i) {
			return scriptOf(args[1:], name)
		}
	}
	return name
}

// scriptOf is the script that an interpreter runs: its first argument that is no
// option, or the module after -m.
func scriptOf(args []string, interpreter string) string {
	for i, a := range args {
		switch {
		case a == "-m" && i+1 < len(args):
			return args[i+1]
		case a == "-c" || a == "-e":
			return interpreter
		case !strings.HasPrefix(a, "-"):
			return baseName(a)
		}
	}
	return interpreter
}

func baseName(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

func firstWord(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return strings.TrimSuffix(s, ":")
}

// epollEvents finds the events for which an epoll instance watches the socket of
// that inode (fs/eventpoll.c: ep_show_fdinfo()).
func epollEvents(pid, fd uint32, inode uint64) (events uint64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return 0, false
	}
	return parseEpollEvents(b, inode)
}

func parseEpollEvents(fdinfo []byte, inode uint64) (events uint64, ok bool) {
	want := strconv.FormatUint(inode, 16)
	for line := range bytes.Lines(fdinfo) {
		if !bytes.HasPrefix(line, []byte("tfd:")) {
			continue
		}
		f := bytes.Fields(bytes.ReplaceAll(line, []byte(":"), []byte(": ")))
		var ino string
		for i := 0; i+1 < len(f); i++ {
			switch string(f[i]) {
			case "events:":
				events, _ = strconv.ParseUint(string(f[i+1]), 16, 64)
			case "ino:":
				ino = string(f[i+1])
			}
		}
		if ino == want {
			return events, true
		}
	}
	return 0, false
}

func epollWait(events uint64) string {
	switch {
	case events&epollExclusive != 0:
		return sample.WaitEpollExclusive
	case events&epollET != 0:
		return sample.WaitEpollET
	}
	return sample.WaitEpoll
}

// findWait finds out how w waits for ls, if it is time to.
func (r *acceptReader) findWait(ls *listenerState, w *workerState) {
	known := w.wait != sample.WaitUnknown
	if r.procs.lookups <= 0 || (known && time.Since(w.waitAt) < waitAgain) {
		return
	}
	r.procs.lookups--
	if wait := r.waitOf(ls.raw.Ino, w); wait != sample.WaitUnknown {
		w.wait, w.waitAt = wait, time.Now()
	}
}

func (r *acceptReader) waitOf(inode uint64, w *workerState) string {
	pid := w.raw.Tgid
	// Where it slept when the listener woke it last; else where it sleeps now.
	wait := waitCalls[int64(w.raw.WaitNr)]
	s, asleep := sleepsIn(pid, w.raw.Tid)
	if wait == "" && asleep && r.waitsFor(inode, pid, w.raw.Tid) {
		wait = s.wait
	}
	if wait != "" && wait != sample.WaitEpoll {
		return wait
	}
	if asleep && s.wait == sample.WaitEpoll {
		// The instance that this thread waits on decides, if it has the socket.
		if ev, ok := epollEvents(pid, uint32(s.args[0]), inode); ok {
			return epollWait(ev)
		}
	}
	for _, fd := range r.holders.epolls[pid] {
		if ev, ok := epollEvents(pid, fd, inode); ok {
			return epollWait(ev)
		}
	}
	if r.holders.urings[pid] && w.raw.Accepts+w.raw.Eagains == 0 {
		return sample.WaitURing
	}
	return sample.WaitUnknown
}
