// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// printTables prints what was measured: as text with the reasons, and as Markdown.
func printTables(w io.Writer, outcomes []outcome, rows []row) {
	for i := range outcomes {
		o := &outcomes[i]
		fmt.Fprintf(w, "%-15s %-30s %s %5.0f s, CPU time %5.0f s\n", o.name, o.release, o.arch, o.seconds, o.cpu.Seconds())
	}
	fmt.Fprintln(w)
	header, lines := grid(outcomes, rows)
	printText(w, header, lines)
	printReasons(w, rows)
	fmt.Fprintln(w)
	printMarkdown(w, header, lines)
	fmt.Fprintln(w)
}

// grid has a column for each machine and a line for each variant.
func grid(outcomes []outcome, rows []row) (header []string, lines [][]string) {
	header = []string{"signal", "variant"}
	column := make(map[string]int)
	for i := range outcomes {
		column[outcomes[i].name] = len(header)
		header = append(header, outcomes[i].title())
	}
	index := make(map[string]int)
	for i := range rows {
		r := &rows[i]
		key := r.signal + " " + r.variant
		at, known := index[key]
		if !known {
			at = len(lines)
			index[key] = at
			line := make([]string, len(header))
			line[0], line[1] = r.signal, r.variant
			lines = append(lines, line)
		}
		text := r.verdict
		if text == verdictUnavailable {
			text = "-"
		}
		if r.best {
			text += "*"
		}
		lines[at][column[r.machine]] = text
	}
	// Variants that only some kernels know come late: the signals stay together.
	slices.SortStableFunc(lines, func(a, b []string) int { return place(lines, a[0]) - place(lines, b[0]) })
	return header, lines
}

// place is where a signal came first.
func place(lines [][]string, signal string) int {
	return slices.IndexFunc(lines, func(l []string) bool { return l[0] == signal })
}

// title is the machine's name, with the series where the name does not say it.
func (o *outcome) title() string {
	if rest, ok := strings.CutPrefix(o.name, "newest"); ok && o.release != "" {
		p := strings.SplitN(o.release, ".", 3)
		return strings.Join(p[:min(2, len(p))], ".") + rest
	}
	return o.name
}

func printText(w io.Writer, header []string, lines [][]string) {
	width := make([]int, len(header))
	for _, l := range append([][]string{header}, lines...) {
		for i, s := range l {
			width[i] = max(width[i], len(s))
		}
	}
	for _, l := range append([][]string{header}, lines...) {
		var b strings.Builder
		for i, s := range l {
			fmt.Fprintf(&b, "%-*s  ", width[i], s)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintln(w, "*: what herdtrace takes there by itself; -: unavailable")
}

// printReasons says why a variant is unavailable, and where.
func printReasons(w io.Writer, rows []row) {
	where := make(map[string][]string)
	var order []string
	for i := range rows {
		r := &rows[i]
		if r.verdict != verdictUnavailable && r.verdict != verdictBug {
			continue
		}
		line := fmt.Sprintf("%s=%s: %s", r.signal, r.variant, r.reason)
		if where[line] == nil {
			order = append(order, line)
		}
		where[line] = append(where[line], r.machine)
	}
	for _, line := range order {
		fmt.Fprintf(w, "unavailable on %s: %s\n", strings.Join(where[line], ", "), line)
	}
}

func printMarkdown(w io.Writer, header []string, lines [][]string) {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, l := range lines {
		cells := slices.Clone(l)
		for i := range cells {
			if s, best := strings.CutSuffix(cells[i], "*"); best && i > 1 {
				cells[i] = "**" + s + "**"
			}
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}
