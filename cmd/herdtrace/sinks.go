// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/live"
)

// outputs are the sinks that the flags and the environment ask for.
type outputs struct {
	sinks []report.Sink
	live  *live.Screen // nil in line mode
}

// newOutputs opens the sinks. In line mode with a command of the user's, the
// text goes to stderr: stdout is the command's. SetInterval is for the screen's keys;
// nil: there is nothing to set.
func newOutputs(o *options, setInterval func(time.Duration)) (*outputs, error) {
	out := &outputs{}
	if o.output != "" {
		r, err := report.NewRecorder(o.output)
		if err != nil {
			return nil, err
		}
		out.sinks = append(out.sinks, r)
	}
	if o.json != "" {
		j, err := newJSON(o.json)
		if err != nil {
			return nil, err
		}
		out.sinks = append(out.sinks, j)
	}
	text := os.Stdout
	if len(o.command) > 0 || o.output == "-" {
		text = os.Stderr
	}
	lines := report.LineOptions{Location: time.Local, NoTicks: o.quiet}
	switch {
	case o.json == "-":
	case wantsScreen(o):
		out.live = newScreen(live.Options{Color: colorOf(o.color), ASCII: o.ascii, NoMouse: o.noMouse, Recording: baseName(o.output), Interval: o.interval, SetInterval: setInterval, Abort: out.abort})
		lines.SummaryOnly = true
		out.sinks = append(out.sinks, out.live, report.NewLine(text, lines))
	default:
		out.sinks = append(out.sinks, report.NewLine(text, lines))
	}
	return out, nil
}

// baseName is the last part of path, "" where there is none.
func baseName(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// jsonFile is a JSON sink that closes its file.
type jsonFile struct {
	*report.JSON
	f *os.File
}

func newJSON(path string) (report.Sink, error) {
	if path == "-" {
		return report.NewJSON(os.Stdout), nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create JSON output: %w", err)
	}
	return &jsonFile{report.NewJSON(f), f}, nil
}

// End implements report.Sink.
func (j *jsonFile) End(s *report.Summary) error {
	return errors.Join(j.JSON.End(s), j.f.Close())
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
