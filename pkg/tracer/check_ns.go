// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"strings"
)

// The inode numbers of the first namespaces (include/linux/proc_ns.h:
// PROC_*_INIT_INO, Linux 3.8). That of the network is one of them since 6.18
// only.
const (
	firstUserNS   = "user:[4026531837]"
	firstPIDNS    = "pid:[4026531836]"
	firstCGroupNS = "cgroup:[4026531835]"
	firstNetNS    = "net:[4026531833]"
)

// inUserNS reports whether this is a user namespace below the first one.
func (h hostView) inUserNS() bool {
	if ns := h.link("/proc/self/ns/user"); ns != "" {
		return ns != firstUserNS
	}
	f := strings.Fields(h.read("/proc/self/uid_map"))
	return len(f) > 0 && !slices.Equal(f, []string{"0", "0", "4294967295"})
}

// inPIDNS reports whether this is a pid namespace below the first one.
func (h hostView) inPIDNS() bool {
	if ns := h.link("/proc/self/ns/pid"); ns != "" {
		return ns != firstPIDNS
	}
	return len(strings.Fields(h.status("NSpid"))) > 1
}

// hostNS is the path of a namespace of the host's: that of pid 1, or of kthreadd
// where pid 1 lets nobody look (prctl(2): PR_SET_DUMPABLE).
func (h hostView) hostNS(kind string) string {
	if path := "/proc/1/ns/" + kind; h.link(path) != "" {
		return path
	}
	return "/proc/2/ns/" + kind
}

func (h hostView) checkUserNS() CheckLine {
	if h.inUserNS() {
		return CheckLine{CheckFail, "user namespace", "not the host's (rootless container, unshare -U): the kernel does not count its capabilities for BPF; " + userNSCure}
	}
	return CheckLine{CheckOK, "user namespace", "the host's"}
}

const userNSCure = "run herdtrace on the host, or in a container that the host's root has started (docker run --userns=host)"

// checkPIDNS: BPF programs know threads by the host's numbers, and there is no
// way from these to a container's own, by which its /proc has them.
func (h hostView) checkPIDNS() CheckLine {
	if h.inPIDNS() {
		return CheckLine{CheckFail, "pid namespace", "not the host's: BPF shows processes by the host's numbers, this /proc by its own, and herdtrace would take one process for another; " + pidNSCure}
	}
	if h.link("/proc/self/ns/pid") == "" && h.status("NSpid") == "" {
		return CheckLine{CheckWarn, "pid namespace", "unknown: /proc has no self, as if it were another namespace's; mount -t proc proc /proc"}
	}
	return CheckLine{CheckOK, "pid namespace", "the host's"}
}

const pidNSCure = "docker run --pid=host (Kubernetes: hostPID: true; unshare: leave out --pid)"

func (h hostView) checkCGroupNS() CheckLine {
	const name = "cgroup ns"
	switch h.link("/proc/self/ns/cgroup") {
	case firstCGroupNS:
		return CheckLine{CheckOK, name, "the host's"}
	case "":
		return CheckLine{CheckOK, name, "unknown"}
	}
	if h.can(capSysAdmin) && h.link(h.hostNS("cgroup")) == firstCGroupNS {
		return CheckLine{CheckOK, name, "not the host's, but with CAP_SYS_ADMIN herdtrace looks through the host's"}
	}
	return CheckLine{CheckWarn, name, "not the host's: cgroups are shown by their path below this one's, and those outside (other containers, the ones above with their quotas) are not seen; docker run --cgroupns=host, and mount the host's /sys/fs/cgroup"}
}

func (h hostView) checkNetNS() CheckLine {
	const name = "network ns"
	own, first := h.link("/proc/self/ns/net"), ""
	if !h.inPIDNS() {
		first = h.link(h.hostNS("net"))
	}
	switch {
	case own == firstNetNS || own != "" && own == first:
		return CheckLine{CheckOK, name, "the host's"}
	case own == "" || first == "":
		return CheckLine{CheckOK, name, "unknown; listeners of all are seen"}
	}
	return CheckLine{CheckWarn, name, "not the host's: listeners and packets of all are seen, but not the host's netdev_max_backlog nor, without CAP_SYS_ADMIN, the queues and RPS masks of its devices; docker run --network=host"}
}

// checkCGroups says which hierarchy limits CPU time.
func (h hostView) checkCGroups() CheckLine {
	const name = "cgroups"
	mounts := h.read("/proc/self/mountinfo")
	var v1, v2, named bool
	for _, m := range parseCGroupMounts(mounts, "cpu") {
		v1, v2 = v1 || !m.v2, v2 || m.v2
	}
	named = strings.Contains(mounts, " - cgroup ")
	cpu := h.cpuHierarchy()
	switch {
	case v1 && v2:
		return CheckLine{CheckOK, name, "hybrid (v1 and v2 are mounted), CPU quotas in v1"}
	case v1:
		return CheckLine{CheckOK, name, "v1, CPU quotas in it"}
	case cpu == "v1" && h.can(capSysAdmin), cpu == "v2" && !v2 && h.can(capSysAdmin):
		return CheckLine{CheckOK, name, cpu + " has the CPU quotas; it is not mounted here, so herdtrace looks at it through a mount of its own"}
	case cpu == "v1":
		return CheckLine{CheckWarn, name, "the cpu controller is in a v1 hierarchy that is not mounted here, so throttling is not measured: mount -t cgroup -o cpu,cpuacct none /sys/fs/cgroup/cpu, or get CAP_SYS_ADMIN"}
	case v2 && named:
		return CheckLine{CheckOK, name, "hybrid (v1 and v2 are mounted), CPU quotas in v2"}
	case v2:
		return CheckLine{CheckOK, name, "v2, CPU quotas in it"}
	case cpu == "":
		return CheckLine{CheckWarn, name, "this kernel has no cpu controller: nothing can be throttled"}
	}
	return CheckLine{CheckWarn, name, "none is mounted here, so throttling is not measured: mount -t cgroup2 none /sys/fs/cgroup, or get CAP_SYS_ADMIN"}
}

// cpuHierarchy is where the cpu controller is, by lines "cpu hierarchy groups
// enabled" (kernel/cgroup/cgroup-v1.c: proc_cgroupstats_show()), of which
// hierarchy 0 is v2; "" where the kernel has none. Where /proc/cgroups itself is
// not there (CONFIG_CGROUPS_V1 off), v2 is all there is.
func (h hostView) cpuHierarchy() string {
	if !h.exists("/proc/cgroups") {
		return "v2"
	}
	for line := range strings.Lines(h.read("/proc/cgroups")) {
		switch f := strings.Fields(line); {
		case len(f) != 4 || f[0] != "cpu" || f[3] == "0":
		case f[1] == "0":
			return "v2"
		default:
			return "v1"
		}
	}
	return ""
}
