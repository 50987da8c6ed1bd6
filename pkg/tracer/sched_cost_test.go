// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// schedCostCases: two threads on one core wake each other through pipes, which
// is two context switches for each operation, and two wake-ups.
var schedCostCases = []costCase{
	{"switches-2/none", nil, switches},
	{"switches-2/empty", []hook{{program: "empty_sched_switch"}}, switches},
	{"switches-2/sched_switch", []hook{{program: "sched_switch"}}, switches},
	{"switches-2/classical", []hook{{program: "sched_switch_classic"}, {program: "sched_wakeup_classic"}, {program: "sched_wakeup_new_classic"}}, switches},
}

// BenchmarkSchedCost reports as BenchmarkCost does.
func BenchmarkSchedCost(b *testing.B) { benchmarkCost(b, schedCostCases) }

// switches goes there and back n times.
func switches(b *testing.B, n int) {
	var there, back [2]int
	for _, p := range []*[2]int{&there, &back} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			b.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
	}
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		b.Fatal(err)
	}
	only.Set(0)
	pin := func() {
		if err := unix.SchedSetaffinity(0, &only); err != nil {
			b.Error(err)
		}
	}
	done := make(chan bool)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine: its affinity is changed
		pin()
		bounce(there[0], back[1], n)
		close(done)
	}()
	pin()
	for range n {
		unix.Write(there[1], []byte{1})
		unix.Read(back[0], make([]byte, 1))
	}
	unix.SchedSetaffinity(0, &before)
	<-done
}

func bounce(from, to, n int) {
	buf := make([]byte, 1)
	for range n {
		unix.Read(from, buf)
		unix.Write(to, buf)
	}
}

// BenchmarkSchedPipe runs perf's own pipe benchmark, two switches for each
// operation, with each of the programs in turn, and reports the median of the
// ratios to the run without any just before.
func BenchmarkSchedPipe(b *testing.B) {
	open(b, Options{}).Close()
	if _, err := exec.LookPath("perf"); err != nil {
		b.Fatal("this benchmark needs perf: make bench installs it (Debian: linux-perf)")
	}
	const rounds, loops = 9, 100_000
	usecs, ratios := make([][]float64, len(schedCostCases)), make([][]float64, len(schedCostCases))
	for range rounds {
		for i := range schedCostCases {
			u := perfPipe(b, schedCostCases[i].hooks, loops)
			usecs[i] = append(usecs[i], u)
			ratios[i] = append(ratios[i], u/usecs[0][len(usecs[0])-1])
		}
	}
	for i := range schedCostCases {
		b.Run(schedCostCases[i].name, func(b *testing.B) {
			slices.Sort(usecs[i])
			slices.Sort(ratios[i])
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(usecs[i][rounds/2], "us/op")
			b.ReportMetric(ratios[i][rounds/2], "ratio")
		})
	}
}

// perfPipe returns microseconds for each operation.
func perfPipe(b *testing.B, hooks []hook, loops int) float64 {
	b.Helper()
	k, _ := attachOnly(b, hooks)
	defer k.Close()
	out, err := exec.Command("perf", "bench", "-f", "simple", "sched", "pipe", "-l", strconv.Itoa(loops)).Output()
	if err != nil {
		b.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatalf("perf bench said %q: %v", out, err)
	}
	return seconds / float64(loops) * 1e6
}
