// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cgroupPrefix = "herdlab-sched-"
	cgroupInner  = "inner" // of a nested one: where the tasks are

	cgroupRemoveLimit = 3 * time.Second // a killed task of a throttled cgroup ends when it has quota again
	cgroupSettleLimit = 3 * time.Second // besides some periods
)

var errCgroupsGone = errors.New("use the cgroups: they have been removed, as asked by the second signal")

// cpuHierarchy is the cgroup hierarchy that has the cpu controller, v1 or v2.
type cpuHierarchy struct {
	version int
	mount   string
	root    string // what of the hierarchy the mount shows: "/" but in a container
}

// findCPUHierarchy looks through /proc/self/mountinfo. A controller is in one
// hierarchy only, hence a v1 mount of it decides.
func findCPUHierarchy(mountinfo string) (*cpuHierarchy, error) {
	var v2 *cpuHierarchy
	for line := range strings.Lines(mountinfo) {
		mount, super, _ := strings.Cut(strings.TrimSpace(line), " - ")
		m, s := strings.Fields(mount), strings.Fields(super)
		if len(m) < 5 || len(s) < 3 {
			continue
		}
		h := &cpuHierarchy{mount: unescapeMount(m[4]), root: unescapeMount(m[3])}
		switch {
		case s[0] == "cgroup" && slices.Contains(strings.Split(s[2], ","), "cpu"):
			h.version = 1
			return h, nil
		case s[0] == "cgroup2" && v2 == nil:
			h.version = 2
			v2 = h
		}
	}
	if v2 == nil {
		return nil, errors.New("find the cgroups: neither cgroup2 nor the cpu controller of cgroup v1 is mounted (mount -t cgroup2 none /sys/fs/cgroup)")
	}
	return v2, nil
}

// unescapeMount undoes mangle_path(): blanks are octal.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// openCPUHierarchy finds it and sees to it that cgroups at its top have the
// cpu controller. Version 2 hands it down only where told to. That is not
// undone: it would take the quotas of whoever has made one meanwhile.
func openCPUHierarchy(talk io.Writer) (*cpuHierarchy, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroups: %w", err)
	}
	h, err := findCPUHierarchy(string(text))
	if err != nil || h.version == 1 {
		return h, err
	}
	if has, err := listed(h.mount+"/cgroup.controllers", "cpu"); err != nil {
		return nil, fmt.Errorf("find the cgroups: %w", err)
	} else if !has {
		return nil, fmt.Errorf("find the cgroups: %s does not offer the cpu controller (in a container it may be withheld)", h.mount)
	}
	return h, h.handDown(h.mount, talk)
}

// handDown gives the children of a v2 cgroup the cpu controller.
func (h *cpuHierarchy) handDown(dir string, talk io.Writer) error {
	path := dir + "/cgroup.subtree_control"
	has, err := listed(path, "cpu")
	if err != nil {
		return fmt.Errorf("look for the cpu controller: %w", err)
	}
	if has {
		return nil
	}
	if err := os.WriteFile(path, []byte("+cpu"), 0); err != nil {
		return fmt.Errorf("hand the cpu controller down: %w (it needs root, and no process in that cgroup unless it is the topmost one)", err)
	}
	fmt.Fprintf(talk, "herdlab: wrote +cpu to %s\n", path)
	return nil
}

// listed reports whether a file of words has one.
func listed(path, word string) (bool, error) {
	text, err := os.ReadFile(path)
	return slices.Contains(strings.Fields(string(text)), word), err
}

// cpuGroup is one cgroup that this run has made.
type cpuGroup struct {
	plan  schedGroupPlan
	dir   string // has the quota
	tasks string // has the tasks: dir, or a child of it
	lock  int    // descriptor of dir, under flock as long as the run lives
}

// cpuGroups are all of them. The zero value has none.
type cpuGroups struct {
	mu   sync.Mutex // remove may come from a signal
	h    *cpuHierarchy
	all  []*cpuGroup
	gone bool
}

// create makes the cgroups of a plan, after removing those of runs that were
// killed. remove undoes it, whatever it returned.
func (g *cpuGroups) create(plans []schedGroupPlan, period time.Duration, talk io.Writer) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(plans) == 0 || g.gone {
		return nil
	}
	if g.h, err = openCPUHierarchy(talk); err != nil {
		return err
	}
	if n := g.h.sweep(); n > 0 {
		fmt.Fprintf(talk, "herdlab: removed %d cgroups of a run that was killed\n", n)
	}
	for _, p := range plans {
		group, err := g.h.create()
		if err != nil {
			return err
		}
		g.all = append(g.all, group)
		group.plan = p
		if err := group.furnish(g.h, period, talk); err != nil {
			return err
		}
	}
	return nil
}

// create makes an empty cgroup and locks it, so that no other run takes it
// for a leftover: flock ends with the process, however that ends.
func (h *cpuHierarchy) create() (*cpuGroup, error) {
	for n := range 1000 {
		dir := fmt.Sprintf("%s/%s%d-%d", h.mount, cgroupPrefix, os.Getpid(), n)
		if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("make a cgroup: %w (it needs root)", err)
		}
		// A sweep may come between the two: then it is gone, or about to be.
		if fd, err := lockDir(dir); err == nil {
			return &cpuGroup{dir: dir, tasks: dir, lock: fd}, nil
		}
		_ = os.Remove(dir)
	}
	return nil, fmt.Errorf("make a cgroup: all names %s/%s%d-N are taken", h.mount, cgroupPrefix, os.Getpid())
}

// lockDir opens a directory and locks it, if it still exists and is not locked.
func lockDir(dir string) (fd int, err error) {
	if fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return -1, err
	}
	var held, named unix.Stat_t
	err = errors.Join(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB), unix.Fstat(fd, &held), unix.Stat(dir, &named))
	if err != nil || held.Ino != named.Ino {
		_ = unix.Close(fd)
		return -1, errors.Join(fs.ErrNotExist, err)
	}
	return fd, nil
}

// sweep removes what killed runs left: nobody holds its lock. It returns how
// many; one that cannot be removed is not in the way.
func (h *cpuHierarchy) sweep() (removed int) {
	dirs, err := filepath.Glob(h.mount + "/" + cgroupPrefix + "*")
	if err != nil {
		return 0
	}
	for _, dir := range dirs {
		fd, err := lockDir(dir)
		if err != nil {
			continue
		}
		_ = os.Remove(dir + "/" + cgroupInner)
		if os.Remove(dir) == nil {
			removed++
		}
		_ = unix.Close(fd)
	}
	return removed
}

// furnish sets the quota and makes the child.
func (g *cpuGroup) furnish(h *cpuHierarchy, period time.Duration, talk io.Writer) error {
	if g.plan.nested {
		if h.version == 2 {
			// Else the child would have no run queue of its own.
			if err := h.handDown(g.dir, io.Discard); err != nil {
				return err
			}
		}
		g.tasks = g.dir + "/" + cgroupInner
		if err := os.Mkdir(g.tasks, 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
	}
	if g.plan.quota == 0 {
		return nil
	}
	us := strconv.FormatInt(period.Microseconds(), 10)
	quota := strconv.FormatInt(int64(g.plan.quota*float64(period.Microseconds())), 10)
	files := [][2]string{{"cpu.cfs_period_us", us}, {"cpu.cfs_quota_us", quota}}
	if h.version == 2 {
		files = [][2]string{{"cpu.max", quota + " " + us}}
	}
	for _, f := range files {
		if err := os.WriteFile(g.dir+"/"+f[0], []byte(f[1]), 0); err != nil {
			return fmt.Errorf("set the quota of a cgroup to %s us in %s us: %w", quota, us, err)
		}
	}
	return nil
}

// remove removes the cgroups; their processes have ended, or are about to.
func (g *cpuGroups) remove() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, group := range g.all {
		if group.tasks != group.dir {
			errs = append(errs, removeDir(group.tasks))
		}
		errs = append(errs, removeDir(group.dir), unix.Close(group.lock))
	}
	g.all, g.gone = nil, true
	return errors.Join(errs...)
}

// removeDir is rmdir with patience: a cgroup is busy until its last task has
// passed cgroup_exit().
func removeDir(dir string) error {
	for end := time.Now().Add(cgroupRemoveLimit); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(dir)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("remove a cgroup: %w (the next run of herdlab sched tries again)", err)
		}
	}
}

// join moves a process into the i-th group of the plan.
func (g *cpuGroups) join(i, pid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return errCgroupsGone
	}
	if err := os.WriteFile(g.all[i].tasks+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("move pid %d into its cgroup: %w", pid, err)
	}
	return nil
}

// index is where in stats the cgroup stands that has the tasks of the i-th
// group of the plan; -1: nowhere.
func (g *cpuGroups) index(i int) int {
	if i == noGroup {
		return -1
	}
	at := 0
	for n, group := range g.all {
		if group.tasks != group.dir {
			at++
		}
		if n == i {
			return at
		}
		at++
	}
	return -1
}
