// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
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

// queuePort is the lab's own: nobody else's listener is judged.
const queuePort = 8181

// queueLab traces one run of herdlab listen or netrx, as it comes.
func queueLab(t *testing.T, labArgs ...string) *traced {
	t.Helper()
	if labArgs[0] == "listen" {
		labArgs = append(labArgs, "--port", strconv.Itoa(queuePort))
	}
	r := herdtrace(t, append([]string{"-P", strconv.Itoa(queuePort), "--", tool(t, "herdlab")}, labArgs...)...)
	if r.code != 0 {
		t.Fatalf("herdtrace -- herdlab %s: exit %d: %s", strings.Join(labArgs, " "), r.code, r.stderr)
	}
	return r
}

// find returns the first finding of that id, and fails the test without one.
func (r *traced) find(t *testing.T, id string) record {
	t.Helper()
	fs := r.of("finding")
	i := slices.IndexFunc(fs, func(f record) bool { return f.ID == id && f.State == "raised" })
	if i < 0 {
		t.Fatalf("%s was not raised, but %v: %s", id, r.raised(), r.stderr)
	}
	return fs[i]
}

// TestQueueFindings: each is named within two intervals of the first refusal,
// with the limit that binds.
func TestQueueFindings(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name string
		args []string
		ids  []string // the first one must be raised, the others may
		says []string
	}{
		{"accept queue", []string{"--mode", "accept-overflow", "--rate", "500", "--packets", "2000"},
			[]string{"accept-queue-overflow"}, []string{"17 of 16", "at the SYN", "listen backlog 16", "raising net.core.somaxconn (4096) will not help"}},
		{"cut by somaxconn", []string{"--mode", "accept-overflow", "--rate", "500", "--packets", "2000", "--backlog", "700", "--somaxconn", "128"},
			[]string{"accept-queue-overflow"}, []string{"129 of 128", "asked for 700", "net.core.somaxconn cut it to 128"}},
		{"final ACK", []string{"--mode", "ack-overflow", "--rate", "500", "--packets", "2000"},
			[]string{"accept-queue-overflow"}, []string{"at the final ACK", "read timeout"}},
		{"cookie ACK", []string{"--mode", "cookie-overflow", "--rate", "500", "--packets", "2000"},
			[]string{"accept-queue-overflow", "syn-queue-overflow"}, []string{"cookie"}},
		{"SYN queue", []string{"--mode", "syn-overflow", "--cookies", "off", "--rate", "500", "--packets", "2000"},
			[]string{"syn-queue-overflow"}, []string{"129 of 128", "tcp_syncookies"}},
		{"SYN queue by tcp_max_syn_backlog", []string{"--mode", "syn-overflow", "--cookies", "off", "--max-syn-backlog", "256", "--backlog", "1024", "--rate", "500", "--packets", "2000"},
			[]string{"syn-queue-overflow"}, []string{"193 of 192", "tcp_max_syn_backlog"}},
		{"SYN cookies", []string{"--mode", "syn-overflow", "--cookies", "on", "--rate", "500", "--packets", "2000"},
			[]string{"syn-queue-overflow"}, []string{"cookies", "tcp_max_syn_backlog (4096) will not help"}},
		{"waiting", []string{"--mode", "slow", "--packets", "800", "--accept-rate", "100"},
			[]string{"accept-queue-wait"}, []string{"wait"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := queueLab(t, append([]string{"listen", "--linger", "300ms"}, tt.args...)...)
			f := r.find(t, tt.ids[0])
			if after := time.Duration(f.MonoNS - firstTrouble(t, r)); after > 2*time.Second+500*time.Millisecond {
				t.Errorf("raised %s after the trouble began", after)
			}
			text := f.Evidence + "; " + f.Cause + "; " + f.Remedy
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q: %s", want, text)
				}
			}
			for _, id := range r.raised() {
				if !slices.Contains(tt.ids, id) {
					t.Errorf("%s was raised, too: %+v", id, r.find(t, id))
				}
			}
		})
	}
}

// firstTrouble is the begin of the first interval in which somebody was
// refused, got a cookie, or waited.
func firstTrouble(t *testing.T, r *traced) uint64 {
	t.Helper()
	for _, iv := range r.of("interval") {
		for _, l := range iv.Listeners {
			if l.Port == queuePort && (l.RefusalsTotal > 0 || l.CookiesSent > 0 || l.AcceptQueueLen > 8) {
				return iv.MonoNS - iv.IntervalNS
			}
		}
	}
	return r.find(t, r.raised()[0]).MonoNS // it was over before the first interval was
}

// TestQueueTwins: the same number of clients, at full speed and in bursts up to
// the backlog, on a server that accepts: nothing is raised.
func TestQueueTwins(t *testing.T) {
	needRoot(t)
	for _, args := range [][]string{
		{"listen", "--mode", "healthy", "--packets", "200000", "--clients", "4000"},
		{"listen", "--mode", "healthy", "--packets", "50000", "--clients", "4000", "--burst", "4000"},
		{"netrx", "--mode", "backlog-healthy", "--duration", "4s"},
		{"netrx", "--mode", "balanced", "--duration", "4s"},
		{"netrx", "--mode", "loopback", "--duration", "4s"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			r := queueLab(t, args...)
			for _, id := range r.raised() {
				t.Errorf("%s was raised: %+v", id, r.find(t, id))
			}
		})
	}
}

// netrxOracle is what herdlab netrx prints.
type netrxOracle struct {
	Device  string `json:"device"`
	CPU     int    `json:"cpu"`
	Softnet []struct {
		CPU     int    `json:"cpu"`
		Dropped uint64 `json:"dropped_delta"`
	} `json:"softnet"`
}

// netrxTotals are the last record's of a run.
type netrxTotals struct {
	CPUs []struct {
		CPU     int     `json:"cpu"`
		Dropped uint64  `json:"softnet_dropped_total"`
		Seconds float64 `json:"net_rx_softirq_seconds_total"`
	} `json:"cpus"`
	NetRX struct {
		Drops []struct {
			Device  string `json:"device"`
			Dropped uint64 `json:"dropped_total"`
		} `json:"cpu_backlog_drops"`
		Unattributed uint64 `json:"cpu_backlog_drops_unattributed_total"`
	} `json:"netrx"`
}

// traceNetRX runs herdlab netrx under herdtrace.
func traceNetRX(t *testing.T, args ...string) (*traced, *netrxOracle, *netrxTotals) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command(tool(t, "herdtrace"), append([]string{"--json=" + out, unbound, "-P", strconv.Itoa(queuePort), "--", tool(t, "herdlab"), "netrx", "--linger", "300ms"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	r, o, last := &traced{stderr: stderr.String()}, &netrxOracle{}, &netrxTotals{}
	if r.raw, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	r.parse(t, r.raw)
	lines := strings.Split(strings.TrimSpace(string(r.raw)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), last); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(stdout, o); err != nil {
		t.Fatalf("parse the oracle %q: %v", stdout, err)
	}
	return r, o, last
}

// TestBacklogDrops: packets that a full CPU backlog refused are counted to the
// unit, per core and per device, and named.
func TestBacklogDrops(t *testing.T) {
	needRoot(t)
	r, o, last := traceNetRX(t, "--mode", "backlog", "--duration", "4s")
	dropped := make(map[int]uint64)
	var sum, byDevice uint64
	for _, c := range last.CPUs {
		dropped[c.CPU] = c.Dropped
		sum += c.Dropped
	}
	for _, c := range o.Softnet {
		if dropped[c.CPU] != c.Dropped {
			t.Errorf("cpu %d: %d packets dropped, softnet_stat says %d", c.CPU, dropped[c.CPU], c.Dropped)
		}
	}
	for _, d := range last.NetRX.Drops {
		byDevice += d.Dropped
		if d.Device != o.Device {
			t.Errorf("%d drops of device %q, the lab's is %q", d.Dropped, d.Device, o.Device)
		}
	}
	if byDevice+last.NetRX.Unattributed != sum || last.NetRX.Unattributed > 0 {
		t.Errorf("%d drops by device and %d unattributed, %d in all", byDevice, last.NetRX.Unattributed, sum)
	}
	f := r.find(t, "netdev-backlog-drop")
	text := f.Subject + ": " + f.Evidence + "; " + f.Cause + "; " + f.Remedy
	for _, want := range []string{o.Device, fmt.Sprintf("core %d", o.CPU), "netdev_max_backlog"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q: %s", want, text)
		}
	}
}

// TestImbalance: one core does the work of all, and the setting that makes it
// do so is named. It takes another core that is idle, so a machine that has
// something else to do gets a second and a third chance.
func TestImbalance(t *testing.T) {
	needRoot(t)
	var r *traced
	var o *netrxOracle
	for range 3 {
		if r, o, _ = traceNetRX(t, "--mode", "imbalance", "--duration", "6s"); len(r.raised()) > 0 {
			break
		}
	}
	f := r.find(t, "netrx-imbalance")
	text := f.Subject + ": " + f.Evidence + "; " + f.Cause + "; " + f.Remedy
	for _, want := range []string{o.Device, fmt.Sprintf("core %d", o.CPU), "rps_cpus"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q: %s", want, text)
		}
	}
}

const slowServer = `
import http.server, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.005)
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *a): pass
http.server.HTTPServer(('127.0.0.1', 8967), H).serve_forever()
`

// TestShortBacklog: a Python server as its library makes it, with a backlog of
// 5, under more clients than it can take.
func TestShortBacklog(t *testing.T) {
	needRoot(t)
	script := filepath.Join(t.TempDir(), "server.py")
	writeFile(t, script, slowServer)
	server(t, "127.0.0.1:8967", syscall.SIGTERM, "/usr/bin/python3", script)
	r := herdtrace(t, "-P", "8967", "--", "wrk", "-t1", "-c64", "-d4", "-H", "Connection: close", "http://127.0.0.1:8967/")
	f := r.find(t, "accept-queue-overflow")
	if after := time.Duration(f.MonoNS - firstLoad(t, r)); after > 2*time.Second+500*time.Millisecond {
		t.Errorf("raised %s after the load began", after)
	}
	text := f.Evidence + "; " + f.Cause + "; " + f.Remedy
	for _, want := range []string{"listen backlog 5", "raising net.core.somaxconn"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q: %s", want, text)
		}
	}
	for _, f := range r.summary(t).Findings {
		if f.ID == "accept-queue-overflow" && !strings.Contains(f.Cause, "worker sleeps") {
			t.Errorf("in the end it does not say what the worker does: %s", f.Cause)
		}
	}
}

const storm = `
import socket, sys, time
def netstat():
    lines = [l.split() for l in open('/proc/net/netstat') if l.startswith('TcpExt:')]
    return dict(zip(lines[0][1:], map(int, lines[1][1:])))
before = netstat()
l = socket.socket()
l.bind(('127.0.0.1', int(sys.argv[1])))
l.listen(2)
clients = []
for _ in range(200):
    c = socket.socket()
    c.setblocking(False)
    c.connect_ex(l.getsockname())
    clients.append(c)
    time.sleep(0.002)
time.sleep(1.5) # they try again, as the kernel has it
for c in clients:
    c.close()
after = netstat()
print(after['ListenOverflows'] - before['ListenOverflows'], after['ListenDrops'] - before['ListenDrops'])
sys.stdout.flush()
time.sleep(1.2) # a tick passes
`

// TestRefusalsInUsedNamespace: real clients, in a namespace whose counters were
// not 0 when the trace began.
func TestRefusalsInUsedNamespace(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	script, out := filepath.Join(dir, "storm.py"), filepath.Join(dir, "out")
	writeFile(t, script, storm)
	sh := fmt.Sprintf("/usr/bin/python3 %s 8080 >/dev/null && %s --json=%s -i 200ms -- /usr/bin/python3 %s 8081", script, tool(t, "herdtrace"), out, script)
	args := inNetns("sh", "-c", sh)
	got, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var overflows, drops uint64
	if _, err := fmt.Sscan(string(got), &overflows, &drops); err != nil || overflows < 200 {
		t.Fatalf("the storm printed %q (%v), want 200 overflows at least", got, err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	r := &traced{raw: raw}
	r.parse(t, raw)
	var n uint64
	for _, l := range r.summary(t).Listeners {
		if l.Port == 8081 {
			n += l.RefusalsTotal
		} else if l.Port == 8080 && l.RefusalsTotal > 0 {
			t.Errorf("the first storm's %d refusals are counted, too", l.RefusalsTotal)
		}
	}
	if n != drops || drops != overflows {
		t.Errorf("refusals_total %d, the kernel's ListenOverflows %d, ListenDrops %d", n, overflows, drops)
	}
}
