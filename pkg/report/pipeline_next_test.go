// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// keeper keeps what it is given.
type keeper struct{ steps []*Step }

func (k *keeper) Begin(*sample.Header) error { return nil }
func (k *keeper) Step(s *Step) error         { k.steps = append(k.steps, s); return nil }
func (k *keeper) End(*Summary) error         { return nil }

// TestPipelineIsRun: who asks for one tick after the other gets what sinks get.
func TestPipelineIsRun(t *testing.T) {
	in := readRecording(t, "herd-cured")
	read := func() sample.Source {
		r, err := sample.NewReader(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	k := &keeper{}
	want, err := run(read(), k)
	if err != nil {
		t.Fatal(err)
	}
	p := NewPipeline(read(), diagnose.DefaultLimits())
	for i := 0; ; i++ {
		step, err := p.Next(context.Background())
		if err == io.EOF {
			if i != len(k.steps) {
				t.Errorf("%d ticks, want %d", i, len(k.steps))
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(step.Changed, k.steps[i].Changed) || !reflect.DeepEqual(step.Active, k.steps[i].Active) ||
			step.Frame.Elapsed != k.steps[i].Frame.Elapsed {
			t.Errorf("tick %d: %+v, want %+v", i, step, k.steps[i])
		}
	}
	got := p.Summary()
	if !reflect.DeepEqual(got.Findings, want.Findings) || !reflect.DeepEqual(got.Worst, want.Worst) || len(got.Findings) == 0 {
		t.Errorf("summary %+v, want %+v", got, want)
	}
}

// TestPipelineOfNothing: an end is io.EOF itself, and a Source's error says what was done.
func TestPipelineOfNothing(t *testing.T) {
	p := NewPipeline(&source{err: io.EOF}, diagnose.DefaultLimits())
	if _, err := p.Next(context.Background()); err != io.EOF || p.Summary().Last != nil {
		t.Errorf("error %v, summary %+v", err, p.Summary())
	}
	p = NewPipeline(&source{err: errSink}, diagnose.DefaultLimits())
	if _, err := p.Next(context.Background()); !errors.Is(err, errSink) || err.Error() != "read next sample: disk full" {
		t.Errorf("error %v", err)
	}
}
