// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// track is one run through a recording, from its begin.
type track struct {
	rec   Recording
	pipe  *report.Pipeline
	n     int    // ticks that were taken
	first uint64 // when the first one was
	next  *sample.Sample
	end   error // why there is no next; io.EOF where it is none
}

func newTrack(rec Recording, limits diagnose.Limits) *track {
	t := &track{rec: rec}
	t.pipe = report.NewPipeline(t, limits)
	return t
}

// peek is when the next tick was, since the first Sample; false: there is none, or
// not before ctx ended. The pipeline has not seen it yet.
func (t *track) peek(ctx context.Context) (time.Duration, bool) {
	if t.next == nil && t.end == nil {
		s, err := t.rec.Next(ctx)
		switch {
		case err == nil:
			t.next = s
		case errors.Is(err, io.EOF):
			t.end = io.EOF
		case ctx.Err() == nil:
			t.end = fmt.Errorf("read next sample: %w", err)
		}
	}
	return t.ahead()
}

// ahead is what peek saw.
func (t *track) ahead() (time.Duration, bool) {
	switch {
	case t.next == nil:
		return 0, false
	case t.n == 0:
		return 0, true
	}
	return time.Duration(min(t.next.MonoNS-t.first, math.MaxInt64)), true
}

// Header implements sample.Source.
func (t *track) Header() *sample.Header { return t.rec.Header() }

// Next implements sample.Source, for the pipeline: it takes what peek saw.
func (t *track) Next(ctx context.Context) (*sample.Sample, error) {
	if _, ok := t.peek(ctx); !ok {
		if t.end != nil {
			return nil, t.end
		}
		return nil, ctx.Err()
	}
	s := t.next
	t.next = nil
	if t.n == 0 {
		t.first = s.MonoNS
	}
	t.n++
	return s, nil
}

// ended reports whether it is known that there is no next tick.
func (t *track) ended() bool { return t.next == nil && t.end != nil }

// broken is why the recording could not be read to its end; nil where it could.
func (t *track) broken() error {
	if t.end == io.EOF {
		return nil
	}
	return t.end
}

// fault is what the user is told of a recording that has no more, where it is more
// than that.
func (t *track) fault() string {
	switch err := t.broken(); {
	case err != nil:
		return err.Error()
	case t.ended() && t.n == 0:
		return "the recording has no samples"
	}
	return ""
}

func (t *track) Close() error {
	if t == nil {
		return nil
	}
	return t.rec.Close()
}

// lag is by how much a tick may be late and the next one still comes when it is
// due. What is later is not caught up with: the play goes on from there.
const lag = 100 * time.Millisecond

// pace is when what is on the screen makes room for the next tick.
type pace struct {
	speed  float64
	paused bool
	passed time.Duration // of the recording, since the tick on the screen
	since  time.Time     // as of when
}

// settle brings passed up to now.
func (p *pace) settle(now time.Time) {
	if !p.paused {
		p.passed += time.Duration(float64(now.Sub(p.since)) * p.speed)
	}
	p.since = now
}

// wait is how long it is until the tick that is so much later than the one on the
// screen.
func (p *pace) wait(later time.Duration, now time.Time) time.Duration {
	p.settle(now)
	return time.Duration(min(float64(later-p.passed)/p.speed, math.MaxInt64/2))
}

// shown says that the tick came that was so much later.
func (p *pace) shown(later time.Duration) {
	if p.passed -= later; float64(p.passed) > float64(lag)*p.speed {
		p.passed = 0
	}
}

// jump says that the screen was put somewhere.
func (p *pace) jump(now time.Time) { p.passed, p.since = 0, now }
