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
	// Verdict is nil without a gate. It is a sink before the others, which sets it
	// when it ends.
	Verdict *Verdict
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

// Pipeline judges the ticks of a Source one by one. It is not safe for concurrent
// use.
type Pipeline struct {
	src     sample.Source
	builder *model.Builder
	set     *diagnose.Set
	last    *model.Frame
	worst   Worst
}

// NewPipeline returns a Pipeline that has seen nothing of src.
func NewPipeline(src sample.Source, limits diagnose.Limits) *Pipeline {
	return &Pipeline{src: src, builder: model.NewBuilder(src.Header()), set: diagnose.NewSet(limits)}
}

// Next returns the next tick, which does not change any more. It returns io.EOF
// after the last one.
func (p *Pipeline) Next(ctx context.Context) (*Step, error) {
	s, err := p.src.Next(ctx)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("read next sample: %w", err)
	}
	f := p.builder.Build(s)
	changed := p.set.Update(f)
	p.last = f
	p.worst.add(f)
	return &Step{Frame: f, Changed: changed, Active: p.set.Active()}, nil
}

// Summary is that of the ticks so far; a later Next may change it.
func (p *Pipeline) Summary() *Summary {
	return &Summary{Last: p.last, Findings: p.set.All(), Dropped: p.set.Dropped(), Worst: p.worst}
}

// Run pulls src dry, or until ctx ends, which is no error. It stops at the
// first sink that fails. The Summary is valid even then.
func Run(ctx context.Context, src sample.Source, limits diagnose.Limits, sinks ...Sink) (*Summary, error) {
	if err := Begin(src.Header(), sinks...); err != nil {
		return &Summary{}, err
	}
	p := NewPipeline(src, limits)
	for {
		step, err := p.Next(ctx)
		if err == io.EOF || (err != nil && ctx.Err() != nil) {
			return p.Summary(), nil
		}
		if err == nil {
			err = step.To(sinks...)
		}
		if err != nil {
			return p.Summary(), err
		}
	}
}

// Begin opens every sink, up to the first that fails.
func Begin(h *sample.Header, sinks ...Sink) error {
	for _, k := range sinks {
		if err := k.Begin(h); err != nil {
			return err
		}
	}
	return nil
}

// To gives s to every sink, up to the first that fails.
func (s *Step) To(sinks ...Sink) error {
	for _, k := range sinks {
		if err := k.Step(s); err != nil {
			return err
		}
	}
	return nil
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
