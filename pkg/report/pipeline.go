// SPDX-License-Identifier: Apache-2.0

// Package report runs a Source through the model and the detectors into sinks,
// the same way for a live trace and for a recording.
package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Step is one tick, judged.
type Step struct {
	Frame   *model.Frame
	Changed []diagnose.Finding // raised or cleared at this tick
	Active  []diagnose.Finding // raised and not cleared, worst first
}

// Summary is what a sink may want to know at the end.
type Summary struct {
	Last     *model.Frame       // nil when there was not a single Sample
	Findings []diagnose.Finding // that were raised, in order, in their last state
	Dropped  int                // how many more there were, where they were too many to keep
	Worst    Worst              // of all Frames
	Command  *Command           // nil when none was run
}

// Command is how the traced command ended.
type Command struct {
	Args     []string
	ExitCode int
}

// Sink draws or writes what it is given. The pipeline calls Begin once, Step
// for each tick and End once, from one goroutine.
type Sink interface {
	Begin(h *sample.Header) error
	Step(s *Step) error
	End(s *Summary) error
}

// Run pulls src dry, or until ctx ends, which is no error. It stops at the
// first sink that fails. The Summary is valid even then.
func Run(ctx context.Context, src sample.Source, limits diagnose.Limits, sinks ...Sink) (*Summary, error) {
	for _, k := range sinks {
		if err := k.Begin(src.Header()); err != nil {
			return &Summary{}, err
		}
	}
	builder := model.NewBuilder(src.Header())
	set := diagnose.NewSet(limits)
	sum := &Summary{}
	defer func() { sum.Findings, sum.Dropped = set.All(), set.Dropped() }()
	for {
		s, err := src.Next(ctx)
		if errors.Is(err, io.EOF) || (err != nil && ctx.Err() != nil) {
			return sum, nil
		}
		if err != nil {
			return sum, fmt.Errorf("read next sample: %w", err)
		}
		f := builder.Build(s)
		changed := set.Update(f)
		sum.Last = f
		sum.Worst.add(f)
		step := &Step{Frame: f, Changed: changed, Active: set.Active()}
		for _, k := range sinks {
			if err := k.Step(step); err != nil {
				return sum, err
			}
		}
	}
}

// End closes every sink and returns the first error.
func End(sum *Summary, sinks ...Sink) error {
	var first error
	for _, k := range sinks {
		if err := k.End(sum); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
