// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// kthreadd is the parent of all kernel threads (init/main.c: rest_init()).
const kthreadd = 2

// findKsoftirqd finds the thread of each core that runs the softirqs which
// found no time in an interrupt. Where processes are hidden it finds none.
func findKsoftirqd() map[int]uint32 {
	found := make(map[int]uint32)
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		pid, err := strconv.ParseUint(d.Name(), 10, 32)
		if err != nil {
			continue
		}
		n, ok := strings.CutPrefix(readTrimmed("/proc/"+d.Name()+"/comm"), "ksoftirqd/")
		if !ok {
			continue
		}
		cpu, err := strconv.ParseUint(n, 10, 16)
		if parent, ok := parentOf(uint32(pid)); err == nil && ok && parent == kthreadd {
			found[int(cpu)] = uint32(pid)
		}
	}
	return found
}

// kthreadRunNS is how long the thread ran since it began: by /proc/PID/schedstat,
// or else by ticks. 0 where neither can be read.
func kthreadRunNS(pid uint32) uint64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if ns := parseSchedstat(b); ns > 0 {
		return ns // zeros are a kernel that does not account it
	}
	b, _ = os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return parseStatTimes(b)
}

// parseSchedstat takes the first of "run wait slices" (fs/proc/base.c:
// proc_pid_schedstat()).
func parseSchedstat(b []byte) uint64 {
	f := bytes.Fields(b)
	if len(f) == 0 {
		return 0
	}
	ns, _ := strconv.ParseUint(string(f[0]), 10, 64)
	return ns
}

// parseStatTimes sums utime and stime, the 14th and 15th field; the second, the
// comm, may hold blanks and parentheses.
func parseStatTimes(b []byte) uint64 {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	utime, _ := strconv.ParseUint(string(f[11]), 10, 64)
	stime, _ := strconv.ParseUint(string(f[12]), 10, 64)
	return (utime + stime) * nsPerTick
}
