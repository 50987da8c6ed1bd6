// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func TestClocks(t *testing.T) {
	h := &sample.Header{WallNS: 1_000 * int64(second), MonoNS: 50 * second}
	fs := framesOf(h, tick(49), tick(51), tick(55))
	for i, want := range []struct {
		wall, elapsed, interval time.Duration
	}{{999, 0, 0}, {1001, 2, 2}, {1005, 6, 4}} {
		f := fs[i]
		if !f.Wall.Equal(time.Unix(int64(want.wall), 0)) || f.Elapsed != want.elapsed*time.Second || f.Interval != want.interval*time.Second {
			t.Errorf("frame %d: %s, elapsed %s, interval %s", i, f.Wall, f.Elapsed, f.Interval)
		}
	}
}

func TestCost(t *testing.T) {
	at := func(seconds, user, bpf, lost, missed uint64) *sample.Sample {
		return &sample.Sample{MonoNS: seconds * second, Self: sample.Self{UserCPUNS: user, BPFRunNS: bpf, MemoryBytes: 9,
			Lost: map[string]uint64{"ring": lost}, RecursionMisses: missed}}
	}
	fs := frames(at(1, 100, 100, 2, 1), at(3, 20_000_100, 40_000_100, 5, 2), at(4, 0, 40_000_100, 0, 0))
	c := fs[1].Cost
	want(t, "UserRatio", c.UserRatio, 0.01)
	want(t, "BPFRatio", c.BPFRatio, 0.02)
	if c.MemoryBytes != 9 || c.LostTotal != 7 || c.LostDelta != 4 {
		t.Errorf("cost %+v", c)
	}
	c = fs[2].Cost
	want(t, "UserRatio after a reset", c.UserRatio, Unknown())
	want(t, "BPFRatio", c.BPFRatio, 0)
	want(t, "mean BPFRatio", fs[2].CostMean.BPFRatio, 0.04/3)
	if c.LostDelta != 0 {
		t.Errorf("LostDelta %d after a reset", c.LostDelta)
	}
	unmeasured := at(2, 200, 0, 0, 0)
	unmeasured.Self.BPFUnmeasured = true
	want(t, "BPFRatio without CAP_SYS_ADMIN", frames(at(1, 100, 0, 0, 0), unmeasured)[1].Cost.BPFRatio, Unknown())
}

func TestHostIdle(t *testing.T) {
	at := func(seconds uint64, h *sample.Host) *sample.Sample {
		return &sample.Sample{MonoNS: seconds * second, Host: h}
	}
	idle := func(ns uint64) *sample.Host { return &sample.Host{IdleNS: ns} }
	fs := frames(at(1, idle(0)), at(3, idle(3*second)), at(4, nil), at(5, idle(9*second)), at(6, idle(8*second)))
	for i, w := range []float64{Unknown(), 1.5, Unknown(), Unknown(), Unknown()} {
		want(t, "HostIdle", fs[i].HostIdle, w)
	}
}

// TestEventNames: an event is named after a listener that is there, or was a
// tick ago.
func TestEventNames(t *testing.T) {
	with := func(s *sample.Sample, inode uint64) *sample.Sample {
		s.Events = []sample.Event{{MonoNS: s.MonoNS, Kind: sample.EventListenerClosed, Inode: inode}}
		return s
	}
	fs := frames(tick(1, web(before)), with(tick(2), 7), with(tick(3), 7), with(tick(4, web(before)), 7), with(tick(5), 99))
	for i, want := range []string{"", "0.0.0.0:80", "", "0.0.0.0:80", ""} {
		if i == 0 {
			continue
		}
		e := fs[i].Events[0]
		if e.Listener != want || (e.Program == "app") != (want != "") || e.Kind != sample.EventListenerClosed || !e.Wall.Equal(fs[i].Wall) {
			t.Errorf("tick %d: %+v, want %q", i, e, want)
		}
	}
}

// TestNamesAreBounded: what the Builder remembers does not grow with the trace.
func TestNamesAreBounded(t *testing.T) {
	b := NewBuilder(&sample.Header{})
	for i := range uint64(1000) {
		var ls []sample.Listener
		for j := range uint64(10) {
			ls = append(ls, sample.Listener{Inode: 1 + 10*i + j})
		}
		b.Build(tick(i, ls...))
	}
	if n := len(b.names) + len(b.gone); n != 20 {
		t.Errorf("%d names are kept, want those of the last two ticks: 20", n)
	}
}

// TestBuildKeepsItsInput: a recorder may write the Sample after the model saw it.
func TestBuildKeepsItsInput(t *testing.T) {
	l := web(before)
	l.Workers = append(l.Workers, sample.Worker{TID: 2, Counters: sample.Counters{AcceptsTotal: 1 << 40}})
	other := web(sample.Counters{AcceptsTotal: 1 << 50})
	other.Inode = 8
	s := tick(1, l, other)
	frames(tick(0), s)
	if got := s.Accept.Listeners; got[0].Inode != 7 || got[0].Workers[0].TID != 1 || got[1].Inode != 8 {
		t.Errorf("the Sample was reordered: %+v", got)
	}
}
