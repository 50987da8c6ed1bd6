// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const allCaps = "000001ffffffffff"

// files are those of a host: by path what they say, and "@..." is a link.
type files map[string]string

// bareHost is a host with nothing in the way: root on v2.
func bareHost() files {
	return files{
		"/proc/sys/kernel/osrelease":                 "6.12.1",
		"/proc/sys/kernel/unprivileged_bpf_disabled": "2",
		"/proc/self/status":                          status(allCaps, allCaps, "NSpid:\t7", "Seccomp:\t0", "NoNewPrivs:\t0"),
		"/proc/sys/kernel/perf_event_paranoid":       "2",
		"/proc/self/uid_map":                         "         0          0 4294967295",
		"/proc/self/ns/user":                         "@" + firstUserNS,
		"/proc/self/ns/pid":                          "@" + firstPIDNS,
		"/proc/self/ns/cgroup":                       "@" + firstCGroupNS,
		"/proc/self/ns/net":                          "@net:[4026531840]",
		"/proc/1/ns/net":                             "@net:[4026531840]",
		"/proc/1/ns/cgroup":                          "@" + firstCGroupNS,
		"/proc/self/mountinfo":                       "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		"/proc/cgroups":                              "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t90\t1\ncpuacct\t0\t90\t1",
		"/proc/cmdline":                              "quiet",
		"/sys/kernel/btf/vmlinux":                    "BTF",
		"/sys/kernel/security/lockdown":              "[none] integrity confidentiality",
		"/sys/kernel/tracing/events/syscalls/sys_exit_accept4/id":      "700",
		"/sys/bus/event_source/devices/kprobe/type":                    "6",
		"/sys/fs/cgroup/cgroup.controllers":                            "cpuset cpu io",
		"/sys/kernel/debug/tracing/events/syscalls/sys_exit_accept/id": "701",
	}
}

func status(eff, bnd string, more ...string) string {
	return "Name:\therdtrace\nCapEff:\t" + eff + "\nCapBnd:\t" + bnd + "\n" + strings.Join(more, "\n")
}

// with is the host with some files changed; "" takes one, or a directory, away.
func (f files) with(changes files) files {
	for path, text := range changes {
		f[path] = text
	}
	return f
}

// lay writes the files below a directory of the test's.
func (f files) lay(t *testing.T) hostView {
	t.Helper()
	root := t.TempDir()
	for path, text := range f {
		full := filepath.Join(root, path)
		if text == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, isLink := strings.CutPrefix(text, "@"); isLink {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(text+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return hostView{root}
}

// v1Mounts are those of a host whose controllers are in v1.
const v1Mounts = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"

const (
	v1CGroups   = "cpu\t4\t90\t1\ncpuacct\t4\t90\t1"
	bpfCaps     = "000000c000000000" // CAP_BPF, CAP_PERFMON
	noCaps      = "0000000000000000"
	dockerCaps  = "00000000a80425fb" // Docker's default set
	noTracefs   = "/sys/kernel/tracing/events/syscalls/sys_exit_accept4/id"
	childPIDNS  = "@pid:[4026532190]"
	childUserNS = "@user:[4026532188]"
)

// checkCases are hosts, and what must be said of each: by the line's name its
// state and words of it, or of those that go on with it.
var checkCases = []struct {
	name  string
	files files
	want  map[string][]string // the first is the state
	step  string
	stops bool // nothing is traced by BPF
}{
	{name: "root on a host", want: map[string][]string{
		"kernel": {CheckOK, "6.12.1"}, "capabilities": {CheckOK, "all that are needed"}, "unprivileged": {CheckOK, "=2"},
		"kernel types": {CheckOK, "/sys/kernel/btf/vmlinux"}, "lockdown": {CheckOK, "none"}, "tracefs": {CheckOK}, "seccomp": {CheckOK, "no filter"},
		"user namespace": {CheckOK, "the host's"}, "pid namespace": {CheckOK, "the host's"}, "cgroup ns": {CheckOK, "the host's"},
		"network ns": {CheckOK, "the host's"}, "cgroups": {CheckOK, "v2, CPU quotas in it"}}},
	{name: "CAP_BPF and CAP_PERFMON only", files: files{"/proc/self/status": status(bpfCaps, allCaps)}, want: map[string][]string{
		"capabilities": {CheckWarn, "enough to trace with: CAP_BPF, CAP_PERFMON", "without CAP_SYS_PTRACE", "without CAP_SYSLOG", "without CAP_DAC_READ_SEARCH", "without CAP_SYS_ADMIN",
			"sudo setcap cap_bpf,cap_perfmon,cap_dac_read_search,cap_sys_ptrace,cap_syslog,cap_sys_admin+ep", "AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_DAC"}}},
	{name: "the same as root", files: files{"/proc/self/status": status(bpfCaps, allCaps, "Uid:\t0\t0\t0\t0")}, want: map[string][]string{
		"capabilities": {CheckWarn, "+ep", "setcap cap_bpf,cap_perfmon,cap_sys_ptrace,"}}},
	{name: "the same before 5.11", files: files{"/proc/self/status": status(bpfCaps, allCaps), "/proc/sys/kernel/osrelease": "5.10.0-46",
		"/proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         65536                65536                bytes"},
		stops: true, step: "get CAP_SYS_RESOURCE: sudo", want: map[string][]string{
			"capabilities": {CheckFail, "CAP_SYS_RESOURCE is missing", "without CAP_SYS_RESOURCE: no BPF map", "cap_perfmon,cap_sys_resource,"}}},
	{name: "the same with the limit raised", files: files{"/proc/self/status": status(bpfCaps, allCaps), "/proc/sys/kernel/osrelease": "5.10.0-46",
		"/proc/self/limits": "Max locked memory         65536                unlimited            bytes"}, want: map[string][]string{
		"capabilities": {CheckWarn, "enough to trace with"}}},
	{name: "no capability", files: files{"/proc/self/status": status(noCaps, allCaps)}, stops: true, step: "get CAP_BPF and CAP_PERFMON: sudo herdtrace", want: map[string][]string{
		"capabilities": {CheckFail, "CAP_BPF and CAP_PERFMON are missing", "cure: sudo herdtrace"}}},
	{name: "Docker's default", files: files{"/proc/self/status": status(dockerCaps, dockerCaps, "Seccomp:\t2")}, stops: true, step: "get CAP_BPF and CAP_PERFMON: docker run --cap-add=BPF --cap-add=PERFMON", want: map[string][]string{
		"capabilities": {CheckFail, "cure: docker run --cap-add=BPF --cap-add=PERFMON --cap-add=DAC_READ_SEARCH --cap-add=SYS_PTRACE --cap-add=SYSLOG --cap-add=SYS_ADMIN", "capabilities.add: [BPF, PERFMON,"},
		"seccomp":      {CheckOK, "a filter is in force", "seccomp=unconfined"}}},
	{name: "no_new_privs", files: files{"/proc/self/status": status(noCaps, allCaps, "NoNewPrivs:\t1")}, stops: true, want: map[string][]string{
		"capabilities": {CheckFail, "neither sudo nor setcap has an effect"}}},
	{name: "lockdown integrity", files: files{"/sys/kernel/security/lockdown": "none [integrity] confidentiality"}, want: map[string][]string{
		"lockdown": {CheckOK, "integrity: it takes nothing"}}},
	{name: "lockdown confidentiality", files: files{"/sys/kernel/security/lockdown": "none integrity [confidentiality]"}, stops: true, step: "boot with lockdown=integrity", want: map[string][]string{
		"lockdown": {CheckFail, "forbids BPF programs to read kernel memory", "lockdown=integrity"}}},
	{name: "lockdown by the command line", files: files{"/sys/kernel/security/lockdown": "", "/proc/cmdline": "ro lockdown=integrity quiet"}, want: map[string][]string{
		"lockdown": {CheckOK, "integrity (by the kernel's command line"}}},
	{name: "lockdown unknown", files: files{"/sys/kernel/security/lockdown": ""}, want: map[string][]string{
		"lockdown": {CheckOK, "unknown", "mount -t securityfs"}}},
	{name: "no BTF", files: files{"/sys/kernel/btf/vmlinux": ""}, stops: true, step: "boot a kernel with CONFIG_DEBUG_INFO_BTF=y", want: map[string][]string{
		"kernel types": {CheckFail, "/sys/kernel/btf/vmlinux is not there", "CONFIG_DEBUG_INFO_BTF=y"}}},
	{name: "no tracefs", files: files{noTracefs: "", "/sys/kernel/debug/tracing/events/syscalls/sys_exit_accept/id": ""}, want: map[string][]string{
		"tracefs": {CheckWarn, "every system call pays for", "cure: mount -t tracefs tracefs /sys/kernel/tracing"}}},
	{name: "tracefs without system calls", files: files{noTracefs: "", "/sys/kernel/tracing/events/sched/sched_switch/id": "1"}, want: map[string][]string{
		"tracefs": {CheckWarn, "CONFIG_FTRACE_SYSCALLS=y"}}},
	{name: "perf events closed", files: files{"/proc/sys/kernel/perf_event_paranoid": "3", "/proc/self/status": status(bpfCaps, allCaps)}, want: map[string][]string{
		"perf events": {CheckWarn, "perf_event_paranoid=3 forbids", "cure: sysctl kernel.perf_event_paranoid=2"}, "capabilities": {CheckWarn}}},
	{name: "perf events closed to others", files: files{"/proc/sys/kernel/perf_event_paranoid": "3"}, want: map[string][]string{"perf events": {CheckOK, "=3"}}},
	{name: "no perf events", files: files{"/proc/sys/kernel/perf_event_paranoid": ""}, want: map[string][]string{"perf events": {CheckWarn, "CONFIG_PERF_EVENTS"}}},
	{name: "container's pid namespace", files: files{"/proc/self/ns/pid": childPIDNS}, stops: true, step: "docker run --pid=host", want: map[string][]string{
		"pid namespace": {CheckFail, "one process for another", "--pid=host"}, "network ns": {CheckOK, "unknown"}}},
	{name: "the same by NSpid", files: files{"/proc/self/ns/pid": "", "/proc/self/status": status(allCaps, allCaps, "NSpid:\t812\t7")}, stops: true, want: map[string][]string{
		"pid namespace": {CheckFail, "--pid=host"}}},
	{name: "pid namespace unknown", files: files{"/proc/self/ns/pid": "", "/proc/self/status": status(allCaps, allCaps)}, want: map[string][]string{
		"pid namespace": {CheckWarn, "unknown"}}},
	{name: "cgroup namespace", files: files{"/proc/self/ns/cgroup": "@cgroup:[4026532200]", "/proc/self/status": status(bpfCaps, allCaps)}, want: map[string][]string{
		"cgroup ns": {CheckWarn, "those outside", "--cgroupns=host"}, "capabilities": {CheckWarn}}},
	{name: "cgroup namespace of root", files: files{"/proc/self/ns/cgroup": "@cgroup:[4026532200]"}, want: map[string][]string{
		"cgroup ns": {CheckOK, "looks through the host's"}}},
	{name: "pid 1 lets nobody look", files: files{"/proc/self/ns/cgroup": "@cgroup:[4026532200]", "/proc/1/ns/net": "", "/proc/1/ns/cgroup": "",
		"/proc/2/ns/net": "@net:[4026531840]", "/proc/2/ns/cgroup": "@" + firstCGroupNS}, want: map[string][]string{
		"cgroup ns": {CheckOK, "looks through the host's"}, "network ns": {CheckOK, "the host's"}}},
	{name: "network namespace", files: files{"/proc/self/ns/net": "@net:[4026532300]"}, want: map[string][]string{
		"network ns": {CheckWarn, "listeners and packets of all are seen", "--network=host"}}},
	{name: "user namespace", files: files{"/proc/self/ns/user": childUserNS, "/proc/self/uid_map": "0 1000 1"}, stops: true, step: "run herdtrace on the host", want: map[string][]string{
		"user namespace": {CheckFail, "does not count its capabilities"}, "capabilities": {CheckWarn, "its user namespace's"}}},
	{name: "user namespace by its map", files: files{"/proc/self/ns/user": "", "/proc/self/uid_map": "0 100000 65536"}, stops: true, want: map[string][]string{
		"user namespace": {CheckFail}, "capabilities": {CheckWarn}}},
	{name: "cgroup v1", files: files{"/proc/self/mountinfo": v1Mounts, "/proc/cgroups": v1CGroups}, want: map[string][]string{
		"cgroups": {CheckOK, "v1, CPU quotas in it"}}},
	{name: "cgroup hybrid, cpu in v1", files: files{"/proc/self/mountinfo": v1Mounts + "\n33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", "/proc/cgroups": v1CGroups}, want: map[string][]string{
		"cgroups": {CheckOK, "hybrid", "CPU quotas in v1"}}},
	{name: "cgroup hybrid, cpu in v2", files: files{"/proc/self/mountinfo": "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"}, want: map[string][]string{
		"cgroups": {CheckOK, "hybrid", "CPU quotas in v2"}}},
	{name: "v1 that is not mounted", files: files{"/proc/cgroups": v1CGroups}, want: map[string][]string{
		"cgroups": {CheckOK, "v1 has the CPU quotas", "a mount of its own"}}},
	{name: "v1 that is not mounted, few rights", files: files{"/proc/cgroups": v1CGroups, "/proc/self/status": status(bpfCaps, allCaps)}, want: map[string][]string{
		"cgroups": {CheckWarn, "cpu controller is in a v1 hierarchy that is not", "mount -t cgroup -o cpu"}, "capabilities": {CheckWarn}}},
	{name: "no cgroups mounted", files: files{"/proc/self/mountinfo": "1 0 0:1 / / rw - ext4 /dev/vda rw"}, want: map[string][]string{
		"cgroups": {CheckOK, "v2 has the CPU quotas", "a mount of its own"}}},
	{name: "no cgroups mounted, few rights", files: files{"/proc/self/mountinfo": "1 0 0:1 / / rw - ext4 /dev/vda rw", "/proc/self/status": status(bpfCaps, allCaps)}, want: map[string][]string{
		"cgroups": {CheckWarn, "none is mounted", "mount -t cgroup2"}, "capabilities": {CheckWarn}}},
	{name: "no cpu controller", files: files{"/proc/self/mountinfo": "1 0 0:1 / / rw - ext4 /dev/vda rw", "/proc/cgroups": "memory\t0\t1\t1"}, want: map[string][]string{
		"cgroups": {CheckWarn, "no cpu controller"}}},
	{name: "kernel without cgroup v1", files: files{"/proc/cgroups": ""}, want: map[string][]string{
		"cgroups": {CheckOK, "v2, CPU quotas in it"}}},
}

// TestCheckHost: each thing that can be in the way is named, with its cure, and
// nothing else is blamed.
func TestCheckHost(t *testing.T) {
	for _, c := range checkCases {
		t.Run(c.name, func(t *testing.T) {
			h := bareHost().with(c.files).lay(t)
			lines := h.checkHost()
			for _, l := range lines {
				if l.State != CheckOK && l.State != "" && c.want[l.Name] == nil {
					t.Errorf("%s %s: %s; nothing is wrong with it", l.State, l.Name, l.Text)
				}
			}
			for name, want := range c.want {
				state, text := lineOf(lines, name)
				if state != want[0] {
					t.Errorf("%s is %q, want %q: %s", name, state, want[0], text)
				}
				for _, words := range want[1:] {
					if !strings.Contains(text, words) {
						t.Errorf("%s does not say %q: %s", name, words, text)
					}
				}
			}
			if err := h.preflight(); (err != nil) != c.stops {
				t.Errorf("preflight: %v", err)
			}
			if step := h.nextStep(sample.RungFexit, nil, c.stops); !strings.HasPrefix(step, c.step) || c.step == "" && !c.stops && step != "" {
				t.Errorf("next step %q, want %q", step, c.step)
			}
		})
	}
}

// lineOf is a line and those that go on with it.
func lineOf(lines []CheckLine, name string) (state, text string) {
	here := false
	for _, l := range lines {
		if l.Name != "" {
			here = l.Name == name
		}
		if here {
			if l.State != "" {
				state = l.State
			}
			text += l.Text + "\n"
		}
	}
	return state, text
}

func signalOf(name, variant, accuracy, note string, hooks []string, rejected ...string) sample.Signal {
	s := sample.Signal{Name: name, Variant: variant, Accuracy: accuracy, Note: note, Hooks: hooks}
	for _, r := range rejected {
		s.Rejected = append(s.Rejected, sample.Rejection{Variant: "better", Error: r})
	}
	return s
}

// TestRungs: the rung follows from what attached, and the step from what did not.
func TestRungs(t *testing.T) {
	runq := signalOf("runq", "sched_info", sample.Exact, "a note", []string{"tp_btf/sched_switch"})
	byFexit := signalOf("listen", "fexit", sample.Exact, "", []string{"fentry/tcp_conn_request"})
	byKprobe := signalOf("listen", "kprobe", sample.Exact, "by a probe", []string{"kretprobe/tcp_conn_request"}, "not supported")
	byTracepoint := signalOf("accept", "syscall", sample.Exact, "no io_uring", []string{"tracepoint/syscalls:sys_exit_accept"}, "not permitted")
	noTracefs := signalOf("accept", "sys_exit", sample.Exact, "no io_uring", []string{"tp_btf/sys_exit"}, "attach accept: open tracefs: operation not permitted")
	noAddress := signalOf("listen", "tcp_ext", sample.Approximate, "no clients", nil, "addresses are hidden (kernel.kptr_restrict)")
	none := signalOf("wake", "", sample.Unavailable, "", nil, "not permitted")
	for _, c := range []struct {
		name    string
		files   files
		signals []sample.Signal
		refused string
		want    []string
		not     string
	}{
		{"best", nil, []sample.Signal{byFexit, runq}, "", []string{"fexit: full BTF", "exact: listen, runq"}, "next step"},
		{"kprobe", nil, []sample.Signal{byKprobe, runq}, "", []string{"kprobe: ", "seen less well than elsewhere: listen: by a probe", "next step: a kernel with CONFIG_DYNAMIC"}, "a note"},
		{"tracepoints", nil, []sample.Signal{byTracepoint, none, runq}, "", []string{"tracepoints: ", "not measured: wake", "seen less well than elsewhere: accept: no io_uring", "CONFIG_KPROBE_EVENTS"}, "approximate"},
		{"tracefs", files{"/sys/kernel/tracing/events/syscalls/sys_exit_accept4/id": "", "/sys/kernel/debug/tracing/events/syscalls/sys_exit_accept/id": ""},
			[]sample.Signal{noTracefs, runq}, "", []string{"next step: make tracefs readable: mount -t tracefs"}, "CAP_"},
		{"perf events", files{"/proc/sys/kernel/perf_event_paranoid": "3", "/proc/self/status": status(bpfCaps, allCaps)},
			[]sample.Signal{signalOf("accept", "sys_exit", sample.Exact, "no io_uring", []string{"tp_btf/sys_exit"}, "attach accept: open perf event: permission denied")}, "",
			[]string{"next step: sysctl kernel.perf_event_paranoid=2"}, "not measured"},
		{"addresses", files{"/proc/self/status": status(bpfCaps, allCaps)}, []sample.Signal{noAddress, runq}, "", []string{"approximate: listen", "next step: get CAP_SYSLOG: sudo herdtrace"}, "not measured"},
		{"seccomp", files{"/proc/self/status": status(allCaps, allCaps, "Seccomp:\t2")}, nil, "no BPF", []string{"procfs: no BPF here", "--no-bpf", "next step: docker run --security-opt seccomp=unconfined"}, "exact"},
		{"unknown", nil, []sample.Signal{none}, "no BPF", []string{"procfs: ", "not measured: wake", "see why the signals failed"}, "exact"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, text := lineOf(bareHost().with(c.files).lay(t).checkRung(c.signals, c.refused), "rung")
			for _, words := range c.want {
				if !strings.Contains(text, words) {
					t.Errorf("%q is not said:\n%s", words, text)
				}
			}
			if strings.Contains(text, c.not) {
				t.Errorf("%q is said:\n%s", c.not, text)
			}
		})
	}
}
