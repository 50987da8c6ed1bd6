// SPDX-License-Identifier: Apache-2.0

package html

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

var update = flag.Bool("update", false, "rewrite testdata/golden-html")

const testdata = "../../../testdata"

// golden are the recordings whose pages are kept: one of each plot. The others
// must have the properties that all pages have.
var golden = []string{"accept-queue-overflow", "herd-cured", "not-measured", "runq-pile"}

func recordings(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(testdata + "/*.jsonl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings in %s: %v", testdata, err)
	}
	out := make(map[string][]byte)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(p), ".jsonl")] = b
	}
	return out
}

// rewrite reads a recording and writes it again, so that a golden also runs
// through the recording's format.
func rewrite(t testing.TB, in []byte) []byte {
	t.Helper()
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := sample.NewWriter(&out)
	err = w.WriteHeader(r.Header())
	for err == nil {
		var s *sample.Sample
		if s, err = r.Next(context.Background()); err == nil {
			err = w.WriteSample(s)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return out.Bytes()
}

// render is the page of a Source, whose command, if it had one, failed.
func render(t testing.TB, src sample.Source) []byte {
	t.Helper()
	var out bytes.Buffer
	k := New(&out, Options{Source: "recording.jsonl"})
	sum, err := report.Run(context.Background(), src, diagnose.DefaultLimits(), k)
	if err != nil {
		t.Fatal(err)
	}
	if c := src.Header().Command; c != nil {
		sum.Command = &report.Command{Args: c, ExitCode: 1}
	}
	if err := report.End(sum, k); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func renderBytes(t testing.TB, in []byte) []byte {
	t.Helper()
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	return render(t, r)
}

// crowd is a crowded host for so many ticks.
type crowd struct {
	sampletest.Load
	t, ticks uint64
}

// Next implements sample.Source.
func (c *crowd) Next(context.Context) (*sample.Sample, error) {
	if c.t == c.ticks {
		return nil, io.EOF
	}
	s := c.At(c.t)
	c.t++
	s.Final = c.t == c.ticks
	return s, nil
}

// check finds what no page may have: what is not well-formed, markup that is not
// ours, a style that a content security policy forbids, anything to fetch.
func check(t *testing.T, name string, page []byte) {
	t.Helper()
	known := make(map[string]bool)
	for e := range strings.FieldsSeq("html head meta title style body h1 h2 h3 p span nav a section article b details summary div table tr th td dl dt dd footer svg path text") {
		known[e] = true
	}
	d := xml.NewDecoder(bytes.NewReader(page))
	ids := make(map[string]bool)
	var links []string
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: not well-formed: %v", name, err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if !known[e.Name.Local] {
			t.Errorf("%s: element %s", name, e.Name.Local)
		}
		for _, a := range e.Attr {
			switch key := a.Name.Local; {
			case key == "id" && ids[a.Value]:
				t.Errorf("%s: id %s twice", name, a.Value)
			case key == "id":
				ids[a.Value] = true
			case key == "href" && strings.HasPrefix(a.Value, "#"):
				links = append(links, a.Value[1:])
			case key == "style", key == "src", key == "href", key == "xmlns", strings.HasPrefix(key, "on"):
				t.Errorf("%s: <%s %s=%q>", name, e.Name.Local, key, a.Value)
			case strings.Contains(a.Value, "NaN"), strings.Contains(a.Value, "Inf"):
				t.Errorf("%s: <%s %s=%.200q>", name, e.Name.Local, key, a.Value)
			}
		}
	}
	for _, to := range links {
		if !ids[to] {
			t.Errorf("%s: a link to #%s, which is not there", name, to)
		}
	}
	for _, bad := range []string{"<script", "style=", "url(", "@import", "javascript", "%!", "ZgotmplZ"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("%s: %q is in it", name, bad)
		}
	}
	for _, r := range string(page) {
		if r != '\n' && (!unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r)) {
			t.Errorf("%s: %+q is in it", name, r)
			break
		}
	}
}
