// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var update = flag.Bool("update", false, "rewrite testdata/golden")

const testdata = "../../testdata"

// recordings are the names of the recordings in testdata, without ".jsonl".
func recordings(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(testdata + "/*.jsonl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings in %s: %v", testdata, err)
	}
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(p), ".jsonl"))
	}
	return names
}

func readRecording(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rewrite reads a recording and writes it again, so that every golden also runs
// through the recording's format.
func rewrite(t testing.TB, in []byte) []byte {
	t.Helper()
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := sample.NewWriter(&out)
	if err := w.WriteHeader(r.Header()); err != nil {
		t.Fatal(err)
	}
	for {
		s, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return out.Bytes()
		}
		if err == nil {
			err = w.WriteSample(s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// replay runs a recording through the pipeline into sinks, and closes them.
func replay(t testing.TB, in []byte, sinks ...Sink) *Summary {
	t.Helper()
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Run(context.Background(), r, diagnose.DefaultLimits(), sinks...)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Header().Command; c != nil {
		sum.Command = &Command{Args: c, ExitCode: 1}
	}
	if err := End(sum, sinks...); err != nil {
		t.Fatal(err)
	}
	return sum
}

// realRecordings are those that herdtrace made beside the lab's incidents and their
// cures, by name; what is golden of them is what people read.
func realRecordings(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(testdata + "/real/*.jsonl.gz")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings in %s/real: %v", testdata, err)
	}
	out := make(map[string][]byte)
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		out["real/"+strings.TrimSuffix(filepath.Base(p), ".jsonl.gz")] = b
	}
	return out
}

// outputs are what the sinks make of a recording, by the golden's ending.
func outputs(t testing.TB, in []byte) map[string][]byte {
	t.Helper()
	var line, ndjson, md, junit bytes.Buffer
	replay(t, in, NewLine(&line, LineOptions{}), NewJSON(&ndjson), NewMarkdown(&md), NewJUnit(&junit))
	return map[string][]byte{"txt": line.Bytes(), "ndjson": ndjson.Bytes(), "md": md.Bytes(), "xml": junit.Bytes()}
}

// TestGolden: the bytes of each sink for each recording, which do not change by
// a run through Reader and Writer, nor when the same is done twice.
func TestGolden(t *testing.T) {
	all := realRecordings(t)
	for _, name := range recordings(t) {
		all[name] = readRecording(t, name)
	}
	for name, in := range all {
		t.Run(name, func(t *testing.T) {
			once := rewrite(t, in)
			if twice := rewrite(t, once); !bytes.Equal(once, twice) {
				t.Error("a recording that is written again is not the same")
			}
			again := outputs(t, once)
			for ending, got := range outputs(t, once) {
				path := filepath.Join(testdata, "golden", name+"."+ending)
				if !bytes.Equal(got, again[ending]) {
					t.Errorf("%s: the same recording gave other bytes", path)
				}
				if ending == "ndjson" && strings.HasPrefix(name, "real/") {
					continue // half a megabyte each
				}
				if *update {
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, got, 0o644)); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s differs (go test ./pkg/report -update rewrites it):\n%s", path, firstDifference(got, want))
				}
			}
		})
	}
}

func firstDifference(got, want []byte) string {
	g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range g {
		if i >= len(w) || !bytes.Equal(g[i], w[i]) {
			return "got  " + string(g[i]) + "\nwant " + string(bytes.Join(w[min(i, len(w)):min(i+1, len(w))], nil))
		}
	}
	return "it is cut off"
}

// TestNoStaleGoldens: each golden belongs to a recording.
func TestNoStaleGoldens(t *testing.T) {
	known := make(map[string]bool)
	for _, name := range recordings(t) {
		for _, ending := range []string{"txt", "ndjson", "md", "xml"} {
			known[name+"."+ending] = true
		}
	}
	for name := range realRecordings(t) {
		for _, ending := range []string{"txt", "md", "xml"} {
			known[name+"."+ending] = true
		}
	}
	for _, dir := range []string{"", "real/"} {
		files, err := os.ReadDir(testdata + "/golden/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !known[dir+f.Name()] && !f.IsDir() {
				t.Errorf("testdata/golden/%s%s belongs to no recording", dir, f.Name())
			}
		}
	}
}

// TestFindings says in one place what each recording is about.
func TestFindings(t *testing.T) {
	want := map[string]string{
		"healthy": "", "herd-cured": "accept-herd cleared", "hostile": "accept-herd raised", "lost": "", "no-accept": "accept-herd raised",
		"no-wake": "", "not-measured": "", "reset": "", "skew": "accept-skew cleared", "stall": "accept-stall raised",
		"accept-queue-overflow": "accept-queue-overflow cleared, syn-queue-overflow cleared, accept-queue-overflow cleared, syn-queue-overflow cleared, accept-queue-wait cleared",
		"netdev-backlog":        "netdev-backlog-drop cleared, netrx-imbalance cleared",
		"runq-pile":             "runq-pile cleared",
		"cfs-throttle":          "cfs-throttle cleared, cfs-throttle-below-quota cleared",
		"cpu-oversold":          "cpu-oversold cleared",
		"cputime-lies":          "cputime-hidden cleared, cputime-frozen cleared",
		"healthy-sched":         "",
		"without-bpf":           "accept-queue-overflow raised, cfs-throttle raised",
	}
	for _, name := range recordings(t) {
		var got []string
		for _, f := range replay(t, readRecording(t, name)).Findings {
			got = append(got, f.ID+" "+f.State)
		}
		if w, ok := want[name]; !ok || strings.Join(got, ", ") != w {
			t.Errorf("%s: findings %q, want %q", name, got, w)
		}
	}
}

// TestNothingHostileGetsOut: neither sink hands on a byte that a terminal obeys,
// and each record is one line.
func TestNothingHostileGetsOut(t *testing.T) {
	for _, name := range []string{"hostile", "accept-queue-overflow", "netdev-backlog", "runq-pile", "cfs-throttle", "cpu-oversold", "cputime-lies"} {
		for ending, out := range outputs(t, readRecording(t, name)) {
			for _, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
				for _, r := range line {
					if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
						t.Errorf("%s.%s: %+q in %+q", name, ending, r, line)
					}
				}
				if ending == "ndjson" && !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %s", line)
				}
			}
		}
	}
}

// TestJSONKeepsNames: escaping is for the eye, a machine reads the name as it was.
func TestJSONKeepsNames(t *testing.T) {
	const name = "a\x1b\x7f\u0085\u202e\U000e0041工😀<&>"
	var out bytes.Buffer
	if err := NewJSON(&out).Begin(&sample.Header{Host: name}); err != nil {
		t.Fatal(err)
	}
	var got struct{ Host string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Host != name {
		t.Errorf("%+q, %v, want %+q", got.Host, err, name)
	}
	if s := out.String(); strings.ContainsAny(s, "\x7f\u0085\u202e\U000e0041") || !strings.Contains(s, "工😀") {
		t.Errorf("%+q", s)
	}
}

// FuzzReplay: whatever a recording holds, the pipeline ends without an error of
// its own, in valid JSON and printable text.
func FuzzReplay(f *testing.F) {
	for _, name := range []string{"lost", "no-accept", "not-measured"} { // their beginnings: small seeds fuzz better
		lines := bytes.SplitAfterN(readRecording(f, name), []byte("\n"), 4)
		f.Add(bytes.Join(lines[:3], nil))
	}
	big := `"accepts_total":18446744073709551615,"wakeups_total":18446744073709551615,"empty_wakeups_total":18446744073709551615,"empty_cpu_ns":18446744073709551615,"empty_bursts_total":1`
	listener := `{"inode":1,` + big + `,"workers":[{"tid":1,` + big + `},{"tid":1,"run_ns":18446744073709551615}]}`
	f.Add([]byte(`{"v":1,"type":"header","wall_ns":-9223372036854775808,"mono_ns":18446744073709551615}` + "\n" +
		`{"type":"sample","accept":{"listeners":[]}}` + "\n" +
		`{"type":"sample","mono_ns":1,"accept":{"listeners":[` + listener + `,` + listener + `]}}` + "\n" +
		`{"type":"sample","mono_ns":18446744073709551615,"accept":null,"events":[{"kind":"\u0000"}]}` + "\n"))
	queues := `,"queues":{"accept_full_ns":18446744073709551615,"refusals":{"accept_queue_syn":18446744073709551615,"syn_queue":1},"backlog":-2147483648,` +
		`"clients":{"total":18446744073709551615,"retries":[1,2,3,18446744073709551615],"top":[{"addr":"\u001b"}]}}}`
	host := `"listen":{"netns":[{"inode":0,"tcp_ext":{"listen_drops_total":18446744073709551615}},{"inode":0}]},"cpus":[{"cpu":-9223372036854775808,` +
		`"net_rx":{"run_ns":18446744073709551615,"latency":[18446744073709551615,1]},"softnet":{"dropped_total":18446744073709551615}},{"cpu":0,"times":{}}],` +
		`"netrx":{"devices":[{"name":"\u001b","rx_queues":[{}]}],"drops":[{"device":"\u009b","dropped_total":1}]},"events":[{"kind":"cpu-backlog-drop","device":"\u001b"},{"kind":"refusal"}]}`
	times := `"run_ns":18446744073709551615,"wait_ns":18446744073709551615,"wait_throttled_ns":1,"wait_mask_ns":18446744073709551615,"wait_stolen_ns":18446744073709551615`
	sched := `,"cpus":[{"cpu":-1,"runq":{"busy_ns":18446744073709551615,"peak":4294967295,"unclaimed_idle_ns":18446744073709551615,"wait":[18446744073709551615,1],"steal_ns":1}}],` +
		`"sched":{"processes":[{"pid":1,"comm":"\u001b",` + times + `,"claimed_ns":1,"top":[{"tid":1,"comm":"\u009b","cpu":-9,` + times + `,"allowed":[-1]}]},{"pid":1}],` +
		`"contended":[{"pid":1,"holder":1,"holder_comm":"\u001b","wait_ns":18446744073709551615}]},` +
		`"cgroups":[{"cgroup_id":1,"parent_id":1,"path":"\u001b[2J/",` + times + `,"cfs":{"quota_us":18446744073709551615,"period_us":1,"throttled_periods_total":9,"throttled_ns":18446744073709551615}},` +
		`{"cgroup_id":1,"path":"","cfs":{}}],"events":[{"kind":"throttle","cgroup_id":1,"cgroup":"\u001b","duration_ns":18446744073709551615}]}`
	f.Add([]byte(`{"v":1,"type":"header","cpus":1}` + "\n" + `{"type":"sample","cpus":[{"cpu":-1,"runq":{}}],"sched":{},"cgroups":[{"cgroup_id":1,"cfs":{"period_us":1}}]}` + "\n" +
		`{"type":"sample","mono_ns":1` + sched + "\n" + `{"type":"sample","mono_ns":2` + sched + "\n"))
	one := `,"accept":{"listeners":[` + strings.TrimSuffix(listener, "}") + queues + `]},` + host
	f.Add([]byte(`{"v":1,"type":"header","ports":[80]}` + "\n" + `{"type":"sample","cpus":[{"cpu":0,"net_rx":{},"softnet":{}}],"netrx":{}}` + "\n" +
		`{"type":"sample","mono_ns":1` + one + "\n" + `{"type":"sample","mono_ns":2` + one + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := sample.NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		src := &tolerant{Reader: r}
		var line, ndjson, md, junit bytes.Buffer
		sinks := []Sink{NewLine(&line, LineOptions{}), NewJSON(&ndjson), NewMarkdown(&md), NewJUnit(&junit)}
		sum, err := Run(context.Background(), src, diagnose.DefaultLimits(), sinks...)
		if err == nil {
			err = End(sum, sinks...)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range bytes.Split(bytes.TrimSuffix(ndjson.Bytes(), []byte("\n")), []byte("\n")) {
			if !json.Valid(l) {
				t.Fatalf("no JSON: %s", l)
			}
		}
		if md.Len() > MaxMarkdownBytes {
			t.Fatalf("%d bytes of Markdown", md.Len())
		}
		wellFormed(t, junit.Bytes())
		for _, l := range strings.Split(line.String()+md.String()+junit.String(), "\n") {
			if l != model.Printable(l) {
				t.Fatalf("not printable: %+q", l)
			}
		}
	})
}

// tolerant ends where the recording is broken.
type tolerant struct{ *sample.Reader }

// Next implements sample.Source.
func (r *tolerant) Next(ctx context.Context) (*sample.Sample, error) {
	s, err := r.Reader.Next(ctx)
	if err != nil {
		err = io.EOF
	}
	return s, err
}
