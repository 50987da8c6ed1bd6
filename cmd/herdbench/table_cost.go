// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// loadRuns are the sound runs of one load, by tool and round.
type loadRuns struct {
	name   string
	runs   map[string]map[int]*record
	failed map[string][]string // tool: why runs of it are left out
	bpf    map[string]*record
}

// byLoad sorts the records of herdbench cost. Rounds of several files follow
// each other.
func byLoad(all []record) (ls []*loadRuns) {
	at, base, last := make(map[string]*loadRuns), 0, 0
	for i := range all {
		r := &all[i]
		if r.Kind == kindHeader {
			base = last
			continue
		}
		if r.Load == "" {
			continue
		}
		l := at[r.Load]
		if l == nil {
			l = &loadRuns{name: r.Load, runs: make(map[string]map[int]*record), failed: make(map[string][]string), bpf: make(map[string]*record)}
			at[r.Load], ls = l, append(ls, l)
		}
		last = max(last, base+r.Round)
		switch {
		case r.Error != "":
			l.failed[r.Tool] = append(l.failed[r.Tool], r.Error)
		case r.Kind == kindBPF:
			l.bpf[r.Tool] = r
		case r.Kind == kindRun:
			if l.runs[r.Tool] == nil {
				l.runs[r.Tool] = make(map[int]*record)
			}
			l.runs[r.Tool][base+r.Round] = r
		}
	}
	return ls
}

// ratios pairs each run of a tool with the baseline of its round: of throughput,
// of the load's CPU time for each operation, and of the load's and the tool's
// together.
func (l *loadRuns) ratios(tool string) (throughput, kernel, all map[int]float64) {
	throughput, kernel, all = make(map[int]float64), make(map[int]float64), make(map[int]float64)
	for round, r := range l.runs[tool] {
		base := l.runs[toolNothing][round]
		if base == nil || base.LoadCPUNS == 0 {
			continue
		}
		throughput[round] = r.opsPerSecond() / base.opsPerSecond()
		baseline := float64(base.LoadCPUNS) / base.Ops
		kernel[round] = float64(r.LoadCPUNS) / r.Ops / baseline
		all[round] = float64(r.LoadCPUNS+r.ToolCPUNS) / r.Ops / baseline
	}
	return throughput, kernel, all
}

// figures are what f says of a tool's runs.
func (l *loadRuns) figures(tool string, f func(*record) float64) (xs []float64) {
	for _, r := range l.runs[tool] {
		xs = append(xs, f(r))
	}
	return xs
}

func values(m map[int]float64) (xs []float64) {
	for _, x := range m {
		xs = append(xs, x)
	}
	return xs
}

// losses turns ratios of CPU time into the throughput that is lost where CPU
// time is the limit.
func losses(ratios []float64) (xs []float64) {
	for _, r := range ratios {
		xs = append(xs, 1-1/r)
	}
	return xs
}

func complements(ratios []float64) (xs []float64) {
	for _, r := range ratios {
		xs = append(xs, 1-r)
	}
	return xs
}

// write prints a load's tables.
func (l *loadRuns) write(w io.Writer) {
	unit := "operations/s"
	for _, known := range loads {
		if known.name == l.name {
			unit = known.unit
			fmt.Fprintf(w, "\n## %s: %s\n", l.name, known.brief)
		}
	}
	base := spreadOf(l.figures(toolNothing, (*record).opsPerSecond))
	fmt.Fprintf(w, "\nBaseline %s %s (%s to %s, n = %d), load %.2f us of CPU for each. %s\n\n", number(base.Median), unit, number(base.Min), number(base.Max), base.N,
		median(l.figures(toolNothing, func(r *record) float64 { return float64(r.LoadCPUNS) / r.Ops / 1e3 })), l.noise())
	l.writeRatios(w)
	fmt.Fprintln(w)
	l.writeTools(w)
	for _, t := range toolNames() {
		if why := l.failed[t]; len(why) > 0 {
			fmt.Fprintf(w, "\n%s, left out %d times, at last: %s\n", t, len(why), why[len(why)-1])
		}
	}
	l.writePrograms(w)
}

// noise says what the machine did besides.
func (l *loadRuns) noise() string {
	var others, steal []float64
	for _, runs := range l.runs {
		for _, r := range runs {
			span := r.Seconds * float64(time.Second)
			others = append(others, max(0, float64(r.MachineNS)-float64(r.LoadCPUNS)-float64(r.ToolCPUNS))/span)
			steal = append(steal, float64(r.StealNS)/span)
		}
	}
	foreign := median(l.figures(toolNothing, func(r *record) float64 { return float64(r.Foreign) }))
	return fmt.Sprintf("Other processes had %.0f %% of a core (median of all runs; kernel threads are among them), the hypervisor %.0f %%; %.0f BPF programs of others were tracing.",
		100*median(others), 100*median(steal), foreign)
}

func (l *loadRuns) writeRatios(w io.Writer) {
	g := newGrid("tool", "throughput ratio (95 %)", "min, quartiles, max", "n", "CPU/op of the load", "with the tool's own", "loss by that CPU time")
	for _, t := range toolNames() {
		if t == toolNothing || l.runs[t] == nil {
			continue
		}
		thr, kernel, all := l.ratios(t)
		s := spreadOf(values(thr))
		g.add(t, ratioText(s), rangeText(s), fmt.Sprint(s.N), ratioText(spreadOf(values(kernel))), ratioText(spreadOf(values(all))), percentText(spreadOf(losses(values(all)))))
	}
	g.write(w)
}

func (l *loadRuns) writeTools(w io.Writer) {
	g := newGrid("tool", "CPU, % of a core", "resident MiB", "in the kernel MiB", "written MiB/run", "events lost", "BPF ns/op")
	for _, t := range toolNames() {
		if t == toolNothing || t == toolAgain || l.runs[t] == nil {
			continue
		}
		of := func(f func(*record) float64) float64 { return median(l.figures(t, f)) }
		lost := 0.0
		for _, r := range l.runs[t] {
			if r.Lost != nil {
				lost += float64(*r.Lost)
			}
		}
		g.add(t, fmt.Sprintf("%.2f", 100*of(func(r *record) float64 { return float64(r.ToolCPUNS) / r.Seconds / 1e9 })),
			mib(of(func(r *record) float64 { return float64(r.RSSBytes) })), mib(of(func(r *record) float64 { return float64(r.KernelBytes) })),
			fmt.Sprintf("%.3f", of(func(r *record) float64 { return float64(r.Written) / (1 << 20) })), number(lost), l.bpfText(t))
	}
	g.write(w)
}

// bpfText is a tool's BPF time for each operation, and what share of the load's
// CPU time that is. The timing itself is in it.
func (l *loadRuns) bpfText(tool string) string {
	r := l.bpf[tool]
	if r == nil || r.LoadCPUNS == 0 {
		return "-"
	}
	_, ns := r.totals()
	return fmt.Sprintf("%s (%.1f %%)", number(float64(ns)/r.Ops), 100*float64(ns)/float64(r.LoadCPUNS))
}

// topPrograms is how many of herdtrace's BPF programs are shown for each load.
const topPrograms = 8

func (l *loadRuns) writePrograms(w io.Writer) {
	r := l.bpf[toolHerdtrace]
	if r == nil {
		return
	}
	fmt.Fprintf(w, "\nherdtrace's BPF programs in one run, timed by the kernel:\n\n")
	g := newGrid("program", "runs/op", "ns/run", "ns/op")
	for _, p := range r.Programs[:min(topPrograms, len(r.Programs))] {
		g.add(p.Name, fmt.Sprintf("%.2f", float64(p.Runs)/r.Ops), number(float64(p.NS)/float64(p.Runs)), number(float64(p.NS)/r.Ops))
	}
	g.write(w)
}

// residentLimit is the target for memory, cpuLimit that for user-space CPU.
const (
	residentLimit = 64 << 20
	cpuLimit      = 0.005
)

// writeTargets sets the figures against what was promised.
func writeTargets(w io.Writer, ls []*loadRuns, busy *record) {
	g := newGrid("target", "measured", "verdict")
	for _, l := range ls {
		for _, known := range loads {
			if known.name != l.name || known.target == 0 {
				continue
			}
			thr, _, all := l.ratios(toolHerdtrace)
			thr0, _, all0 := l.ratios(toolAgain)
			wall, cpu := spreadOf(complements(values(thr))), spreadOf(losses(values(all)))
			g.add(fmt.Sprintf("%s: loss < %.0f %%, by the clock", l.name, 100*known.target), percentText(wall), below(widened(wall, complements(values(thr0))), known.target))
			g.add(fmt.Sprintf("%s: loss < %.0f %%, by CPU time", l.name, 100*known.target), percentText(cpu), below(widened(cpu, losses(values(all0))), known.target))
		}
		l.addPeers(g)
	}
	if busy != nil {
		var shares []float64
		for _, ns := range busy.TickCPUNS {
			shares = append(shares, float64(ns)/1e9)
		}
		s := spreadOf(shares)
		g.add("user-space CPU < 0.5 % of a core, busy", fmt.Sprintf("%.2f %% (%.2f to %.2f)", 100*s.Median, 100*s.Low, 100*s.High), below(s, cpuLimit))
		verdict := notMet
		if busy.RSSBytes < residentLimit {
			verdict = met
		}
		g.add("resident memory < 64 MiB, busy", fmt.Sprintf("%s MiB (and %s in the kernel)", mib(float64(busy.RSSBytes)), mib(float64(busy.KernelBytes))), verdict)
	}
	if len(g.rows) > 1 {
		fmt.Fprintf(w, "\n## Targets\n\n")
		g.write(w)
	}
}

// widened is an interval for a verdict: wider by what half of the placebo's
// losses, which should be nothing, exceed. A tool makes nothing faster: what
// looks like it is noise, too.
func widened(s spread, placebo []float64) spread {
	if p := spreadOf(placebo); p.N > 0 {
		noise := max(math.Abs(p.Q1), math.Abs(p.Q3))
		s.Low, s.High = s.Low-noise, max(s.High, 0)+noise
	}
	return s
}

// addPeers compares CPU time for each operation, the tool's own included,
// within each round: herdtrace is ahead where it takes less. In brackets are
// peers that ask only a part of what herdtrace answers about this load; they do
// not decide.
func (l *loadRuns) addPeers(g *grid) {
	_, _, own := l.ratios(toolHerdtrace)
	if len(own) == 0 {
		return
	}
	known := loads[slices.IndexFunc(loads, func(k load) bool { return k.name == l.name })]
	var ahead, behind, open []string
	for _, t := range tools {
		if t.argv == nil || t.isHerdtrace() || l.runs[t.name] == nil {
			continue
		}
		_, _, theirs := l.ratios(t.name)
		var more []float64
		for round, r := range theirs {
			if o, ok := own[round]; ok {
				more = append(more, o-r)
			}
		}
		name := t.name
		if !slices.Contains(known.peers, t.name) {
			name = "(" + name + ")"
		}
		switch below(spreadOf(more), 0) {
		case met:
			ahead = append(ahead, name)
		case notMet:
			behind = append(behind, name)
		default:
			open = append(open, name)
		}
	}
	verdict := "not measured"
	for _, v := range []struct {
		names   []string
		verdict string
	}{{ahead, met}, {open, undecided}, {behind, notMet}} {
		if slices.ContainsFunc(v.names, func(n string) bool { return n[0] != '(' }) {
			verdict = v.verdict // the worst comes last
		}
	}
	var parts []string
	for _, p := range []struct {
		word  string
		names []string
	}{{"ahead of", ahead}, {"not told apart from", open}, {"behind", behind}} {
		if len(p.names) > 0 {
			parts = append(parts, p.word+" "+strings.Join(p.names, "; "))
		}
	}
	g.add(l.name+": ahead of every peer, by CPU time", strings.Join(parts, ". "), verdict)
}
