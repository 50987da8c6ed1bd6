// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// probesInTracefs reads the kprobes that tracefs has made: "" where it can have none.
func probesInTracefs(t *testing.T) string {
	t.Helper()
	for _, dir := range tracefsDirs {
		b, err := os.ReadFile(dir + "/kprobe_events")
		if err == nil {
			return string(b)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return ""
}

// takesKprobes reports whether this kernel traces by kprobes. One that does not must
// say that it was built without them, or forbids them.
func takesKprobes(t *testing.T) bool {
	t.Helper()
	tr := open(t, Options{Variants: map[string]string{SignalListen: "kprobe"}})
	defer tr.Close()
	i := slices.IndexFunc(tr.header.Signals, func(s sample.Signal) bool { return s.Name == SignalListen })
	s := &tr.header.Signals[i]
	if s.Variant == "kprobe" && s.Accuracy == sample.Exact {
		if hooks := strings.Join(s.Hooks, " "); !strings.Contains(hooks, "kretprobe/cookie_v4_check kprobe/cookie_v4_check") {
			t.Errorf("attached to %s", hooks)
		}
		return true
	}
	if s.Accuracy != sample.Unavailable || len(s.Rejected) != 1 {
		t.Fatalf("%+v", s)
	}
	t.Logf("rejected: %s", s.Rejected[0].Error)
	if why := s.Rejected[0].Error; !strings.Contains(why, "CONFIG_KPROBE_EVENTS is off") && !strings.HasSuffix(why, unix.EPERM.Error()) {
		t.Error("that is no reason of the kernel's")
	}
	return false
}

// TestKprobes: the listen signal goes by kprobes where there are some, else it is
// said why not, and tracefs knows of nothing in either case.
func TestKprobes(t *testing.T) {
	before := probesInTracefs(t)
	tr := open(t, Options{Variants: map[string]string{SignalListen: "kprobe"}})
	defer tr.Close()
	takesKprobes(t)
	if during := probesInTracefs(t); during != before {
		t.Errorf("tracefs has probes of ours: %q, before %q", during, before)
	}
}

// TestNoSuchFunction: what cannot be probed says so by its cause.
func TestNoSuchFunction(t *testing.T) {
	open(t, Options{}).Close()
	k, err := loadKernel(&Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	h := kprobe("cookie_call", "herdtrace_no_such_function")
	l, err := k.attachHook(&h)
	if err == nil {
		l.Close()
		t.Fatal("it was attached")
	}
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
}

// TestKprobePairs: a return without its entry, and the reverse, is counted.
func TestKprobePairs(t *testing.T) {
	if !takesKprobes(t) {
		return // it is never chosen
	}
	k, err := loadKernel(&Options{Variants: map[string]string{SignalListen: "tcp_ext"}})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := prepareFexit(k); err != nil {
		t.Fatal(err)
	}
	put := func(h hook) io.Closer {
		t.Helper()
		l, err := k.attachHook(&h)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	// One thread on one CPU, which handles its own SYNs.
	runtime.LockOSThread() // and never unlocked
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	_, port := listenOn(t, 0, 128)
	lost := func(kind bpf.AcceptLoss) uint64 {
		sum := make(map[string]uint64)
		if err := addLost(sum, "n", k.mapOf("losses"), uint32(kind)); err != nil {
			t.Fatal(err)
		}
		return sum["n"]
	}
	step := func(name string, connections int, entries, returns uint64) {
		t.Helper()
		e, r := lost(bpf.AcceptLossLOSS_ENTRY_MISSED), lost(bpf.AcceptLossLOSS_RETURN_MISSED)
		for range connections {
			knock(t, port)
		}
		e, r = lost(bpf.AcceptLossLOSS_ENTRY_MISSED)-e, lost(bpf.AcceptLossLOSS_RETURN_MISSED)-r
		if e != entries || r != returns {
			t.Errorf("%s: %d entries and %d returns are said to be missed, want %d and %d", name, e, r, entries, returns)
		}
	}
	ret := put(kretprobe("conn_request_return", "tcp_conn_request"))
	step("returns before the first entry", 5, 0, 0)
	entry := put(kprobe("conn_request_call", "tcp_conn_request"))
	step("pairs", 5, 0, 0)
	ret.Close()
	step("entries alone", 5, 0, 4) // the last one may still return
	ret = put(kretprobe("conn_request_return", "tcp_conn_request"))
	step("pairs again", 5, 0, 1)
	entry.Close()
	step("returns alone", 5, 5, 0)
	ret.Close()
}
