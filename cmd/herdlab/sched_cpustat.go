// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuStat is what a cgroup's files say.
type cpuStat struct {
	Path        string `json:"path"` // in the hierarchy, as in /proc/PID/cgroup
	Dir         string `json:"dir"`
	Version     int    `json:"version"`
	CgroupID    uint64 `json:"cgroup_id"`
	QuotaUS     *int64 `json:"quota_us"` // nil: none
	PeriodUS    *int64 `json:"period_us"`
	NrPeriods   int64  `json:"nr_periods"`
	NrThrottled int64  `json:"nr_throttled"`
	ThrottledNS int64  `json:"throttled_ns"`
	UsageNS     *int64 `json:"usage_ns"` // nil: v1 without cpuacct in the same hierarchy
}

// stats reads all of them: each group, and then its child if it is nested.
func (g *cpuGroups) stats() (stats []cpuStat, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return nil, errCgroupsGone
	}
	for _, group := range g.all {
		dirs := []string{group.dir}
		if group.tasks != group.dir {
			dirs = append(dirs, group.tasks)
		}
		for _, dir := range dirs {
			s, err := g.h.stat(dir)
			if err != nil {
				return nil, err
			}
			stats = append(stats, s)
		}
	}
	return stats, nil
}

// settle waits until the period timers have stopped, which they do after a
// period without work: only then do the counters stand still.
func (g *cpuGroups) settle(period time.Duration) error {
	before, err := g.stats()
	same := 0
	for end := time.Now().Add(cgroupSettleLimit + 10*period); err == nil && len(before) > 0 && same < 5; {
		time.Sleep(period / 2)
		var now []cpuStat
		if now, err = g.stats(); err != nil {
			break
		}
		same++
		for i := range now {
			if now[i].NrPeriods != before[i].NrPeriods || now[i].ThrottledNS != before[i].ThrottledNS {
				same = 0
			}
		}
		before = now
		if time.Now().After(end) {
			return fmt.Errorf("wait for the cgroups to rest: after %v they still count periods", cgroupSettleLimit+10*period)
		}
	}
	return err
}

// stat reads the files of one cgroup.
func (h *cpuHierarchy) stat(dir string) (s cpuStat, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return s, fmt.Errorf("identify a cgroup: %w", err)
	}
	s = cpuStat{Path: path.Join(h.root, strings.TrimPrefix(dir, h.mount)), Dir: dir, Version: h.version, CgroupID: st.Ino}
	text, err := os.ReadFile(dir + "/cpu.stat")
	if err != nil {
		return s, fmt.Errorf("read the counters of a cgroup: %w", err)
	}
	if err := s.parse(string(text)); err != nil {
		return s, err
	}
	if h.version == 2 {
		err = s.readMax(dir)
	} else {
		err = s.readCFS(dir)
	}
	return s, err
}

// parse takes cpu.stat of either version: v1 counts in ns, v2 in us.
func (s *cpuStat) parse(text string) error {
	found := 0
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("read the counters of a cgroup: line %q: %w", line, err)
		}
		found++
		switch key {
		case "nr_periods":
			s.NrPeriods = n
		case "nr_throttled":
			s.NrThrottled = n
		case "throttled_time":
			s.ThrottledNS = n
		case "throttled_usec":
			s.ThrottledNS = n * 1000
		case "usage_usec":
			n *= 1000
			s.UsageNS = &n
			found--
		default:
			found--
		}
	}
	if found != 3 {
		return errors.New("read the counters of a cgroup: no nr_periods, nr_throttled and throttled time (does this kernel have CFS_BANDWIDTH?)")
	}
	return nil
}

// readMax reads the quota of version 2.
func (s *cpuStat) readMax(dir string) error {
	text, err := os.ReadFile(dir + "/cpu.max")
	if err != nil {
		return fmt.Errorf("read the quota of a cgroup: %w", err)
	}
	quota, period, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if quota == "max" {
		return nil
	}
	q, err1 := strconv.ParseInt(quota, 10, 64)
	p, err2 := strconv.ParseInt(period, 10, 64)
	s.QuotaUS, s.PeriodUS = &q, &p
	return errors.Join(err1, err2)
}

// readCFS reads the quota of version 1, and the usage where cpuacct is mounted
// together with cpu.
func (s *cpuStat) readCFS(dir string) error {
	q, err1 := netrxNumber(dir + "/cpu.cfs_quota_us")
	p, err2 := netrxNumber(dir + "/cpu.cfs_period_us")
	if q >= 0 {
		s.QuotaUS, s.PeriodUS = &q, &p
	}
	usage, err3 := netrxNumber(dir + "/cpuacct.usage")
	if err3 == nil {
		s.UsageNS = &usage
	} else if errors.Is(err3, fs.ErrNotExist) {
		err3 = nil
	}
	return errors.Join(err1, err2, err3)
}
