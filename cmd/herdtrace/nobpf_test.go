// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNoBPFRefusals: what all listeners of a namespace refused is what the kernel
// counted, without a single BPF program, and the finding is the same.
func TestNoBPFRefusals(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		args []string
		find string
	}{
		{[]string{"--mode", "accept-overflow", "--rate", "5000"}, "accept-queue-overflow"},
		{[]string{"--mode", "accept-overflow", "--sockets", "4", "--rate", "5000"}, "accept-queue-overflow"},
		{[]string{"--mode", "ack-overflow", "--rate", "5000"}, "accept-queue-overflow"},
		{[]string{"--mode", "healthy", "--rate", "5000"}, ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			r := refuse(t, []string{"--no-bpf"}, append(tt.args, "--linger", "4s")...) // a tick may be put off for what the last one cost
			r.checkSums(t)
			var raised []string
			for _, f := range r.of("finding") {
				if strings.Contains(f.Subject, ":8080 ") && f.State == "raised" { // else it is another's that runs here
					raised = append(raised, f.ID)
				}
			}
			if tt.find != "" && !slices.Contains(raised, tt.find) {
				t.Errorf("raised %v, want %s", raised, tt.find)
			}
			if tt.find == "" && len(raised) > 0 {
				t.Errorf("raised %v, want nothing", raised)
			}
			absent(t, r.raw, "completions_total", "accepts_total", "wakeups_total", "refused_clients", "syn_queue_len", "migrations_total", "wait_mask_seconds_total")
		})
	}
}

// absent: what is not measured is no 0.
func absent(t *testing.T, ndjson []byte, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if bytes.Contains(ndjson, []byte(`"`+key+`":`)) {
			t.Errorf("the output has %s, which is not measured", key)
		}
	}
}

// TestNoBPFSched: run and wait time of each thread are schedstat's, and a cgroup's
// periods and throttled time cpu.stat's, to the nanosecond.
func TestNoBPFSched(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		args []string
		find string // raised for sure; else nothing about the lab's group is
	}{
		{[]string{"--mode", "throttle", "--duration", "4s"}, "cfs-throttle"},
		{[]string{"--mode", "throttle", "--nested", "--threads", "4", "--duration", "4s"}, "cfs-throttle"},
		{[]string{"--mode", "unthrottled", "--duration", "3s"}, ""},
		{[]string{"--mode", "pile", "--duration", "3s"}, ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			r := schedLabBy(t, []string{"--no-bpf"}, tt.args...)
			r.checkThreads(t)
			r.checkQuotas(t)
			for _, f := range r.of("finding") { // those of others that run here are theirs
				if tt.find == "" && (strings.Contains(f.Subject, "herdlab-sched") || strings.HasPrefix(f.ID, "runq-") || f.ID == "cputime-hidden") {
					t.Errorf("%s is raised: %s: %s", f.ID, f.Subject, f.Evidence)
				}
			}
			if tt.find != "" && !slices.Contains(r.raised(), tt.find) {
				t.Errorf("raised %v, want %s", r.raised(), tt.find)
			}
			absent(t, r.raw, "migrations_total", "wait_mask_seconds_total", "wait_stolen_seconds_total", "wait_throttled_seconds_total",
				"unclaimed_idle_seconds_total", "runq_peak", "runq_wait_p99_ns", "net_rx_softirq_seconds_total", "worst_stall_seconds")
		})
	}
}

// checkQuotas is checkCGroups for where single stops are not seen.
func (r *schedRun) checkQuotas(t *testing.T) {
	t.Helper()
	groups := make(map[uint64]cgroupRecord)
	for _, g := range r.last(t).CGroups {
		groups[g.CGroupID] = g
	}
	for _, o := range r.oracle.Cgroups {
		g := groups[o.CgroupID]
		if g.Path != o.Path || ns(g.CPU) != o.RunNS || ns(g.Wait) != o.WaitNS {
			t.Errorf("%s: it is %q, ran %d ns and waited %d, its threads' schedstat says %d and %d", o.Path, g.Path, ns(g.CPU), ns(g.Wait), o.RunNS, o.WaitNS)
		}
		if o.QuotaUS == nil {
			continue
		}
		if g.QuotaUS != *o.QuotaUS || g.Throttled != o.NrThrottled || ns(g.ThrottledSeconds) != o.ThrottledNS {
			t.Errorf("%s: quota %d us, %d periods throttled, %d ns; cpu.stat says %d, %d, %d",
				o.Path, g.QuotaUS, g.Throttled, ns(g.ThrottledSeconds), *o.QuotaUS, o.NrThrottled, o.ThrottledNS)
		}
		// The timer ends a last period or two after the load.
		if d := g.Periods - o.NrPeriods; d < 0 || d > 2 {
			t.Errorf("%s: %d periods, cpu.stat says %d", o.Path, g.Periods, o.NrPeriods)
		}
	}
}

// receives is what the kernel has counted of the receive path: packets and NET_RX
// softirqs by core.
func receives(t *testing.T) (packets, softirqs []uint64) {
	t.Helper()
	stat, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(stat)) {
		n, err := strconv.ParseUint(strings.Fields(line)[0], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, n)
	}
	irqs, err := os.ReadFile("/proc/softirqs")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(irqs)) {
		f := strings.Fields(line)
		for i := 1; f[0] == "NET_RX:" && i < len(f); i++ {
			n, err := strconv.ParseUint(f[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			softirqs = append(softirqs, n)
		}
	}
	return packets, softirqs
}

// TestNoBPFReceive: packets and softirqs by core are between what the kernel
// counted at the inner and at the outer ends of the trace.
func TestNoBPFReceive(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	ready, ndjson := filepath.Join(dir, "ready"), filepath.Join(dir, "out")
	cmd := exec.Command(tool(t, "herdtrace"), "--no-bpf", "-q", "--json="+ndjson, "--ready-file", ready)
	packets0, softirqs0 := receives(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	packets1, softirqs1 := receives(t)
	if out, err := exec.Command(tool(t, "herdlab"), "accept", "--mode", "block", "--rate", "2000", "--conns", "2000").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	packets2, softirqs2 := receives(t)
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	packets3, softirqs3 := receives(t)
	var last struct {
		CPUs []struct {
			CPU      int    `json:"cpu"`
			Packets  uint64 `json:"softnet_processed_total"`
			SoftIRQs uint64 `json:"net_rx_softirqs_total"`
		} `json:"cpus"`
	}
	raw, err := os.ReadFile(ndjson)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil || len(last.CPUs) != len(packets0) {
		t.Fatalf("%v: %d cores, want %d", err, len(last.CPUs), len(packets0))
	}
	for i, c := range last.CPUs {
		if c.Packets < packets2[i]-packets1[i] || c.Packets > packets3[i]-packets0[i] {
			t.Errorf("cpu%d: %d packets, the kernel counted %d to %d", c.CPU, c.Packets, packets2[i]-packets1[i], packets3[i]-packets0[i])
		}
		if c.SoftIRQs < softirqs2[i]-softirqs1[i] || c.SoftIRQs > softirqs3[i]-softirqs0[i] {
			t.Errorf("cpu%d: %d softirqs, the kernel counted %d to %d", c.CPU, c.SoftIRQs, softirqs2[i]-softirqs1[i], softirqs3[i]-softirqs0[i])
		}
	}
	absent(t, raw, "net_rx_softirq_seconds_total", "net_rx_latency_p99_ns")
}

// rungRecord is what the header and the summary say of a rung.
type rungRecord struct {
	Type       string         `json:"type"`
	Rung       string         `json:"rung"`
	RungReason string         `json:"rung_reason"`
	Signals    []signalRecord `json:"signals"`
	Processes  []struct {
		PID int `json:"pid"`
	} `json:"processes"`
	Listeners []struct {
		Port      int     `json:"port"`
		Processes int     `json:"processes"`
		QueueLen  uint32  `json:"accept_queue_len"`
		QueueMax  *uint32 `json:"accept_queue_max"`
		Wait      string  `json:"wait"`
	} `json:"listeners"`
	Cost struct {
		Lost uint64 `json:"lost_total"`
	} `json:"cost"`
}

func rungRecords(t *testing.T, ndjson string) (header, summary rungRecord) {
	t.Helper()
	for line := range strings.Lines(ndjson) {
		var r rungRecord
		switch {
		case strings.Contains(line, `"type":"header"`):
			r.Signals = []signalRecord{}
			var h struct {
				Rung       string         `json:"rung"`
				RungReason string         `json:"rung_reason"`
				Signals    []signalRecord `json:"signals"`
			}
			if err := json.Unmarshal([]byte(line), &h); err != nil {
				t.Fatal(err)
			}
			header.Rung, header.RungReason, header.Signals = h.Rung, h.RungReason, h.Signals
		case strings.Contains(line, `"type":"summary"`):
			if err := json.Unmarshal([]byte(line), &summary); err != nil {
				t.Fatal(err)
			}
		}
	}
	return header, summary
}

// TestUnprivileged: a user who may do nothing gets what everybody may see, and is
// told why that is not more.
func TestUnprivileged(t *testing.T) {
	needRoot(t)
	dir, _ := tools()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	waiting, err := net.Dial("tcp4", l.Addr().String()) // nobody accepts it
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}
	out, stderr, code := cli(t, nobody, "--json", "-d", "2s")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	oneLine(t, stderr, "NO BPF", "CAP_BPF", "sudo")
	header, summary := rungRecords(t, out)
	if header.Rung != "procfs" || !strings.Contains(header.RungReason, "CAP_BPF") {
		t.Errorf("rung %q, because %q", header.Rung, header.RungReason)
	}
	for _, s := range header.Signals {
		if bpf := s.Name == "accept" || s.Name == "wake"; bpf != (s.Accuracy == "unavailable") {
			t.Errorf("%s is %s", s.Name, s.Accuracy)
		}
	}
	seen := false
	for _, x := range summary.Listeners {
		if x.Port == port {
			seen = true
			if x.QueueLen != 1 || x.QueueMax == nil || x.Processes != 0 {
				t.Errorf("the listener of somebody else: %+v", x)
			}
		}
	}
	if !seen || len(summary.Processes) == 0 || summary.Cost.Lost != 0 {
		t.Errorf("listener seen %v, %d processes, %d lost", seen, len(summary.Processes), summary.Cost.Lost)
	}
	absent(t, []byte(out), "accepts_total", "completions_total", "wakeups_total")
}

// TestForcedRung: --no-bpf and a variant that takes none choose the rung; nothing
// is attached.
func TestForcedRung(t *testing.T) {
	needRoot(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		args    []string
		rung    string
		limited bool // the accept queue's limit is known
	}{
		{[]string{"--no-bpf"}, "procfs", true},
		{[]string{"--variant", "listen=sock_diag"}, "procfs", true},
		{[]string{"--variant", "listen=proc_net"}, "procfs", false},
		{[]string{"--variant", "runq=schedstat"}, "procfs", true},
		{[]string{"--variant", "accept=syscall"}, "tracepoints", true},
	} {
		out, stderr, code := cli(t, nil, append(tt.args, "--json", "-d", "1s")...)
		if code != 0 {
			t.Errorf("%v: exit %d: %s", tt.args, code, stderr)
			continue
		}
		header, summary := rungRecords(t, out)
		if header.Rung != tt.rung {
			t.Errorf("%v: rung %q (%s), want %q", tt.args, header.Rung, header.RungReason, tt.rung)
		}
		if (stderr != "") != (tt.rung == "procfs") {
			t.Errorf("%v: stderr %q", tt.args, stderr)
		}
		for _, x := range summary.Listeners {
			if x.Port == port && ((x.QueueMax != nil) != tt.limited || x.Processes != 1) {
				t.Errorf("%v: %+v", tt.args, x)
			}
		}
	}
	if _, stderr, code := cli(t, nil, "--no-bpf", "--variant", "wake=data_ready", "-d", "1s"); code != 77 {
		t.Errorf("without BPF what takes it: exit %d, want 77: %s", code, stderr)
	} else {
		oneLine(t, stderr, "wake=data_ready", "it takes BPF")
	}
	noProc := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /proc && exec "$@"`, "sh", tool(t, "herdtrace"), "-d", "1s")
	var talk bytes.Buffer
	noProc.Stderr = &talk
	noProc.Run()
	if code := noProc.ProcessState.ExitCode(); code != 77 {
		t.Errorf("without /proc: exit %d, want 77: %s", code, talk.String())
	}
	oneLine(t, talk.String(), "/proc", "not mounted")
	if _, stderr, code := cli(t, nil, "--variant", "listen=magic", "-d", "1s"); code != 1 {
		t.Errorf("no such variant: exit %d, want 1: %s", code, stderr)
	}
}

// TestNoBPFHealthy: a server at work raises nothing, and how it waits is known.
func TestNoBPFHealthy(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	ready, rec := filepath.Join(dir, "ready"), filepath.Join(dir, "out")
	cmd := exec.Command(tool(t, "herdtrace"), "--no-bpf", "-q", "-i", "500ms", "--json="+rec, "--ready-file", ready)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	lab := exec.Command("unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh", tool(t, "herdlab"), "accept", "--mode", "epoll-exclusive", "--workers", "3", "--rate", "500", "--conns", "2500")
	out, err := lab.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	raw, err := os.ReadFile(rec)
	if err != nil {
		t.Fatal(err)
	}
	r := &traced{}
	r.parse(t, raw)
	r.parse(t, out)
	known := false
	for _, rec := range r.of("interval") {
		for _, l := range rec.Listeners {
			if l.Port == r.oracles[0].OraclePort && l.Wait == "epoll-exclusive" && l.Workers == 3 {
				known = true
			}
		}
	}
	if !known {
		t.Error("how the lab's three workers wait was never known")
	}
	for _, f := range r.of("finding") {
		if strings.Contains(f.Subject, ":"+strconv.Itoa(r.oracles[0].OraclePort)+" ") {
			t.Errorf("%s is raised: %s: %s", f.ID, f.Subject, f.Evidence)
		}
	}
	if d := r.of("interval"); len(d) < int(2*time.Second/(500*time.Millisecond)) {
		t.Errorf("%d intervals", len(d))
	}
}
