// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// fakeTree is a hierarchy of ordinary files.
type fakeTree struct {
	t    testing.TB
	root string
	r    *cgroupReader
	at   time.Time
}

func newFakeTree(t testing.TB) *fakeTree { return &fakeTree{t: t, root: t.TempDir()} }

// write makes a group, if need be, and its files.
func (f *fakeTree) write(group string, files map[string]string) {
	f.t.Helper()
	dir := filepath.Join(f.root, group)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	for name, text := range files {
		// Not truncated first, which would make some file systems wait for the disk.
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			f.t.Fatal(err)
		}
		file.WriteString(text)
		if err := errors.Join(file.Truncate(int64(len(text))), file.Close()); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fakeTree) open(v2 bool, acct string, kept int) *cgroupReader {
	f.t.Helper()
	tree, err := openHierarchy(f.root, v2)
	if err != nil {
		f.t.Fatal(err)
	}
	var acctTree *hierarchy
	if acct != "" {
		if acctTree, err = openHierarchy(acct, false); err != nil {
			f.t.Fatal(err)
		}
	}
	if f.r, err = openCGroups(tree, acctTree, kept); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.r.Close)
	f.r.now = func() time.Time { return f.at }
	f.at = time.Now()
	f.r.walkAt, f.r.tickAt = f.at, f.at
	return f.r
}

// tick ticks after a while, with a walk or without.
func (f *fakeTree) tick(after time.Duration, active ...uint64) {
	f.at = f.at.Add(after)
	f.r.tick(active, false)
}

func (f *fakeTree) id(group string) uint64 {
	f.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(f.root, group), &st); err != nil {
		f.t.Fatal(err)
	}
	return st.Ino
}

// paths are those of all that is known.
func paths(r *cgroupReader) []string {
	var out []string
	for _, s := range r.known {
		if !s.gone {
			out = append(out, s.path())
		}
	}
	slices.Sort(out)
	return out
}

// checkBandwidth compares a group's; usage 0 is none.
func checkBandwidth(t testing.TB, s *cgroupState, want *sample.Bandwidth, usageNS uint64) {
	t.Helper()
	if s == nil {
		t.Fatal("the group is not known")
	}
	got := s.bandwidth()
	if got == nil || want == nil {
		if got != want {
			t.Errorf("%s: %+v, want %+v", s.path(), got, want)
		}
		return
	}
	usage := got.UsageNS
	got.UsageNS = nil
	if *got != *want {
		t.Errorf("%s: %+v, want %+v", s.path(), *got, *want)
	}
	if (usage == nil) != (usageNS == 0) || usage != nil && *usage != usageNS {
		t.Errorf("%s: usage %v, want %d ns", s.path(), usage, usageNS)
	}
}

func v1Files(quota, periods, throttled, ns int) map[string]string {
	return map[string]string{
		"cpu.cfs_quota_us": fmt.Sprintln(quota), "cpu.cfs_period_us": "100000\n", "cpu.shares": "1024\n",
		"cpu.stat": fmt.Sprintf("nr_periods %d\nnr_throttled %d\nthrottled_time %d\n", periods, throttled, ns),
	}
}

func TestCGroupsV1(t *testing.T) {
	f, acct := newFakeTree(t), newFakeTree(t)
	f.write("", v1Files(-1, 0, 0, 0))
	f.write("a", v1Files(50000, 100, 10, 1000))
	f.write("a/b", v1Files(-1, 0, 0, 0))
	f.write("c", v1Files(20000, 5, 5, 5))
	f.write("c", map[string]string{"cpu.cfs_burst_us": "3000\n", "cpu.shares": "2048\n"})
	acct.write("a", map[string]string{"cpuacct.usage": "7000\n"})
	r := f.open(false, acct.root, cgroupsKept)
	if got, want := paths(r), []string{"/", "/a", "/a/b", "/c"}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	b := r.lookup(f.id("a/b"))
	if b.parent.id != f.id("a") || b.parentID() != f.id("a") || b.parent.parentID() != f.id("") || r.root.parentID() != 0 {
		t.Errorf("the parents are %+v", b.parent)
	}
	if c := r.lookup(f.id("c")); c.weight != 200 || b.weight != 100 {
		t.Errorf("weights %d and %d, want 200 and 100", c.weight, b.weight)
	}
	f.write("a", v1Files(50000, 130, 12, 2500))
	acct.write("a", map[string]string{"cpuacct.usage": "9000\n"})
	f.tick(time.Second)
	checkBandwidth(t, r.lookup(f.id("a")), &sample.Bandwidth{QuotaUS: 50000, PeriodUS: 100000, Periods: 30, Throttled: 2, ThrottledNS: 1500}, 2000)
	checkBandwidth(t, b, nil, 0)
	checkBandwidth(t, r.lookup(f.id("c")), &sample.Bandwidth{QuotaUS: 20000, PeriodUS: 100000, BurstUS: 3000}, 0)
	// Somebody writes 0 to cpuacct.usage, which sets it to 0.
	acct.write("a", map[string]string{"cpuacct.usage": "400\n"})
	// The group c gets one of its name in the other hierarchy, which is new.
	acct.write("c", map[string]string{"cpuacct.usage": "600\n"})
	f.tick(time.Second)
	checkBandwidth(t, r.lookup(f.id("a")), &sample.Bandwidth{QuotaUS: 50000, PeriodUS: 100000, Periods: 30, Throttled: 2, ThrottledNS: 1500}, 2400)
	checkBandwidth(t, r.lookup(f.id("c")), &sample.Bandwidth{QuotaUS: 20000, PeriodUS: 100000, BurstUS: 3000}, 600)
	if r.fds != 4 || len(r.limited()) != 2 {
		t.Errorf("%d files are open and %d groups limited, want 4 and 2", r.fds, len(r.limited()))
	}
}

func v2Files(quota string, usage, periods, throttled, us int) map[string]string {
	return map[string]string{
		"cpu.max": quota + " 100000\n", "cpu.max.burst": "0\n", "cpu.weight": "79\n",
		"cpu.stat": fmt.Sprintf("usage_usec %d\nuser_usec 0\nnr_periods %d\nnr_throttled %d\nthrottled_usec %d\n", usage, periods, throttled, us),
	}
}

func TestCGroupsV2(t *testing.T) {
	f := newFakeTree(t)
	f.write("", map[string]string{"cpu.stat": "usage_usec 5\n", "cgroup.controllers": "cpuset cpu io\n"})
	f.write("user.slice", map[string]string{"cpu.stat": "usage_usec 5\n"}) // without the controller
	f.write("k8s/pod", v2Files("25000", 100, 10, 2, 7))
	f.write("k8s/pod", map[string]string{"cpu.max.burst": "1000\n"})
	f.write("k8s/free", v2Files("max", 100, 3, 1, 1))
	r := f.open(true, "", cgroupsKept)
	if !r.tree.has("cpu") || r.tree.has("memory") {
		t.Error("the controllers are not known")
	}
	pod, free := r.lookup(f.id("k8s/pod")), r.lookup(f.id("k8s/free"))
	if pod.weight != 79 || r.root.weight != 0 {
		t.Errorf("weights %d and %d, want 79 and 0", pod.weight, r.root.weight)
	}
	f.write("k8s/pod", v2Files("25000", 150, 20, 3, 9))
	f.write("k8s/pod", map[string]string{"cpu.max.burst": "1000\n"})
	// Its base is what it was at attach, although it had no quota then.
	f.write("k8s/free", v2Files("30000", 190, 4, 2, 2))
	f.tick(time.Second)
	checkBandwidth(t, pod, &sample.Bandwidth{QuotaUS: 25000, PeriodUS: 100000, BurstUS: 1000, Periods: 10, Throttled: 1, ThrottledNS: 2000}, 50000)
	checkBandwidth(t, free, &sample.Bandwidth{QuotaUS: 30000, PeriodUS: 100000, Periods: 1, Throttled: 1, ThrottledNS: 1000}, 90000)
	// It changes while it counts, goes, and comes back.
	f.write("k8s/pod", v2Files("10000", 160, 22, 4, 9))
	f.tick(time.Second)
	checkBandwidth(t, pod, &sample.Bandwidth{QuotaUS: 10000, PeriodUS: 100000, Periods: 12, Throttled: 2, ThrottledNS: 2000}, 60000)
	f.write("k8s/pod", v2Files("max", 170, 22, 4, 9))
	f.tick(time.Second)
	checkBandwidth(t, pod, nil, 0)
	if got := r.limited(); len(got) != 1 || got[0] != free || r.fds != 1 {
		t.Errorf("%d limited, %d files open, want 1 of each", len(got), r.fds)
	}
	f.write("k8s/pod", v2Files("10000", 180, 25, 4, 9))
	f.tick(time.Second)
	checkBandwidth(t, pod, &sample.Bandwidth{QuotaUS: 10000, PeriodUS: 100000, Periods: 15, Throttled: 2, ThrottledNS: 2000}, 80000)
	if r.unreadable != 0 {
		t.Errorf("%d files were unreadable", r.unreadable)
	}
}

// TestCGroupsComeAndGo: a new group counts from 0, a removed one is reported once
// more, and one of the same name is another.
func TestCGroupsComeAndGo(t *testing.T) {
	f := newFakeTree(t)
	f.write("old", v1Files(50000, 100, 10, 1000))
	r := f.open(false, "", cgroupsKept)
	old := f.id("old")
	f.write("old", v1Files(50000, 150, 10, 1000))
	f.write("new", v1Files(50000, 5, 4, 3)) // made before the other goes: its number is not the same
	f.tick(time.Second, f.id("new"))
	checkBandwidth(t, r.lookup(f.id("new")), &sample.Bandwidth{QuotaUS: 50000, PeriodUS: 100000, Periods: 5, Throttled: 4, ThrottledNS: 3}, 0)
	if err := os.RemoveAll(filepath.Join(f.root, "old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(f.root, "new"), filepath.Join(f.root, "old")); err != nil {
		t.Fatal(err)
	}
	f.tick(walkEvery)
	s := r.lookup(old)
	if s == nil || !s.gone || s.path() != "/old" || !slices.Contains(r.limited(), s) {
		t.Fatalf("the removed group is %+v, want it once more", s)
	}
	checkBandwidth(t, s, &sample.Bandwidth{QuotaUS: 50000, PeriodUS: 100000, Periods: 50}, 0)
	if s := r.lookup(f.id("old")); s == nil || s.id == old || s.path() != "/old" || s.gone {
		t.Errorf("the renamed group is %+v", s)
	}
	f.tick(time.Second, old)
	if r.lookup(old) != nil || len(r.limited()) != 1 || len(r.turn) != 2 || r.wanted {
		t.Errorf("the removed group is still there: %+v", r.lookup(old))
	}
	// One that was taken for gone when it was not counts from now on.
	r.lose(r.lookup(f.id("old")))
	f.tick(time.Second)
	f.tick(walkEvery)
	checkBandwidth(t, r.lookup(f.id("old")), &sample.Bandwidth{QuotaUS: 50000, PeriodUS: 100000}, 0)
	if r.unreadable != 0 {
		t.Errorf("%d files were unreadable", r.unreadable)
	}
}

// TestCGroupsMalformed: what makes no sense is counted and changes nothing.
func TestCGroupsMalformed(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"cpu.stat":          {"cpu.stat": "nr_periods \n"},
		"empty cpu.stat":    {"cpu.stat": ""},
		"long cpu.stat":     {"cpu.stat": strings.Repeat("x 1\n", 2000)},
		"cpu.cfs_quota_us":  {"cpu.cfs_quota_us": "max\n"},
		"cpu.cfs_period_us": {"cpu.cfs_period_us": "\x00"},
		"cpuacct.usage":     {"cpuacct.usage": "x", "cpu.stat": "nr_periods 500\n"},
	} {
		f := newFakeTree(t)
		f.write("a", v1Files(50000, 100, 10, 1000))
		f.write("a", map[string]string{"cpuacct.usage": "5\n"})
		r := f.open(false, f.root, cgroupsKept)
		f.write("a", v1Files(50000, 101, 11, 1001))
		f.write("a", map[string]string{"cpuacct.usage": "8\n"})
		f.tick(time.Second)
		want := &sample.Bandwidth{QuotaUS: 50000, PeriodUS: 100000, Periods: 1, Throttled: 1, ThrottledNS: 1}
		f.write("a", files)
		f.tick(time.Second)
		checkBandwidth(t, r.lookup(f.id("a")), want, 3)
		lost := make(map[string]uint64)
		if r.addLost(lost); lost["cgroup_unreadable"] == 0 {
			t.Errorf("%s: nothing is said", name)
		}
	}
}

// TestCGroupsHostile: names of any bytes, a tree deeper than any path is long, and
// more groups than there is room for.
func TestCGroupsHostile(t *testing.T) {
	f := newFakeTree(t)
	names := []string{"a\nb", "\x1b[31m", "x (deleted)", " ", "…", "0::"}
	for _, name := range names {
		f.write(name, v1Files(50000, 1, 1, 1))
	}
	r := f.open(false, "", cgroupsKept)
	for _, name := range names {
		if s := r.lookup(f.id(name)); s == nil || s.path() != "/"+name || s.bandwidth() == nil {
			t.Errorf("%q: %+v", name, s)
		}
	}
	dir, err := unix.Open(f.root, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	name, depth := strings.Repeat("d", 200), 30
	for range depth {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(dir, name, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(dir)
		dir = next
	}
	unix.Close(dir)
	f.tick(walkEvery)
	if n := len(r.known); n < len(names)+15 || n > 1+len(names)+depth {
		t.Errorf("%d groups are known", n)
	}
	if r.unreadable == 0 {
		t.Error("the depths that no path leads to were not counted")
	}
}

func TestCGroupsBound(t *testing.T) {
	f := newFakeTree(t)
	for i := range 100 {
		f.write(fmt.Sprint(i), nil)
	}
	r := f.open(false, "", 50)
	lost := make(map[string]uint64)
	if r.addLost(lost); lost["cgroup_table_full"] != 51 || len(r.known) != 50 {
		t.Errorf("%d groups are known, lost %v, want 50 and 51", len(r.known), lost)
	}
	f.tick(walkEvery)
	if len(r.turn) != 50 || r.skipped != 51 {
		t.Errorf("after another walk %d take turns, %d have no room", len(r.turn), r.skipped)
	}
	for i := range uint64(3 * cgroupsAbsent) {
		r.noteAbsent(i)
	}
	if len(r.absent) > cgroupsAbsent {
		t.Errorf("%d absent groups are remembered", len(r.absent))
	}
}

// TestCGroupWalks: an unknown group is looked for once, soon, but not more often
// than is cheap.
func TestCGroupWalks(t *testing.T) {
	f := newFakeTree(t)
	r := f.open(false, "", cgroupsKept)
	r.walkCPU = time.Millisecond
	at := r.walks
	for _, step := range []struct {
		after time.Duration
		ask   uint64
		walks uint64
	}{
		{walkGap / 2, 1 << 60, 0}, // too soon
		{walkGap / 2, 1 << 60, 1},
		{walkGap, 1 << 60, 1}, // known not to be there
		{walkGap, 1 << 61, 2},
		{walkEvery - 2, 1 << 61, 2},
		{2, 1 << 61, 3},
	} {
		f.tick(step.after, step.ask)
		if got := r.walks - at; got != step.walks {
			t.Errorf("%d walks after %+v, want %d", got, step, step.walks)
		}
		r.walkCPU = time.Millisecond
	}
	r.walkCPU = 100 * time.Millisecond
	for range 8 {
		f.tick(time.Second, uint64(f.at.UnixNano()))
	}
	if got := r.walks - at; got != 3 {
		t.Errorf("%d walks of 100 ms, want none within 10 s", got-3)
	}
	r.tick([]uint64{1<<62 + 1}, true)
	if got := r.walks - at; got != 4 {
		t.Errorf("%d walks, want one more at the end", got-3)
	}
}

// TestCGroupTurns: with more groups than can be read in a tick, each has its turn.
func TestCGroupTurns(t *testing.T) {
	f := newFakeTree(t)
	const groups = readAlways + 2*readTurn
	for i := range groups {
		f.write(fmt.Sprintf("g%04d", i), map[string]string{"cpu.cfs_quota_us": "-1\n", "cpu.stat": "nr_periods 7\n"})
	}
	r := f.open(false, "", cgroupsKept)
	for i := range groups {
		f.write(fmt.Sprintf("g%04d", i), v1Files(5000, 9, 1, 1))
	}
	for range 4 {
		f.at = f.at.Add(time.Second)
		r.refresh(nil, f.at) // no time is left
	}
	for i := range groups {
		checkBandwidth(t, r.lookup(f.id(fmt.Sprintf("g%04d", i))), &sample.Bandwidth{QuotaUS: 5000, PeriodUS: 100000, Periods: 2, Throttled: 1, ThrottledNS: 1}, 0)
	}
	if r.fds > cgroupFDs {
		t.Errorf("%d files are open", r.fds)
	}
	var oldest time.Time
	for _, s := range slices.Collect(maps.Values(r.limits)) {
		if oldest.IsZero() || s.looked.Before(oldest) {
			oldest = s.looked
		}
	}
	if age := f.at.Sub(oldest); age > 2*time.Second {
		t.Errorf("one was not read for %v", age)
	}
}
