// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden table")

const goldenTable = "../../testdata/bench/table.md"

// madeUp are raw runs with known answers: herdtrace takes 2 % of the throughput
// and 1 % of the CPU time, bpftrace 10 % and 20 %, the large screen 0.4 % of a core
// and the small one 1.4 %.
func madeUp() (all []record) {
	none := uint64(0)
	all = append(all, record{Kind: kindHeader, Header: &header{Kernel: "6.18", CPUs: 2, Versions: map[string]string{"herdtrace": "herdtrace v1", "bpftrace": "bpftrace v0", "perf": "perf v6"}}})
	for round := 1; round <= 6; round++ {
		// The machine itself goes faster from round to round: pairs do not mind.
		ops := 1e6 * float64(round)
		run := func(tool string, share, cpu float64) record {
			return record{
				Kind: kindRun, Load: "sched-pipe", Tool: tool, Round: round, Ops: ops * share, Seconds: 2,
				LoadCPUNS: uint64(ops * share * 1000 * cpu), MachineNS: 25e8, Lost: &none,
			}
		}
		h := run(toolHerdtrace, 0.98, 1.01)
		h.ToolCPUNS, h.RSSBytes, h.KernelBytes, h.Written = 1e7, 30<<20, 26<<20, 1<<10
		b := run("bpftrace all three", 0.9, 1.2)
		lost := uint64(3)
		b.Lost = &lost
		all = append(all, run(toolNothing, 1, 1), h, b)
	}
	all = append(all,
		record{Kind: kindRun, Load: "sched-pipe", Tool: "bpftrace accept", Round: 1, Error: "run bpftrace accept: killed"},
		record{Kind: kindAbsent, Load: "sched-pipe", Tool: "perf sched record", Error: "find perf: not found"},
		record{Kind: kindBPF, Load: "sched-pipe", Tool: toolHerdtrace, Ops: 1e6, Seconds: 2, LoadCPUNS: 1e9, Lost: &none,
			Programs: []program{{"sched_switch", 1e6, 4e7}, {"sched_waking", 5e5, 1e7}}},
		record{Kind: kindGrowth, Scene: sceneBusy, Size: busyThreads, Seconds: 6, TickCPUNS: []uint64{4e6, 4.2e6, 4.1e6, 4e6, 4.3e6, 4e6}, RSSBytes: 30 << 20, KernelBytes: 26 << 20, Lost: &none},
	)
	for _, n := range tens {
		all = append(all, record{
			Kind: kindGrowth, Scene: "listeners, idle", Size: n, Round: 1, Seconds: 2, Lost: &none,
			TickCPUNS: []uint64{uint64(4e6 + 1e4*n), uint64(4e6 + 1e4*n)}, RSSBytes: 30 << 20, KernelBytes: 26 << 20,
			Programs: []program{{"sched_switch", 2000, 80_000}, {"dump_listeners", uint64(2 * n), uint64(900 * n)}},
		})
	}
	for round := 1; round <= 6; round++ {
		// A tick costs more from round to round: pairs do not mind.
		tick := uint64(10+round) * 1e6
		for i, more := range []uint64{0, 4e6, 14e6} {
			all = append(all, record{
				Kind: kindScreen, Tool: showings[i].name, Round: round, Scene: "3 listeners", Seconds: 3,
				TickCPUNS: []uint64{tick + more, tick + more - 1e6, tick + more + 1e6}, RSSBytes: 30 << 20, Written: 9000 * uint64(i),
			})
		}
	}
	return all
}

// TestTable goes through the raw file's format.
func TestTable(t *testing.T) {
	var raw, got bytes.Buffer
	enc := json.NewEncoder(&raw)
	for _, r := range madeUp() {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	raw.WriteString(`{"kind":"run","load":"sch`) // killed while it wrote
	all, err := readRaw(&raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := tables(&got, all); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(goldenTable, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenTable)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the table is\n%s\nwant\n%s", got.String(), want)
	}
}

// TestRoundsOfTwoFiles: a round of one file must not be paired with that of
// another.
func TestRoundsOfTwoFiles(t *testing.T) {
	slow, fast := madeUp(), madeUp()
	for i := range fast {
		fast[i].Ops *= 7
	}
	l := byLoad(append(slow, fast...))[0]
	ratios, _, _ := l.ratios(toolHerdtrace)
	s := spreadOf(values(ratios))
	if s.N != 12 || s.Max-s.Min > 1e-9 {
		t.Errorf("ratios over two files: %+v, want 12 that are equal", s)
	}
}

// TestNoise: where nothing differs from nothing by more than the target, nothing
// can be said of the target.
func TestNoise(t *testing.T) {
	s := spread{N: 6, Low: 0.001, High: 0.005}
	if got := below(widened(s, []float64{0.002, -0.002, 0.001}), 0.01); got != met {
		t.Errorf("on a quiet machine: %s", got)
	}
	if got := below(widened(s, []float64{0.1, -0.2, 0.3}), 0.01); got != undecided {
		t.Errorf("on a noisy machine: %s", got)
	}
	if got := below(widened(spread{N: 6, Low: -4, High: -0.4}, []float64{0.4, 0, 0.4}), 0.01); got != undecided {
		t.Errorf("faster than nothing, on a noisy machine: %s", got)
	}
	if got := below(widened(s, nil), 0.01); got != met {
		t.Errorf("without a placebo: %s", got)
	}
}

func TestReadRaw(t *testing.T) {
	if _, err := readRaw(strings.NewReader("{\"kind\":\"run\"}\nwhat\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a bad line: %v, want an error that names line 2", err)
	}
}

func TestGrid(t *testing.T) {
	g := newGrid("a", "number")
	g.add("über", "1")
	var b bytes.Buffer
	g.write(&b)
	if want := "| a    | number |\n|------|-------:|\n| über |      1 |\n"; b.String() != want {
		t.Errorf("grid is\n%s\nwant\n%s", b.String(), want)
	}
	for x, want := range map[float64]string{0: "0", 0.123: "0.12", 7.34: "7.3", 210: "210", 210_400: "210k", 1_230_000: "1.23M"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %s, want %s", x, got, want)
		}
	}
}
