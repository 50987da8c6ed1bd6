// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/compare"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// compareTwo is the subcommand diff: two recordings, side by side.
func compareTwo(o *options, args []string) error {
	switch {
	case len(args) != 2:
		return usagef("herdtrace diff takes two recordings: herdtrace diff BEFORE AFTER")
	case args[0] == "-" && args[1] == "-":
		return usagef("herdtrace diff cannot read both recordings from standard input")
	case o.output != "":
		return usagef("herdtrace diff does not record (drop -o)")
	case o.gate.judge != nil:
		return usagef("of herdtrace diff --fail-on must be worse")
	}
	ctx, stop := interrupts(context.Background(), nil, nil)
	defer stop()
	var sides [2]*compare.Side
	for i, path := range args {
		s, err := addUp(ctx, path)
		if err != nil {
			return err
		}
		sides[i] = s
	}
	d := compare.Compare(sides[0], sides[1])
	if o.json != "" {
		if err := writeTo(o.json, d.WriteJSON); err != nil {
			return err
		}
	}
	if o.json != "-" {
		if err := d.WriteText(os.Stdout); err != nil {
			return err
		}
	}
	switch {
	case !o.gate.worse:
	case d.Verdict == compare.Worse:
		return exitError{code: exitGate}
	case !d.Measured():
		return exitError{code: exitInconclusive}
	}
	return nil
}

// addUp reads a whole recording. One that was interrupted is none.
func addUp(ctx context.Context, path string) (*compare.Side, error) {
	r, err := sample.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := compare.NewSide(path)
	if _, err := report.Run(ctx, r, diagnose.DefaultLimits(), s); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read recording %s: interrupted", path)
	}
	s.Truncated = r.Truncated()
	return s, nil
}

// writeTo writes to the file at path; "-" is standard output.
func writeTo(path string, write func(w io.Writer) error) error {
	if path == "-" {
		return write(os.Stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create JSON output: %w", err)
	}
	err = write(f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close JSON output: %w", cerr)
	}
	return err
}
