// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// screenLimit is the target for what the screen adds, of one core.
const screenLimit = 0.01

// screenRuns are those of one scene, by showing and round.
type screenRuns struct {
	scene string
	runs  map[string]map[int]*record
}

// byScene sorts the records of herdbench screen. Rounds of several files follow
// each other.
func byScene(all []record) (ss []*screenRuns) {
	at, base, last := make(map[string]*screenRuns), 0, 0
	for i := range all {
		r := &all[i]
		if r.Kind == kindHeader {
			base = last
		}
		if r.Kind != kindScreen || len(r.TickCPUNS) == 0 {
			continue
		}
		s := at[r.Scene]
		if s == nil {
			s = &screenRuns{scene: r.Scene, runs: make(map[string]map[int]*record)}
			at[r.Scene], ss = s, append(ss, s)
		}
		if s.runs[r.Tool] == nil {
			s.runs[r.Tool] = make(map[int]*record)
		}
		last = max(last, base+r.Round)
		s.runs[r.Tool][base+r.Round] = r
	}
	return ss
}

// share is what the process took of one core.
func (r *record) share() float64 {
	var ns uint64
	for _, tick := range r.TickCPUNS {
		ns += tick
	}
	return float64(ns) / 1e9 / r.Seconds
}

// tickMS are the CPU times of the ticks.
func (r *record) tickMS() (xs []float64) {
	for _, ns := range r.TickCPUNS {
		xs = append(xs, float64(ns)/1e6)
	}
	return xs
}

// added is by how much each run is above the baseline of its round.
func (s *screenRuns) added(name string) (xs []float64) {
	for round, r := range s.runs[name] {
		if base := s.runs[showNothing][round]; base != nil {
			xs = append(xs, r.share()-base.share())
		}
	}
	return xs
}

// finePercent is a small share and the interval that bounds it.
func finePercent(s spread) string {
	if s.N == 0 {
		return "?"
	}
	return fmt.Sprintf("%.2f %% (%.2f to %.2f)", 100*s.Median, 100*s.Low, 100*s.High)
}

const screenLegend = `
A recording is replayed at a tick a second, on a terminal of that size and in line mode without lines, in alternation. The
figures are of the replay's process, which reads the tick (as a trace would not), judges it and draws it; "more than
without" is the screen alone: the median, in brackets the interval that holds it with 95 % confidence (from 6 rounds on).
Nearly every cell changes with the tick.
`

func writeScreen(w io.Writer, all []record) {
	for _, s := range byScene(all) {
		fmt.Fprintf(w, "\n## Screen: %s\n%s\n", s.scene, screenLegend)
		g := newGrid("screen", "CPU, % of a core (95 %)", "more than without", "for a tick, ms", "worst tick, ms", "to the terminal, bytes/tick", "resident MiB", "n")
		targets := newGrid("target", "measured", "verdict")
		for _, known := range showings {
			runs := s.runs[known.name]
			if len(runs) == 0 {
				continue
			}
			of := func(f func(*record) float64) (xs []float64) {
				for _, r := range runs {
					xs = append(xs, f(r))
				}
				return xs
			}
			more := spreadOf(s.added(known.name))
			text := finePercent(more)
			if known.name == showNothing {
				text = "-"
			} else {
				targets.add(fmt.Sprintf("%s at 1 Hz: < %.0f %% of a core", known.name, 100*screenLimit), finePercent(more), below(more, screenLimit))
			}
			g.add(known.name, finePercent(spreadOf(of((*record).share))), text,
				fmt.Sprintf("%.2f", median(of(func(r *record) float64 { return median(r.tickMS()) }))),
				fmt.Sprintf("%.2f", spreadOf(of(func(r *record) float64 { return spreadOf(r.tickMS()).Max })).Max),
				number(median(of(func(r *record) float64 { return float64(r.Written) / float64(len(r.TickCPUNS)) }))),
				mib(median(of(func(r *record) float64 { return float64(r.RSSBytes) }))), fmt.Sprint(len(runs)))
		}
		g.write(w)
		fmt.Fprintln(w)
		targets.write(w)
	}
}
