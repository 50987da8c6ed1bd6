// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// iteratorPrefix begins the names of the programs that a tick runs, once for
// each item; the others are run by events.
const iteratorPrefix = "dump_"

// growthRow is what the rounds say of one size.
type growthRow struct {
	size                                              int
	tick, worst, events, perEvent, rss, kernel, items float64
}

// eventsOf sums the programs that events run, and those that ticks run.
func eventsOf(ps []program) (runs, ns, items float64) {
	for _, p := range ps {
		if strings.HasPrefix(p.Name, iteratorPrefix) {
			items += float64(p.Runs)
			continue
		}
		runs, ns = runs+float64(p.Runs), ns+float64(p.NS)
	}
	return runs, ns, items
}

func growthRowOf(size int, rs []*record) growthRow {
	of := func(f func(*record) float64) float64 {
		var xs []float64
		for _, r := range rs {
			xs = append(xs, f(r))
		}
		return median(xs)
	}
	ticks := func(r *record) (xs []float64) {
		for _, ns := range r.TickCPUNS {
			xs = append(xs, float64(ns)/1e6)
		}
		return xs
	}
	return growthRow{
		size:   size,
		tick:   of(func(r *record) float64 { return median(ticks(r)) }),
		worst:  of(func(r *record) float64 { return slices.Max(ticks(r)) }),
		events: of(func(r *record) float64 { n, _, _ := eventsOf(r.Programs); return n / r.Seconds }),
		perEvent: of(func(r *record) float64 {
			n, ns, _ := eventsOf(r.Programs)
			return ns / n
		}),
		items:  of(func(r *record) float64 { _, _, n := eventsOf(r.Programs); return n / r.Seconds }),
		rss:    of(func(r *record) float64 { return float64(r.RSSBytes) }),
		kernel: of(func(r *record) float64 { return float64(r.KernelBytes) }),
	}
}

// growthScenes returns the names in their order, and the records by name and size.
func growthScenes(all []record) (names []string, by map[string]map[int][]*record) {
	by = make(map[string]map[int][]*record)
	for i := range all {
		r := &all[i]
		if r.Kind != kindGrowth || r.Scene == sceneBusy || len(r.TickCPUNS) == 0 {
			continue
		}
		if by[r.Scene] == nil {
			by[r.Scene] = make(map[int][]*record)
		}
		by[r.Scene][r.Size] = append(by[r.Scene][r.Size], r)
	}
	for _, s := range scenes {
		if by[s.name] != nil {
			names = append(names, s.name)
		}
	}
	return names, by
}

func writeGrowth(w io.Writer, all []record) {
	names, by := growthScenes(all)
	verdicts := newGrid("scene", "CPU for a tick", "each adds", "exponent", "BPF for an event", "resident memory")
	for _, name := range names {
		fmt.Fprintf(w, "\n## Growth: %s\n\n", name)
		g := newGrid("number", "CPU for a tick, ms", "most", "events/s", "BPF ns/event", "items read/s", "resident MiB", "in the kernel MiB")
		var tick, event, rss []point
		for _, size := range slices.Sorted(maps.Keys(by[name])) {
			r := growthRowOf(size, by[name][size])
			n := float64(size)
			tick, event, rss = append(tick, point{n, r.tick}), append(event, point{n, r.perEvent}), append(rss, point{n, r.rss})
			g.add(fmt.Sprint(size), fmt.Sprintf("%.2f", r.tick), fmt.Sprintf("%.2f", r.worst), number(r.events), number(r.perEvent), number(r.items), mib(r.rss), mib(r.kernel))
		}
		g.write(w)
		s := shapeOf(tick)
		exponent := "-"
		if !math.IsNaN(s.Exponent) {
			exponent = fmt.Sprintf("%.2f", s.Exponent)
		}
		verdicts.add(name, s.Verdict, fmt.Sprintf("%.2f us", 1000*s.PerItem), exponent, shapeOf(event).Verdict, shapeOf(rss).Verdict)
	}
	if len(names) > 0 {
		fmt.Fprintf(w, "\n## Growth: verdicts\n\n")
		verdicts.write(w)
	}
}

const costLegend = `
Each ratio is that of a run to the baseline of the same round; the figure is the median, in brackets the interval that
holds it with 95 % confidence (from 6 rounds on). "Throughput ratio" is by the clock, and so has in it what others did on the machine.
"CPU/op of the load" is what the load's own processes took for each operation, kernel and softirq time included: what a
tool adds to it runs in the kernel. "With the tool's own" adds the tool's process, and the last column is the throughput
that this costs where CPU time is the limit. BPF ns/op is of one more run, in which the kernel timed the programs, which
itself takes some 20 ns for each run of one. A target is met, or not, where the interval is clear of it by more than the
greater quartile of what "nothing again" seems to cost.
`

// tables prints all that the records tell.
func tables(w io.Writer, all []record) error {
	for _, r := range all {
		if r.Kind == kindHeader && r.Header != nil {
			fmt.Fprintf(w, "Linux %s, %d CPUs", r.Header.Kernel, r.Header.CPUs)
			for _, name := range []string{"herdtrace", "bpftrace", "perf"} {
				if v := r.Header.Versions[name]; v != "" {
					fmt.Fprintf(w, "; %s", v)
				}
			}
			fmt.Fprintln(w)
		}
	}
	ls := byLoad(all)
	if len(ls) > 0 {
		fmt.Fprint(w, costLegend)
	}
	for _, l := range ls {
		l.write(w)
	}
	var busy *record
	for i := range all {
		if all[i].Scene == sceneBusy {
			busy = &all[i]
		}
	}
	writeTargets(w, ls, busy)
	writeGrowth(w, all)
	writeScreen(w, all)
	return nil
}

// runTable is herdbench table.
func runTable(_ context.Context, args []string) error {
	fs := pflag.NewFlagSet("table", pflag.ContinueOnError)
	files, err := parseFlags(fs, "table FILE...", args)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return usagef("name the files of raw runs: herdbench table FILE...")
	}
	var all []record
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("open raw runs: %w", err)
		}
		rs, err := readRaw(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, rs...)
	}
	return tables(os.Stdout, all)
}
