// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"
	"time"
)

// BenchmarkPollTick is a look without BPF at the host as it is; the CPU time of a
// look is what the next one is put off for.
func BenchmarkPollTick(b *testing.B) {
	c, err := newPollCollector(&Options{Interval: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, bb := range []struct {
		name string
		look func() error
	}{
		{"tick", func() error { _, err := c.collect(false); return err }},
		{"queues", func() error { c.accept.looked = time.Time{}; return c.accept.checkQueues() }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			before := processTime()
			for b.Loop() {
				if err := bb.look(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(processTime()-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(c.sched.scan.total), "threads")
		})
	}
}
