// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/live"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// panicVariable makes the test's own binary a herdtrace that panics at a place.
const panicVariable = "HERDTRACE_TEST_PANIC"

// panics are the places, and what the words of the panic must contain.
var panics = map[string]string{
	"source": "the source's panic",
	"reader": "the reader's panic", // on a goroutine of its own
	"sink":   "the sink's panic",
	"screen": "nil pointer dereference", // in the screen's loop
	"length": "the length's panic",      // on a goroutine of its own
}

// optionsOf is a command line without a word.
func optionsOf() *options {
	o, err := parse(nil)
	if err != nil {
		panic(err)
	}
	return o
}

// panicAt shows samples on the terminal, and then panics.
func panicAt(where string) {
	out, err := newOutputs(optionsOf(), nil)
	if err != nil || out.live == nil {
		fmt.Fprintln(os.Stderr, "there is no screen:", err)
		return
	}
	var src sample.Source = &panicky{where: where}
	if where == "reader" {
		var b bytes.Buffer
		w := sample.NewWriter(&b)
		w.WriteHeader(src.Header())
		w.WriteSample(&sample.Sample{})
		if src, err = sample.NewReader(io.MultiReader(&b, panickyReader{})); err != nil {
			panic(err)
		}
	}
	out.sinks = append(out.sinks, &panickySink{where, out})
	if where == "length" {
		play(context.Background(), &options{}, func() (live.Recording, error) { return panickyRecording{src}, nil }, out)
		return
	}
	pipe(context.Background(), src, out)
	fmt.Fprintln(os.Stderr, "there was no panic")
}

// panicky yields samples for ever, or panics at the third.
type panicky struct {
	where string
	n     uint64
}

func (p *panicky) Header() *sample.Header { return &sample.Header{Host: "here"} }

func (p *panicky) Next(context.Context) (*sample.Sample, error) {
	if p.n++; p.n > 2 && p.where == "source" {
		panic("the source's panic")
	}
	time.Sleep(10 * time.Millisecond) // a tick
	return &sample.Sample{MonoNS: p.n}, nil
}

type panickyRecording struct{ sample.Source }

func (panickyRecording) Length(context.Context) (time.Duration, error) { panic("the length's panic") }
func (panickyRecording) Close() error                                  { return nil }

type panickyReader struct{}

func (panickyReader) Read([]byte) (int, error) { panic("the reader's panic") }

// panickySink panics at the second Step, or gives the screen what it cannot draw.
type panickySink struct {
	where string
	out   *outputs
}

func (s *panickySink) Begin(*sample.Header) error { return nil }

func (s *panickySink) Step(*report.Step) error {
	switch s.where {
	case "sink":
		panic("the sink's panic")
	case "screen":
		return s.out.live.Step(&report.Step{Frame: &model.Frame{}})
	}
	return nil
}

func (s *panickySink) End(*report.Summary) error { return nil }
