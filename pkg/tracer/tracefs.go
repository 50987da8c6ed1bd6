// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// perfEvent is a classic tracepoint or kprobe with a program on it.
type perfEvent int

// Close detaches the program.
func (p perfEvent) Close() error { return unix.Close(int(p)) }

// attachTracepoint puts prog on the classic tracepoint group:event, on all CPUs
// (kernel/trace/bpf_trace.c: perf_event_attach_bpf_prog() attaches to the
// tracepoint, whatever CPU the event itself is for).
func attachTracepoint(group, event string, prog *ebpf.Program) (io.Closer, error) {
	id, err := tracepointID(group, event)
	if err != nil {
		return nil, err
	}
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_TRACEPOINT,
		Config: id,
		Sample: 1,
		Wakeup: 1,
		Size:   uint32(unix.PERF_ATTR_SIZE_VER1),
	}
	return attachEvent(&attr, prog)
}

// attachEvent opens a perf event and puts prog on it, on all CPUs.
func attachEvent(attr *unix.PerfEventAttr, prog *ebpf.Program) (io.Closer, error) {
	fd, err := unix.PerfEventOpen(attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open perf event: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, prog.FD()); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set program of perf event: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("enable perf event: %w", err)
	}
	return perfEvent(fd), nil
}

// tracefsDirs are where tracefs is usually mounted.
var tracefsDirs = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// tracepointID reads the number of a tracepoint from tracefs: from where it is
// mounted, or else from a mount of our own that is attached nowhere, so that
// nobody sees it and nothing stays behind.
func tracepointID(group, event string) (uint64, error) {
	rel := filepath.Join("events", group, event, "id")
	for _, dir := range tracefsDirs {
		if id, err := readID(os.ReadFile(filepath.Join(dir, rel))); err == nil {
			return id, nil
		}
	}
	root, err := detachedMount("tracefs")
	if err != nil {
		return 0, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat(root, rel, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return 0, fmt.Errorf("find tracepoint %s:%s: %w", group, event, err)
	}
	if err != nil {
		return 0, fmt.Errorf("open tracepoint %s:%s in tracefs: %w", group, event, err)
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	return readID(io.ReadAll(f))
}

func readID(b []byte, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// detachedMount returns a directory descriptor of a mount (fsopen(2), Linux 5.2)
// that is in no mount namespace; closing it unmounts.
func detachedMount(fstype string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create %s: %w", fstype, err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("mount %s nowhere: %w", fstype, err)
	}
	return root, nil
}
