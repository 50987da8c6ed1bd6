// SPDX-License-Identifier: Apache-2.0

package report

import (
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Recorder is the sink that keeps the Samples themselves.
type Recorder struct{ f *sample.File }

// NewRecorder creates the recording at path; "-" is standard output, and a name
// that ends in .gz is compressed.
func NewRecorder(path string) (*Recorder, error) {
	f, err := sample.Create(path)
	if err != nil {
		return nil, err
	}
	return &Recorder{f}, nil
}

// Begin implements Sink.
func (r *Recorder) Begin(h *sample.Header) error { return r.f.WriteHeader(h) }

// Step implements Sink.
func (r *Recorder) Step(s *Step) error { return r.f.WriteSample(s.Frame.Sample) }

// End implements Sink and closes the file.
func (r *Recorder) End(*Summary) error { return r.f.Close() }
