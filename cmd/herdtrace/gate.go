// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/gate"
)

// gateOptions are the flags that make a verdict out of a trace.
type gateOptions struct {
	failOn     []string // expressions
	thresholds string   // a file of them
	baseline   string   // a recording
	minConns   uint64
	strict     bool
	worse      bool       // of herdtrace diff: what is worse, or new
	judge      *gate.Gate // nil: no gate
}

func (g *gateOptions) addTo(f *pflag.FlagSet) {
	f.StringArrayVar(&g.failOn, "fail-on", nil, "exit with 3 if this is true: crit, warn (findings of that severity or above), or an `EXPRESSION` like 'herd.wakeups_per_accept > 2 or listen.refusals_total > 0'; may be given again; herdtrace metrics lists the names. Of herdtrace diff: worse. Exit with 4 where it could not be measured")
	f.StringVar(&g.thresholds, "thresholds", "", "read what --fail-on takes from this `FILE`, one expression a line, # begins a comment")
	f.StringVar(&g.baseline, "baseline", "", "exit with 3 if something is worse than in the recording at this `FILE`, as herdtrace diff says; with 4 where that cannot be told")
	f.Uint64Var(&g.minConns, "min-conns", gate.DefaultMinConns, "with fewer connections than `N` in all, what takes connections to show counts as not measured")
	f.BoolVar(&g.strict, "strict", false, "what is approximate, and any lost event, counts as not measured")
}

// gateFlags name the flags of addTo.
var gateFlags = []string{"fail-on", "thresholds", "min-conns", "strict"}

// prepare reads the conditions.
func (g *gateOptions) prepare(f *pflag.FlagSet) error {
	conditions := g.failOn
	if g.thresholds != "" {
		file, err := os.Open(g.thresholds)
		if err != nil {
			return usagef("--thresholds: %v", err)
		}
		defer file.Close()
		more, err := gate.ReadThresholds(io.LimitReader(file, 1<<20))
		if err != nil {
			return usagef("--thresholds %s: %v", g.thresholds, err)
		}
		conditions = append(conditions, more...)
	}
	if len(conditions) == 0 {
		for _, name := range gateFlags {
			if f.Changed(name) {
				return usagef("--%s needs something to fail on (--fail-on or --thresholds)", name)
			}
		}
		return nil
	}
	if slices.Equal(conditions, []string{"worse"}) {
		g.worse = true
		return nil
	}
	judge, err := gate.New(gate.Options{Conditions: conditions, MinConns: g.minConns, Strict: g.strict})
	if err != nil {
		return usagef("--fail-on: %v", err)
	}
	g.judge = judge
	return nil
}

// verdict prints the last line of a gated run, and is its exit code; nil is a pass.
func (out *outputs) verdict(sum *report.Summary) error {
	if out.baseline != nil && out.baseline.diff != nil {
		if err := out.baseline.diff.WriteText(out.text); err != nil {
			return fmt.Errorf("write comparison: %w", err)
		}
	}
	v := sum.Verdict
	if v == nil {
		return nil
	}
	if _, err := fmt.Fprintf(out.text, "verdict %s\n", v); err != nil {
		return fmt.Errorf("write verdict: %w", err)
	}
	switch v.Outcome {
	case report.Pass:
		return nil
	case report.Fail:
		return exitError{code: exitGate}
	}
	return exitError{code: exitInconclusive}
}

// metrics is the subcommand: what --fail-on may refer to.
func metrics(o *options, args []string) error {
	if len(args) > 0 {
		return usagef("herdtrace metrics takes no arguments")
	}
	var out strings.Builder
	for _, m := range gate.Metrics() {
		fmt.Fprintf(&out, "%-34s %-8s %s\n", m.Name, m.Unit(), m.Doc)
	}
	out.WriteString("\nAll are of the whole trace. Shares may be compared with 50% or 0.5, times with 20ms, 300us or 2s, numbers with 3k.\n")
	_, err := os.Stdout.WriteString(out.String())
	return err
}
