// SPDX-License-Identifier: Apache-2.0

package sampletest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// BenchmarkRecord is what recording a tick of a crowded host costs, and how large
// it is: 64 cores, 200 listeners, 500 cgroups, 256 processes.
func BenchmarkRecord(b *testing.B) {
	for _, name := range []string{"rec.jsonl", "rec.jsonl.gz"} {
		b.Run(filepath.Ext(name)[1:], func(b *testing.B) {
			load := Crowded()
			ticks := make([]*sample.Sample, 16)
			for i := range ticks {
				ticks[i] = load.At(uint64(i))
			}
			path := filepath.Join(b.TempDir(), name)
			f, err := sample.Create(path)
			if err != nil {
				b.Fatal(err)
			}
			if err := f.WriteHeader(load.Header()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n := 0
			for ; b.Loop(); n++ {
				if err := f.WriteSample(ticks[n%len(ticks)]); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(n), "written-B/op")
		})
	}
}
