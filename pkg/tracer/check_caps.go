// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"strconv"
	"strings"
)

// The capabilities that tracing needs (include/uapi/linux/capability.h).
// CAP_NET_ADMIN is none of them.
const (
	capDACReadSearch = 2
	capSysPtrace     = 19
	capSysAdmin      = 21
	capSysResource   = 24
	capSyslog        = 34
	capPerfmon       = 38
	capBPF           = 39
)

// capability is one of them, and what there is to lose without it.
type capability struct {
	bit  uint
	name string
	must bool // nothing is traced without
	cost string
	old  bool // only before Linux 5.11, and where the memlock limit is low
}

const dacReadSearch = "CAP_DAC_READ_SEARCH"

var capabilities = []capability{
	{bit: capBPF, name: "CAP_BPF", must: true, cost: "no BPF program loads"},
	{bit: capPerfmon, name: "CAP_PERFMON", must: true, cost: "no BPF program attaches"},
	{bit: capSysResource, name: "CAP_SYS_RESOURCE", must: true, old: true, cost: "no BPF map can be made beyond the memlock limit (ulimit -l), which is too low here"},
	{bit: capDACReadSearch, name: dacReadSearch, cost: "tracefs is root's alone, so accept takes a hook that every system call pays for, and listen(2)'s backlog is not known"},
	{bit: capSysPtrace, name: "CAP_SYS_PTRACE", cost: "how other users' workers wait is not known, nor which network namespaces they are in"},
	{bit: capSyslog, name: "CAP_SYSLOG", cost: "kernel addresses are hidden, so without fexit and kprobes refused clients are not seen, and on old kernels not whose packets a full CPU backlog dropped"},
	{bit: capSysAdmin, name: "CAP_SYS_ADMIN", cost: "the cost of the BPF programs is not measured, devices of other network namespaces are not named, and a tracefs that is not mounted is not found"},
}

// memlockNeeded is more than all maps and programs take.
const memlockNeeded = 256 << 20

// memlockIsLow: kernels before 5.11 charge maps and programs to the limit of
// locked memory, which can be raised up to the second of the two numbers in
// "Max locked memory  8388608  8388608  bytes" (fs/proc/base.c: proc_pid_limits()).
func (h hostView) memlockIsLow() bool {
	if !h.before(5, 11) {
		return false
	}
	for line := range strings.Lines(h.read("/proc/self/limits")) {
		if v, ok := strings.CutPrefix(line, "Max locked memory"); ok {
			f := strings.Fields(v)
			hard, err := strconv.ParseUint(f[min(1, len(f)-1)], 10, 64)
			return err == nil && hard < memlockNeeded
		}
	}
	return false
}

// can reports whether this process has a capability.
func (h hostView) can(bit uint) bool {
	caps, err := h.caps("CapEff")
	return err == nil && has(caps, bit)
}

func has(caps uint64, c uint) bool { return caps&(1<<c) != 0 }

// missing are those that are neither in caps nor stood for: CAP_SYS_ADMIN
// includes CAP_BPF and CAP_PERFMON (include/linux/capability.h: bpf_capable()).
func (h hostView) missing(caps uint64) (out []capability) {
	for _, c := range capabilities {
		switch {
		case has(caps, c.bit), c.name == dacReadSearch && h.isRoot(), c.must && !c.old && has(caps, capSysAdmin), c.old && !h.memlockIsLow():
		default:
			out = append(out, c)
		}
	}
	return out
}

// isRoot: what belongs to root is open to us without any capability.
func (h hostView) isRoot() bool {
	f := strings.Fields(h.status("Uid")) // real, effective, saved, of the filesystem
	return len(f) == 4 && f[3] == "0"
}

func namesOf(caps []capability) (names []string) {
	for _, c := range caps {
		names = append(names, c.name)
	}
	return names
}

// mustHave are those of missing without which nothing is traced.
func mustHave(missing []capability) (out []capability) {
	for _, c := range missing {
		if c.must {
			out = append(out, c)
		}
	}
	return out
}

func (h hostView) checkCaps() []CheckLine {
	const name = "capabilities"
	caps, err := h.caps("CapEff")
	if err != nil {
		return []CheckLine{{CheckWarn, name, "unknown: " + err.Error()}}
	}
	missing := h.missing(caps)
	if h.inUserNS() {
		return []CheckLine{{CheckWarn, name, "those that this process has are its user namespace's, see there"}}
	}
	if len(missing) == 0 {
		return []CheckLine{{CheckOK, name, "all that are needed"}}
	}
	var there []string
	for _, c := range capabilities {
		if has(caps, c.bit) {
			there = append(there, c.name)
		}
	}
	first := CheckLine{CheckWarn, name, "enough to trace with: " + strings.Join(there, ", ")}
	if must := mustHave(missing); len(must) > 0 {
		first = CheckLine{CheckFail, name, listCaps(namesOf(must)) + " missing, without which nothing is traced by BPF"}
		if len(there) > 0 {
			first.Text += "; there: " + strings.Join(there, ", ")
		}
	}
	lines := []CheckLine{first}
	for _, c := range missing {
		lines = append(lines, CheckLine{Text: "without " + c.name + ": " + c.cost})
	}
	for _, cure := range h.capsCure(missing) {
		lines = append(lines, CheckLine{Text: "cure: " + cure})
	}
	return lines
}

// capsCure is what to type. A container's process cannot be given what its
// bounding set lacks, whatever it runs.
func (h hostView) capsCure(missing []capability) []string {
	names := namesOf(missing)
	bounds, err := h.caps("CapBnd")
	if err != nil {
		bounds = ^uint64(0)
	}
	for _, c := range missing {
		if !has(bounds, c.bit) {
			short := strings.ReplaceAll(strings.Join(names, " --cap-add="), "CAP_", "")
			list := strings.ReplaceAll(strings.Join(names, ", "), "CAP_", "")
			return []string{"docker run --cap-add=" + short, "Kubernetes: securityContext.capabilities.add: [" + list + "]"}
		}
	}
	if h.status("NoNewPrivs") == "1" {
		return []string{"no_new_privs is set here, so neither sudo nor setcap has an effect: start it without (docker: no --security-opt no-new-privileges; Kubernetes: allowPrivilegeEscalation: true; systemd: NoNewPrivileges=no)"}
	}
	all := namesOf(h.missing(0))
	return []string{
		"sudo herdtrace",
		"or once: sudo setcap " + strings.ToLower(strings.Join(all, ",")) + "+ep \"$(command -v herdtrace)\"",
		"or in a systemd unit: AmbientCapabilities=" + strings.Join(all, " "),
	}
}

func listCaps(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}
