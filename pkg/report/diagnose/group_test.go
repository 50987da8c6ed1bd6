// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// reuseport plays ten seconds of four workers with a socket each: the first one
// runs that share of a core and takes that share of the connections, the others
// share the rest of these and sleep.
func reuseport(run, share float64) []Finding {
	b := model.NewBuilder(&sample.Header{CPUs: 4, Signals: []sample.Signal{
		{Name: "accept", Variant: "syscall", Accuracy: sample.Exact},
		{Name: "wake", Variant: "data_ready", Accuracy: sample.Exact},
	}})
	set := NewSet(DefaultLimits())
	for s := range uint64(11) {
		a := &sample.Accept{}
		for i := range uint64(4) {
			part, ran := share, run
			if i > 0 {
				part, ran = (1-share)/3, 0.02
			}
			c := sample.Counters{AcceptsTotal: uint64(100 * part * float64(s+1))}
			a.Listeners = append(a.Listeners, sample.Listener{
				Inode: i + 1, Proto: "tcp", Addr: "0.0.0.0", Port: 80, ReusePort: true,
				CompletionsTotal: c.AcceptsTotal, Counters: c,
				Workers: []sample.Worker{{PID: uint32(i) + 10, TID: uint32(i) + 10, Comm: "w", RunNS: uint64(ran * 1e9 * float64(s)), Counters: c}},
			})
		}
		set.Update(b.Build(&sample.Sample{MonoNS: 1 + s*1e9, Accept: a, Host: &sample.Host{IdleNS: 2 * s * 1e9}}))
	}
	return set.All()
}

// TestSkewOfAGroup: the sockets of a SO_REUSEPORT group are judged together, and
// the finding is about the one that the busy worker has.
func TestSkewOfAGroup(t *testing.T) {
	got := reuseport(0.99, 0.7)
	if len(got) != 1 || got[0].ID != "accept-skew" || got[0].Inode != 1 {
		t.Errorf("got %+v, want accept-skew at the first socket", got)
	}
	for _, healthy := range [][2]float64{{0.99, 0.25}, {0.5, 0.7}} {
		if got := reuseport(healthy[0], healthy[1]); len(got) != 0 {
			t.Errorf("run %v, share %v: got %+v, want nothing", healthy[0], healthy[1], got)
		}
	}
}
