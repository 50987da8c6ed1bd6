// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFindCPUHierarchy(t *testing.T) {
	const (
		v2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		both   = "34 30 0:29 /docker/1 /sys/fs/cgroup/cpu\\040acct rw shared:7 master:1 - cgroup cgroup rw,cpu,cpuacct\n"
		cpuset = "35 30 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
	)
	for _, tc := range []struct {
		name, text string
		want       cpuHierarchy
	}{
		{"v2", "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + v2 + cpuset, cpuHierarchy{2, "/sys/fs/cgroup", "/"}},
		{"v1 beside v2", v2 + cpuset + both, cpuHierarchy{1, "/sys/fs/cgroup/cpu acct", "/docker/1"}},
	} {
		if h, err := findCPUHierarchy(tc.text); err != nil || *h != tc.want {
			t.Errorf("%s: got %+v, %v; want %+v", tc.name, h, err, tc.want)
		}
	}
	if h, err := findCPUHierarchy(cpuset); err == nil {
		t.Errorf("got %+v where there is no cpu controller", h)
	}
}

// fakeCgroup is a directory with such files.
func fakeCgroup(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCPUStatV2(t *testing.T) {
	dir := fakeCgroup(t, map[string]string{
		"cpu.stat": "usage_usec 70\nuser_usec 50\nsystem_usec 20\nnr_periods 9\nnr_throttled 8\nthrottled_usec 123\nnr_bursts 0\nburst_usec 0\n",
		"cpu.max":  "40000 100000\n",
	})
	h := &cpuHierarchy{2, filepath.Dir(dir), "/slice"}
	s, err := h.stat(dir)
	if err != nil || s.NrPeriods != 9 || s.NrThrottled != 8 || s.ThrottledNS != 123000 || *s.UsageNS != 70000 ||
		*s.QuotaUS != 40000 || *s.PeriodUS != 100000 || s.Path != "/slice/"+filepath.Base(dir) {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := os.WriteFile(dir+"/cpu.max", []byte("max 100000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := h.stat(dir); err != nil || s.QuotaUS != nil || s.PeriodUS != nil {
		t.Errorf("without a quota: got %+v, %v", s, err)
	}
}

func TestCPUStatV1(t *testing.T) {
	dir := fakeCgroup(t, map[string]string{
		"cpu.stat": "nr_periods 9\nnr_throttled 8\nthrottled_time 123\n", "cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n",
	})
	h := &cpuHierarchy{1, filepath.Dir(dir), "/"}
	if s, err := h.stat(dir); err != nil || s.ThrottledNS != 123 || s.QuotaUS != nil || s.UsageNS != nil {
		t.Errorf("got %+v, %v", s, err)
	}
	for name, text := range map[string]string{"cpu.cfs_quota_us": "40000\n", "cpuacct.usage": "77\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := h.stat(dir); err != nil || *s.QuotaUS != 40000 || *s.UsageNS != 77 {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"nr_periods 9\n", "nr_periods nine\n"} {
		if err := new(cpuStat).parse(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// TestFurnishV2 writes to plain files what version 2 is told.
func TestFurnishV2(t *testing.T) {
	dir := fakeCgroup(t, map[string]string{"cgroup.subtree_control": "memory\n"})
	g := &cpuGroup{plan: schedGroupPlan{quota: 0.4, nested: true}, dir: dir, tasks: dir}
	var talk bytes.Buffer
	if err := g.furnish(&cpuHierarchy{2, dir, "/"}, 50*time.Millisecond, &talk); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cgroup.subtree_control": "+cpu", "cpu.max": "20000 50000"} {
		if got, err := os.ReadFile(dir + "/" + name); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if st, err := os.Stat(dir + "/" + cgroupInner); err != nil || !st.IsDir() || g.tasks != dir+"/"+cgroupInner {
		t.Errorf("the tasks are in %s: %v", g.tasks, err)
	}
}

func TestParseCPUs(t *testing.T) {
	const text = "cpu  1 2 3 4 5 6 7 8 0 0\ncpu3 10 20 30 40 50 60 70 80 0 0\nintr 1 2\n"
	want := schedCPU{CPU: 3, BusyNS: 1900e6, IdleNS: 900e6, StealNS: 800e6}
	if cpus, err := parseCPUs(text); err != nil || len(cpus) != 1 || cpus[0] != want {
		t.Errorf("got %+v, %v; want %+v", cpus, err, want)
	}
	if _, err := parseCPUs(strings.Replace(text, "30", "x", 1)); err == nil {
		t.Error("no error for a column that is no number")
	}
}

func TestDutyJob(t *testing.T) {
	if j := dutyJob(time.Millisecond, 0.25, 1, 2); j.Burn != time.Millisecond || j.Nap != 3*time.Millisecond || j.Offset != 2*time.Millisecond {
		t.Errorf("a quarter: got %+v", j)
	}
	if j := dutyJob(time.Millisecond, 1.5, 0, 1); j != spinJob {
		t.Errorf("more than all: got %+v", j)
	}
}
