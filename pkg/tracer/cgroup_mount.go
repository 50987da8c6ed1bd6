// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is a tree of cgroups, as far as it can be seen.
type hierarchy struct {
	dir  int // descriptor of its root
	v2   bool
	root string // what our cgroup namespace calls it; "" where that is not known
}

// Close may be called more than once.
func (h *hierarchy) Close() error {
	dir := h.dir
	if h.dir = -1; dir < 0 {
		return nil
	}
	return unix.Close(dir)
}

// openHierarchy opens the one that is mounted at root.
func openHierarchy(root string, v2 bool) (*hierarchy, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup mount %q: %w", root, err)
	}
	return &hierarchy{dir: fd, v2: v2}, nil
}

// findHierarchy opens the hierarchy of a controller, v1 or v2: where the whole of
// it is mounted, else through a mount of our own that is attached nowhere, so
// that nobody sees it and nothing stays behind, else the part that is mounted
// here. Whole is what pid 1 sees of it, where that can be had.
func findHierarchy(controller string) (*hierarchy, error) {
	return findHierarchyOf(hostView{}.hostNS("cgroup"), controller)
}

// findHierarchyOf finds what is seen in the cgroup namespace ns.
func findHierarchyOf(ns, controller string) (*hierarchy, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroup mount: %w", err)
	}
	mounts := parseCGroupMounts(string(b), controller)
	inside := !inCGroupNS(ns)
	for _, m := range mounts {
		if m.root == "/" && !inside {
			if h := m.open(controller); h != nil {
				return h, nil
			}
		}
	}
	h, err := detachedHierarchy(ns, controller)
	for i := 0; h == nil && i < len(mounts); i++ {
		h = mounts[i].open(controller)
	}
	if h == nil {
		return nil, fmt.Errorf("find cgroups of controller %s: %w", controller, err)
	}
	return h, nil
}

// cgroupMount is a line of mountinfo.
type cgroupMount struct {
	root  string // the cgroup that is mounted, as our cgroup namespace calls it
	point string
	v2    bool
}

// parseCGroupMounts finds the mounts that may show the controller, v1 before v2,
// in lines "id parent major:minor root mount-point options [field]... - type
// source super-options" (fs/proc_namespace.c: show_mountinfo()), which escape
// white space in names.
func parseCGroupMounts(mountinfo, controller string) []cgroupMount {
	var v1, v2 []cgroupMount
	for line := range strings.Lines(mountinfo) {
		mount, super, _ := strings.Cut(line, " - ")
		f, s := strings.Fields(mount), strings.Fields(super)
		if len(f) < 6 || len(s) < 3 {
			continue
		}
		m := cgroupMount{root: unescapeMount(f[3]), point: unescapeMount(f[4])}
		switch {
		case s[0] == "cgroup" && slices.Contains(strings.Split(s[2], ","), controller):
			v1 = append(v1, m)
		case s[0] == "cgroup2":
			m.v2 = true
			v2 = append(v2, m)
		}
	}
	return append(v1, v2...)
}

// unescapeMount undoes \040 and the like (fs/seq_file.c: mangle_path()).
func unescapeMount(s string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, `\`)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if n, err := strconv.ParseUint(after[:min(3, len(after))], 8, 8); err == nil && len(after) >= 3 {
			out.WriteByte(byte(n))
			s = after[3:]
			continue
		}
		out.WriteByte('\\')
		s = after
	}
}

// open returns nil where something else is mounted over it, or a v2 hierarchy
// does not have the controller.
func (m cgroupMount) open(controller string) *hierarchy {
	h, err := openHierarchy(m.point, m.v2)
	if err != nil {
		return nil
	}
	magic := int64(unix.CGROUP_SUPER_MAGIC)
	if m.v2 {
		magic = unix.CGROUP2_SUPER_MAGIC
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(h.dir, &fs) != nil || int64(fs.Type) != magic || !h.has(controller) {
		h.Close()
		return nil
	}
	h.root = m.root
	return h
}

// has reports whether the hierarchy's root has the controller to give; of v1, it
// was chosen by that.
func (h *hierarchy) has(controller string) bool {
	if !h.v2 {
		return true
	}
	b, err := readFileAt(h.dir, "cgroup.controllers", make([]byte, 4096))
	return err == nil && slices.Contains(strings.Fields(string(b)), controller)
}

// inCGroupNS reports whether that is the namespace of this thread, also where
// there are none or it cannot be known.
func inCGroupNS(ns string) bool {
	var own, other unix.Stat_t
	return unix.Stat("/proc/thread-self/ns/cgroup", &own) != nil || unix.Stat(ns, &other) != nil || own.Ino == other.Ino
}

// detachedHierarchy mounts it nowhere.
func detachedHierarchy(ns, controller string) (h *hierarchy, err error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own cgroups: %w", err)
	}
	mount := func() { h, err = mountHierarchy(v1Controllers(string(b), controller)) }
	if inCGroupNS(ns) {
		if mount(); h != nil {
			h.root = "/"
		}
	} else {
		onDyingThread(func() {
			_ = enterCGroupNS(ns) // else as we see it
			mount()
		})
	}
	if h == nil {
		return nil, err
	}
	if !h.has(controller) {
		h.Close()
		return nil, errors.New("no hierarchy has it")
	}
	return h, nil
}

// v1Controllers finds what else is in the v1 hierarchy of a controller, in lines
// "2:cpu,cpuacct:/path" (kernel/cgroup/cgroup.c: proc_cgroup_show()); nil where
// there is none. Only what is in one already may be asked for: to mount any other
// would take it away from v2.
func v1Controllers(procCGroup, controller string) []string {
	for line := range strings.Lines(procCGroup) {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 && f[0] != "0" {
			if list := strings.Split(f[1], ","); slices.Contains(list, controller) {
				return list
			}
		}
	}
	return nil
}

func enterCGroupNS(path string) error {
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return unix.Setns(ns, unix.CLONE_NEWCGROUP)
}

// mountHierarchy mounts the v1 hierarchy of these controllers, or v2, in no mount
// namespace; closing it unmounts.
func mountHierarchy(v1 []string) (*hierarchy, error) {
	fstype := "cgroup2"
	if v1 != nil {
		fstype = "cgroup"
	}
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, controller := range v1 {
		if err := unix.FsconfigSetFlag(fs, controller); err != nil {
			return nil, fmt.Errorf("set controller %s of %s: %w", controller, fstype, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create %s: %w", fstype, err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("mount %s nowhere: %w", fstype, err)
	}
	defer unix.Close(root)
	// That one is for paths only, and open_by_handle_at(2) wants more.
	dir, err := unix.Openat(root, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root of %s: %w", fstype, err)
	}
	return &hierarchy{dir: dir, v2: v1 == nil}, nil
}
