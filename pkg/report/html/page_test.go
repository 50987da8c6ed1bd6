// SPDX-License-Identifier: Apache-2.0

package html

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

// TestGolden: the bytes of some pages, which do not change by a run through Reader
// and Writer.
func TestGolden(t *testing.T) {
	all := recordings(t)
	for _, name := range golden {
		got := renderBytes(t, rewrite(t, all[name]))
		path := filepath.Join(testdata, "golden-html", name+".html")
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
			t.Errorf("%s differs (go test ./pkg/report/html -update rewrites it):\n%s", path, firstDifference(got, want))
		}
	}
}

func firstDifference(got, want []byte) string {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %.300s\nwant %.300s", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
	return "it is cut off"
}

// TestNoStaleGoldens: each golden is compared with something.
func TestNoStaleGoldens(t *testing.T) {
	files, err := os.ReadDir(filepath.Join(testdata, "golden-html"))
	if err != nil || len(files) != len(golden) {
		t.Errorf("%d goldens, want %d, %v", len(files), len(golden), err)
	}
}

// TestEveryRecording: whatever a page is about, it is a page, the same one each
// time, and holds nothing that a recording brought along.
func TestEveryRecording(t *testing.T) {
	for name, in := range recordings(t) {
		page := renderBytes(t, rewrite(t, in))
		check(t, name, page)
		if !bytes.Equal(page, renderBytes(t, in)) {
			t.Errorf("%s: the same recording gave other bytes", name)
		}
	}
}

// TestSameBytesAnywhere: neither the time zone nor the locale shows.
func TestSameBytesAnywhere(t *testing.T) {
	if dir := os.Getenv("HERDTRACE_PAGES_INTO"); dir != "" { // in the child
		for _, name := range golden {
			if err := os.WriteFile(filepath.Join(dir, name), renderBytes(t, recordings(t)[name]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	for _, env := range [][]string{{"TZ=Pacific/Chatham", "LC_ALL=de_DE.UTF-8"}, {"TZ=America/St_Johns", "LC_ALL=C"}} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestSameBytesAnywhere$")
		cmd.Env = append(append(os.Environ(), env...), "HERDTRACE_PAGES_INTO="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", env, err, out)
		}
		for _, name := range golden {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, renderBytes(t, recordings(t)[name])) {
				t.Errorf("%s: other bytes with %v, %v", name, env, err)
			}
		}
	}
}

// mostBytes is what a page of ten minutes on a large machine may take.
const mostBytes = 300_000

// TestCrowd: ten minutes on 64 cores with 200 listeners and 500 cgroups.
func TestCrowd(t *testing.T) {
	page := render(t, &crowd{Load: sampletest.Crowded(), ticks: 600})
	check(t, "crowd", page)
	if len(page) >= mostBytes {
		t.Errorf("%d bytes, want less than %d", len(page), mostBytes)
	}
	for _, id := range []string{"runq", "herd", "throttle", "queues", "netrx"} {
		_, section, _ := strings.Cut(string(page), `<section id="`+id+`">`)
		if section, _, _ = strings.Cut(section, "</section>"); strings.Count(section, "<path") < 8 {
			t.Errorf("%s: nothing is drawn:\n%.300s", id, section)
		}
	}
	t.Logf("%d bytes", len(page))
}

// restless is a crowd whose cores are in another state at each tick, so that no
// two neighbouring cells of a heat map are alike.
type restless struct{ crowd }

// Next implements sample.Source.
func (c *restless) Next(ctx context.Context) (*sample.Sample, error) {
	t := c.t
	s, err := c.crowd.Next(ctx)
	if err != nil {
		return nil, err
	}
	for i := range s.CPUs {
		var wait, soft uint64
		for k := uint64(1); k <= t; k++ { // counters only grow
			wait += []uint64{0, 1, 3, 9, 20}[(k*7+uint64(i)*3+k*k/5)%5] * uint64(time.Second)
			soft += []uint64{0, 10, 100, 400, 900}[(k*3+uint64(i)*7+k*k/7)%5] * uint64(time.Millisecond)
		}
		s.CPUs[i].Runq.WaitNS, s.CPUs[i].Runq.ThrottledNS = wait, 0
		s.CPUs[i].Runq.Peak = 30
		s.CPUs[i].SoftIRQ.RunNS = soft
	}
	return s, nil
}

// TestManyFindings is the worst case for the page's size: cells that cannot be drawn
// together, and more findings than are told in full.
func TestManyFindings(t *testing.T) {
	var out bytes.Buffer
	k := New(&out, Options{})
	sum, err := report.Run(context.Background(), &restless{crowd{Load: sampletest.Crowded(), ticks: 600}}, diagnose.DefaultLimits(), k)
	if err != nil {
		t.Fatal(err)
	}
	few := sum.Findings
	for range 20 {
		sum.Findings = append(sum.Findings, few...)
	}
	if err := k.End(sum); err != nil {
		t.Fatal(err)
	}
	check(t, "many", out.Bytes())
	if n := strings.Count(out.String(), "<article "); n != mostFindings || out.Len() >= mostBytes {
		t.Errorf("%d findings in full, %d bytes", n, out.Len())
	}
	if want := fmt.Sprintf("And %d more findings", len(sum.Findings)-mostFindings-mostBrief); !strings.Contains(out.String(), want) {
		t.Errorf("no %q", want)
	}
	t.Logf("%d bytes", out.Len())
}

// TestEvidence: each finding comes with what was measured of it, before it was
// raised and after.
func TestEvidence(t *testing.T) {
	for name, in := range recordings(t) {
		page := string(renderBytes(t, in))
		if n, m := strings.Count(page, "<article "), strings.Count(page, " around when it was raised"); n != m {
			t.Errorf("%s: %d findings and %d strips", name, n, m)
		}
	}
}

// TestLongRunTakesNoMore: a run of any length has as many bins, and as large a page.
func TestLongRunTakesNoMore(t *testing.T) {
	load := sampletest.Load{Listeners: 4, Workers: 2, Cores: 4, CGroups: 4, Processes: 4}
	short := len(render(t, &crowd{Load: load, ticks: 300}))
	long := len(render(t, &crowd{Load: load, ticks: 7200}))
	if long > short*3/2 {
		t.Errorf("%d bytes for 2 h, %d for 8 min", long, short)
	}
}

// TestChurn: what comes and goes for ever is forgotten in the end.
func TestChurn(t *testing.T) {
	r := New(io.Discard, Options{})
	r.Begin(&sample.Header{IntervalNS: uint64(time.Second)})
	src := &churn{}
	replaySteps(t, src, r)
	if n, m := len(r.time.listeners.of), len(r.time.groups.of); n > mostListeners || m > mostGroups {
		t.Errorf("%d listeners and %d cgroups are remembered", n, m)
	}
	if r.time.listeners.of[churned] == nil {
		t.Error("the listener with a herd was forgotten for others that came later")
	}
}
