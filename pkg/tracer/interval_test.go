// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// clockwork is a collector that takes no time, and needs some rest.
type clockwork struct {
	needs    time.Duration
	interval time.Duration
}

func (c *clockwork) signals() []sample.Signal             { return nil }
func (c *clockwork) collect(bool) (*sample.Sample, error) { return &sample.Sample{}, nil }
func (c *clockwork) between(bool) error                   { return nil }
func (c *clockwork) wait() time.Duration                  { return time.Hour }
func (c *clockwork) rest() time.Duration                  { return c.needs }
func (c *clockwork) setInterval(d time.Duration)          { c.interval = d }
func (c *clockwork) Close() error                         { return nil }

// TestSetIntervalAtOnce: a wait that is under way is that of the new interval.
func TestSetIntervalAtOnce(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name  string
		rest  time.Duration
		after time.Duration   // the second tick, at 10 s
		to    []time.Duration // one after the other
		want  []time.Duration // when the next ticks are
	}{
		{"shorter, in time", 0, 2 * s, []time.Duration{5 * s}, []time.Duration{15 * s, 20 * s, 25 * s}},
		{"shorter, too late", 0, 6 * s, []time.Duration{5 * s}, []time.Duration{16 * s, 21 * s}},
		{"much shorter", 0, 3 * s, []time.Duration{s / 10}, []time.Duration{13 * s, 13*s + s/10, 13*s + s/5}},
		{"longer", 0, 2 * s, []time.Duration{30 * s}, []time.Duration{40 * s, 70 * s}},
		{"there and back", 0, 2 * s, []time.Duration{time.Hour, 20 * s, 10 * s}, []time.Duration{20 * s, 30 * s}},
		{"the same", 0, 2 * s, []time.Duration{10 * s}, []time.Duration{20 * s, 30 * s}},
		{"shorter, but it must rest", 7 * s, 2 * s, []time.Duration{s}, []time.Duration{17 * s, 24 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &clockwork{needs: tt.rest}
				tr := &Tracer{opts: Options{Interval: 10 * s}, from: c, change: make(chan struct{}, 1)}
				tr.header.IntervalNS = uint64(10 * s)
				began := time.Now()
				tr.begin(began)
				if _, err := tr.Next(t.Context()); err != nil || time.Since(began) != 10*s {
					t.Fatalf("the first tick is after %s, error %v", time.Since(began), err)
				}
				go func() {
					time.Sleep(tt.after)
					for _, d := range tt.to {
						if err := tr.SetInterval(d); err != nil {
							t.Error(err)
						}
						synctest.Wait()
					}
				}()
				last := tt.to[len(tt.to)-1]
				for _, want := range tt.want {
					sm, err := tr.Next(t.Context())
					if at := time.Since(began); err != nil || at != want {
						t.Errorf("a tick after %s, error %v, want it after %s", at, err, want)
					}
					if asked := sm.Self.IntervalNS; asked != uint64(last) && !(asked == 0 && last == 10*s) {
						t.Errorf("the Sample says %d ns", asked)
					}
				}
				if c.interval != last {
					t.Errorf("the collector was told %s", c.interval)
				}
			})
		})
	}
}

func TestSetIntervalBounds(t *testing.T) {
	tr := &Tracer{change: make(chan struct{}, 1)}
	for _, d := range []time.Duration{-1, 0, sample.MinInterval - 1, sample.MaxInterval + 1} {
		if err := tr.SetInterval(d); err == nil || len(tr.change) > 0 {
			t.Errorf("%s: error %v", d, err)
		}
	}
	for _, d := range []time.Duration{sample.MinInterval, sample.MaxInterval} {
		if err := tr.SetInterval(d); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// TestSetInterval: of a real trace, on both ladders' ends.
func TestSetInterval(t *testing.T) {
	for _, noBPF := range []bool{false, true} {
		t.Run(fmt.Sprintf("no BPF: %v", noBPF), func(t *testing.T) {
			tr := open(t, Options{Interval: time.Hour, NoBPF: noBPF})
			next := func() *sample.Sample {
				s, err := tr.Next(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			if s := next(); s.Self.IntervalNS != 0 {
				t.Errorf("the first Sample says %d ns", s.Self.IntervalNS)
			}
			for _, d := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 200 * time.Millisecond} {
				set := make(chan error)
				go func() { set <- tr.SetInterval(d) }()
				at := next().MonoNS // of an hour's wait, at first
				if err := <-set; err != nil {
					t.Fatal(err)
				}
				var gaps []time.Duration
				var span time.Duration
				for len(gaps) < 3 {
					s := next()
					if s.Self.IntervalNS != uint64(d) {
						t.Errorf("a Sample says %d ns, want %d", s.Self.IntervalNS, d)
					}
					gaps = append(gaps, time.Duration(s.MonoNS-at))
					at = s.MonoNS
				}
				for _, g := range gaps[1:] { // the first may have begun before
					span += g
				}
				if n := len(gaps) - 1; span < time.Duration(n-1)*d || slices.Max(gaps) > 10*time.Second {
					t.Errorf("%d ticks, %s apart, took %s: %v", n, d, span, gaps)
				}
			}
		})
	}
}
