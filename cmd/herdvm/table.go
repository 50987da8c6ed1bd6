// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// row is one signal by one variant on one machine: what the required table has a
// line for.
type row struct {
	machine, signal, variant string
	verdict                  string
	incidents                []string // in which it holds; sorted
	best                     bool
	reason                   string // why it is unavailable
}

func (r *row) key() string { return r.machine + " " + r.signal + " " + r.variant }

// makeRows sums up the cells, in the order in which they came. What is off is not
// among a row's incidents; of them, the worst verdict is the row's.
func makeRows(cells []cell) []row {
	var rows []row
	index := make(map[string]int)
	for i := range cells {
		c := &cells[i]
		r := row{machine: c.Machine, signal: c.Signal, variant: c.Variant, best: c.Best, verdict: c.Verdict}
		at, known := index[r.key()]
		if !known {
			at = len(rows)
			index[r.key()] = at
			rows = append(rows, r)
		}
		to := &rows[at]
		if c.Incident == incidentAttach {
			if c.Verdict != verdictAttaches {
				to.reason = c.Note
			}
			continue
		}
		if c.Verdict != verdictOff {
			to.incidents = append(to.incidents, c.Incident)
			slices.Sort(to.incidents)
		}
		if to.verdict == verdictAttaches || rank[c.Verdict] > rank[to.verdict] {
			to.verdict = c.Verdict
		}
	}
	return rows
}

// readRequired reads the table that must hold: a line for each row, # comments.
func readRequired(path string) ([]row, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the required table: %w", err)
	}
	defer f.Close()
	return parseRequired(f)
}

func parseRequired(r io.Reader) ([]row, error) {
	var rows []row
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		w := strings.Fields(sc.Text())
		if len(w) == 0 || strings.HasPrefix(w[0], "#") {
			continue
		}
		if len(w) < 4 {
			return nil, fmt.Errorf("parse the required table: line %d has %d words, not kernel, signal, variant, verdict, incidents", n, len(w))
		}
		if _, ok := rank[w[3]]; !ok {
			return nil, fmt.Errorf("parse the required table: line %d: %q is no verdict", n, w[3])
		}
		rows = append(rows, row{machine: w[0], signal: w[1], variant: w[2], verdict: w[3], incidents: w[4:]})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the required table: %w", err)
	}
	return rows, nil
}

const requiredHeader = `# What herdtrace must do on each kernel: make test-vm fails where a line, or an
# incident of a line, no longer holds. herdvm --update rewrites it.
# kernel        signal       variant      verdict      incidents whose oracle it agrees with
`

// formatRequired is the table as a file: sorted, so that a change is a small diff.
func formatRequired(rows []row) string {
	order := make(map[string]int)
	for i, m := range machines {
		order[m.name] = i
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b row) int {
		if c := order[a.machine] - order[b.machine]; c != 0 {
			return c
		}
		return strings.Compare(a.key(), b.key())
	})
	var b strings.Builder
	b.WriteString(requiredHeader)
	for i := range rows {
		r := &rows[i]
		line := fmt.Sprintf("%-15s %-12s %-12s %-12s %s", r.machine, r.signal, r.variant, r.verdict, strings.Join(r.incidents, " "))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// writeRequired replaces the rows of the machines that ran to their end.
func writeRequired(path string, required, rows []row, outcomes []outcome) error {
	var keep []row
	ran := func(name string) bool {
		return slices.ContainsFunc(outcomes, func(o outcome) bool { return o.name == name && o.err == nil })
	}
	for _, r := range required {
		if !ran(r.machine) {
			keep = append(keep, r)
		}
	}
	for _, r := range rows {
		if r.verdict == verdictOff || r.verdict == verdictBug {
			continue // never required
		}
		if ran(r.machine) {
			keep = append(keep, r)
		}
	}
	if err := os.WriteFile(path, []byte(formatRequired(keep)), 0o644); err != nil {
		return fmt.Errorf("write the required table: %w", err)
	}
	return nil
}

// requiredOf are the rows that a machine's run must show.
func requiredOf(required []row, o *outcome) (out []row) {
	for _, r := range required {
		if r.machine == o.name {
			out = append(out, r)
		}
	}
	return out
}

// compare says what of the required rows a run has lost, and what it has gained.
func compare(required, got []row, o *outcome) (lost, gained []string) {
	at := make(map[string]*row)
	for i := range got {
		at[got[i].key()] = &got[i]
	}
	for i := range required {
		want := &required[i]
		have := at[want.key()]
		delete(at, want.key())
		l, g := compareRow(want, have, o)
		lost, gained = append(lost, l...), append(gained, g...)
	}
	for i := range got {
		if r := &got[i]; at[r.key()] != nil && r.machine == o.name && rank[r.verdict] < rank[verdictUnavailable] {
			gained = append(gained, fmt.Sprintf("%s: %s in %s", r.key(), r.verdict, strings.Join(r.incidents, " ")))
		}
	}
	return lost, gained
}

func compareRow(want, have *row, o *outcome) (lost, gained []string) {
	works := func(r *row) bool { return rank[r.verdict] < rank[verdictUnavailable] }
	if o.job.wants(want.signal, want.variant, incidentAttach) {
		switch {
		case have == nil:
			return []string{want.key() + " is lost: nothing was said of it"}, nil
		case works(want) && !works(have) && have.verdict != verdictOff:
			return []string{fmt.Sprintf("%s is lost: %s: %s", want.key(), have.verdict, have.reason)}, nil
		case !works(want) && works(have):
			return nil, []string{want.key() + " attaches"}
		}
	}
	if o.job.Attach {
		return nil, nil
	}
	for _, in := range want.incidents {
		switch {
		case !o.job.wants(want.signal, want.variant, in):
		case have == nil || !slices.Contains(have.incidents, in):
			lost = append(lost, fmt.Sprintf("%s is lost in %s", want.key(), in))
		case rank[have.verdict] > rank[want.verdict] && have.verdict != verdictOff:
			lost = append(lost, fmt.Sprintf("%s is %s in %s, and must be %s", want.key(), have.verdict, in, want.verdict))
		}
	}
	if have == nil {
		return lost, gained
	}
	for _, in := range have.incidents {
		if !slices.Contains(want.incidents, in) {
			gained = append(gained, fmt.Sprintf("%s: %s in %s", want.key(), have.verdict, in))
		}
	}
	if len(want.incidents) > 0 && rank[have.verdict] < rank[want.verdict] {
		gained = append(gained, fmt.Sprintf("%s is %s, and was %s", want.key(), have.verdict, want.verdict))
	}
	return lost, gained
}
