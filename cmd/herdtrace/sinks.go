// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/html"
	"github.com/herdtrace/herdtrace/pkg/report/live"
	"github.com/herdtrace/herdtrace/pkg/report/perfetto"
)

// fileReport is a sink that writes one file, which its flag names.
type fileReport struct {
	flag, usage string
	new         func(w io.Writer) report.Sink
}

// fileReports are all of them. A new one is a row here, and nothing else.
var fileReports = []fileReport{
	{"summary-md", "write the summary to this `FILE`, as GitHub's Markdown", func(w io.Writer) report.Sink { return report.NewMarkdown(w) }},
	{"junit", "write a test case for each pathology, and for each condition of --fail-on, to this `FILE`, as JUnit's XML", func(w io.Writer) report.Sink { return report.NewJUnit(w) }},
	{"html", "write a page that tells it all to this `FILE`", func(w io.Writer) report.Sink { return html.New(w, html.Options{}) }},
	{"perfetto", "write a trace for ui.perfetto.dev to this `FILE`", func(w io.Writer) report.Sink { return perfetto.New(w) }},
}

// outputs are the sinks that the flags and the environment ask for.
type outputs struct {
	sinks []report.Sink
	live  *live.Screen // nil in line mode
	text  io.Writer    // for people; also where there is none but the verdict

	baseline *baseline // nil: the trace is compared with nothing
}

// newOutputs opens the sinks. In line mode with a command of the user's, the
// text goes to stderr: stdout is the command's. SetInterval is for the screen's keys;
// nil: there is nothing to set.
func newOutputs(o *options, setInterval func(time.Duration)) (*outputs, error) {
	out := &outputs{text: os.Stdout}
	if len(o.command) > 0 || o.stdoutTaken() != "" {
		out.text = os.Stderr
	}
	gh := newGitHub(o.githubSummary, out.text)
	if gh != nil && gh.text != nil {
		out.text = defused{out.text}
	}
	if o.gate.judge != nil { // before those that tell its verdict
		out.sinks = append(out.sinks, o.gate.judge)
	}
	if o.gate.baseline != "" {
		var err error
		if out.baseline, err = newBaseline(o.gate.baseline); err != nil {
			return nil, err
		}
		out.sinks = append(out.sinks, out.baseline)
	}
	if err := out.addFiles(o); err != nil {
		return nil, err
	}
	lines := report.LineOptions{Location: time.Local, NoTicks: o.quiet, SummaryOnly: o.summaryOnly}
	switch {
	case o.json == "-":
	case wantsScreen(o):
		out.live = newScreen(live.Options{Color: colorOf(o.color), ASCII: o.ascii, NoMouse: o.noMouse, Recording: baseName(o.output), Interval: o.interval, SetInterval: setInterval, Abort: out.abort})
		lines.SummaryOnly = true
		out.sinks = append(out.sinks, out.live, report.NewLine(out.text, lines))
	default:
		out.sinks = append(out.sinks, report.NewLine(out.text, lines))
	}
	if gh != nil {
		out.sinks = append(out.sinks, gh)
	}
	return out, nil
}

// addFiles opens what is written to files: before the trace, so that a name that
// cannot be written to costs no load test.
func (out *outputs) addFiles(o *options) error {
	if o.output != "" {
		r, err := report.NewRecorder(o.output)
		if err != nil {
			return err
		}
		out.sinks = append(out.sinks, r)
	}
	add := func(what, path string, sink func(w io.Writer) report.Sink) error {
		switch path {
		case "":
			return nil
		case "-":
			out.sinks = append(out.sinks, sink(os.Stdout))
			return nil
		}
		f, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("create %s: %w", what, err)
		}
		out.sinks = append(out.sinks, &fileSink{sink(f), f})
		return nil
	}
	if err := add("JSON output", o.json, func(w io.Writer) report.Sink { return report.NewJSON(w) }); err != nil {
		return err
	}
	for _, r := range fileReports {
		if err := add("--"+r.flag+" file", *o.reports[r.flag], r.new); err != nil {
			return err
		}
	}
	return nil
}

// stdoutTaken is the flag that wants standard output for itself; "" is none.
func (o *options) stdoutTaken() string {
	flags := o.wantStdout()
	if len(flags) == 0 {
		return ""
	}
	return flags[0]
}

func (o *options) wantStdout() (flags []string) {
	for _, f := range []struct{ flag, path string }{{"-o -", o.output}, {"--json", o.json}} {
		if f.path == "-" {
			flags = append(flags, f.flag)
		}
	}
	for _, r := range fileReports {
		if *o.reports[r.flag] == "-" {
			flags = append(flags, "--"+r.flag+" -")
		}
	}
	return flags
}

// baseName is the last part of path, "" where there is none.
func baseName(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// fileSink is a sink that closes its file.
type fileSink struct {
	report.Sink
	f *os.File
}

// End implements report.Sink.
func (s *fileSink) End(sum *report.Summary) error {
	return errors.Join(s.Sink.End(sum), s.f.Close())
}

func colorOf(s string) live.Color {
	switch s {
	case "always":
		return live.ColorAlways
	case "never":
		return live.ColorNever
	}
	return live.ColorAuto
}
