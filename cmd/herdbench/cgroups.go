// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cpuHierarchy finds where the cpu controller is: on v1 its mount, on v2 the
// mount, which must hand the controller down already.
func cpuHierarchy(mounts string) (root string, v2 bool, err error) {
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		if f[2] == "cgroup" && hasWord(f[3], "cpu", ",") {
			return f[1], false, nil
		}
		if f[2] == "cgroup2" {
			root, v2 = f[1], true
		}
	}
	if !v2 {
		return "", false, errors.New("find cgroups: no cgroup filesystem with the cpu controller is mounted")
	}
	return root, true, nil
}

func hasWord(s, word, sep string) bool {
	for w := range strings.SplitSeq(s, sep) {
		if strings.TrimSpace(w) == word {
			return true
		}
	}
	return false
}

// cgroupTree is a cgroup of our own and its children.
type cgroupTree struct {
	dir  string
	kids []string
	v2   bool
}

// newCGroupTree makes n cgroups, with half a core of quota each or none.
func newCGroupTree(n int, quota bool) (t *cgroupTree, err error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	root, v2, err := cpuHierarchy(string(mounts))
	if err != nil {
		return nil, err
	}
	if v2 {
		b, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control"))
		if err != nil || !hasWord(string(b), "cpu", " ") {
			return nil, fmt.Errorf("make cgroups: %s does not hand the cpu controller down (%v)", root, err)
		}
	}
	t = &cgroupTree{dir: filepath.Join(root, fmt.Sprintf("herdbench-%d", os.Getpid())), v2: v2}
	defer func() {
		if err != nil {
			t.remove()
		}
	}()
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return t, fmt.Errorf("make cgroup: %w", err)
	}
	for i := range n {
		kid := filepath.Join(t.dir, strconv.Itoa(i))
		if err := os.Mkdir(kid, 0o755); err != nil {
			return t, fmt.Errorf("make cgroup: %w", err)
		}
		t.kids = append(t.kids, kid)
		if err := t.prepare(kid, quota); err != nil {
			return t, err
		}
	}
	return t, nil
}

// prepare lets single threads in, which on v2 takes a threaded cgroup, and sets
// the quota.
func (t *cgroupTree) prepare(kid string, quota bool) error {
	var writes [][2]string
	if t.v2 {
		writes = append(writes, [2]string{filepath.Join(kid, "cgroup.type"), "threaded"})
		if len(t.kids) == 1 { // the first one makes its parent a threaded domain
			writes = append(writes, [2]string{filepath.Join(t.dir, "cgroup.subtree_control"), "+cpu"})
		}
	}
	if quota && t.v2 {
		writes = append(writes, [2]string{filepath.Join(kid, "cpu.max"), "50000 100000"})
	} else if quota {
		writes = append(writes, [2]string{filepath.Join(kid, "cpu.cfs_quota_us"), "50000"})
	}
	for _, w := range writes {
		if err := os.WriteFile(w[0], []byte(w[1]), 0o644); err != nil {
			return fmt.Errorf("prepare cgroup: %w", err)
		}
	}
	return nil
}

// remove removes what has no threads left.
func (t *cgroupTree) remove() {
	for _, kid := range t.kids {
		unix.Rmdir(kid)
	}
	if err := unix.Rmdir(t.dir); err != nil {
		talk("remove cgroup %s: %v", t.dir, err)
	}
}

// cgroupCrowd puts a thread that is active once a second into each of n cgroups.
func cgroupCrowd(e *env, n int, quota bool) (func(), error) {
	t, err := newCGroupTree(n, quota)
	if err != nil {
		return nil, err
	}
	c := &crowdConfig{CGroups: t.kids, Active: n}
	cr, err := startCrowdIn(e, t, c)
	if err != nil {
		t.remove()
		return nil, err
	}
	return func() { cr.stop(); t.remove() }, nil
}

// startCrowdIn starts the process in the parent on v2, where threads can move
// only below their process's own cgroup.
func startCrowdIn(e *env, t *cgroupTree, c *crowdConfig) (*crowd, error) {
	if !t.v2 {
		return startCrowd(e, c)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own cgroup: %w", err)
	}
	_, own, found := strings.Cut(string(self), "0::")
	if !found {
		return nil, errors.New("read own cgroup: it has no v2 part")
	}
	own, _, _ = strings.Cut(own, "\n")
	pid := []byte(strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(filepath.Join(t.dir, "cgroup.procs"), pid, 0o644); err != nil {
		return nil, fmt.Errorf("enter cgroup: %w", err)
	}
	defer os.WriteFile(filepath.Join(filepath.Dir(t.dir), own, "cgroup.procs"), pid, 0o644)
	return startCrowd(e, c)
}
