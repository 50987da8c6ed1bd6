// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// JUnit writes, at the end, what continuous integration shows as test results:
// a test case for each pathology, and one for each condition of a gate. With a
// gate, a finding that the gate does not fail on is no failure; it is in the
// output of its case.
type JUnit struct {
	w      io.Writer
	header *sample.Header
}

// NewJUnit returns a sink that writes JUnit's XML to w.
func NewJUnit(w io.Writer) *JUnit { return &JUnit{w: w} }

type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	Suite   junitSuite
}

type junitSuite struct {
	XMLName    xml.Name        `xml:"testsuite"`
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"` // UTC
	Hostname   string          `xml:"hostname,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	XMLName   xml.Name      `xml:"testcase"`
	Class     string        `xml:"classname,attr"`
	Name      string        `xml:"name,attr"`
	Time      string        `xml:"time,attr"`
	Failure   *junitProblem `xml:"failure"`
	Error     *junitProblem `xml:"error"`
	Skipped   *junitSkipped `xml:"skipped"`
	SystemOut *junitText    `xml:"system-out"`
}

type junitProblem struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",cdata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

type junitText struct {
	Text string `xml:",cdata"`
}

// Begin implements Sink.
func (j *JUnit) Begin(h *sample.Header) error { j.header = h; return nil }

// Step implements Sink.
func (j *JUnit) Step(*Step) error { return nil }

// End implements Sink.
func (j *JUnit) End(s *Summary) error {
	if j.header == nil {
		return nil // never begun: a sink before this one failed
	}
	h := j.header
	suite := junitSuite{
		Name: "herdtrace", Time: "0.000", Hostname: model.Printable(h.Host),
		Timestamp: time.Unix(0, h.WallNS).UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{"version", model.Printable(h.Version)},
			{"kernel", model.Printable(h.Kernel)},
			{"cpus", fmt.Sprint(h.CPUs)},
		},
	}
	if s.Last != nil {
		suite.Time = fmt.Sprintf("%.3f", s.Last.Elapsed.Seconds())
	}
	if c := s.Command; c != nil {
		suite.Properties = append(suite.Properties, junitProperty{"command", model.Printable(strings.Join(c.Args, " "))}, junitProperty{"exit_code", fmt.Sprint(c.ExitCode)})
	}
	if s.Verdict != nil {
		for _, c := range s.Verdict.Conditions {
			suite.add(gateCase(c))
		}
	}
	for _, k := range diagnose.Kinds() {
		suite.add(kindCase(k, s))
	}
	return j.write(&junitSuites{Suite: suite})
}

func (j *JUnit) write(all *junitSuites) error {
	b, err := xml.MarshalIndent(all, "", " ")
	if err != nil {
		return fmt.Errorf("encode JUnit: %w", err)
	}
	if _, err := fmt.Fprintf(j.w, "%s%s\n", xml.Header, b); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	return nil
}

func (s *junitSuite) add(c junitCase) {
	c.Time = "0.000"
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

func gateCase(c Condition) junitCase {
	out := junitCase{Class: "herdtrace.gate", Name: model.Printable(c.Text)}
	reason := model.Printable(c.Reason)
	switch problem := (&junitProblem{Type: c.Outcome, Message: reason, Text: out.Name + ": " + reason}); c.Outcome {
	case Fail:
		out.Failure = problem
	case Inconclusive:
		out.Error = problem
	default:
		out.SystemOut = &junitText{reason}
	}
	return out
}

// kindCase is one pathology: failed where it was found, skipped where it was not
// looked for.
func kindCase(k diagnose.Kind, s *Summary) junitCase {
	out := junitCase{Class: "herdtrace", Name: k.ID}
	var worst *diagnose.Finding
	var text []string
	for i := range s.Findings {
		f := &s.Findings[i]
		if f.ID != k.ID {
			continue
		}
		if worst == nil || f.Severity > worst.Severity {
			worst = f
		}
		line := fmt.Sprintf("%s %s\nremedy: %s; then %s", strings.ToUpper(f.Severity.String()), f.Sentence(), f.Remedy, f.Verify)
		if f.State == diagnose.Cleared {
			line += fmt.Sprintf("\ngone after %.0f s: %s", f.Until.Sub(f.Since).Seconds(), f.Outcome)
		}
		text = append(text, line)
	}
	switch all := strings.Join(text, "\n\n"); {
	case worst != nil && (s.Verdict == nil || s.Verdict.FailOn > 0 && worst.Severity >= s.Verdict.FailOn):
		out.Failure = &junitProblem{Type: worst.Severity.String(), Message: worst.Sentence(), Text: all}
	case worst != nil:
		out.SystemOut = &junitText{all}
	case s.Last == nil:
		out.Skipped = &junitSkipped{"nothing was measured"}
	default:
		if why := k.Unseen(s.Last); why != "" {
			out.Skipped = &junitSkipped{why}
		}
	}
	return out
}
