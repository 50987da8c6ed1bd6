// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// TestKprobes: the listen signal goes by kprobes where there are some, else it is
// said why not, and tracefs knows of nothing in either case.
func TestKprobes(t *testing.T) {
	open(t, Options{}).Close()
	before := probesInTracefs(t)
	k, err := loadKernel(&Options{Variants: map[string]string{SignalListen: "kprobe"}})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, s := range k.signals {
		if s.Name != SignalListen {
			continue
		}
		switch {
		case s.Variant == "kprobe" && s.Accuracy == sample.Exact:
			if hooks := strings.Join(s.Hooks, " "); !strings.Contains(hooks, "kretprobe/cookie_v4_check kprobe/cookie_v4_check") {
				t.Errorf("attached to %s", hooks)
			}
		case s.Accuracy == sample.Unavailable && len(s.Rejected) == 1:
			t.Logf("rejected: %s", s.Rejected[0].Error)
			if strings.Contains(s.Rejected[0].Error, verifierRefused) {
				t.Error("that is no reason of the kernel's")
			}
		default:
			t.Errorf("%+v", s)
		}
	}
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
