// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// claimsKept bounds how many processes are known that are older than the tracer.
const claimsKept = 65536

// claims knows what /proc/PID/stat says that processes used since attach.
type claims struct {
	attachNS uint64 // CLOCK_BOOTTIME
	// bases are what processes had used by then, or when they were first looked
	// at; of those that started since, it is 0.
	bases map[claimKey]uint64
	buf   [4096]byte
}

// claimKey tells a process from another one with the same number. The start is
// in ticks since boot.
type claimKey struct {
	pid   uint32
	start uint64
}

// newClaims begins now.
func newClaims() *claims {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with a valid pointer
	return &claims{attachNS: uint64(ts.Nano()), bases: make(map[claimKey]uint64)}
}

// seed looks at processes for the first time.
func (c *claims) seed(pids []uint32) {
	for _, pid := range pids {
		if st, ok := c.read(pid); ok {
			c.base(claimKey{pid, st.start}, st.usedNS)
		}
	}
}

// of returns what a process that started at startNS (CLOCK_BOOTTIME) claims to
// have used since attach, in steps of 10 ms: since the first look, for an older
// one that was not seeded. It is nil where the process is gone, or there is no
// room to remember it.
func (c *claims) of(pid uint32, startNS uint64) *uint64 {
	key := claimKey{pid, startNS / nsPerTick}
	st, ok := c.read(pid)
	if !ok || st.start != key.start {
		delete(c.bases, key)
		return nil
	}
	used := st.usedNS
	if startNS < c.attachNS {
		base, ok := c.base(key, used)
		if !ok {
			return nil
		}
		used = less(used, base)
	}
	return &used
}

// base returns what was found at the first look, which is this one at the latest.
func (c *claims) base(key claimKey, usedNS uint64) (uint64, bool) {
	if base, ok := c.bases[key]; ok {
		return base, true
	}
	if len(c.bases) >= claimsKept {
		return 0, false
	}
	c.bases[key] = usedNS
	return usedNS, true
}

func (c *claims) read(pid uint32) (processTimes, bool) {
	b, err := readFileAt(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/stat", pid), c.buf[:])
	if err != nil {
		return processTimes{}, false
	}
	return parsePIDStat(b, pid)
}

// processTimes are of all threads of a process, ended ones included.
type processTimes struct {
	usedNS uint64 // utime and stime, each cut to 10 ms
	start  uint64 // ticks since boot
}

// parsePIDStat reads "pid (comm) state ppid ..." (fs/proc/array.c:
// do_task_stat()), of which the fields 14, 15 and 22 are utime, stime and
// starttime in ticks. A comm may have anything in it, the rest no parenthesis.
func parsePIDStat(b []byte, pid uint32) (st processTimes, ok bool) {
	end := bytes.LastIndexByte(b, ')')
	head := append(strconv.AppendUint(nil, uint64(pid), 10), " ("...)
	if !bytes.HasPrefix(b, head) || end < 0 {
		return st, false
	}
	const comm, utime, stime, start, last = 2, 14, 15, 22, 24
	f := bytes.Fields(b[end+1:])
	if len(f) < last-comm {
		return st, false // cut off
	}
	var n [3]uint64
	for i, field := range [...]int{utime, stime, start} {
		var err error
		if n[i], err = strconv.ParseUint(string(f[field-comm-1]), 10, 64); err != nil {
			return st, false
		}
	}
	ticks := n[0] + n[1]
	if ticks < n[0] || ticks > (1<<64-1)/nsPerTick {
		return st, false
	}
	return processTimes{ticks * nsPerTick, n[2]}, true
}
