// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// tape is a recording in memory.
type tape struct {
	ticks []time.Duration // since the first
	fail  error           // after the last tick; nil: io.EOF
	slow  time.Duration   // what reading a tick takes
	once  bool
	short int // of what is opened again, so many ticks; 0: all

	mu                   sync.Mutex
	opened, open, passed int
}

// playback is one run through a tape.
type playback struct {
	*tape
	n    int
	gone bool
}

var errTape = errors.New("line 7: not JSON")

func (c *tape) Open() (Recording, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened > 0 && c.once {
		return nil, ErrOneWay
	}
	c.opened++
	c.open++
	if c.opened > 1 && c.short > 0 {
		return &playback{tape: &tape{ticks: c.ticks[:c.short]}}, nil
	}
	return &playback{tape: c}, nil
}

func (p *playback) Header() *sample.Header { return header() }

func (p *playback) Next(ctx context.Context) (*sample.Sample, error) {
	if p.slow > 0 {
		select {
		case <-time.After(p.slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if p.n == len(p.ticks) {
		if p.fail != nil {
			return nil, p.fail
		}
		return nil, io.EOF
	}
	p.mu.Lock()
	p.passed++
	p.mu.Unlock()
	p.n++
	return &sample.Sample{MonoNS: 5e9 + uint64(p.ticks[p.n-1]), Accept: &sample.Accept{}}, nil
}

func (p *playback) Length(context.Context) (time.Duration, error) {
	if p.fail != nil {
		return time.Hour, nil // it does not look that close
	}
	return p.ticks[len(p.ticks)-1], nil
}

func (p *playback) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		p.gone = true
		p.open--
	}
	return nil
}

// ticks is so many ticks, that far apart.
func ticks(n int, gap time.Duration) *tape {
	c := &tape{}
	for i := range n {
		c.ticks = append(c.ticks, time.Duration(i)*gap)
	}
	return c
}

// board is a canvas that keeps what it is shown.
type board struct {
	mu    sync.Mutex
	steps []*report.Step // since Rewind
	held  bool
	drawn []time.Duration // what was on the screen, one after the other
	draws int
	err   error // of Step
}

func (b *board) Begin(*sample.Header) error { return nil }
func (b *board) End(*report.Summary) error  { return nil }
func (b *board) Rewind()                    { b.mu.Lock(); b.steps = nil; b.mu.Unlock() }
func (b *board) redraw()                    { b.mu.Lock(); b.draws++; b.mu.Unlock() }

func (b *board) Step(s *report.Step) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps = append(b.steps, s)
	b.draw()
	return b.err
}

func (b *board) Hold(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = on
	b.draw()
}

func (b *board) draw() {
	if n := len(b.steps); n > 0 && !b.held {
		b.drawn = append(b.drawn, b.steps[n-1].Frame.Elapsed)
	}
}

// shown is what is on the screen.
func (b *board) shown() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.drawn) == 0 {
		return -1
	}
	return b.drawn[len(b.drawn)-1]
}

// given is what the screen was given since Rewind.
func (b *board) given() []*report.Step {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.steps)
}

// pictures is how often something else was drawn.
func (b *board) pictures() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.drawn)
}

// log is another sink.
type log struct {
	mu    sync.Mutex
	steps []*report.Step
	ended int
}

func (l *log) Begin(*sample.Header) error { return nil }
func (l *log) Step(s *report.Step) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, s)
	return nil
}
func (l *log) End(*report.Summary) error { l.ended++; return nil }

// rig is a Player at work, in a bubble of its own time.
type rig struct {
	*Player
	t     *testing.T
	board *board
	log   *log
	quit  context.CancelFunc
	done  chan struct{}
	sum   *report.Summary
	err   error
}

// playing runs test beside a Player of what open opens.
func playing(t *testing.T, o PlayerOptions, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, board: &board{}, log: &log{}, done: make(chan struct{})}
		o.Limits, o.Sinks = diagnose.DefaultLimits(), []report.Sink{r.log}
		r.Player = newPlayer(r.board, o)
		ctx, quit := context.WithCancel(context.Background())
		r.quit = quit
		go func() {
			r.sum, r.err = r.Run(ctx)
			close(r.done)
		}()
		synctest.Wait()
		test(r)
		quit()
		<-r.done
	})
}

// press presses and waits until that is done.
func (r *rig) press(a DeckAction, by time.Duration) {
	r.Press(a, by)
	synctest.Wait()
}

// want is what the State says, and what the screen shows.
func (r *rig) want(doing string, want DeckState) {
	r.t.Helper()
	if got := r.State(); got != want {
		r.t.Errorf("%s: %+v, want %+v", doing, got, want)
	}
	if got := r.board.shown(); got != want.At {
		r.t.Errorf("%s: the screen shows %s, want %s", doing, got, want.At)
	}
}

// wantOnce: the other sinks got each tick up to the n-th once, and in order.
func (r *rig) wantOnce(ticks []time.Duration) {
	r.t.Helper()
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	var got []time.Duration
	for _, s := range r.log.steps {
		got = append(got, s.Frame.Elapsed)
	}
	if !reflect.DeepEqual(got, ticks) {
		r.t.Errorf("the other sinks got %v, want %v", got, ticks)
	}
}

// recording is a file of testdata, and what a straight run makes of it.
type recording struct {
	in    []byte
	steps []*report.Step
	sum   *report.Summary
}

func recordings(t *testing.T) map[string]*recording {
	t.Helper()
	paths, err := filepath.Glob("../../../testdata/*.jsonl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	out := make(map[string]*recording)
	for _, path := range paths {
		in, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = newRecording(t, in)
	}
	return out
}

func newRecording(t *testing.T, in []byte) *recording {
	t.Helper()
	c := &recording{in: in}
	src, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	l := &log{}
	if c.sum, err = report.Run(context.Background(), src, diagnose.DefaultLimits(), l); err != nil {
		t.Fatal(err)
	}
	c.steps = l.steps
	return c
}

func (c *recording) Open() (Recording, error) { return sample.NewReader(bytes.NewReader(c.in)) }

// same is reflect.DeepEqual, for which NaN is NaN.
func same(a, b any) bool {
	return sameValues(reflect.ValueOf(a), reflect.ValueOf(b), make(map[[2]unsafe.Pointer]bool))
}

// sameValues takes what it is in the middle of, by seen, for the same.
func sameValues(a, b reflect.Value, seen map[[2]unsafe.Pointer]bool) bool {
	if a.Kind() != b.Kind() || a.IsValid() && a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Float64, reflect.Float32:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case reflect.Pointer:
		pair := [2]unsafe.Pointer{a.UnsafePointer(), b.UnsafePointer()}
		if seen[pair] || a.IsNil() || b.IsNil() {
			return seen[pair] || a.IsNil() == b.IsNil()
		}
		seen[pair] = true
		return sameValues(a.Elem(), b.Elem(), seen)
	case reflect.Slice, reflect.Array:
		if a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !sameValues(a.Index(i), b.Index(i), seen) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for it := a.MapRange(); it.Next(); {
			if v := b.MapIndex(it.Key()); !v.IsValid() || !sameValues(it.Value(), v, seen) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !sameValues(a.Field(i), b.Field(i), seen) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}
