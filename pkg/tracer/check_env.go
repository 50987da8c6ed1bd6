// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostView reads what a host says of itself. Its /proc and /sys lie in root: ""
// for those of this host.
type hostView struct{ root string }

// live: it is this host, so that more can be tried than reading.
func (h hostView) live() bool { return h.root == "" }

func (h hostView) read(path string) string { return readTrimmed(h.root + path) }

func (h hostView) exists(path string) bool {
	_, err := os.Stat(h.root + path)
	return err == nil
}

// link is what a symbolic link says, "" where it cannot be read.
func (h hostView) link(path string) string {
	s, _ := os.Readlink(h.root + path)
	return s
}

// status is a field of /proc/self/status, "" where there is none.
func (h hostView) status(field string) string {
	for line := range strings.Lines(h.read("/proc/self/status")) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// caps reads a set of capabilities: CapEff, CapBnd.
func (h hostView) caps(set string) (uint64, error) {
	s := h.status(set)
	if s == "" {
		return 0, fmt.Errorf("/proc/self/status has no %s line", set)
	}
	return strconv.ParseUint(s, 16, 64)
}

// before reports whether the kernel is older than major.minor. Only advice goes
// by that: what attaches is found out by attaching it.
func (h hostView) before(major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(h.read("/proc/sys/kernel/osrelease"), "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}

func (h hostView) checkKernel() CheckLine {
	return CheckLine{CheckOK, "kernel", fmt.Sprintf("Linux %s, %s, %d CPUs", h.read("/proc/sys/kernel/osrelease"), runtime.GOARCH, runtime.NumCPU())}
}

// checkUnprivileged is for those who wonder: herdtrace does not depend on it.
func (h hostView) checkUnprivileged() CheckLine {
	const name = "unprivileged"
	switch v := h.read("/proc/sys/kernel/unprivileged_bpf_disabled"); v {
	case "":
		return CheckLine{CheckOK, name, "kernel.unprivileged_bpf_disabled is not there: CAP_BPF decides"}
	case "0":
		return CheckLine{CheckOK, name, "kernel.unprivileged_bpf_disabled=0: it allows too little to trace with; herdtrace needs CAP_BPF all the same"}
	default:
		return CheckLine{CheckOK, name, "kernel.unprivileged_bpf_disabled=" + v + ": BPF takes CAP_BPF, as it should"}
	}
}

func (h hostView) checkBTF() CheckLine {
	if !h.exists(btfPath) {
		return CheckLine{CheckFail, "kernel types", btfPath + " is not there, without which no BPF program loads: boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as all distributions since 2021 ship; in a container mount the host's /sys"}
	}
	return CheckLine{CheckOK, "kernel types", btfPath}
}

// The modes of lockdown that are not none (security/lockdown/lockdown.c).
const (
	lockdownIntegrity       = "integrity"
	lockdownConfidentiality = "confidentiality"
)

const lockdownCure = "boot with lockdown=integrity, which is enough for Secure Boot (it cannot be lowered while the kernel runs)"

// lockdown finds the mode that stands in brackets, "none [integrity]
// confidentiality", in securityfs: where it is mounted, or else in a mount that
// is attached nowhere. Without, there is what was asked for at boot, which can
// only have become stricter since. "" is unknown.
func (h hostView) lockdown() (mode, how string) {
	s := h.read("/sys/kernel/security/lockdown")
	if s == "" && h.live() {
		s = readDetached("securityfs", "lockdown")
	}
	if _, mode, ok := strings.Cut(s, "["); ok {
		mode, _, _ = strings.Cut(mode, "]")
		return mode, ""
	}
	for _, word := range strings.Fields(h.read("/proc/cmdline")) {
		if mode, ok := strings.CutPrefix(word, "lockdown="); ok {
			return mode, " (by the kernel's command line; securityfs is not mounted)"
		}
	}
	return "", ""
}

func (h hostView) lockedDown() bool {
	mode, _ := h.lockdown()
	return mode == lockdownConfidentiality
}

// readDetached reads a file of a filesystem that is not mounted here.
func readDetached(fstype, name string) string {
	root, err := detachedMount(fstype)
	if err != nil {
		return ""
	}
	defer unix.Close(root)
	b, _ := readFileAt(root, name, make([]byte, 4096))
	return strings.TrimSpace(string(b))
}

func (h hostView) checkLockdown() CheckLine {
	switch mode, how := h.lockdown(); mode {
	case "":
		return CheckLine{CheckOK, "lockdown", "unknown (securityfs is not mounted: mount -t securityfs none /sys/kernel/security): what attaches below decides"}
	case lockdownConfidentiality:
		return CheckLine{CheckFail, "lockdown", "confidentiality" + how + ": it forbids BPF programs to read kernel memory; " + lockdownCure}
	case lockdownIntegrity:
		return CheckLine{CheckOK, "lockdown", "integrity" + how + ": it takes nothing from herdtrace"}
	default:
		return CheckLine{CheckOK, "lockdown", mode + how}
	}
}

func (h hostView) checkTracefs() CheckLine {
	if err := h.findTracefs(); err != nil {
		return CheckLine{CheckWarn, "tracefs", fmt.Sprintf("%v: accept falls back to a hook that every system call pays for, and listen(2)'s backlog is not known; cure: %s", err, h.tracefsCure())}
	}
	return CheckLine{CheckOK, "tracefs", "per-system-call tracepoints are there"}
}

func (h hostView) findTracefs() error {
	if h.live() {
		_, err := tracepointID("syscalls", "sys_exit_accept4")
		return err
	}
	for _, dir := range tracefsDirs {
		if _, err := readID(os.ReadFile(h.root + dir + "/events/syscalls/sys_exit_accept4/id")); err == nil {
			return nil
		}
	}
	return errors.New("tracefs cannot be read")
}

// tracefsCure tells a tracefs that is not there from one that is not for us.
func (h hostView) tracefsCure() string {
	if h.lockedDown() {
		return lockdownCure
	}
	for _, dir := range tracefsDirs {
		if _, err := os.ReadDir(h.root + dir); err != nil && os.IsPermission(err) {
			return dacReadSearch
		}
		if h.exists(dir + "/events") {
			return "a kernel with CONFIG_FTRACE_SYSCALLS=y"
		}
	}
	return "mount -t tracefs tracefs /sys/kernel/tracing (docker run -v /sys/kernel/tracing:/sys/kernel/tracing:ro)"
}

// perfIsClosed: Debian and Ubuntu know a kernel.perf_event_paranoid of 3 and
// more, with which perf_event_open(2) takes CAP_SYS_ADMIN, whatever CAP_PERFMON
// says (their patch "security,perf: Allow further restriction of perf_event_open").
func (h hostView) perfIsClosed() bool {
	n, err := strconv.Atoi(h.read(perfParanoid))
	return err == nil && n >= 3 && !h.can(capSysAdmin)
}

const (
	perfParanoid = "/proc/sys/kernel/perf_event_paranoid"
	perfCure     = "sysctl kernel.perf_event_paranoid=2, or get CAP_SYS_ADMIN"
)

func (h hostView) checkPerf() CheckLine {
	const name = "perf events"
	level := h.read(perfParanoid)
	switch {
	case level == "":
		return CheckLine{CheckWarn, name, perfParanoid + " is not there: without CONFIG_PERF_EVENTS there are no per-system-call tracepoints and no kprobes"}
	case h.perfIsClosed():
		return CheckLine{CheckWarn, name, "kernel.perf_event_paranoid=" + level + " forbids per-system-call tracepoints and kprobes without CAP_SYS_ADMIN: without fexit, accept falls back to a hook that every system call pays for, and refused clients may not be seen; cure: " + perfCure}
	}
	return CheckLine{CheckOK, name, "kernel.perf_event_paranoid=" + level}
}

// checkSeccomp: what a filter lets through, only trying tells.
func (h hostView) checkSeccomp() CheckLine {
	switch s := h.status("Seccomp"); s {
	case "2":
		return CheckLine{CheckOK, "seccomp", "a filter is in force, as containers have one: if bpf(2) or perf_event_open(2) is refused below, run with docker run --security-opt seccomp=unconfined (Kubernetes: seccompProfile.type: Unconfined)"}
	case "":
		return CheckLine{CheckOK, "seccomp", "unknown (/proc/self/status does not tell)"}
	default:
		return CheckLine{CheckOK, "seccomp", "no filter"}
	}
}
