// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"runtime"
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
