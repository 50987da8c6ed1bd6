// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// settleLimit bounds one wait for the workers to sleep again.
const settleLimit = time.Second

// sleepers knows whether all workers sleep. It makes wake-ups countable: a
// connection that arrives while every worker sleeps wakes exactly those that
// the wait mode lets it wake.
type sleepers struct {
	pids       []int
	allThreads bool // false: only the main thread does the work
}

// asleep reports whether every worker sleeps now.
func (s sleepers) asleep() bool {
	for _, pid := range s.pids {
		dir := "/proc/" + strconv.Itoa(pid)
		if !s.allThreads {
			if !threadWaits(dir) {
				return false
			}
			continue
		}
		tasks, err := os.ReadDir(dir + "/task")
		if err != nil {
			return false
		}
		for _, t := range tasks {
			if threadState(dir+"/task/"+t.Name()) != 'S' {
				return false
			}
		}
	}
	return true
}

// await waits until every worker sleeps, at most limit; false when it gave up.
func (s sleepers) await(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		if s.asleep() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// threadWaits reports whether the thread sleeps in a system call of its own
// making. State S alone is a little early: ep_poll() sets TASK_INTERRUPTIBLE
// before it is queued and before it leaves the CPU. /proc/PID/syscall goes
// through wait_task_inactive() (lib/syscall.c: task_current_syscall()), hence
// it answers only for a thread that is truly off the CPU, and it tells a futex
// of the Go runtime from the wait for a connection. Where it may not be read
// (hidepid, Yama), the state has to do.
func threadWaits(dir string) bool {
	if threadState(dir) != 'S' {
		return false
	}
	var buf [256]byte
	text := readSmall(dir+"/syscall", buf[:])
	nr, _, _ := bytes.Cut(text, []byte(" "))
	switch string(bytes.TrimSpace(nr)) {
	case "":
		return true
	case "running", strconv.Itoa(unix.SYS_FUTEX):
		return false
	}
	return true
}

// threadState returns the state letter of /proc/PID/stat, 0 when there is
// none. The comm before it may contain anything, so look for its last ')'.
func threadState(dir string) byte {
	var buf [512]byte
	text := readSmall(dir+"/stat", buf[:])
	if i := bytes.LastIndexByte(text, ')'); i >= 0 && i+2 < len(text) {
		return text[i+2]
	}
	return 0
}

// readSmall reads a small file of /proc with as little ado as possible: it is
// called thousands of times a second beside the load it must not disturb.
func readSmall(path string, buf []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}
