// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// wellFormed reads XML as another program would.
func wellFormed(t testing.TB, b []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("no XML: %v\n%s", err, b)
		}
	}
}

// junitRead is a JUnit file as read back.
type junitRead struct {
	Suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Cases    []struct {
			Class   string `xml:"classname,attr"`
			Name    string `xml:"name,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"failure"`
			Error *struct {
				Message string `xml:"message,attr"`
			} `xml:"error"`
			Skipped *struct {
				Message string `xml:"message,attr"`
			} `xml:"skipped"`
			Out *string `xml:"system-out"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func readJUnit(t *testing.T, b []byte) (out junitRead) {
	t.Helper()
	if err := xml.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestJUnitSays: in each recording a case for each kind, which failed where a
// finding was raised, and was skipped where nobody looked.
func TestJUnitSays(t *testing.T) {
	for _, name := range recordings(t) {
		var b bytes.Buffer
		sum := replay(t, readRecording(t, name), NewJUnit(&b))
		found := make(map[string]bool)
		for _, f := range sum.Findings {
			found[f.ID] = true
		}
		s := readJUnit(t, b.Bytes()).Suite
		if s.Tests != len(diagnose.Kinds()) || len(s.Cases) != s.Tests || s.Failures != len(found) || s.Errors != 0 {
			t.Errorf("%s: %d tests, %d cases, %d failures, %d errors; want %d, and %d failures", name, s.Tests, len(s.Cases), s.Failures, s.Errors, len(diagnose.Kinds()), len(found))
		}
		skipped := 0
		for i, k := range diagnose.Kinds() {
			c := &s.Cases[i]
			unseen := k.Unseen(sum.Last) != "" && !found[k.ID]
			if c.Name != k.ID || (c.Failure != nil) != found[k.ID] || (c.Skipped != nil) != unseen {
				t.Errorf("%s: case %+v, found %v, unseen %v", name, c, found[k.ID], unseen)
			}
			if c.Failure != nil && !strings.Contains(c.Failure.Text, "remedy: ") {
				t.Errorf("%s: %s fails without a remedy: %s", name, c.Name, c.Failure.Text)
			}
			if c.Skipped != nil {
				skipped++
			}
		}
		if skipped != s.Skipped {
			t.Errorf("%s: %d skipped, it says %d", name, skipped, s.Skipped)
		}
	}
}

// given is the sink that gives a verdict.
type given struct{ v *Verdict }

func (given) Begin(*sample.Header) error { return nil }
func (given) Step(*Step) error           { return nil }
func (g given) End(s *Summary) error     { s.Verdict = g.v; return nil }

// TestVerdictInSinks: each sink tells a gate's verdict, and JUnit has as failures
// what the gate fails on.
func TestVerdictInSinks(t *testing.T) {
	v := &Verdict{Outcome: Fail, FailOn: diagnose.Crit, Conditions: []Condition{
		{"crit", Fail, "1 crit finding: accept-herd"},
		{"runq.wait_p99_ms > 20 | x", Inconclusive, "runq was not measured: <b>"},
		{"listen.refusals_total > 0", Pass, "it is 0"},
	}}
	if got, want := v.String(), "FAIL: crit: 1 crit finding: accept-herd"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var md, junit, ndjson bytes.Buffer
	replay(t, readRecording(t, "skew"), given{v}, NewMarkdown(&md), NewJUnit(&junit), NewJSON(&ndjson))
	s := readJUnit(t, junit.Bytes()).Suite
	if s.Failures != 1 || s.Errors != 1 || s.Cases[0].Failure == nil || s.Cases[1].Error == nil || s.Cases[2].Out == nil {
		t.Errorf("JUnit: %s", junit.String())
	}
	for _, c := range s.Cases {
		if c.Name == "accept-skew" && (c.Out == nil || c.Failure != nil) {
			t.Errorf("a warning fails a gate on crit: %s", junit.String())
		}
	}
	for _, want := range []string{"## herdtrace: FAIL\n", "| FAIL | crit | 1 crit finding: accept-herd |\n", "| INCONCLUSIVE | runq.wait&#95;p99&#95;ms &#62; 20 &#124; x | runq was not measured: &#60;b&#62; |\n"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("no %q in\n%s", want, md.String())
		}
	}
	if !strings.Contains(ndjson.String(), `"gate":{"verdict":"fail","conditions":[{"condition":"crit","verdict":"fail","reason":"1 crit finding: accept-herd"}`) {
		t.Errorf("JSON: %s", ndjson.String())
	}
}

func TestMarkdownText(t *testing.T) {
	for in, want := range map[string]string{
		"listener 0.0.0.0:8080 (nginx, 4 workers)": "listener 0.0.0.0:8080 (nginx, 4 workers)",
		"[::]:443":                 "&#91;::&#93;:443",
		"a`b|c<d>&*_~#1 @me $x$\\": "a&#96;b&#124;c&#60;d&#62;&#38;&#42;&#95;&#126;&#35;1 &#64;me &#36;x&#36;&#92;",
		"http://evil.example/":     "http&#58;//evil.example/",
		"www.evil.example":         "www&#46;evil.example",
		"WwW.evil.example":         "WwW&#46;evil.example",
		"0.0.0.0:100: full":        "0.0.0.0&#58;100: full",
		":x:y: ":                   "&#58;x&#58;y: ",
		"a\nb\x1b[2J\u202e":        "a?b?&#91;2J?",
		"工人":                       "工人",
	} {
		if got := mdText(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestMarkdownHostile: in no page does a name make a tag, a link, a table cell or
// a list item.
func TestMarkdownHostile(t *testing.T) {
	ours := regexp.MustCompile(`^(## |### |\| |\|---|- |  - remedy: |and |Trace cost |[0-9.]+ s on |The rest |$)`)
	for _, name := range recordings(t) {
		var b bytes.Buffer
		replay(t, readRecording(t, name), NewMarkdown(&b))
		for _, l := range strings.Split(b.String(), "\n") {
			if !ours.MatchString(l) || strings.ContainsAny(l, "<>`[]\\@$") || strings.HasPrefix(l, "| ") && strings.Count(l, "|") != 8 {
				t.Errorf("%s: %q", name, l)
			}
		}
	}
}

// TestMarkdownIsBounded: whatever there is to say, it fits, and whole lines of it.
func TestMarkdownIsBounded(t *testing.T) {
	f := &model.Frame{Header: &sample.Header{}, Sample: &sample.Sample{}}
	sum := &Summary{Last: f}
	for i := range 1000 {
		sum.Findings = append(sum.Findings, diagnose.Finding{ID: fmt.Sprint("id-", i), Severity: diagnose.Warn, Subject: strings.Repeat("<", 300)})
	}
	var b bytes.Buffer
	m := NewMarkdown(&b)
	m.Begin(f.Header)
	if err := m.End(sum); err != nil {
		t.Fatal(err)
	}
	if b.Len() > MaxMarkdownBytes || b.Len() < MaxMarkdownBytes/2 || !strings.HasSuffix(b.String(), pageCut) {
		t.Errorf("%d bytes, the last are %q", b.Len(), b.String()[max(b.Len()-200, 0):])
	}
}

// TestNothingToReport: sinks that got no Sample, or were never begun.
func TestNothingToReport(t *testing.T) {
	for _, begun := range []bool{false, true} {
		var md, junit bytes.Buffer
		for _, k := range []Sink{NewMarkdown(&md), NewJUnit(&junit)} {
			if begun {
				k.Begin(&sample.Header{})
			}
			if err := k.End(&Summary{}); err != nil {
				t.Fatal(err)
			}
		}
		if !begun {
			if md.Len()+junit.Len() > 0 {
				t.Errorf("never begun: %s%s", md.String(), junit.String())
			}
			continue
		}
		if s := readJUnit(t, junit.Bytes()).Suite; s.Skipped != s.Tests || s.Tests == 0 {
			t.Errorf("nothing measured: %s", junit.String())
		}
		if !strings.Contains(md.String(), "nothing was measured") {
			t.Errorf("nothing measured: %s", md.String())
		}
	}
}

// TestZoneAndLocale: what is written to a file is the same everywhere.
func TestZoneAndLocale(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	for _, name := range []string{"herd-cured", "accept-queue-overflow", "hostile"} {
		in := readRecording(t, name)
		want := outputs(t, in)
		for _, zone := range []*time.Location{time.FixedZone("east", 14*3600), time.FixedZone("west", -11*3600)} {
			time.Local = zone
			for _, locale := range []string{"C", "de_DE.UTF-8"} {
				t.Setenv("LC_ALL", locale)
				t.Setenv("TZ", "Pacific/Apia")
				for ending, got := range outputs(t, in) {
					if !bytes.Equal(got, want[ending]) {
						t.Errorf("%s.%s differs in %s, %s: %s", name, ending, zone, os.Getenv("LC_ALL"), firstDifference(got, want[ending]))
					}
				}
			}
		}
	}
}
