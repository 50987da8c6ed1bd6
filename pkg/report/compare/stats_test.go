// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestStudentT: values of printed tables.
func TestStudentT(t *testing.T) {
	for _, tt := range []struct{ p, dof, want float64 }{
		{0.05, 1, 12.706}, {0.05, 2, 4.303}, {0.01, 4, 4.604}, {0.05, 10, 2.228}, {0.01, 10, 3.169}, {0.001, 8, 5.041}, {0.01, 1000, 2.581},
	} {
		if got := studentT(tt.p, tt.dof); math.Abs(got-tt.want) > 0.001*tt.want {
			t.Errorf("t(%g, %g) = %.4f, want %.3f", tt.p, tt.dof, got, tt.want)
		}
	}
}

// TestBeyond: 8 of 8 above the other 8 happen once in 12870 drawings, either way.
func TestBeyond(t *testing.T) {
	more, less := []float64{2, 3, 4, 5, 6, 7, 8, 9}, []float64{1, 0, 0, 0, 0, 0, 0, 1}
	if k, p := beyond(more, less); k != 8 || math.Abs(p-2.0/12870) > 1e-9 {
		t.Errorf("%d, %g", k, p)
	}
	if k, p := beyond(less, more); k != 0 || p != 1 {
		t.Errorf("the other way: %d, %g", k, p)
	}
}

// TestFalseAlarms: of two series of the same kind, whether noise or bursts, no
// more than level are called different, as good as.
func TestFalseAlarms(t *testing.T) {
	for name, next := range map[string]func(r *rand.Rand, was float64) float64{
		"noise":  func(r *rand.Rand, _ float64) float64 { return 10 + 3*r.NormFloat64() },
		"skewed": func(r *rand.Rand, _ float64) float64 { return math.Exp(r.NormFloat64()) },
		"drift":  func(r *rand.Rand, was float64) float64 { return 5 + 0.5*was + 2*r.NormFloat64() },
		"rare": func(r *rand.Rand, _ float64) float64 {
			if r.Float64() < 0.1 {
				return 100 * r.Float64()
			}
			return 0
		},
	} {
		for _, n := range []int{5, 8, 30, 300} {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			const pairs = 200
			alarms := 0
			for range pairs {
				var e [2]estimate
				for side := range e {
					var s series
					v := 10.0
					for range n {
						v = next(r, v)
						s.add(v, 1)
					}
					e[side] = s.estimate(false)
				}
				if c := contrastOf(e[0], e[1], level); c.sure {
					alarms++
				}
			}
			t.Logf("%s, %d intervals: %.1f%%", name, n, 100*float64(alarms)/pairs)
			if float64(alarms) > 0.02*pairs {
				t.Errorf("%s: %d of %d pairs of %d intervals differ", name, alarms, pairs, n)
			}
		}
	}
}

// TestSeriesIsBounded: and loses nothing.
func TestSeriesIsBounded(t *testing.T) {
	var s series
	want := 0.0
	for i := range 100_000 {
		s.add(float64(i%7), 1)
		want += float64(i % 7)
	}
	if got := s.sum(); got.num != want || got.den != 100_000 || s.n != 100_000 {
		t.Errorf("sums %v, %d intervals", got, s.n)
	}
	if n := len(s.all()); n > maxBatches+1 || cap(s.batches) > 2*maxBatches {
		t.Errorf("%d batches", n)
	}
}
