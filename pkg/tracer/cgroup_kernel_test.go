// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// asRoot skips where nobody asked for tests that need root.
func asRoot(t testing.TB) {
	t.Helper()
	if !asked() && (testing.Short() || os.Geteuid() != 0) {
		t.Skip("it needs root: sudo make test")
	}
}

// cgroupPoint is where the whole hierarchy of a controller is mounted.
func cgroupPoint(t testing.TB, controller string) cgroupMount {
	t.Helper()
	asRoot(t)
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range parseCGroupMounts(string(b), controller) {
		if h := m.open(controller); h != nil && m.root == "/" {
			h.Close()
			return m
		}
	}
	need(t, "this test needs a mounted cgroup hierarchy with the controller "+controller)
	return cgroupMount{}
}

// makeGroup makes a cgroup and removes it in the end.
func makeGroup(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroup(t, dir) })
}

// removeGroup waits until what was killed in it has left.
func removeGroup(t testing.TB, dir string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("rmdir %s: %v", dir, err)
		}
	}
}

func groupName(name string) string { return fmt.Sprintf("herdtrace-test-%d-%s", os.Getpid(), name) }

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// setQuota takes us; "max" is none.
func (m cgroupMount) setQuota(t testing.TB, dir, quota string, period int) {
	t.Helper()
	if m.v2 {
		writeFile(t, dir+"/cpu.max", fmt.Sprintf("%s %d", quota, period))
		return
	}
	writeFile(t, dir+"/cpu.cfs_quota_us", "-1")
	writeFile(t, dir+"/cpu.cfs_period_us", strconv.Itoa(period))
	if quota != "max" {
		writeFile(t, dir+"/cpu.cfs_quota_us", quota)
	}
}

// startChild starts a shell command in cgroups; stop kills it.
func startChild(t testing.TB, command string, groups ...string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read go; "+command)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := false
	stop = func() {
		if !done {
			done = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for _, dir := range groups {
		writeFile(t, dir+"/cgroup.procs", strconv.Itoa(cmd.Process.Pid))
	}
	io.WriteString(in, "\n")
	return cmd.Process.Pid, stop
}

// spinIn keeps a core busy in cgroups, and returns when their counters stand still:
// the period's timer counts on for a while.
func spinIn(t testing.TB, d time.Duration, groups ...string) {
	t.Helper()
	_, stop := startChild(t, "while :; do :; done", groups...)
	time.Sleep(d)
	stop()
	time.Sleep(100 * time.Millisecond)
}

// countsOf reads a group's files.
func countsOf(t testing.TB, dir string) cfsCounts {
	t.Helper()
	b, err := os.ReadFile(dir + "/cpu.stat")
	c, ok := parseCPUStat(b)
	if err != nil || !ok {
		t.Fatalf("read %s: %v %q", dir, err, b)
	}
	return c
}

func inodeOf(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// cgroupsByPathAndID runs a test with groups opened by id, and by path as where
// the rights to that are missing.
func cgroupsByPathAndID(t *testing.T, f func(t *testing.T, open func(t *testing.T) *cgroupReader)) {
	for _, byID := range []bool{true, false} {
		t.Run(map[bool]string{true: "id", false: "path"}[byID], func(t *testing.T) {
			f(t, func(t *testing.T) *cgroupReader {
				t.Helper()
				r, err := newCGroupReader()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(r.Close)
				if r.link == "" {
					t.Error("groups cannot be opened by id")
				}
				if !byID {
					r.link = ""
				}
				return r
			})
		})
	}
}

// TestCGroupsEqualKernel: at rest, what is counted since attach is cpu.stat's, less
// what it was at attach, to the nanosecond.
func TestCGroupsEqualKernel(t *testing.T) {
	m := cgroupPoint(t, "cpu")
	cgroupsByPathAndID(t, func(t *testing.T, open func(t *testing.T) *cgroupReader) {
		old, young := filepath.Join(m.point, groupName("old")), filepath.Join(m.point, groupName("young"))
		makeGroup(t, old)
		groups := []string{old}
		var usage string // in v1's other hierarchy
		if !m.v2 {
			usage = filepath.Join(cgroupPoint(t, "cpuacct").point, groupName("old"))
			if usage != old {
				makeGroup(t, usage)
				groups = append(groups, usage)
			}
		}
		m.setQuota(t, old, "2000", 20000)
		spinIn(t, 100*time.Millisecond, groups...)
		base := countsOf(t, old)
		var usageBase uint64
		if usage != "" {
			usageBase, _ = parseNumber([]byte(readTrimmed(usage + "/cpuacct.usage")))
		}
		r := open(t)
		makeGroup(t, young)
		m.setQuota(t, young, "2000", 20000)
		_, stop := startChild(t, "while :; do :; done", groups...)
		_, stopYoung := startChild(t, "while :; do :; done", young)
		for range 5 {
			time.Sleep(60 * time.Millisecond)
			r.tick([]uint64{inodeOf(t, old), inodeOf(t, young)}, false)
		}
		stop()
		stopYoung()
		time.Sleep(200 * time.Millisecond)
		r.tick([]uint64{inodeOf(t, old), inodeOf(t, young)}, true)
		now, fresh := countsOf(t, old), countsOf(t, young)
		wantUsage, wantFresh := now.usageNS-base.usageNS, fresh.usageNS
		if usage != "" {
			n, _ := parseNumber([]byte(readTrimmed(usage + "/cpuacct.usage")))
			wantUsage = n - usageBase
			wantFresh, _ = parseNumber([]byte(readTrimmed(young + "/cpuacct.usage"))) // there, if both are mounted together
		}
		if now.throttled-base.throttled < 3 || wantUsage == 0 {
			t.Errorf("nothing happened: %+v, then %+v", base, now)
		}
		checkBandwidth(t, r.lookup(inodeOf(t, old)), &sample.Bandwidth{
			QuotaUS: 2000, PeriodUS: 20000, Periods: uint64(now.periods - base.periods),
			Throttled: uint64(now.throttled - base.throttled), ThrottledNS: now.throttledNS - base.throttledNS,
		}, wantUsage)
		s := r.lookup(inodeOf(t, young))
		checkBandwidth(t, s, &sample.Bandwidth{
			QuotaUS: 2000, PeriodUS: 20000, Periods: uint64(fresh.periods), Throttled: uint64(fresh.throttled), ThrottledNS: fresh.throttledNS,
		}, wantFresh)
		if s.path() != "/"+groupName("young") || s.parent != r.root || s.weight != 100 || r.unreadable != 0 {
			t.Errorf("%q below %q, weight %d, %d files were unreadable", s.path(), s.parent.path(), s.weight, r.unreadable)
		}
	})
}

// TestCGroupQuotas: a quota comes, changes and goes.
func TestCGroupQuotas(t *testing.T) {
	m := cgroupPoint(t, "cpu")
	cgroupsByPathAndID(t, func(t *testing.T, open func(t *testing.T) *cgroupReader) {
		dir := filepath.Join(m.point, groupName("quotas"))
		makeGroup(t, dir)
		r := open(t)
		at := time.Now()
		r.now = func() time.Time { return at }
		s := r.lookup(inodeOf(t, dir))
		for _, quota := range []string{"max", "5000", "7000", "max", "9000"} {
			m.setQuota(t, dir, quota, 50000)
			at = at.Add(time.Second)
			r.tick(nil, false)
			us, _ := parseNumber([]byte(quota))
			if b := s.bandwidth(); (b == nil) != (us == 0) || b != nil && (b.QuotaUS != us || b.PeriodUS != 50000) {
				t.Errorf("%+v, want a quota of %s us", b, quota)
			}
			if slices.Contains(r.limited(), s) != (us > 0) || (s.stat >= 0) != (us > 0) {
				t.Errorf("quota %s: limited %v, open %v", quota, slices.Contains(r.limited(), s), s.stat >= 0)
			}
		}
	})
}

// TestCGroupNames: a group is renamed, is removed, and another one has its name.
func TestCGroupNames(t *testing.T) {
	m := cgroupPoint(t, "cpu")
	cgroupsByPathAndID(t, func(t *testing.T, open func(t *testing.T) *cgroupReader) {
		top := filepath.Join(m.point, groupName("top"))
		makeGroup(t, top)
		r := open(t)
		at := time.Now()
		r.now = func() time.Time { return at }
		if m.v2 {
			writeFile(t, top+"/cgroup.subtree_control", "+cpu")
		}
		makeGroup(t, top+"/group")
		id := inodeOf(t, top+"/group")
		m.setQuota(t, top+"/group", "9000", 50000)
		at = at.Add(time.Second)
		r.tick([]uint64{id}, false)
		s := r.lookup(id)
		if !m.v2 { // which cannot
			renamed := filepath.Join(m.point, groupName("renamed"))
			if err := os.Rename(top, renamed); err != nil {
				t.Fatal(err)
			}
			top = renamed
			t.Cleanup(func() { removeGroup(t, renamed) })
		}
		for _, after := range []time.Duration{time.Second, walkEvery} {
			at = at.Add(after)
			r.tick([]uint64{id}, false)
		}
		path := "/" + filepath.Base(top) + "/group"
		if s == nil || s.path() != path || s.gone || s.bandwidth() == nil {
			t.Fatalf("%+v, want %q", s, path)
		}
		removeGroup(t, top+"/group")
		makeGroup(t, top+"/group")
		other := inodeOf(t, top+"/group")
		at = at.Add(walkEvery)
		r.tick([]uint64{id, other}, false)
		if !s.gone || r.lookup(id) != s || s.bandwidth() == nil || !slices.Contains(r.limited(), s) || other == id {
			t.Errorf("removed: gone %v, %+v", s.gone, s.bandwidth())
		}
		if o := r.lookup(other); o == nil || o.path() != path || o.bandwidth() != nil || o.gone {
			t.Errorf("the other one is %+v", o)
		}
		at = at.Add(time.Second)
		r.tick([]uint64{id}, false)
		if r.lookup(id) != nil || slices.Contains(r.limited(), s) || s.stat >= 0 || r.unreadable != 0 {
			t.Errorf("removed: %+v, open %v, %d files were unreadable", r.lookup(id), s.stat >= 0, r.unreadable)
		}
	})
}

// TestCGroupChurn: groups that come and go at any moment are no error.
func TestCGroupChurn(t *testing.T) {
	m := cgroupPoint(t, "cpu")
	cgroupsByPathAndID(t, func(t *testing.T, open func(t *testing.T) *cgroupReader) {
		top := filepath.Join(m.point, groupName("churn"))
		makeGroup(t, top)
		if m.v2 {
			writeFile(t, top+"/cgroup.subtree_control", "+cpu")
		}
		r := open(t)
		ids := make(chan uint64, 1<<16)
		end := time.Now().Add(500 * time.Millisecond)
		go func() {
			defer close(ids)
			for i := 0; time.Now().Before(end); i++ {
				dir := fmt.Sprintf("%s/%d", top, i%7)
				os.Mkdir(dir, 0o755)
				m.setQuota(t, dir, "5000", 50000)
				ids <- inodeOf(t, dir)
				unix.Rmdir(dir)
			}
		}()
		made, seen := 0, 0
		for id := range ids {
			made++
			r.walkAt = time.Time{} // a walk each time
			r.tick([]uint64{id}, false)
			if s := r.lookup(id); s != nil {
				seen++
				if !strings.HasPrefix(s.path(), "/"+groupName("churn")+"/") {
					t.Errorf("its path is %q", s.path())
				}
			}
		}
		t.Logf("%d groups came and went, %d were seen", made, seen)
		r.walkAt = time.Time{}
		r.tick(nil, true)
		r.tick(nil, true)
		if made < 100 || r.unreadable != 0 {
			t.Errorf("%d groups were made, %d files unreadable", made, r.unreadable)
		}
		for _, s := range r.known {
			if s.parent != nil && s.parent.path() == "/"+groupName("churn") {
				t.Errorf("%s is still known", s.path())
			}
		}
	})
}

// TestDetachedCGroups: where no mount is to be seen, one of our own shows the same,
// and leaves nothing behind; also from within a cgroup namespace.
func TestDetachedCGroups(t *testing.T) {
	m := cgroupPoint(t, "cpu")
	dir := filepath.Join(m.point, groupName("inside"))
	makeGroup(t, dir)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("/proc/%d/ns/cgroup", os.Getpid())
	check := func(h *hierarchy, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
			return
		}
		r, err := openCGroups(h, nil, cgroupsKept)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if s := r.lookup(inodeOf(t, dir)); s == nil || s.path() != "/"+groupName("inside") || r.tree.v2 != m.v2 || r.link == "" {
			t.Errorf("%+v, v2 %v, by id %q", s, r.tree.v2, r.link)
		}
	}
	check(detachedHierarchy(own, "cpu"))
	onDyingThread(func() {
		if !m.v2 { // of v2, single threads cannot move
			if err := os.WriteFile(dir+"/tasks", []byte(strconv.Itoa(unix.Gettid())), 0); err != nil {
				t.Error(err)
				return
			}
		}
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			t.Error(err)
			return
		}
		if inCGroupNS(own) {
			t.Error("the thread is in no namespace of its own")
		}
		check(findHierarchyOf(own, "cpu"))
		// Without access to the other one it is the part that our own shows.
		h, err := detachedHierarchy("/proc/self/ns/none", "cpu")
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		var st unix.Stat_t
		if err := unix.Fstat(h.dir, &st); err != nil || !m.v2 && st.Ino != inodeOf(t, dir) {
			t.Errorf("the root is group %d (%v)", st.Ino, err)
		}
	})
	if after, _ := os.ReadFile("/proc/self/mountinfo"); string(after) != string(before) {
		t.Errorf("mounts before:\n%s\nand after:\n%s", before, after)
	}
}

// BenchmarkCGroups measures with 10,000 groups of the kernel's.
func BenchmarkCGroups(b *testing.B) {
	m := cgroupPoint(b, "cpu")
	const groups, parents = 10000, 100
	top := filepath.Join(m.point, groupName("many"))
	makeGroup(b, top)
	for i := range groups {
		parent := fmt.Sprintf("%s/%d", top, i%parents)
		if i < parents {
			makeGroup(b, parent)
			continue
		}
		makeGroup(b, fmt.Sprintf("%s/%d", parent, i))
	}
	r, err := newCGroupReader()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			r, err := newCGroupReader()
			if err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
	b.Run("walk", func(b *testing.B) {
		for b.Loop() {
			r.walk()
		}
	})
	at := time.Now()
	r.now = func() time.Time { return at }
	b.Run("idle tick", func(b *testing.B) {
		for b.Loop() {
			r.tick(nil, false)
		}
	})
	b.Run("all read", func(b *testing.B) {
		for b.Loop() {
			at = at.Add(time.Second) // which does not pass during a tick
			r.refresh(nil, at.Add(1))
		}
	})
}
