// SPDX-License-Identifier: Apache-2.0

package html

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// names are the keys of a recording's texts that somebody else may have chosen.
var names = map[string]bool{"host": true, "kernel": true, "arch": true, "version": true, "command": true, "comm": true, "program": true, "addr": true,
	"path": true, "name": true, "device": true, "variant": true, "note": true, "error": true, "rung_reason": true, "wait": true,
	"holder_program": true, "holder_comm": true, "cgroup": true, "client": true, "driver": true, "accuracy": true}

// poison replaces the names in v.
func poison(v any, key, with string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = poison(v[k], k, with)
		}
	case []any:
		for i := range v {
			v[i] = poison(v[i], key, with)
		}
	case string:
		if names[key] && v != sample.Unavailable && v != sample.Approximate && v != sample.Exact {
			return with
		}
	}
	return v
}

func poisoned(t *testing.T, in []byte, with string) []byte {
	t.Helper()
	var out bytes.Buffer
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	for d.More() {
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(poison(v, "", with))
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	return out.Bytes()
}

// TestHostileNames: no name becomes markup, in whatever place it is shown, and
// none blows up the page.
func TestHostileNames(t *testing.T) {
	for _, with := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title></style></svg><script>`, `--><!--`, `]]>&amp;&#60;b>`, `{{.Title}}`,
		"\x1b[2J\u202e\ufeff\U000e0041\ufffe\n\r\t", strings.Repeat("<a href=//x>", 1500), strings.Repeat("工", 3000),
	} {
		for name, in := range recordings(t) {
			if len(with) > 1000 && !slices.Contains(golden, name) {
				continue // it takes long
			}
			page := renderBytes(t, poisoned(t, in, with))
			check(t, fmt.Sprintf("%s with %.20q", name, with), page)
			if len(page) > mostBytes {
				t.Errorf("%s with %.20q: %d bytes", name, with, len(page))
			}
			for _, bad := range []string{"<img", "<script", "<a h", "</title></style>", "<!--"} {
				if strings.Count(string(page), bad) != map[bool]int{true: strings.Count(string(page), `<a href="#`)}[bad == "<a h"] {
					t.Errorf("%s with %.20q: %s is in it", name, with, bad)
				}
			}
		}
	}
}

// TestAbsent: what is not measured is said to be so, and estimates are marked.
func TestAbsent(t *testing.T) {
	all := recordings(t)
	for _, tt := range []struct{ recording, want string }{
		{"not-measured", "No verdict: nothing was found, but not all was measured"},
		{"not-measured", "accept was not measured: no verdict on what needs it."},
		{"no-wake", "<td align=\"right\">?</td>"},
		{"without-bpf", "Measured by"},
		{"without-bpf", "<td align=\"right\">~"},
		{"accept-queue-overflow", "<td align=\"right\">~5</td>"},
		{"lost", "events or counts were lost"},
		{"healthy", `<span class="mark ok">OK</span> No finding`},
	} {
		if page := string(renderBytes(t, all[tt.recording])); !strings.Contains(page, tt.want) {
			t.Errorf("%s: no %q", tt.recording, tt.want)
		}
	}
}

// TestNothing: a trace that ended before its first Sample.
func TestNothing(t *testing.T) {
	page := renderBytes(t, []byte(`{"v":1,"type":"header","host":"web"}`+"\n"))
	check(t, "nothing", page)
	if !strings.Contains(string(page), "Nothing was measured") {
		t.Errorf("%s", page)
	}
}

// churned is the listener that matters.
const churned = 77

// churn has other listeners and cgroups at each tick.
type churn struct{ t uint64 }

// Header implements sample.Source.
func (c *churn) Header() *sample.Header { return &sample.Header{IntervalNS: uint64(time.Second)} }

// Next implements sample.Source.
func (c *churn) Next(context.Context) (*sample.Sample, error) {
	if c.t == 100 {
		return nil, io.EOF
	}
	c.t++
	s := &sample.Sample{MonoNS: c.t * uint64(time.Second), Accept: &sample.Accept{}}
	if c.t < 50 {
		n := sample.Counters{AcceptsTotal: c.t * 1000, WakeupsTotal: c.t * 9000}
		s.Accept.Listeners = append(s.Accept.Listeners, sample.Listener{Inode: churned, Proto: "tcp", Addr: "0.0.0.0", Port: 1, Counters: n, CompletionsTotal: n.AcceptsTotal})
	}
	for i := range uint64(40) {
		s.Accept.Listeners = append(s.Accept.Listeners, sample.Listener{Inode: c.t*1000 + i, Proto: "tcp", Addr: "0.0.0.0", Port: 2})
		s.CGroups = append(s.CGroups, sample.CGroup{ID: c.t*1000 + i, Path: "/x", CFS: &sample.Bandwidth{QuotaUS: 1, PeriodUS: 1}})
	}
	return s, nil
}

func replaySteps(t *testing.T, src sample.Source, r *Report) {
	t.Helper()
	if _, err := report.Run(context.Background(), src, diagnose.DefaultLimits(), r); err != nil {
		t.Fatal(err)
	}
}

// TestAxis: jitter leaves no bin empty, and folding keeps what was counted.
func TestAxis(t *testing.T) {
	for _, interval := range []time.Duration{970 * time.Millisecond, 1003 * time.Millisecond, 3400 * time.Millisecond, 100 * time.Millisecond} {
		a := &axis{width: time.Second}
		var rate means
		var most peaks
		const ticks = 5000
		for i := range ticks {
			from, to, folds := a.slots(time.Duration(i+1)*interval, interval)
			for range folds {
				rate.fold()
				most.fold()
			}
			rate.add(from, to, 10, interval.Seconds())
			most.add(from, to, float64(i))
		}
		if a.bins > maxBins || a.bins < maxBins/2 && a.width > time.Second {
			t.Errorf("%s: %d bins of %s", interval, a.bins, a.width)
		}
		for i := range a.bins {
			if v := rate.at(i, i+1); math.Abs(v-10) > 0.01 {
				t.Fatalf("%s: bin %d of %d has %v", interval, i, a.bins, v)
			}
		}
		want := 10 * ticks * interval.Seconds()
		if got := rate.total(0, a.bins); math.Abs(got-want) > want/1000 {
			t.Errorf("%s: %v in all, want %v", interval, got, want)
		}
		if got := most.at(0, a.bins); got != ticks-1 {
			t.Errorf("%s: at most %v", interval, got)
		}
	}
	a := &axis{width: time.Second}
	if from, to, _ := a.slots(math.MaxInt64, math.MaxInt64); from < 0 || to > maxBins || from >= to {
		t.Errorf("bins %d to %d", from, to)
	}
}

// FuzzPage: whatever a recording holds, there is a page, and it is well-formed.
func FuzzPage(f *testing.F) {
	for _, name := range []string{"lost", "not-measured", "cputime-lies", "accept-queue-overflow"} { // their beginnings: small seeds fuzz better
		lines := bytes.SplitAfterN(recordings(f)[name], []byte("\n"), 4)
		f.Add(bytes.Join(lines[:3], nil))
	}
	const all = "18446744073709551615"
	f.Add([]byte(`{"v":1,"type":"header","wall_ns":-9223372036854775808,"mono_ns":` + all + `,"interval_ns":` + all + `}` + "\n" +
		`{"type":"sample","cpus":[{"cpu":-9,"runq":{},"net_rx":{},"softnet":{}},{"cpu":9}],"accept":{"listeners":[{"inode":1,"queues":{}}]},"cgroups":[{"cgroup_id":1,"cfs":{}}]}` + "\n" +
		`{"type":"sample","mono_ns":1,"cpus":[{"cpu":-9,"runq":{"wait_ns":` + all + `},"net_rx":{"run_ns":` + all + `},"softnet":{"processed_total":` + all + `}}],` +
		`"accept":{"listeners":[{"inode":1,"accept_queue_len":4294967295,"wakeups_total":` + all + `,"accepts_total":` + all + `,"completions_total":` + all + `,` +
		`"queues":{"refusals":{"syn_queue":` + all + `,"accept_queue_syn":` + all + `}}}]},"cgroups":[{"cgroup_id":1,"cfs":{"period_us":1,"throttled_periods_total":` + all + `,"periods_total":1}}]}` + "\n" +
		`{"type":"sample","mono_ns":` + all + `}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := sample.NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		k := New(&out, Options{})
		sum, err := report.Run(context.Background(), &tolerant{r}, diagnose.DefaultLimits(), k)
		if err == nil {
			err = report.End(sum, k)
		}
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(&out)
		for {
			token, err := d.Token()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "path" {
				for _, a := range e.Attr {
					if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
						t.Fatalf("%s=%q", a.Name.Local, a.Value)
					}
				}
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
