// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// kprobePMU is where the kernel says how to ask for a kprobe that lives as long
// as its descriptor (kernel/events/core.c: perf_kprobe): one that tracefs makes
// would outlive us.
const kprobePMU = "/sys/bus/event_source/devices/kprobe"

// attachKprobe puts prog on the entry of a kernel function, or on its return.
func attachKprobe(function string, ret bool, prog *ebpf.Program) (io.Closer, error) {
	kind, err := readID(os.ReadFile(kprobePMU + "/type"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find the kernel's kprobes: %s is not there (CONFIG_KPROBE_EVENTS is off, or /sys not mounted): %w", kprobePMU, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("find the kernel's kprobes: %w", err)
	}
	name, err := unix.BytePtrFromString(function)
	if err != nil {
		return nil, fmt.Errorf("name kernel function: %w", err)
	}
	var pin runtime.Pinner
	pin.Pin(name)
	defer pin.Unpin()
	attr := unix.PerfEventAttr{
		Type: uint32(kind),
		Size: uint32(unix.PERF_ATTR_SIZE_VER1),
		Ext1: uint64(uintptr(unsafe.Pointer(name))), // kprobe_func; kprobe_addr, in Ext2, is 0
	}
	if ret {
		bit, err := returnBit()
		if err != nil {
			return nil, err
		}
		attr.Config = 1 << bit
	}
	return attachEvent(&attr, prog)
}

// returnBit reads which bit of config asks for the return: "config:0".
func returnBit() (uint64, error) {
	b, err := os.ReadFile(kprobePMU + "/format/retprobe")
	if err != nil {
		return 0, fmt.Errorf("find the kernel's kretprobes: %w", err)
	}
	bit, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "config:")
	n, err := strconv.ParseUint(bit, 10, 6)
	if !ok || err != nil {
		return 0, fmt.Errorf("find the kernel's kretprobes: unknown format %q", b)
	}
	return n, nil
}
