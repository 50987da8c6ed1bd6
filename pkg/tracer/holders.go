// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/herdtrace/herdtrace/bpf"
)

// holders knows which processes have which listening socket open. One pass of
// the task_file iterator finds them in all namespaces, without a read of
// /proc/PID/fd for each descriptor of the machine.
type holders struct {
	dump      func() ([]bpf.AcceptHolder, error)
	at        time.Time
	wanted    bool                           // somebody saw a process or socket that is not known yet
	of        map[uint64]map[uint32][]uint32 // listener inode -> processes -> their descriptors of it
	epolls    map[uint32][]uint32            // process -> descriptors of its epoll instances
	urings    map[uint32]bool                // process -> has an io_uring
	roots     []uint32
	netnsPids map[uint32]uint32
	netnsAt   time.Time
	family    map[uint32]time.Time // roots and all that descend from them: when they were seen alive last
}

func newHolders(dump func() ([]bpf.AcceptHolder, error), roots []uint32) *holders {
	h := &holders{dump: dump, roots: roots, family: make(map[uint32]time.Time)}
	for _, pid := range roots {
		h.family[pid] = time.Now()
	}
	return h
}

// refresh looks everything up again.
func (h *holders) refresh() error {
	recs, err := h.dump()
	if err != nil {
		return fmt.Errorf("read open files: %w", err)
	}
	h.of = make(map[uint64]map[uint32][]uint32)
	h.epolls = make(map[uint32][]uint32)
	h.urings = make(map[uint32]bool)
	for _, rec := range recs {
		switch bpf.AcceptHolderKind(rec.Kind) {
		case bpf.AcceptHolderKindHOLDER_LISTENER:
			if h.of[rec.Ino] == nil {
				h.of[rec.Ino] = make(map[uint32][]uint32)
			}
			h.of[rec.Ino][rec.Tgid] = append(h.of[rec.Ino][rec.Tgid], rec.Fd)
		case bpf.AcceptHolderKindHOLDER_EPOLL:
			h.epolls[rec.Tgid] = append(h.epolls[rec.Tgid], rec.Fd)
		case bpf.AcceptHolderKindHOLDER_URING:
			h.urings[rec.Tgid] = true
		}
	}
	if len(h.roots) > 0 {
		h.growFamily()
	}
	h.at = time.Now()
	h.wanted = false
	return nil
}

// netns finds a process for each network namespace, as of a second ago at most.
func (h *holders) netns() map[uint32]uint32 {
	if time.Since(h.netnsAt) > time.Second {
		h.netnsPids, h.netnsAt = netnsPids(), time.Now()
	}
	return h.netnsPids
}

func (h *holders) has(inode uint64, pid uint32) bool {
	_, ok := h.of[inode][pid]
	return ok
}

// lowest are the first n holders by pid: of a prefork server its master first.
func (h *holders) lowest(inode uint64, n int) []uint32 {
	pids := slices.Sorted(maps.Keys(h.of[inode]))
	return pids[:min(n, len(pids))]
}

// familyKept is for how long a member is one after its end: until what it did is
// told, and not until its number is another's.
const familyKept = time.Minute

// growFamily adds the children of known members, and theirs, and forgets the dead.
func (h *holders) growFamily() {
	now := time.Now()
	children := make(map[uint32][]uint32)
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, d := range dirs {
		pid, err := strconv.ParseUint(d.Name(), 10, 32)
		if err != nil {
			continue
		}
		if parent, ok := parentOf(uint32(pid)); ok {
			children[parent] = append(children[parent], uint32(pid))
			if h.isFamily(uint32(pid)) {
				h.family[uint32(pid)] = now
			}
		}
	}
	var grow func(pid uint32)
	grow = func(pid uint32) {
		for _, c := range children[pid] {
			if !h.isFamily(c) {
				h.family[c] = now
				grow(c)
			}
		}
	}
	for pid := range h.family {
		grow(pid)
	}
	maps.DeleteFunc(h.family, func(_ uint32, seen time.Time) bool { return now.Sub(seen) > familyKept })
}

func (h *holders) isFamily(pid uint32) bool { return !h.family[pid].IsZero() }

// parentOf reads the fourth field of /proc/PID/stat; the second, the comm, may
// hold blanks and parentheses.
func parentOf(pid uint32) (uint32, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	fields := bytes.Fields(rest)
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.ParseUint(string(fields[1]), 10, 32)
	return uint32(parent), err == nil
}
