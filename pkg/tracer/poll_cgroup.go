// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unseenGroup is the id of the groups that are out of sight. No directory has it.
const unseenGroup = 1 << 63

// groupFinder finds the cgroups of processes by what /proc calls them.
type groupFinder struct {
	tree *hierarchy        // nil: there are none to be seen
	ids  map[string]uint64 // by path, in this scan: a new group may have an old one's
}

func (f *groupFinder) next() { f.ids = make(map[string]uint64) }

// of is the group of a process's main thread, which stands for the others: 0,
// the root, for a thread of the kernel.
func (f *groupFinder) of(s *threadScan, pid uint32, kernel bool) uint64 {
	if f.tree == nil || kernel {
		return 0
	}
	b, ok := s.read(strconv.FormatUint(uint64(pid), 10) + "/cgroup")
	if !ok {
		return unseenGroup
	}
	group, ok := groupIn(string(b), "cpu", f.tree.v2)
	if !ok {
		return unseenGroup
	}
	id, ok := f.ids[group]
	if !ok {
		id = f.find(group)
		f.ids[group] = id
	}
	return id
}

// find looks the group up where it is mounted.
func (f *groupFinder) find(group string) uint64 {
	below := group
	if f.tree.root != "/" {
		rest, ok := strings.CutPrefix(group, f.tree.root)
		if !ok || rest != "" && rest[0] != '/' {
			return unseenGroup
		}
		below = rest
	}
	var st unix.Stat_t
	if unix.Fstatat(f.tree.dir, "."+below, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return unseenGroup
	}
	return st.Ino
}
