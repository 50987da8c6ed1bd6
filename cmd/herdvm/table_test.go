// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// cells of a run that agrees with table below.
func goodCells() []cell {
	var cells []cell
	add := func(signal, variant, incident, verdict string) {
		cells = append(cells, cell{Machine: "6.1", Signal: signal, Variant: variant, Incident: incident, Verdict: verdict})
	}
	add("accept", "fexit", incidentAttach, verdictAttaches)
	add("accept", "fexit", "accept-herd", verdictExact)
	add("accept", "fexit", "accept-block", verdictExact)
	add("wake", "data_ready", incidentAttach, verdictUnavailable)
	add("wake", "set_state", incidentAttach, verdictAttaches)
	add("wake", "set_state", "accept-herd", verdictApproximate)
	return cells
}

const goodTable = `
6.1             accept       fexit        exact        accept-block accept-herd
6.1             wake         data_ready   unavailable
6.1             wake         set_state    approximate  accept-herd
`

func ran(j job) *outcome { return &outcome{machine: machine{name: "6.1"}, job: j} }

func parseTable(t *testing.T, s string) []row {
	t.Helper()
	rows, err := parseRequired(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestTableRoundTrip(t *testing.T) {
	text := formatRequired(makeRows(goodCells()))
	if want := requiredHeader + strings.TrimPrefix(goodTable, "\n"); text != want {
		t.Errorf("got\n%s, want\n%s", text, want)
	}
	if again := formatRequired(parseTable(t, text)); again != text {
		t.Errorf("read and written again:\n%s", again)
	}
	for _, bad := range []string{"6.1 accept fexit", "6.1 accept fexit fine"} {
		if rows, err := parseRequired(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, rows)
		}
	}
}

// TestCompare changes one cell at a time.
func TestCompare(t *testing.T) {
	set := func(i int, verdict string) func([]cell) []cell {
		return func(c []cell) []cell { c[i].Verdict = verdict; return c }
	}
	drop := func(i int) func([]cell) []cell {
		return func(c []cell) []cell { return slices.Delete(c, i, i+1) }
	}
	for _, tt := range []struct {
		name         string
		job          job
		change       func([]cell) []cell
		lost, gained int
	}{
		{"nothing", job{}, nil, 0, 0},
		{"an incident is off", job{}, set(2, verdictOff), 1, 0},
		{"an incident was not run", job{}, drop(2), 1, 0},
		{"and was not asked for", job{Only: []string{"accept-herd"}}, drop(2), 0, 0},
		{"nor that signal", job{Only: []string{"wake"}}, func(c []cell) []cell { return c[3:] }, 0, 0},
		{"exact became approximate", job{}, func(c []cell) []cell { return set(1, verdictApproximate)(set(2, verdictApproximate)(c)) }, 2, 0},
		{"approximate became exact", job{}, set(5, verdictExact), 0, 1},
		{"it attaches now", job{}, set(3, verdictAttaches), 0, 1},
		{"it does not attach", job{Attach: true}, func(c []cell) []cell { return append(set(0, verdictUnavailable)(c)[:1], c[3], c[4]) }, 1, 0},
		{"the verifier refuses it", job{Attach: true}, func(c []cell) []cell { return append(set(0, verdictBug)(c)[:1], c[3], c[4]) }, 1, 0},
		{"attach only", job{Attach: true}, func(c []cell) []cell { return []cell{c[0], c[3], c[4]} }, 0, 0},
		{"the machine died early", job{}, func(c []cell) []cell { return nil }, 6, 0},
		{"a new variant", job{}, func(c []cell) []cell {
			return append(c, cell{Machine: "6.1", Signal: "wake", Variant: "new", Incident: incidentAttach, Verdict: verdictAttaches})
		}, 0, 1},
		{"a new incident", job{}, func(c []cell) []cell {
			return append(c, cell{Machine: "6.1", Signal: "wake", Variant: "set_state", Incident: "accept-block", Verdict: verdictApproximate})
		}, 0, 1},
	} {
		cells := goodCells()
		if tt.change != nil {
			cells = tt.change(cells)
		}
		lost, gained := compare(parseTable(t, goodTable), makeRows(cells), ran(tt.job))
		if len(lost) < min(tt.lost, 1) || len(lost) > tt.lost || len(gained) != tt.gained {
			t.Errorf("%s: lost %q, gained %q; want %d, %d", tt.name, lost, gained, tt.lost, tt.gained)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		only []string
		want bool
	}{
		{nil, true},
		{[]string{"accept"}, true},
		{[]string{"accept=syscall"}, true},
		{[]string{"accept=fexit"}, false},
		{[]string{"wake"}, false},
		{[]string{"wake", "accept"}, true},
		{[]string{"accept-herd"}, true},
		{[]string{"accept-block"}, false},
		{[]string{"accept-block", "accept=syscall"}, false},
		{[]string{"accept-herd", "accept=syscall"}, true},
	} {
		if got := matches(tt.only, "accept", "syscall", "accept-herd"); got != tt.want {
			t.Errorf("%q: %v", tt.only, got)
		}
	}
}

// TestRounds: signals that do not depend on each other are forced in one run.
func TestRounds(t *testing.T) {
	g := &guest{job: &job{}, have: []variant{
		{Signal: "accept", Variant: "fexit"}, {Signal: "accept", Variant: "syscall"}, {Signal: "accept", Variant: "sys_exit", Error: "no"},
		{Signal: "wake", Variant: "fentry"}, {Signal: "wake", Variant: "nobody knows it"},
	}}
	show := func(rounds []map[string]variant) string {
		var s []string
		for _, r := range rounds {
			s = append(s, fmt.Sprint(r["accept"].Variant, "+", r["wake"].Variant))
		}
		return strings.Join(s, " ")
	}
	in := &incident{name: "accept-herd", signals: acceptSignals}
	if got := show(g.rounds(in)); got != "fexit+fentry syscall+" {
		t.Errorf("at a time: %s", got)
	}
	in.dependent = true
	if got := show(g.rounds(in)); got != "fexit+ syscall+ +fentry" {
		t.Errorf("one by one: %s", got)
	}
}

// TestRequiredTable: the committed table names only what there is, and each row once.
func TestRequiredTable(t *testing.T) {
	b, err := os.ReadFile("../../" + requiredTable)
	if err != nil {
		t.Fatal(err)
	}
	rows := parseTable(t, string(b))
	seen := make(map[string]bool)
	for _, r := range rows {
		if seen[r.key()] || r.verdict == verdictOff || r.verdict == verdictBug {
			t.Errorf("%s: twice, or %s is required", r.key(), r.verdict)
		}
		seen[r.key()] = true
		if !slices.ContainsFunc(machines, func(m machine) bool { return m.name == r.machine }) {
			t.Errorf("%s: there is no such machine", r.key())
		}
		for _, in := range r.incidents {
			if !isIncident(in) {
				t.Errorf("%s: there is no incident %s", r.key(), in)
			}
		}
	}
	for _, m := range machines {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.machine == m.name }) {
			t.Errorf("nothing is required of %s", m.name)
		}
	}
	if formatRequired(rows) != string(b) {
		t.Error("it is not as herdvm --update would write it")
	}
}

// TestIncidentNames: a word of --only means one thing.
func TestIncidentNames(t *testing.T) {
	seen := map[string]bool{incidentAttach: true}
	for signal := range judged {
		seen[signal] = true
	}
	for _, in := range incidents {
		if seen[in.name] {
			t.Errorf("%s is the name of something else, too", in.name)
		}
		seen[in.name] = true
		for _, s := range in.signals {
			if judged[s] == nil {
				t.Errorf("%s judges signal %s, of which no variant can be judged", in.name, s)
			}
		}
	}
}
