// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCoresOf(t *testing.T) {
	for mask, want := range map[string][]int{
		"": nil, "\x00": nil, "\x03": {0, 1}, "\x00\x81": {8, 15}, "\x00\x00\x00\x00\x00\x00\x00\x00\x02": {65},
	} {
		if got := coresOf([]byte(mask)); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", mask, got, want)
		}
	}
	if lacks([]int{0, 1, 5}, []int{0, 1}) || !lacks([]int{1}, []int{0, 1}) || lacks(nil, nil) {
		t.Error("lacks is wrong")
	}
	if got := among([]int{0, 1, 9}, []int{1, 2, 9}); !slices.Equal(got, []int{1, 9}) {
		t.Errorf("among: %v", got)
	}
}

func TestPolicyName(t *testing.T) {
	for policy, want := range map[uint32]string{
		unix.SCHED_NORMAL: "", unix.SCHED_FIFO: "fifo", unix.SCHED_RR: "rr", unix.SCHED_BATCH: "batch", unix.SCHED_IDLE: "idle",
		unix.SCHED_DEADLINE: "deadline", unix.SCHED_EXT: "ext", 4: "4", 1<<32 - 1: "4294967295",
	} {
		if got := policyName(policy); got != want {
			t.Errorf("%d: %q, want %q", policy, got, want)
		}
	}
}

// fakeCPUSet makes a hierarchy in which the cpuset of group has these cores.
func fakeCPUSet(t *testing.T, v2 bool, group, file, cpus string) *hierarchy {
	t.Helper()
	f := newFakeTree(t)
	f.write(group, map[string]string{file: cpus})
	h, err := openHierarchy(f.root, v2)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// fakeProc makes a /proc in which a thread is in these cgroups.
func fakeProc(t *testing.T, pid, tid uint32, cgroups string) string {
	t.Helper()
	f := newFakeTree(t)
	f.write(fmt.Sprintf("%d/task/%d", pid, tid), map[string]string{"cgroup": cgroups})
	return f.root
}

func TestGroupIn(t *testing.T) {
	const hybrid = "9:name=systemd:/s\n4:cpu,cpuset:/a:b/c\n0::/u/v (deleted)\n"
	for _, tt := range []struct {
		cgroups string
		v2      bool
		want    string
		ok      bool
	}{
		{hybrid, false, "/a:b/c", true},
		{hybrid, true, "/u/v (deleted)", true},
		{"0::/\n", true, "/", true},
		{"0::/\n", false, "", false},
		{"3:cpuset:/..hidden\n", false, "/..hidden", true},
		{"3:cpuset:/..\n", false, "/..", false},
		{"3:cpuset:/../x\n", false, "/../x", false},
		{"3:cpuset:/x/../../y", false, "/x/../../y", false},
		{"3:cpuset:x", false, "x", false},
		{"3:cpuset\n\n:", false, "", false},
		{"", true, "", false},
	} {
		if got, ok := groupIn(tt.cgroups, "cpuset", tt.v2); got != tt.want || ok != tt.ok {
			t.Errorf("%q, v2 %v: %q %v, want %q %v", tt.cgroups, tt.v2, got, ok, tt.want, tt.ok)
		}
	}
}

// twoCores returns some two cores that we may use.
func twoCores(t *testing.T) []int {
	t.Helper()
	a := openAffinities(nil)
	cpus := coresOf(a.maskOf(uint32(os.Getpid())))
	if len(cpus) < 2 {
		need(t, "this test needs two cores")
	}
	return cpus[:2]
}

// pinnedThread is on a core until the test ends.
func pinnedThread(t *testing.T, core int) (tid uint32) {
	t.Helper()
	tids, end := make(chan uint32), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		onDyingThread(func() {
			var set unix.CPUSet
			set.Set(core)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				t.Error(err)
			}
			tids <- uint32(unix.Gettid())
			<-end
		})
	}()
	t.Cleanup(func() { close(end); <-done })
	return <-tids
}

// TestWhyPinned: a mask that is all that the cpuset has is the cpuset's.
func TestWhyPinned(t *testing.T) {
	cores := twoCores(t)
	self := uint32(os.Getpid())
	tid := pinnedThread(t, cores[0])
	proc := fakeProc(t, self, tid, "3:cpuset:/1\n0::/2/3\n")
	one, both := strconv.Itoa(cores[0])+"\n", strconv.Itoa(cores[0])+","+strconv.Itoa(cores[1])+"\n"
	for name, tt := range map[string]struct {
		tree   *hierarchy
		cpuset bool
	}{
		"taskset, v1":            {fakeCPUSet(t, false, "1", "cpuset.effective_cpus", both), false},
		"cpuset, v1":             {fakeCPUSet(t, false, "1", "cpuset.effective_cpus", one), true},
		"cpuset, v1 before 3.17": {fakeCPUSet(t, false, "1", "cpuset.cpus", one), true},
		"another cpuset, v1":     {fakeCPUSet(t, false, "", "cpuset.effective_cpus", one), false},
		"taskset, v2":            {fakeCPUSet(t, true, "2/3", "cpuset.cpus.effective", both), false},
		"cpuset, v2":             {fakeCPUSet(t, true, "2/3", "cpuset.cpus.effective", one), true},
		"cpuset above it, v2":    {fakeCPUSet(t, true, "2", "cpuset.cpus.effective", one), true},
		"cpuset of the root, v2": {fakeCPUSet(t, true, "", "cpuset.cpus.effective", one), true},
		"no such file":           {fakeCPUSet(t, true, "2/3", "cpuset.cpus", one), false},
		"garbage":                {fakeCPUSet(t, true, "2/3", "cpuset.cpus.effective", "x"), false},
		"no cpuset controller":   {nil, false},
	} {
		a := openAffinities(tt.tree)
		defer a.Close()
		a.online, a.proc = cores, proc
		if allowed, cpuset := a.of(self, tid, 1); !slices.Equal(allowed, cores[:1]) || cpuset != tt.cpuset {
			t.Errorf("%s: %v %v, want %v %v", name, allowed, cpuset, cores[:1], tt.cpuset)
		}
		if allowed, _ := a.of(self, self, 1); allowed != nil {
			t.Errorf("%s: all cores: %v", name, allowed)
		}
		if allowed, _ := a.of(self, 1<<30, 1); allowed != nil {
			t.Errorf("%s: no such thread: %v", name, allowed)
		}
	}
}

// TestAffinityLookups: the mask is always as of now, the reason looked up anew
// after a while, and never for too many in a tick.
func TestAffinityLookups(t *testing.T) {
	cores := twoCores(t)
	self := uint32(os.Getpid())
	tid := pinnedThread(t, cores[0])
	a := openAffinities(fakeCPUSet(t, true, "", "cpuset.cpus.effective", strconv.Itoa(cores[0])))
	defer a.Close()
	a.proc = fakeProc(t, self, tid, "0::/\n")
	at := time.Now()
	a.now = func() time.Time { return at }
	looks := func(after time.Duration) int {
		at = at.Add(after)
		a.nextTick()
		a.of(self, tid, 1)
		a.of(self, tid, 1)
		return cpusetsPerTick - a.left
	}
	for i, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Second, 0}, {cpusetEvery - time.Second, 1}, {time.Second, 0}} {
		if got := looks(step.after); got != step.want {
			t.Errorf("step %d: %d look-ups, want %d", i, got, step.want)
		}
	}
	var set unix.CPUSet
	set.Set(cores[1])
	if err := unix.SchedSetaffinity(int(tid), &set); err != nil {
		t.Fatal(err)
	}
	if allowed, cpuset := a.of(self, tid, 1); !slices.Equal(allowed, cores[1:]) || cpuset {
		t.Errorf("moved: %v %v, want %v by taskset", allowed, cpuset, cores[1:])
	}
	for start := range uint64(2 * cpusetsPerTick) {
		a.of(self, tid, start)
	}
	if a.left != 0 {
		t.Errorf("%d look-ups are left", a.left)
	}
	for start := range uint64(2 * affinitiesKept) {
		a.of(self, tid, start)
	}
	if len(a.threads) > affinitiesKept {
		t.Errorf("%d threads are remembered", len(a.threads))
	}
	at = at.Add(cpusetEvery)
	if a.nextTick(); len(a.threads) != 0 {
		t.Errorf("%d threads are remembered that nobody asked for", len(a.threads))
	}
}

// TestCPUSetOfKernel: what a real cpuset takes away is its own doing, whatever the
// thread asks for within it.
func TestCPUSetOfKernel(t *testing.T) {
	m := cgroupPoint(t, "cpuset")
	cores := twoCores(t)
	dir := filepath.Join(m.point, groupName("cpuset"))
	makeGroup(t, dir)
	if !m.v2 {
		writeFile(t, dir+"/cpuset.mems", readTrimmed(m.point+"/cpuset.mems"))
	}
	if err := os.WriteFile(dir+"/cpuset.cpus", []byte(strconv.Itoa(cores[1])), 0); err != nil {
		need(t, "this test needs the cpuset controller enabled in the root cgroup: "+err.Error())
	}
	confined, _ := startChild(t, "exec sleep 60", dir)
	child, _ := startChild(t, "exec sleep 60")
	pinned := pinnedThread(t, cores[0])
	a := newAffinities()
	defer a.Close()
	self := uint32(os.Getpid())
	a.nextTick()
	for name, tt := range map[string]struct {
		pid, tid uint32
		allowed  []int
		cpuset   bool
	}{
		"in the cpuset": {uint32(confined), uint32(confined), cores[1:], true},
		"by taskset":    {self, pinned, cores[:1], false},
	} {
		if allowed, cpuset := a.of(tt.pid, tt.tid, 1); !slices.Equal(allowed, tt.allowed) || cpuset != tt.cpuset {
			t.Errorf("%s: %v %v, want %v %v", name, allowed, cpuset, tt.allowed, tt.cpuset)
		}
	}
	if allowed, cpuset := a.of(uint32(child), uint32(child), 1); allowed != nil || cpuset {
		t.Errorf("free: %v %v", allowed, cpuset)
	}
	// It is let go: seen at once, although the reason was looked up just now.
	writeFile(t, dir+"/cpuset.cpus", strconv.Itoa(cores[0])+"-"+strconv.Itoa(cores[1]))
	a.nextTick()
	if allowed, cpuset := a.of(uint32(confined), uint32(confined), 1); lacks(a.cores(), cores) || lacks(cores, a.cores()) || allowed != nil || cpuset {
		t.Errorf("let go: %v %v", allowed, cpuset)
	}
	var set unix.CPUSet
	set.Set(cores[0])
	if err := unix.SchedSetaffinity(confined, &set); err != nil {
		t.Fatal(err)
	}
	if allowed, cpuset := a.of(uint32(confined), uint32(confined), 1); !slices.Equal(allowed, cores[:1]) || cpuset {
		t.Errorf("by taskset in a cpuset: %v %v, want %v", allowed, cpuset, cores[:1])
	}
}

// BenchmarkAffinity measures a look-up of a thread that is known.
func BenchmarkAffinity(b *testing.B) {
	a := newAffinities()
	defer a.Close()
	self := uint32(os.Getpid())
	a.nextTick()
	a.online = []int{0, 1, maxCPUs - 1} // one that nothing may use
	b.ReportAllocs()
	for b.Loop() {
		if allowed, _ := a.of(self, self, 1); allowed == nil {
			b.Fatal("all cores are allowed")
		}
	}
}
