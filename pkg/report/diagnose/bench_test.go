// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// BenchmarkTick is a tick from Sample to findings, 8 workers at each listener.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("listeners=%d", n), func(b *testing.B) {
			s := newScene(b)
			for i := range n {
				do := traffic{conns: 100, wakes: 1, eagains: 1}
				if i%100 == 0 {
					do = herd
				}
				s.serves("app", sample.WaitEpoll, 8).does(do)
			}
			samples := []*sample.Sample{s.sample(), s.sample(), s.sample(), s.sample()}
			builder, set := model.NewBuilder(s.header), NewSet(DefaultLimits())
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i > 0 && i%len(samples) == 0 {
					builder, set = model.NewBuilder(s.header), NewSet(DefaultLimits())
				}
				set.Update(builder.Build(samples[i%len(samples)]))
			}
		})
	}
}
