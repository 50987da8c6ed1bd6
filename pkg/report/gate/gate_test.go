// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var update = flag.Bool("update", false, "rewrite testdata")

const testdata = "../../../testdata"

// judged runs a gate over a recording.
func judged(t testing.TB, in []byte, o Options) (*Gate, *report.Verdict) {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := report.Run(context.Background(), r, diagnose.DefaultLimits(), g)
	if err == nil {
		err = report.End(sum, g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g, sum.Verdict
}

func recording(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMetrics: each metric of each recording, and what is in doubt. The same twice.
func TestMetrics(t *testing.T) {
	paths, err := filepath.Glob(testdata + "/*.jsonl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	known := make(map[string]bool)
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".jsonl")
		golden := filepath.Join("testdata", name+".txt")
		known[golden] = true
		g, _ := judged(t, recording(t, name), Options{MinConns: 100})
		got := figures(g)
		for range 3 {
			if again, _ := judged(t, recording(t, name), Options{MinConns: 100}); figures(again) != got {
				t.Errorf("%s: other figures for the same recording", name)
			}
		}
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (go test ./pkg/report/gate -update rewrites it):\n%s", golden, got)
		}
	}
	goldens, _ := filepath.Glob("testdata/*.txt")
	for _, path := range goldens {
		if !known[path] {
			t.Errorf("%s belongs to no recording", path)
		}
	}
}

func figures(g *Gate) string {
	var out strings.Builder
	for _, m := range Metrics() {
		v := g.value(m.Name)
		fmt.Fprintf(&out, "%-34s", m.Name)
		if !math.IsNaN(v.measured) {
			fmt.Fprintf(&out, " %s", m.unit.print(v.measured))
		} else {
			out.WriteString(" ?")
		}
		if v.at != "" {
			fmt.Fprintf(&out, " at %s", v.at)
		}
		if v.doubt != "" {
			fmt.Fprintf(&out, "; %s", v.doubt)
			if v.lo == v.measured {
				out.WriteString("; at least")
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// TestMetricsAreDocumented: names are plain and unique, each says what it is, and
// its name's end tells its unit.
func TestMetricsAreDocumented(t *testing.T) {
	seen := make(map[string]bool)
	for _, m := range Metrics() {
		if seen[m.Name] || m.Doc == "" || m.of == nil {
			t.Errorf("%s: twice, or without a word", m.Name)
		}
		seen[m.Name] = true
		for end, u := range map[string]unit{"_ms": inMS, "_us": inUS, "seconds": inSeconds, "_ratio": inRatio, "_total": inCount} {
			if strings.HasSuffix(m.Name, end) && m.unit.name != u.name {
				t.Errorf("%s is in %s", m.Name, m.unit.name)
			}
		}
		if _, err := parse(m.Name + " > 1"); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// TestVerdicts is what gates say of recordings.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		recording string
		opts      Options
		want      string // how the verdict begins
	}{
		{"healthy-sched", Options{Conditions: []string{"crit"}}, "PASS: crit: no crit finding"},
		{"healthy-sched", Options{Conditions: []string{"warn", "runq.wait_p99_ms > 500"}}, "PASS: warn: no finding; runq.wait_p99_ms > 500: runq.wait_p99_ms is "},
		{"healthy-sched", Options{Conditions: []string{"crit"}, MinConns: 200}, "INCONCLUSIVE: crit: 0 connections, fewer than 200 (--min-conns)"},
		{"runq-pile", Options{Conditions: []string{"crit"}}, "PASS: "},
		{"runq-pile", Options{Conditions: []string{"warn"}}, "FAIL: warn: 1 finding: runq-pile core 3"},
		{"runq-pile", Options{Conditions: []string{"finding.runq-pile > 0"}, MinConns: 200}, "FAIL: finding.runq-pile > 0: finding.runq-pile is 1 (runq-pile core 3"},
		{"runq-pile", Options{Conditions: []string{"finding.cfs-throttle > 0"}, MinConns: 200}, "PASS: "},
		{"healthy", Options{Conditions: []string{"herd.wakeups_per_accept > 2"}, MinConns: 200}, "PASS: herd.wakeups_per_accept > 2: herd.wakeups_per_accept is 0.97 (0.0.0.0:443 nginx)"},
		{"healthy", Options{Conditions: []string{"crit"}, MinConns: 200}, "INCONCLUSIVE: crit: listen was not measured: the recording does not know it"},
		{"healthy", Options{Conditions: []string{"runq.wait_p99_ms > 20"}}, "INCONCLUSIVE: runq.wait_p99_ms > 20: runq was not measured: the recording does not know it"},
		{"herd-cured", Options{Conditions: []string{"crit"}, MinConns: 200}, "FAIL: crit: 1 crit finding: accept-herd listener 0.0.0.0:8080"},
		{"herd-cured", Options{Conditions: []string{"herd.wakeups_per_accept > 2"}, MinConns: 200}, "FAIL: herd.wakeups_per_accept > 2: herd.wakeups_per_accept is 3.76 (0.0.0.0:8080 gunicorn)"},
		{"herd-cured", Options{Conditions: []string{"herd.wakeups_per_accept > 2"}, MinConns: 2000}, "INCONCLUSIVE: herd.wakeups_per_accept > 2: 1520 connections, fewer than 2000 (--min-conns)"},
		{"herd-cured", Options{Conditions: []string{"conns.total < 2000"}, MinConns: 200}, "FAIL: conns.total < 2000: conns.total is 1520"},
		// True of what was seen, so it stays true whatever was missed.
		{"accept-queue-overflow", Options{Conditions: []string{"listen.refusals_total > 0"}, MinConns: 1e6}, "FAIL: listen.refusals_total > 0: listen.refusals_total is 1332"},
		{"accept-queue-overflow", Options{Conditions: []string{"listen.refusals_total > 10k"}, MinConns: 1e6}, "INCONCLUSIVE: listen.refusals_total > 10k: listen.refusals_total is 1332, but 1083 connections, fewer than 1000000 (--min-conns)"},
		{"accept-queue-overflow", Options{Conditions: []string{"listen.refusals_total > 10k"}}, "PASS: "},
		{"accept-queue-overflow", Options{Conditions: []string{"listen.refusals_total > 10k"}, Strict: true}, "INCONCLUSIVE: listen.refusals_total > 10k: listen.refusals_total is 1332, but how refusals divide among listeners was inferred (--strict)"},
		{"lost", Options{Conditions: []string{"herd.wakeups_per_accept > 2"}}, "INCONCLUSIVE: herd.wakeups_per_accept > 2: herd.wakeups_per_accept is 1.10 (0.0.0.0:5000 pool), but "},
		{"lost", Options{Conditions: []string{"trace.lost_total > 0"}}, "FAIL: trace.lost_total > 0: trace.lost_total is 32"},
		{"reset", Options{Conditions: []string{"herd.wakeups_per_accept > 200"}}, "INCONCLUSIVE: "},
		{"no-wake", Options{Conditions: []string{"herd.wakeups_per_accept > 2"}}, "INCONCLUSIVE: herd.wakeups_per_accept > 2: wake was not measured: "},
		{"no-wake", Options{Conditions: []string{"herd.wakeups_per_accept > 2 or conns.total > 1"}}, "FAIL: herd.wakeups_per_accept > 2 or conns.total > 1: conns.total is "},
		{"no-wake", Options{Conditions: []string{"herd.wakeups_per_accept > 2 and conns.total < 1"}}, "PASS: "},
		{"not-measured", Options{Conditions: []string{"crit"}}, "INCONCLUSIVE: crit: "},
		{"without-bpf", Options{Conditions: []string{"listen.refusals_total > 0"}}, "FAIL: "},
		{"without-bpf", Options{Conditions: []string{"throttle.periods_ratio > 10%"}}, "FAIL: throttle.periods_ratio > 10%: "},
		{"without-bpf", Options{Conditions: []string{"throttle.periods_ratio > 10%"}, Strict: true}, "INCONCLUSIVE: "},
		{"without-bpf", Options{Conditions: []string{"runq.wait_p99_ms > 20"}}, "INCONCLUSIVE: runq.wait_p99_ms > 20: runq is looked up in /proc, which does not show it"},
		{"cfs-throttle", Options{Conditions: []string{"throttle.worst_stall_ms > 0.05s"}}, "FAIL: throttle.worst_stall_ms > 0.05s: "},
		{"netdev-backlog", Options{Conditions: []string{"netrx.backlog_drops_total >= 1"}}, "FAIL: "},
		{"cpu-oversold", Options{Conditions: []string{"throttle.sold_ratio > 100%"}}, "FAIL: "},
	} {
		_, v := judged(t, recording(t, tt.recording), tt.opts)
		if got := v.String(); !strings.HasPrefix(got, tt.want) || strings.ToUpper(v.Outcome) != got[:strings.Index(got, ":")] {
			t.Errorf("%s, %v: %q, want %q", tt.recording, tt.opts, got, tt.want)
		}
	}
}

// TestCutOff: a recording without its last Sample is no pass.
func TestCutOff(t *testing.T) {
	whole := recording(t, "healthy")
	lines := bytes.SplitAfter(bytes.TrimSpace(whole), []byte("\n"))
	cut := bytes.Join(lines[:len(lines)-1], nil)
	o := Options{Conditions: []string{"herd.wakeups_per_accept > 2"}}
	if _, v := judged(t, whole, o); v.Outcome != report.Pass {
		t.Errorf("whole: %s", v)
	}
	if _, v := judged(t, cut, o); v.Outcome != report.Inconclusive || !strings.Contains(v.String(), "cut off") {
		t.Errorf("cut: %s", v)
	}
	if _, v := judged(t, lines[0], o); v.Outcome != report.Inconclusive || !strings.Contains(v.String(), "nothing was measured") {
		t.Errorf("only a header: %s", v)
	}
}

// TestFailOn: what JUnit counts as a failure.
func TestFailOn(t *testing.T) {
	for conditions, want := range map[string]diagnose.Severity{"crit": diagnose.Crit, "warn": diagnose.Warn, "crit,warn": diagnose.Warn, "warn,crit": diagnose.Warn, "conns.total > 1": 0} {
		if _, v := judged(t, recording(t, "healthy"), Options{Conditions: strings.Split(conditions, ",")}); v.FailOn != want {
			t.Errorf("%s: %v, want %v", conditions, v.FailOn, want)
		}
	}
}

// TestGroupOfSockets: the sockets of one address are one listener to a gate, the
// closed ones among them.
func TestGroupOfSockets(t *testing.T) {
	m := newMeter(100)
	listener := func(inode uint64, accepts, wakeups uint64) *model.Listener {
		return &model.Listener{Name: "0.0.0.0:80", Program: "app", Listener: sample.Listener{Inode: inode,
			Counters: sample.Counters{AcceptsTotal: accepts, WakeupsTotal: wakeups}}}
	}
	tick := func(ls ...*model.Listener) {
		m.add(&model.Frame{Header: &sample.Header{}, Sample: &sample.Sample{}, Accept: &model.Accept{Listeners: ls}})
	}
	tick(listener(1, 60, 60), listener(2, 60, 600))
	tick(listener(2, 60, 600))
	if v := m.wakeupsPerAccept(); v.measured != 660./120 || v.at != "0.0.0.0:80 app" {
		t.Errorf("%+v", v)
	}
	tick(listener(2, 1, 1))
	if m.reset == "" || m.all().accepts != 121 {
		t.Errorf("reset %q, %d accepts", m.reset, m.all().accepts)
	}
	for i := range uint64(2 * mostAddresses) {
		l := listener(100+i, 1, 1)
		l.Name = fmt.Sprint(i)
		tick(l)
	}
	if len(m.gone) > mostAddresses || m.all().accepts != 121+2*mostAddresses {
		t.Errorf("%d addresses kept, %d accepts", len(m.gone), m.all().accepts)
	}
}
