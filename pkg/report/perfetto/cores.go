// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

var (
	percent = unit{name: "%", axis: "%"}

	coreRunnable = counterInfo{in: groupRunnable, unit: unit{name: "threads", axis: "runq"}}
	coreWait     = counterInfo{in: groupWait, unit: unit{kind: unitTimeNS, axis: "wait"}}
	coreNetRX    = counterInfo{in: groupNetRXTime, unit: percent}
	corePackets  = counterInfo{in: groupPackets, unit: unit{name: "packets/s", axis: "packets"}, quiet: true}
)

// ofCore returns a counter of one core, by its number.
func (t *Trace) ofCore(info *counterInfo, cpu int) *counter {
	if c := t.counters[counterKey{info, uint64(cpu)}]; c != nil {
		return c
	}
	c := t.counterOf(info, uint64(cpu), 0)
	if c != nil {
		c.name, c.rank = "cpu "+strconv.Itoa(cpu), cpu
	}
	return c
}

func (t *Trace) runQueues(f *model.Frame) {
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.Runq == nil || !f.Measured(model.SignalRunq) {
			continue
		}
		t.looked[groupRunnable], t.looked[groupWait] = true, true
		t.set(t.ofCore(&coreRunnable, c.CPU.CPU), report.QueueLen(c))
		t.set(t.ofCore(&coreWait, c.CPU.CPU), c.Runq.WaitP99NS)
	}
}

func (t *Trace) receive(f *model.Frame) {
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if c.SoftIRQ != nil && f.Measured(model.SignalNetRX) {
			t.looked[groupNetRXTime] = true
			t.set(t.ofCore(&coreNetRX, c.CPU.CPU), 100*c.NetRXRatio)
		}
		if c.Softnet != nil {
			t.looked[groupPackets] = true
			t.set(t.ofCore(&corePackets, c.CPU.CPU), c.PacketsPerS)
		}
	}
}
