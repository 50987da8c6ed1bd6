// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// budget is nil where the cost has no bound.
func (f *Frame) budget() *sample.Budget {
	if f.Sample == nil {
		return nil
	}
	return f.Sample.Self.Budget
}

// Sampled reports whether the signal is looked at a part of the time, so that
// its numbers are extrapolated.
func (f *Frame) Sampled(signal string) bool {
	return f.budget().Degraded(signal) == sample.ShedSampled
}

// Accuracy is how well the signal's numbers of this interval agree with the
// kernel's own: sample.Exact, Approximate or Unavailable; "" where the Header
// does not know it.
func (f *Frame) Accuracy(signal string) string {
	for _, s := range f.Header.Signals {
		switch {
		case s.Name != signal:
		case !f.Measured(signal):
			return sample.Unavailable
		case f.Sampled(signal):
			return sample.Approximate
		default:
			return s.Accuracy
		}
	}
	return ""
}

// ShedNames are what is done without now: a name with ~ is looked at a part of the
// time, one with - not at all.
func ShedNames(b *sample.Budget) (names []string) {
	if b == nil {
		return nil
	}
	for _, s := range b.Shed {
		name := Printable(s.What) + "~"
		if b.Degraded(s.What) == sample.ShedOff {
			name = Printable(s.What) + "-"
		}
		if s.Now && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ShedNow says in words what is done without; "" where nothing is.
func ShedNow(b *sample.Budget) string {
	if b == nil {
		return ""
	}
	var parts []string
	seen := make(map[string]bool)
	for _, s := range b.Shed {
		if !s.Now || seen[s.What] {
			continue
		}
		seen[s.What] = true
		parts = append(parts, shedWords(s.What, b.Degraded(s.What)))
	}
	if b.Exceeded {
		parts = append(parts, "and nothing is left to shed")
	}
	return strings.Join(parts, ", ")
}

func shedWords(what, how string) string {
	switch {
	case what == sample.ShedEvents:
		return "no events"
	case what == sample.ShedThreads:
		return "threads every 5 s"
	case how == sample.ShedOff:
		return Printable(what) + " off"
	}
	return Printable(what) + " a tenth of the time"
}

// ShedEver says what was done without since attach, and for how long; "" where
// nothing was.
func ShedEver(b *sample.Budget) string {
	if b == nil {
		return ""
	}
	var parts []string
	for _, s := range b.Shed {
		parts = append(parts, fmt.Sprintf("%s for %.0f s", shedWords(s.What, s.How), time.Duration(s.ForNS).Seconds()))
	}
	if b.EventsShedTotal > 0 {
		parts = append(parts, fmt.Sprintf("%s events not sent", Num(float64(b.EventsShedTotal))))
	}
	return strings.Join(parts, ", ")
}
