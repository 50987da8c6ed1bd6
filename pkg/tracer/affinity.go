// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// cpusetEvery is how often a thread's cpuset is looked up again, and for how
	// long one that has gone silent is remembered.
	cpusetEvery = 10 * time.Second
	// cpusetsPerTick bounds these look-ups.
	cpusetsPerTick = 256
	// affinitiesKept bounds how many threads are remembered.
	affinitiesKept = 8192
)

// affinities knows which cores threads may use, and why no others.
type affinities struct {
	tree    *hierarchy // of the cpuset controller; nil: not to be seen
	proc    string
	online  []int // nil: not read in this tick
	left    int   // look-ups in this tick
	now     func() time.Time
	threads map[threadKey]*affinity
	cpusets map[string][]int // by path, read in this tick
	mask    [maxCPUs / 8]byte
	buf     [8192]byte
}

// threadKey tells a thread from another one with the same number.
type threadKey struct {
	tid     uint32
	startNS uint64
}

// affinity is what is known of a thread that may not use all cores.
type affinity struct {
	mask    string
	allowed []int // never changed: Samples share it
	cpuset  bool
	at      time.Time // when cpuset was looked up
	used    time.Time
}

func newAffinities() *affinities {
	tree, _ := findHierarchy("cpuset") // else nobody can tell why
	return openAffinities(tree)
}

func openAffinities(tree *hierarchy) *affinities {
	return &affinities{tree: tree, proc: "/proc", now: time.Now, left: cpusetsPerTick, threads: make(map[threadKey]*affinity), cpusets: make(map[string][]int)}
}

// Close may be called more than once.
func (a *affinities) Close() {
	if a.tree != nil {
		a.tree.Close()
	}
}

// nextTick renews the bound on look-ups and forgets what is old.
func (a *affinities) nextTick() {
	now := a.now()
	a.left = cpusetsPerTick
	a.online = nil
	clear(a.cpusets)
	for key, t := range a.threads {
		if now.Sub(t.used) >= cpusetEvery {
			delete(a.threads, key)
		}
	}
}

// cores are those that are online.
func (a *affinities) cores() []int {
	if a.online == nil {
		a.online = parseCPUList(readTrimmed("/sys/devices/system/cpu/online"))
	}
	if a.online == nil { // no sysfs
		_, cpus := readHost()
		a.online = numbersOf(cpus)
	}
	return a.online
}

// of returns the cores that a thread may use, nil if that is all that are online
// or is not known, and whether it is the cpuset that has no more. The list is for
// reading only. It is as of now; the reason may be 10 s old.
func (a *affinities) of(pid, tid uint32, startNS uint64) (allowed []int, byCPUSet bool) {
	mask := a.maskOf(tid)
	key := threadKey{tid, startNS}
	t := a.threads[key]
	if t == nil || t.mask != string(mask) {
		cpus := coresOf(mask)
		if len(cpus) == 0 || !lacks(cpus, a.cores()) {
			delete(a.threads, key)
			return nil, false
		}
		if len(a.threads) >= affinitiesKept {
			clear(a.threads)
		}
		t = &affinity{mask: string(mask), allowed: cpus}
		a.threads[key] = t
	}
	t.used = a.now()
	if t.used.Sub(t.at) >= cpusetEvery && a.left > 0 {
		a.left--
		t.at = t.used
		t.cpuset = slices.Equal(t.allowed, among(a.cpusetOf(pid, tid), a.cores()))
	}
	return t.allowed, t.cpuset
}

// maskOf is the affinity without the cores that are offline, a bit for each
// (kernel/sched/syscalls.c: sched_getaffinity()); nil where the thread is gone.
func (a *affinities) maskOf(tid uint32) []byte {
	n, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(tid), uintptr(len(a.mask)), uintptr(unsafe.Pointer(&a.mask)))
	if errno != 0 || tid == 0 || n > uintptr(len(a.mask)) {
		return nil
	}
	return bytes.TrimRight(a.mask[:n], "\x00")
}

// coresOf lists the bits that are set, as both architectures order them in bytes.
func coresOf(mask []byte) []int {
	var cpus []int
	for i, b := range mask {
		for bit := range 8 {
			if b>>bit&1 != 0 {
				cpus = append(cpus, i*8+bit)
			}
		}
	}
	return cpus
}

// lacks reports whether one of all is not among cpus.
func lacks(cpus, all []int) bool {
	return slices.ContainsFunc(all, func(cpu int) bool {
		_, found := slices.BinarySearch(cpus, cpu)
		return !found
	})
}

// among returns those of cpus that are among all.
func among(cpus, all []int) []int {
	var out []int
	for _, cpu := range cpus {
		if _, found := slices.BinarySearch(all, cpu); found {
			out = append(out, cpu)
		}
	}
	return out
}

// cpusetOf lists the cores of a thread's cpuset; nil where that cannot be known.
// (/proc/PID/cpuset would name the group, but has gone with v1's cpusets.)
func (a *affinities) cpusetOf(pid, tid uint32) []int {
	if a.tree == nil {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("%s/%d/task/%d/cgroup", a.proc, pid, tid))
	group, ok := groupIn(string(b), "cpuset", a.tree.v2)
	if err != nil || !ok {
		return nil
	}
	cpus, ok := a.cpusets[group]
	if !ok {
		cpus = a.readCPUSet(group)
		a.cpusets[group] = cpus
	}
	return cpus
}

// groupIn finds the group of a process in lines "hierarchy:controllers:path", of
// which v2's is "0::path" (kernel/cgroup/cgroup.c: proc_cgroup_show()). A path that
// begins with "/.." is out of sight.
func groupIn(procCGroup, controller string, v2 bool) (group string, ok bool) {
	for line := range strings.Lines(procCGroup) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 || v2 != (f[0] == "0") || !v2 && !slices.Contains(strings.Split(f[1], ","), controller) {
			continue
		}
		return f[2], strings.HasPrefix(f[2], "/") && path.Clean(f[2]) == f[2] && f[2] != "/.." && !strings.HasPrefix(f[2], "/../")
	}
	return "", false
}

// readCPUSet reads what a group has, or with v2, which has the file where the
// controller is enabled, the nearest one above it.
func (a *affinities) readCPUSet(group string) []int {
	files := []string{"cpuset.effective_cpus", "cpuset.cpus"} // the latter before Linux 3.17
	if a.tree.v2 {
		files = []string{"cpuset.cpus.effective"}
	}
	for {
		for _, file := range files {
			if b, err := readFileAt(a.tree.dir, "."+path.Join(group, file), a.buf[:]); err == nil {
				return parseCPUList(string(b))
			}
		}
		if !a.tree.v2 || group == "/" {
			return nil
		}
		group = path.Dir(group)
	}
}

// policyNames are those of include/uapi/linux/sched.h.
var policyNames = map[uint32]string{0: "", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}

// policyName is "" for SCHED_OTHER, and a number for one that it does not know.
func policyName(policy uint32) string {
	if name, ok := policyNames[policy]; ok {
		return name
	}
	return strconv.FormatUint(uint64(policy), 10)
}
