// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	churnPrefix = "herdlab-churn-"
	churnWork   = "work" // where the processes are: v2 wants them in a leaf
	churnPeriod = 50000  // us
	churnQuota  = 1000   // us, the least that the kernel allows
	// churnStops is how often a cgroup is throttled in its life, at least.
	churnStops = 3
)

// churnPaths travel to the parts.
type churnPaths struct {
	Dir     string `json:"dir"`  // of the cgroup of this run
	Work    string `json:"work"` // of its processes
	Version int    `json:"version"`
	Mount   string `json:"mount"`
	Root    string `json:"root"`
}

// churnGroup is the cgroup of this run; all others are made in it.
type churnGroup struct {
	mu    sync.Mutex // remove may come from a signal
	paths churnPaths
	path  string // in the hierarchy
	lock  int    // of the directory, as long as the run lives
}

// create makes it, after removing those of runs that were killed.
func (g *churnGroup) create(talk io.Writer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, err := openCPUHierarchy(talk)
	if err != nil {
		return err
	}
	leftovers, _ := filepath.Glob(h.mount + "/" + churnPrefix + "*") // fails for a bad pattern only
	for _, dir := range leftovers {
		if fd, err := lockDir(dir); err == nil {
			_ = removeTree(dir)
			_ = unix.Close(fd)
		}
	}
	dir := fmt.Sprintf("%s/%s%d", h.mount, churnPrefix, os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a cgroup: %w (it needs root)", err)
	}
	g.paths = churnPaths{Dir: dir, Work: dir + "/" + churnWork, Version: h.version, Mount: h.mount, Root: h.root}
	if g.lock, err = lockDir(dir); err != nil {
		return fmt.Errorf("lock a cgroup: %w", err)
	}
	g.path = path.Join(h.root, strings.TrimPrefix(dir, h.mount))
	if h.version == 2 {
		if err := h.handDown(dir, io.Discard); err != nil {
			return err
		}
	}
	if err := os.Mkdir(g.paths.Work, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	return nil
}

func (g *churnGroup) join(pid int) error { return moveInto(g.paths.Work, pid) }

func moveInto(dir string, pid int) error {
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("move pid %d into a cgroup: %w", pid, err)
	}
	return nil
}

// remove removes all of it; the processes have ended, or are about to.
func (g *churnGroup) remove() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paths.Dir == "" {
		return nil
	}
	err := removeTree(g.paths.Dir)
	if g.lock > 0 {
		err = errors.Join(err, unix.Close(g.lock))
	}
	g.paths.Dir = ""
	return err
}

// removeTree removes a cgroup and those in it, the deepest first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list a cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(dir+"/"+e.Name()))
		}
	}
	return errors.Join(err, removeDir(dir))
}

// cgroups makes cgroups with a quota that is used up, and removes them.
func (p *churnPart) cgroups() error {
	if err := p.begin(); err != nil {
		return err
	}
	atOnce := make(slots, churnAtOnce) // each burns a fiftieth of a core
	p.pace(p.cfg.Cgroups, func(n int) {
		if !atOnce.take() {
			return
		}
		c, err := startChild(roleChurnPart, churnPartConfig{Part: "job", Job: "burn"}, churnEnv())
		if err != nil {
			atOnce.free()
			p.count(func(c *churnCounts) { c.StartFailed++ })
			return
		}
		p.pending.Add(1)
		go func() {
			defer p.pending.Done()
			defer atOnce.free()
			err := p.cgroup(n, c)
			_ = c.cmd.Process.Kill()
			c.reap(stopLimit)
			if err == nil {
				err = removeTree(fmt.Sprintf("%s/g-%d", p.cfg.Group.Dir, n))
			}
			if err != nil {
				p.failed(err)
			}
		}()
	})
	return nil
}

// cgroup is the life of one. In turn: it ends with its process; it is renamed
// (which v2 does not allow); its process is moved out and it is removed while it
// is throttled; the quota is that of its parent.
func (p *churnPart) cgroup(n int, c *child) error {
	paths := &p.cfg.Group
	h := &cpuHierarchy{version: paths.Version, mount: paths.Mount, root: paths.Root}
	dir := fmt.Sprintf("%s/g-%d", paths.Dir, n)
	tasks := dir
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if n%4 == 3 {
		if h.version == 2 {
			if err := h.handDown(dir, io.Discard); err != nil {
				return err
			}
		}
		tasks = dir + "/" + cgroupInner
		if err := os.Mkdir(tasks, 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
	}
	if err := setQuota(h, dir, churnQuota, churnPeriod); err != nil {
		return err
	}
	if err := moveInto(tasks, c.pid()); err != nil {
		return err
	}
	p.count(func(c *churnCounts) { c.Cgroups++ })
	if n%4 == 1 && h.version == 1 {
		renamed := dir + "-renamed"
		if err := os.Rename(dir, renamed); err != nil {
			return fmt.Errorf("rename a cgroup: %w", err)
		}
		p.count(func(c *churnCounts) { c.Renamed++ })
		dir, tasks = renamed, renamed
	}
	if err := p.awaitStops(h, dir); err != nil {
		return err
	}
	if n%4 == 2 {
		if err := moveInto(paths.Work, c.pid()); err != nil {
			return err
		}
	}
	_ = c.cmd.Process.Kill()
	if n%4 != 2 {
		c.reap(stopLimit)
	}
	s, err := h.stat(dir)
	if err != nil {
		return err
	}
	p.count(func(c *churnCounts) { c.ThrottledNS += s.ThrottledNS })
	return removeTree(dir)
}

func setQuota(h *cpuHierarchy, dir string, quotaUS, periodUS int) error {
	files := [][2]string{{"cpu.cfs_period_us", strconv.Itoa(periodUS)}, {"cpu.cfs_quota_us", strconv.Itoa(quotaUS)}}
	if h.version == 2 {
		files = [][2]string{{"cpu.max", fmt.Sprintf("%d %d", quotaUS, periodUS)}}
	}
	for _, f := range files {
		if err := os.WriteFile(dir+"/"+f[0], []byte(f[1]), 0); err != nil {
			return fmt.Errorf("set the quota of a cgroup: %w", err)
		}
	}
	return nil
}

// awaitStops waits until the cgroup was throttled some times, and is old enough.
func (p *churnPart) awaitStops(h *cpuHierarchy, dir string) error {
	for begin := time.Now(); ; rawNap(-1, int64(churnPoll)) {
		s, err := h.stat(dir)
		age := time.Since(begin)
		switch {
		case err != nil:
			return err
		case s.NrThrottled >= churnStops && age >= p.cfg.CgroupLife:
			return nil
		case age > startLimit+p.cfg.CgroupLife:
			return fmt.Errorf("wait for %s to be throttled: it was %d times within %v", dir, s.NrThrottled, age)
		}
	}
}
