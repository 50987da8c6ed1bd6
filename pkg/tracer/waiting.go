// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// maxWatched bounds how many descriptors of a poll() or select() are looked at.
const maxWatched = 4096

// sleeping is where a thread sleeps.
type sleeping struct {
	wait string    // sample.Wait*, "" when in some other system call
	args [2]uint64 // the first two arguments
}

// sleepsIn reads /proc/TID/syscall; ok is false when the thread runs, or cannot
// be looked at (fs/proc/base.c: proc_pid_syscall()).
func sleepsIn(pid, tid uint32) (s sleeping, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return s, false
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return s, false // "running"
	}
	nr, err := strconv.ParseInt(string(f[0]), 10, 64)
	if err != nil {
		return s, false
	}
	s.wait = waitCalls[nr]
	for i := 0; i < len(s.args) && i+1 < len(f); i++ {
		s.args[i], _ = strconv.ParseUint(string(f[i+1]), 0, 64)
	}
	return s, true
}

// waitsFor reports whether the thread sleeps in a wait for the listener. That it
// sleeps in poll() is not enough: it may wait for a database, while the listener
// has to wait for it. So what it waits for is read: from the epoll instance, or
// from the arguments of the call.
func (r *acceptReader) waitsFor(inode uint64, pid, tid uint32) bool {
	s, asleep := sleepsIn(pid, tid)
	if !asleep {
		return false
	}
	fds := r.holders.of[inode][pid]
	switch s.wait {
	case sample.WaitAccept:
		return slices.Contains(fds, uint32(s.args[0]))
	case sample.WaitEpoll:
		_, ok := epollEvents(pid, uint32(s.args[0]), inode)
		return ok
	case sample.WaitPoll:
		return pollWatches(readMemory(pid, s.args[0], 8*min(s.args[1], maxWatched)), fds)
	case sample.WaitSelect:
		return selectWatches(readMemory(pid, s.args[1], (min(s.args[0], maxWatched)+7)/8), fds)
	}
	return false
}

// readMemory returns n bytes of the process, or nil.
func readMemory(pid uint32, addr, n uint64) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil || addr == 0 || addr > 1<<62 {
		return nil
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(addr)); err != nil {
		return nil
	}
	return b
}

// pollWatches looks for one of fds in an array of struct pollfd.
func pollWatches(array []byte, fds []uint32) bool {
	for ; len(array) >= 8; array = array[8:] {
		if slices.Contains(fds, binary.NativeEndian.Uint32(array)) {
			return true
		}
	}
	return false
}

// selectWatches looks for one of fds in an fd_set.
func selectWatches(set []byte, fds []uint32) bool {
	return slices.ContainsFunc(fds, func(fd uint32) bool {
		return int(fd/8) < len(set) && set[fd/8]&(1<<(fd%8)) != 0
	})
}
