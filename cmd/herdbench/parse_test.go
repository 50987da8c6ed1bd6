// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

const wrkKeepAlive = `Running 2s test @ http://127.0.0.1:34567/
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   126.02us  231.08us   8.22ms   96.11%
    Req/Sec   143.36k     6.02k  153.91k    72.50%
  570554 requests in 2.10s, 91.41MB read
Requests/sec: 271692.38
Transfer/sec:     43.53MB
`

func TestParseWrk(t *testing.T) {
	r, err := parseWrk(wrkKeepAlive)
	if err != nil || r.ops != 570554 || math.Abs(r.seconds-2.1) > 0.0001 {
		t.Errorf("parseWrk = %+v, %v", r, err)
	}
	closed := strings.Replace(wrkKeepAlive, "Requests/sec", "  Socket errors: connect 0, read 12, write 0, timeout 0\nRequests/sec", 1)
	if r, err := parseWrk(closed); err != nil || r.ops != 570554 {
		t.Errorf("with connections that the server closed: %+v, %v", r, err)
	}
	for name, out := range map[string]string{
		"timeouts":  strings.Replace(closed, "timeout 0", "timeout 3", 1),
		"refusals":  strings.Replace(closed, "connect 0", "connect 7", 1),
		"status":    strings.Replace(wrkKeepAlive, "Requests/sec", "  Non-2xx or 3xx responses: 570554\nRequests/sec", 1),
		"nothing":   strings.Replace(wrkKeepAlive, "570554 requests", "0 requests", 1),
		"no output": "",
	} {
		if r, err := parseWrk(out); err == nil {
			t.Errorf("%s: %+v, want an error", name, r)
		}
	}
}

func TestParsePerfBench(t *testing.T) {
	if s, err := parsePerfBench("0.714\n"); err != nil || s != 0.714 {
		t.Errorf("parsePerfBench = %v, %v", s, err)
	}
	for _, bad := range []string{"", "0.000\n", "# Running 'sched/pipe' benchmark:\n"} {
		if s, err := parsePerfBench(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, s)
		}
	}
}

func TestParseOracle(t *testing.T) {
	r, err := parseOracle(`{"served": 60000, "seconds": 1.5, "mode": "epoll-lt"}` + "\n")
	if err != nil || r.ops != 60000 || r.seconds != 1.5 {
		t.Errorf("parseOracle = %+v, %v", r, err)
	}
	for _, bad := range []string{"", "{}", `{"served": 0, "seconds": 1}`} {
		if r, err := parseOracle(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, r)
		}
	}
}

func TestLost(t *testing.T) {
	n, err := herdtraceLost("", "08:00:00 WARN something\n  trace cost 8.5% of one core (user 0.5%, BPF ~8.0%), 47.4 MiB, 12 lost (ring_full 12)\n")
	if err != nil || n != 12 {
		t.Errorf("herdtraceLost = %d, %v", n, err)
	}
	if _, err := herdtraceLost("", "herdtrace: killed"); err == nil {
		t.Error("without a summary: want an error")
	}
	n, err = bpftraceLost("", "Attaching 3 probes...\nLost 40 events\none second\nLost 2 events\n")
	if err != nil || n != 42 {
		t.Errorf("bpftraceLost = %d, %v", n, err)
	}
}

// perfHead is where perfData's records begin.
const perfHead = 168

// perfData makes a perf.data file of these records, each of type and body.
func perfData(records ...[]uint64) []byte {
	var data []byte
	for _, r := range records {
		data = binary.NativeEndian.AppendUint32(data, uint32(r[0]))
		data = binary.NativeEndian.AppendUint16(data, 0)
		data = binary.NativeEndian.AppendUint16(data, uint16(8*len(r)))
		for _, v := range r[1:] {
			data = binary.NativeEndian.AppendUint64(data, v)
		}
	}
	head := []byte(perfMagic)
	for _, v := range []uint64{104, 64, 104, perfHead - 104, perfHead, uint64(len(data))} {
		head = binary.NativeEndian.AppendUint64(head, v)
	}
	head = append(head, make([]byte, perfHead-len(head))...)
	return append(append(head, data...), "sections after the data"...)
}

func TestPerfDataLost(t *testing.T) {
	const sample = 9
	file := perfData([]uint64{sample, 1, 2, 3}, []uint64{perfLostRecord, 77, 5}, []uint64{sample}, []uint64{perfLostSamples, 9})
	if n, err := perfDataLost(bytes.NewReader(file)); err != nil || n != 9 {
		t.Errorf("perfDataLost = %d, %v, want 9: one is the other again", n, err)
	}
	if n, err := perfDataLost(bytes.NewReader(perfData())); err != nil || n != 0 {
		t.Errorf("without records: %d, %v", n, err)
	}
	endless := perfData([]uint64{sample})
	endless[perfHead+6] = 0 // the low byte of its size, which is all of it
	for name, bad := range map[string][]byte{
		"empty": nil, "another file": make([]byte, 200), "no size": endless,
		"cut off": file[:len(file)-len("sections after the data")-4],
	} {
		if n, err := perfDataLost(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: %d, want an error", name, n)
		}
	}
}

func TestProcFS(t *testing.T) {
	m, err := parseMachine([]byte("cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 2\n"))
	if want := (machineTimes{busy: 1630 * time.Millisecond, steal: 80 * time.Millisecond}); err != nil || m != want {
		t.Errorf("parseMachine = %+v, %v, want %+v", m, err, want)
	}
	if _, err := parseMachine([]byte("intr 1 2 3\n")); err == nil {
		t.Error("parseMachine of another file: want an error")
	}
	if n := statusBytes([]byte("Name:\tx\nVmHWM:\t   28636 kB\nVmRSS:\t 1 kB\n"), "VmHWM"); n != 28636<<10 {
		t.Errorf("VmHWM = %d", n)
	}
	i := parseFDInfo([]byte("pos:\t0\nprog_type:\t26\nmemlock:\t4096\nprog_id:\t17\nrun_time_ns:\t900\nrun_cnt:\t30\n"))
	if want := (fdInfo{4096, "17", 900, 30}); i != want {
		t.Errorf("parseFDInfo = %+v, want %+v", i, want)
	}
}

func TestCPUHierarchy(t *testing.T) {
	const v1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
	if root, v2, err := cpuHierarchy(v1); root != "/sys/fs/cgroup/cpu" || v2 || err != nil {
		t.Errorf("v1: %q, %v, %v", root, v2, err)
	}
	if root, v2, err := cpuHierarchy("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"); root != "/sys/fs/cgroup" || !v2 || err != nil {
		t.Errorf("v2: %q, %v, %v", root, v2, err)
	}
	if _, _, err := cpuHierarchy("proc /proc proc rw 0 0\n"); err == nil {
		t.Error("without cgroups: want an error")
	}
}

func TestPick(t *testing.T) {
	ts, err := pick([]string{"herdtrace", "perf sched record"})
	names := []string{}
	for i := range ts {
		names = append(names, ts[i].name)
	}
	if want := []string{toolNothing, "herdtrace", "perf sched record"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("pick = %v, %v, want %v", names, err, want)
	}
	for _, n := range toolNames() {
		if strings.Contains(n, ",") {
			t.Errorf("--tools cannot name %q: a comma parts names", n)
		}
	}
	if _, err := pick([]string{"strace"}); err == nil {
		t.Error("an unknown tool: want an error")
	}
	if ls, err := pickLoads(nil); err != nil || len(ls) != 4 {
		t.Errorf("loads by default: %d, %v", len(ls), err)
	}
	if ls, err := pickLoads([]string{"accept-go"}); err != nil || len(ls) != 1 || ls[0].name != "accept-go" {
		t.Errorf("pickLoads(accept-go) = %v, %v", ls, err)
	}
	if _, err := pickLoads([]string{"apache"}); err == nil {
		t.Error("an unknown load: want an error")
	}
	for _, l := range loads {
		for _, p := range l.peers {
			if !slices.Contains(toolNames(), p) {
				t.Errorf("load %s: there is no peer %q", l.name, p)
			}
		}
	}
}
