// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// schedIDs are the findings about cores, quotas and CPU figures.
var schedIDs = []string{"runq-pile", "cfs-throttle", "cfs-throttle-below-quota", "cpu-oversold", "cputime-frozen", "cputime-hidden"}

// checkSched wants the one finding of these that is named, "" for none, and
// within two intervals of the first connection.
func checkSched(t *testing.T, r *traced, id string, says ...string) {
	t.Helper()
	for _, f := range r.of("finding") {
		if slices.Contains(schedIDs, f.ID) && f.ID != id {
			t.Errorf("%s: %s: %s: %s; %s", f.State, f.ID, f.Subject, f.Evidence, f.Cause)
		}
	}
	if id == "" {
		return
	}
	f := r.find(t, id)
	if after := time.Duration(f.MonoNS - firstLoad(t, r)); after > 2*time.Second+500*time.Millisecond {
		t.Errorf("%s was raised %s after the load began", id, after)
	}
	text := f.Subject + "; " + f.Evidence + "; " + f.Cause + "; " + f.Remedy
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q: %s", want, text)
		}
	}
}

// burningApp needs some CPU time for each request, as applications do.
const burningApp = `
import time
def app(environ, start):
    end = time.thread_time() + 0.002
    while time.thread_time() < end: pass
    start('200 OK', [])
    return [b'ok']
`

// TestPinnedGunicorn: workers that may use one core only are found, with the
// command that frees them; the same ones that may use all are not.
func TestPinnedGunicorn(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "app.py"), burningApp)
	for _, tt := range []struct {
		name, port string
		with       []string
		id         string
		says       []string
	}{
		{"pinned", "8971", []string{"taskset", "-c", "0"}, "runq-pile", []string{"gunicorn", "allows core 0 only", "taskset -pc 0-"}},
		{"unpinned", "8972", nil, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := "127.0.0.1:" + tt.port
			server(t, addr, syscall.SIGTERM, append(tt.with, "gunicorn", "--chdir", dir, "-w", "6", "-b", addr, "app:app")...)
			r := herdtrace(t, "-P", tt.port, "--", "wrk", "-t1", "-c12", "-d5", "http://"+addr+"/")
			checkSched(t, r, tt.id, tt.says...)
		})
	}
}

// TestGoUnderQuota: a Go server that wants more than its quota, and the same
// without one.
func TestGoUnderQuota(t *testing.T) {
	needRoot(t)
	load := []string{tool(t, "herdlab"), "accept", "--mode", "go-net", "--conns", "1000000", "--duration", "5s"}
	group := quotaGroup(t, 0.5)
	inside := append([]string{"sh", "-c", `echo $$ > ` + filepath.Join(group, "cgroup.procs") + ` && exec "$@"`, "sh"}, load...)
	r := herdtrace(t, append([]string{"--"}, inside...)...)
	checkSched(t, r, "cfs-throttle", filepath.Base(group), "quota", "GOMAXPROCS")
	checkSched(t, herdtrace(t, append([]string{"--"}, load...)...), "")
}

// quotaGroup makes a cgroup that may use so many cores.
func quotaGroup(t *testing.T, cores float64) string {
	t.Helper()
	root, v2 := cpuHierarchy(t)
	dir := filepath.Join(root, fmt.Sprintf("herdtrace-test-%d", os.Getpid()))
	if v2 {
		writeFile(t, filepath.Join(root, "cgroup.subtree_control"), "+cpu")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup is empty", func() bool { return os.Remove(dir) == nil })
	})
	if v2 {
		writeFile(t, filepath.Join(dir, "cpu.max"), fmt.Sprintf("%.0f 100000", cores*100_000))
	} else {
		writeFile(t, filepath.Join(dir, "cpu.cfs_quota_us"), fmt.Sprintf("%.0f", cores*100_000))
	}
	return dir
}

// cpuHierarchy is where the cpu controller is mounted.
func cpuHierarchy(t *testing.T) (root string, v2 bool) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), "cpu"):
			return f[1], false
		case f[2] == "cgroup2":
			root = f[1]
		}
	}
	if root == "" {
		t.Fatal("no cgroup hierarchy is mounted")
	}
	return root, true
}
