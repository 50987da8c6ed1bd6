// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestKilled: SIGKILL in the middle of the churn leaves nothing of herdtrace in
// the kernel, and a recording that can be read up to its last whole line.
func TestKilled(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"rec.jsonl", "rec.jsonl.gz"} {
		t.Run(name, func(t *testing.T) {
			before := leftovers(t)
			path := filepath.Join(t.TempDir(), name)
			lab := startChurn(t)
			defer stopChurn(lab)
			trace := startTrace(t, path)
			eventually(t, "there are some ticks", func() bool { return wholeLines(t, path) > 4 })
			kill9(t, trace)
			awaitNothingLeft(t, before)
			checkCut(t, path)
		})
	}
}

// TestKilledWithCommand: the command that was traced is not herdtrace's to end:
// it goes on, as it would after `nohup`.
func TestKilledWithCommand(t *testing.T) {
	needRoot(t)
	before := leftovers(t)
	dir := t.TempDir()
	path, begun, goOn, done := filepath.Join(dir, "rec.jsonl"), filepath.Join(dir, "begun"), filepath.Join(dir, "go"), filepath.Join(dir, "done")
	lab := startChurn(t)
	defer stopChurn(lab)
	script := `echo $$ >"$1.tmp" && mv "$1.tmp" "$1"; while ! test -e "$2"; do sleep 0.1; done; echo done >"$3"`
	trace := startTrace(t, path, "--", "sh", "-c", script, "sh", begun, goOn, done)
	there := func(file string) func() bool {
		return func() bool { _, err := os.Stat(file); return err == nil }
	}
	eventually(t, "the command runs", there(begun))
	eventually(t, "there are some ticks", func() bool { return wholeLines(t, path) > 4 })
	kill9(t, trace)
	awaitNothingLeft(t, before)
	checkCut(t, path)
	writeFile(t, goOn, "")
	eventually(t, "the command goes on to its end", there(done))
}

// startChurn starts a load that goes on until it is stopped.
func startChurn(t *testing.T) *exec.Cmd {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	lab := exec.Command(tool(t, "herdlab"), "churn", "--duration", "1h", "--port", "21000", "--ready-file", ready)
	var said bytes.Buffer
	lab.Stderr = &said
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lab is ready: "+said.String(), func() bool { _, err := os.Stat(ready); return err == nil })
	return lab
}

func stopChurn(lab *exec.Cmd) {
	lab.Process.Signal(syscall.SIGTERM)
	lab.Wait()
}

func startTrace(t *testing.T, recording string, args ...string) *exec.Cmd {
	t.Helper()
	attached := filepath.Join(t.TempDir(), "attached")
	trace := exec.Command(tool(t, "herdtrace"), append([]string{"-q", "-i", "200ms", "-o", recording, "--json=/dev/null", "--ready-file", attached}, args...)...)
	var said bytes.Buffer
	trace.Stderr = &said
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "herdtrace is ready: "+said.String(), func() bool { _, err := os.Stat(attached); return err == nil })
	return trace
}

// kill9 kills herdtrace, and waits until none of the BPF objects is left whose
// descriptors it had: they end a grace period after their last user.
func kill9(t *testing.T, trace *exec.Cmd) {
	t.Helper()
	w := watcher{pid: trace.Process.Pid}
	held := w.take(t).held
	if len(held["map_id"]) == 0 || len(held["prog_id"]) == 0 || len(held["link_id"]) == 0 {
		t.Fatalf("it held no BPF objects: %v", held)
	}
	if err := trace.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its standard error may be held by the command, so that Wait() would wait, too.
	trace.Process.Wait()
	alive := func(key string, id uint32) bool {
		var object io.Closer
		var err error
		switch key {
		case "map_id":
			object, err = ebpf.NewMapFromID(ebpf.MapID(id))
		case "prog_id":
			object, err = ebpf.NewProgramFromID(ebpf.ProgramID(id))
		case "link_id":
			object, err = link.NewFromID(link.ID(id))
		}
		if err == nil {
			object.Close()
		}
		return !errors.Is(err, fs.ErrNotExist)
	}
	eventually(t, "its BPF maps, programs and links are gone", func() bool {
		for key, ids := range held {
			for _, id := range ids {
				if alive(key, id) {
					return false
				}
			}
		}
		return true
	})
}

// leftovers lists what a tracer could leave in the kernel's file systems.
func leftovers(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		out["mounts"] = append(out["mounts"], f[4])
		_, after, _ := strings.Cut(line, " - ")
		switch kind, _, _ := strings.Cut(after, " "); kind {
		case "bpf":
			out["pinned"] = append(out["pinned"], tree(f[4], false)...)
		case "cgroup", "cgroup2":
			out["cgroups"] = append(out["cgroups"], tree(f[4], true)...)
		}
	}
	out["tracefs"] = traceState(t)
	stats, err := os.ReadFile("/proc/sys/kernel/bpf_stats_enabled")
	if err != nil {
		t.Fatal(err)
	}
	out["kernel.bpf_stats_enabled"] = []string{strings.TrimSpace(string(stats))}
	names, _ := os.ReadDir("/run/netns") // there may be none
	for _, n := range names {
		out["named network namespaces"] = append(out["named network namespaces"], n.Name())
	}
	return out
}

// tree lists what is below dir; the cgroups of a load are its own affair.
func tree(dir string, dirs bool) (out []string) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it has gone meanwhile
		case e.IsDir() && (strings.HasPrefix(e.Name(), "herdlab-") || strings.HasPrefix(e.Name(), "herdbench-")):
			return fs.SkipDir
		case path != dir && (e.IsDir() || !dirs):
			out = append(out, path)
		}
		return nil
	})
	return out
}

// traceState is what tracefs holds of probes and instances; it need not be
// mounted.
func traceState(t *testing.T) (out []string) {
	t.Helper()
	fsfd, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatalf("open tracefs: %v", err)
	}
	defer unix.Close(fsfd)
	if err := unix.FsconfigCreate(fsfd); err != nil {
		t.Fatalf("create tracefs: %v", err)
	}
	root, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("mount tracefs: %v", err)
	}
	defer unix.Close(root)
	dir := fmt.Sprintf("/proc/self/fd/%d/", root)
	for _, name := range []string{"kprobe_events", "uprobe_events", "dynamic_events", "set_event", "tracing_on", "current_tracer"} {
		text, err := os.ReadFile(dir + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not built in
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name+": "+string(text))
	}
	instances, err := os.ReadDir(dir + "instances")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, i := range instances {
		out = append(out, "instance "+i.Name())
	}
	return out
}

// awaitNothingLeft polls, since others may be at work on this machine, too.
func awaitNothingLeft(t *testing.T, before map[string][]string) {
	t.Helper()
	var more []string
	defer func() {
		if len(more) > 0 {
			t.Errorf("left: %.2000q", more)
		}
	}()
	eventually(t, "nothing is left", func() bool {
		more = nil
		for what, now := range leftovers(t) {
			for _, item := range now {
				if !slices.Contains(before[what], item) {
					more = append(more, what+": "+item)
				}
			}
		}
		return len(more) == 0
	})
}

// wholeLines is how many Samples can be read from a recording that goes on.
func wholeLines(t *testing.T, path string) (n int) {
	t.Helper()
	src, err := sample.Open(path)
	if err != nil {
		return 0 // it does not have its header yet
	}
	defer src.Close()
	for {
		if _, err := src.Next(context.Background()); err != nil {
			return n
		}
		n++
	}
}

// checkCut: replay reads a recording whose recorder was killed, and one that was
// cut within its last line.
func checkCut(t *testing.T, path string) {
	t.Helper()
	n := wholeLines(t, path)
	checkReplayed(t, path, n)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		return
	}
	lines := bytes.Count(b, []byte("\n"))
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	cut := filepath.Join(t.TempDir(), "cut.jsonl")
	if err := os.WriteFile(cut, whole[:len(whole)-len(whole)/lines/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if said := checkReplayed(t, cut, n-1); !strings.Contains(said, "in the middle of a line") {
		t.Errorf("replay does not say that the recording is cut: %s", said)
	}
}

// checkReplayed replays a recording of so many Samples, of which the first has no
// interval, and returns what was said.
func checkReplayed(t *testing.T, path string, samples int) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.ndjson")
	said, err := exec.Command(tool(t, "herdtrace"), "replay", "-q", "--json="+out, path).CombinedOutput()
	if err != nil {
		t.Fatalf("herdtrace replay: %v: %s", err, said)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	intervals := 0
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		if bytes.Contains(sc.Bytes()[:min(40, len(sc.Bytes()))], []byte(`"type":"interval"`)) {
			intervals++
		}
	}
	if intervals != samples-1 {
		t.Errorf("replay shows %d intervals of %d Samples", intervals, samples)
	}
	return string(said)
}
