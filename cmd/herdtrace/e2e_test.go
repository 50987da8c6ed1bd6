// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The end-to-end tests run the built programs on this kernel, as a user would.

// tools builds herdtrace and herdlab once.
var tools = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "herdtrace-e2e-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "../herdtrace", "../herdlab").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the tools: %w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	if where := os.Getenv(panicVariable); where != "" {
		panicAt(where)
		os.Exit(exitOK)
	}
	code := m.Run()
	if dir, err := tools(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func tool(t testing.TB, name string) string {
	t.Helper()
	dir, err := tools()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// needRoot skips where nobody asked for the tests that trace, and fails where
// somebody did and they cannot run.
func needRoot(t testing.TB) {
	t.Helper()
	need(t, "root and BPF", func() bool { return os.Geteuid() == 0 })
}

// needTmux is needRoot for the tests that need no more than a terminal.
func needTmux(t testing.TB) {
	t.Helper()
	need(t, "tmux", func() bool { _, err := exec.LookPath("tmux"); return err == nil })
}

func need(t testing.TB, what string, there func() bool) {
	t.Helper()
	asked := os.Getenv("HERDTRACE_ROOT_TESTS") != "" || os.Getenv("CI") != ""
	switch {
	case testing.Short() && !asked:
		t.Skipf("-short: it needs %s", what)
	case there():
	case asked:
		t.Fatalf("this test needs %s (sudo make test)", what)
	default:
		t.Skipf("it needs %s: sudo make test", what)
	}
}

// record is any record of the NDJSON output, and the lab's oracle.
type record struct {
	Type       string         `json:"type"`
	MonoNS     uint64         `json:"mono_ns"`
	IntervalNS uint64         `json:"interval_ns"`
	Signals    []signalRecord `json:"signals"`

	ID       string `json:"id"`
	State    string `json:"state"`
	Severity string `json:"severity"`
	Subject  string `json:"subject"`
	Evidence string `json:"evidence"`
	Cause    string `json:"cause"`
	Remedy   string `json:"remedy"`

	Kind     string `json:"kind"`
	Listener string `json:"listener"`
	Woken    uint32 `json:"woken"`
	Inode    uint64 `json:"inode"`
	Refused  uint64 `json:"refused"`
	Place    string `json:"place"`
	Client   string `json:"client"`

	Listeners []listenerRecord `json:"listeners"`
	Cost      struct {
		LostTotal       uint64         `json:"lost_total"`
		RecursionMisses uint64         `json:"recursion_misses_total"`
		BPFCPURatio     *float64       `json:"bpf_cpu_ratio"`
		Budget          *sample.Budget `json:"budget"`
	} `json:"cost"`
	FindingsTotal   int      `json:"findings_total"`
	Findings        []record `json:"findings"`
	CommandExitCode *int     `json:"command_exit_code"`

	oracle
}

type signalRecord struct {
	Name     string `json:"name"`
	Variant  string `json:"variant"`
	Accuracy string `json:"accuracy"`
	Rejected []struct {
		Error string `json:"error"`
	} `json:"rejected"`
}

type listenerRecord struct {
	Addr           string   `json:"addr"`
	Port           int      `json:"port"`
	Proto          string   `json:"proto"`
	NetNS          uint32   `json:"netns"`
	Inode          uint64   `json:"inode"`
	Program        string   `json:"program"`
	Wait           string   `json:"wait"`
	Sockets        int      `json:"sockets"`
	Workers        int      `json:"workers"`
	Processes      int      `json:"processes"`
	AcceptQueueLen uint32   `json:"accept_queue_len"`
	Completions    int64    `json:"completions_total"`
	Accepts        int64    `json:"accepts_total"`
	EAGAINs        int64    `json:"accept_eagain_total"`
	Wakeups        int64    `json:"wakeups_total"`
	Wasted         int64    `json:"wasted_wakeups_total"`
	Drains         int64    `json:"drain_eagain_total"`
	PerAccept      *float64 `json:"wakeups_per_accept"`
	RefusalsTotal  uint64   `json:"refusals_total"`
	CookiesSent    uint64   `json:"syncookies_sent_total"`
	Threads        []struct {
		PID     int   `json:"pid"`
		TID     int   `json:"tid"`
		Accepts int64 `json:"accepts_total"`
		EAGAINs int64 `json:"accept_eagain_total"`
		Drains  int64 `json:"drain_eagain_total"`
	} `json:"threads"`
}

// oracle is what herdlab prints.
type oracle struct {
	Mode         string   `json:"mode"`
	OraclePort   int      `json:"port"`
	Connections  int64    `json:"connections"`
	Accepts      int64    `json:"accepts_total"`
	EAGAINs      *int64   `json:"accept_eagain_total"`
	Drains       *int64   `json:"drain_eagain_total"`
	FinalEAGAINs *int64   `json:"final_eagain_total"`
	PassiveOpens *int64   `json:"passive_opens_delta"`
	WakeExpected *float64 `json:"wakeups_per_accept_expected"`
	Unsettled    int64    `json:"unsettled"`
	PerWorker    []struct {
		TID     int    `json:"tid"`
		Accepts int64  `json:"accepts_total"`
		EAGAINs *int64 `json:"accept_eagain_total"`
	} `json:"per_worker"`
}

// run is everything that one herdtrace run printed.
type traced struct {
	records []record
	oracles []oracle
	raw     []byte // the NDJSON
	stderr  string
	code    int
}

// inNetns wraps a command so that it runs in a network namespace of its own, in
// which nobody else opens connections and only its loopback is up.
func inNetns(command ...string) []string {
	return append([]string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, command...)
}

// herdtrace runs herdtrace with args and parses its NDJSON, and the oracles of a
// lab that it traced.
func herdtrace(t testing.TB, args ...string) *traced {
	t.Helper()
	ndjson := filepath.Join(t.TempDir(), "out.ndjson")
	cmd := exec.Command(tool(t, "herdtrace"), append([]string{"--json=" + ndjson}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := &traced{stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	if r.raw, err = os.ReadFile(ndjson); err != nil {
		t.Fatalf("%v (%s): %s", err, cmd.ProcessState, r.stderr)
	}
	r.parse(t, r.raw)
	if bytes.HasPrefix(stdout.Bytes(), []byte(`{"v":1,"type":"oracle"`)) {
		r.parse(t, stdout.Bytes())
	}
	return r
}

func (r *traced) parse(t testing.TB, b []byte) {
	t.Helper()
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		var rec record
		if err := json.Unmarshal(sc.Bytes(), &rec); err != nil {
			t.Fatalf("parse %q: %v", sc.Text(), err)
		}
		if rec.Type == "oracle" {
			r.oracles = append(r.oracles, rec.oracle)
			continue
		}
		r.records = append(r.records, rec)
	}
}

// unbound is for tests of exactness: nothing is shed to keep the cost down.
const unbound = "--budget=off"

var exactly = []string{unbound}

// lab traces one run of herdlab accept in a fresh network namespace.
func lab(t testing.TB, traceArgs []string, labArgs ...string) *traced {
	t.Helper()
	cmd := inNetns(append([]string{tool(t, "herdlab"), "accept"}, labArgs...)...)
	r := herdtrace(t, slices.Concat(traceArgs, []string{"--"}, cmd)...)
	if r.code != 0 || len(r.oracles) == 0 {
		t.Fatalf("herdtrace -- herdlab %s: exit %d: %s", strings.Join(labArgs, " "), r.code, r.stderr)
	}
	return r
}

func (r *traced) of(kind string) []record {
	var out []record
	for _, rec := range r.records {
		if rec.Type == kind {
			out = append(out, rec)
		}
	}
	return out
}

func (r *traced) summary(t testing.TB) record {
	t.Helper()
	s := r.of("summary")
	if len(s) != 1 {
		t.Fatalf("got %d summaries, want 1: %s", len(s), r.stderr)
	}
	return s[0]
}

// findings are the ids raised, each as often as it was.
func (r *traced) raised() []string {
	var ids []string
	for _, f := range r.of("finding") {
		if f.State == "raised" {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

// at sums the listeners on the port of o.
func (r *traced) at(t testing.TB, o *oracle) (sum listenerRecord, list []listenerRecord) {
	t.Helper()
	for _, l := range r.summary(t).Listeners {
		if l.Port != o.OraclePort || (o.OraclePort == 0 && l.Proto != "unix") || l.Accepts+l.Completions == 0 {
			continue
		}
		list = append(list, l)
		sum.Completions += l.Completions
		sum.Accepts += l.Accepts
		sum.EAGAINs += l.EAGAINs
		sum.Wakeups += l.Wakeups
		sum.Wasted += l.Wasted
		sum.Drains += l.Drains
		sum.Workers += l.Workers
	}
	return sum, list
}

// checkExact compares everything that the lab counted for itself.
func (r *traced) checkExact(t testing.TB) {
	t.Helper()
	o := &r.oracles[0]
	sum, list := r.at(t, o)
	if sum.Accepts != o.Accepts || sum.Completions != o.Accepts {
		t.Errorf("accepts_total %d, completions_total %d, the server counted %d", sum.Accepts, sum.Completions, o.Accepts)
	}
	if o.PassiveOpens != nil && *o.PassiveOpens != sum.Accepts {
		t.Errorf("accepts_total %d, the kernel's PassiveOpens %d", sum.Accepts, *o.PassiveOpens)
	}
	if o.EAGAINs != nil && *o.EAGAINs != sum.EAGAINs {
		t.Errorf("accept_eagain_total %d, the server counted %d", sum.EAGAINs, *o.EAGAINs)
	}
	if c := r.summary(t).Cost; c.LostTotal != 0 || c.RecursionMisses != 0 {
		t.Errorf("lost %d, of them %d recursion misses", c.LostTotal, c.RecursionMisses)
	}
	perTID := make(map[int][2]int64)
	for _, l := range list {
		for _, w := range l.Threads {
			perTID[w.TID] = [2]int64{w.Accepts, w.EAGAINs}
		}
	}
	for _, w := range o.PerWorker {
		if w.EAGAINs == nil {
			continue // go-net: its threads are the runtime's
		}
		if got, want := perTID[w.TID], [2]int64{w.Accepts, *w.EAGAINs}; got != want {
			t.Errorf("worker %d: accepts, EAGAINs %v, it counted %v", w.TID, got, want)
		}
	}
}

// eventually polls for a condition; the bound only ends a test that is stuck.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it did not happen that %s", what)
}
