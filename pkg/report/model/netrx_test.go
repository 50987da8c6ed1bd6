// SPDX-License-Identifier: Apache-2.0

package model

import (
	"reflect"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// cpu is a core that has done n of everything.
func cpu(number int, n uint64) sample.CPU {
	return sample.CPU{
		CPU:            number,
		Times:          &sample.CPUTimes{BusyNS: 5 * n, IdleNS: 4 * n, IRQNS: n, SoftIRQNS: 3 * n, StealNS: n},
		SoftIRQ:        &sample.NetRXSoftIRQ{RunNS: 2 * n, Count: n, Latency: []uint64{n, 0, n, 0}},
		Softnet:        &sample.Softnet{Processed: 7 * n, Dropped: 6 * n, TimesSqueeze: 8 * n, ReceivedRPS: 9 * n},
		KsoftirqdRunNS: n,
	}
}

const tenth = uint64(100 * time.Millisecond)

// rx is a Sample at so many seconds with these cores.
func rx(seconds uint64, n *sample.NetRX, cores ...sample.CPU) *sample.Sample {
	return &sample.Sample{MonoNS: seconds * second, CPUs: cores, NetRX: n}
}

func TestCPUs(t *testing.T) {
	f := frames(rx(1, nil, cpu(1, 0), cpu(0, 0)), rx(3, nil, cpu(1, tenth), cpu(0, 2*tenth)))[1]
	if len(f.CPUs) != 2 || f.CPUs[0].CPU.CPU != 0 || f.CPUs[1].CPU.CPU != 1 || f.NetRX != nil {
		t.Fatalf("cores %+v", f.CPUs)
	}
	c := f.CPUs[1]
	want(t, "BusyRatio", c.BusyRatio, 0.25)
	want(t, "IdleRatio", c.IdleRatio, 0.2)
	want(t, "SoftIRQRatio", c.SoftIRQRatio, 0.15)
	want(t, "StealRatio", c.StealRatio, 0.05)
	want(t, "NetRXRatio", c.NetRXRatio, 0.1)
	want(t, "KsoftirqdRatio", c.KsoftirqdRatio, 0.05)
	want(t, "NetRXPerS", c.NetRXPerS, float64(tenth)/2)
	want(t, "PacketsPerS", c.PacketsPerS, 7*float64(tenth)/2)
	want(t, "LatencyP99NS", c.LatencyP99NS, 8)
	if c.DroppedDelta != 6*tenth || c.SqueezedDelta != 8*tenth || c.SteeredDelta != 9*tenth {
		t.Errorf("core %+v", c)
	}
}

// TestCPUsUnknown: at first, after a reset, of a core that was not there, and
// of what was not collected.
func TestCPUsUnknown(t *testing.T) {
	bare := func(n uint64) sample.CPU { return sample.CPU{CPU: 0, KsoftirqdRunNS: n} }
	for name, c := range map[string]CPU{
		"first":     frames(rx(1, nil, cpu(0, 5)))[0].CPUs[0],
		"reset":     frames(rx(1, nil, cpu(0, 5)), rx(2, nil, cpu(0, 1)))[1].CPUs[0],
		"new":       frames(rx(1, nil, cpu(1, 5)), rx(2, nil, cpu(0, 9)))[1].CPUs[0],
		"after gap": frames(rx(1, nil, cpu(0, 1)), rx(2, nil), rx(3, nil, cpu(0, 9)))[2].CPUs[0],
		"bare":      frames(rx(1, nil, bare(5)), rx(2, nil, bare(4)))[1].CPUs[0],
		"not yet":   frames(rx(1, nil, bare(5)), rx(2, nil, cpu(0, 1)))[1].CPUs[0],
	} {
		for what, v := range map[string]float64{"BusyRatio": c.BusyRatio, "IdleRatio": c.IdleRatio, "StealRatio": c.StealRatio, "SoftIRQRatio": c.SoftIRQRatio,
			"NetRXRatio": c.NetRXRatio, "NetRXPerS": c.NetRXPerS, "PacketsPerS": c.PacketsPerS, "KsoftirqdRatio": c.KsoftirqdRatio, "LatencyP99NS": c.LatencyP99NS} {
			want(t, name+": "+what, v, Unknown())
		}
		if c.DroppedDelta != 0 || c.SqueezedDelta != 0 || c.SteeredDelta != 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if f := frames(rx(1, nil), rx(2, nil))[1]; f.CPUs != nil {
		t.Errorf("cores %+v", f.CPUs)
	}
	want(t, "IdleRatio of a clock that runs ahead", frames(rx(1, nil, cpu(0, 0)), rx(2, nil, cpu(0, 3*tenth)))[1].CPUs[0].IdleRatio, 1)
}

func TestLatencyQuantile(t *testing.T) {
	for _, tt := range []struct {
		name      string
		now, prev []uint64
		want      float64
	}{
		{"none", []uint64{5, 5}, []uint64{5, 5}, Unknown()},
		{"no histogram", nil, nil, Unknown()},
		{"one", []uint64{0, 1, 0}, nil, 4},
		{"1 of 100 above", []uint64{0, 99, 0, 1}, nil, 4},
		{"2 of 100 above", []uint64{0, 98, 0, 2}, nil, 16},
		{"of the interval", []uint64{50, 1000}, []uint64{0, 1000}, 2},
		{"longer than before", []uint64{1, 0, 7}, []uint64{1}, 8},
		{"reset", []uint64{0, 9}, []uint64{1, 0}, Unknown()},
		{"hostile", make70(), nil, 1 << 63 * 128},
	} {
		want(t, tt.name, Quantile99(tt.now, tt.prev), tt.want)
	}
}

func make70() []uint64 { return append(make([]uint64, 69), 1) }

func TestNetRXShare(t *testing.T) {
	timeless := func(number int, packets uint64) sample.CPU {
		return sample.CPU{CPU: number, Softnet: &sample.Softnet{Processed: packets}}
	}
	none := &sample.NetRX{}
	tests := []struct {
		name   string
		before []sample.CPU
		now    []sample.CPU
		share  float64
		top    int
	}{
		{"by time", []sample.CPU{cpu(0, 0), cpu(4, 0)}, []sample.CPU{cpu(0, tenth), cpu(4, 3*tenth)}, 0.75, 1},
		{"by packets", []sample.CPU{timeless(0, 0), timeless(4, 0)}, []sample.CPU{timeless(0, 900), timeless(4, 100)}, 0.9, 0},
		{"nothing received", []sample.CPU{cpu(0, 5), cpu(1, 5)}, []sample.CPU{cpu(0, 5), cpu(1, 5)}, Unknown(), -1},
		{"no core", nil, nil, Unknown(), -1},
		{"first", nil, []sample.CPU{cpu(0, 5)}, Unknown(), -1},
	}
	for _, tt := range tests {
		f := frames(rx(1, none, tt.before...), rx(2, none, tt.now...))[1]
		want(t, tt.name, f.NetRX.Share, tt.share)
		if f.NetRX.Top != tt.top {
			t.Errorf("%s: top %d, want %d", tt.name, f.NetRX.Top, tt.top)
		}
	}
}

func TestNetRXSums(t *testing.T) {
	none := &sample.NetRX{MaxBacklog: 1000}
	fs := frames(rx(1, none, cpu(0, 0), cpu(1, 0)), rx(3, none, cpu(0, 10), cpu(1, 20)), rx(4, none, cpu(0, 1), cpu(1, 1)), rx(5, none), rx(6, nil))
	n := fs[1].NetRX
	want(t, "PacketsPerS", n.PacketsPerS, 105)
	want(t, "DroppedPerS", n.DroppedPerS, 90)
	want(t, "SqueezedPerS", n.SqueezedPerS, 120)
	if n.DroppedDelta != 180 || n.MaxBacklog != 1000 {
		t.Errorf("%+v", n)
	}
	for i, name := range map[int]string{0: "first", 2: "reset", 3: "no cores"} {
		n := fs[i].NetRX
		want(t, name+": PacketsPerS", n.PacketsPerS, Unknown())
		want(t, name+": DroppedPerS", n.DroppedPerS, Unknown())
		want(t, name+": SqueezedPerS", n.SqueezedPerS, Unknown())
		if n.DroppedDelta != 0 {
			t.Errorf("%s: %+v", name, n)
		}
	}
	if fs[4].NetRX != nil {
		t.Errorf("%+v, want not measured", fs[4].NetRX)
	}
}

func TestDevices(t *testing.T) {
	dev := func(netns, index uint32, name string, packets uint64) sample.NetDevice {
		return sample.NetDevice{NetNS: netns, IfIndex: index, Name: name, RXPackets: packets}
	}
	before := &sample.NetRX{Devices: []sample.NetDevice{dev(1, 1, "a", 100), dev(1, 2, "b", 100), dev(2, 1, "c", 900), dev(1, 3, "d", 10)}}
	now := &sample.NetRX{Devices: []sample.NetDevice{dev(1, 1, "a", 100), dev(1, 2, "b", 500), dev(2, 1, "c", 100), dev(1, 3, "d", 110), dev(1, 4, "new", 9000)}}
	fs := frames(rx(1, before), rx(3, now))
	for i, w := range []struct {
		name string
		perS float64
	}{{"b", 200}, {"d", 50}, {"new", Unknown()}, {"a", 0}, {"c", Unknown()}} {
		d := fs[1].NetRX.Devices[i]
		if d.Name != w.name {
			t.Errorf("place %d: %s, want %s", i, d.Name, w.name)
		}
		want(t, d.Name, d.PacketsPerS, w.perS)
	}
	want(t, "first", fs[0].NetRX.Devices[0].PacketsPerS, Unknown())
	if now.Devices[0].Name != "a" {
		t.Errorf("the Sample was reordered: %+v", now.Devices)
	}
}

func TestDrops(t *testing.T) {
	drop := func(index uint32, from int, n uint64) sample.BacklogDrop {
		return sample.BacklogDrop{NetNS: 1, IfIndex: index, FromCPU: from, Dropped: n}
	}
	fs := frames(
		rx(1, &sample.NetRX{Drops: []sample.BacklogDrop{drop(1, 0, 50)}}),
		rx(2, &sample.NetRX{Drops: []sample.BacklogDrop{drop(1, 0, 60), drop(1, 1, 40), drop(2, 0, 10)}}),
		rx(3, &sample.NetRX{Drops: []sample.BacklogDrop{drop(1, 0, 5), drop(1, 1, 40), drop(2, 0, 11)}}))
	if d := fs[0].NetRX.Drops; d != nil {
		t.Errorf("first: %+v", d)
	}
	for i, w := range []struct {
		index uint32
		from  int
		n     uint64
	}{{1, 1, 40}, {1, 0, 10}, {2, 0, 10}} {
		if d := fs[1].NetRX.Drops[i]; d.IfIndex != w.index || d.FromCPU != w.from || d.Delta != w.n {
			t.Errorf("place %d: %+v, want %+v", i, d, w)
		}
	}
	if d := fs[2].NetRX.Drops; len(d) != 1 || d[0].IfIndex != 2 || d[0].Delta != 1 {
		t.Errorf("after a reset: %+v", d)
	}
}

// TestEventsPassThrough: also those that are of no listener.
func TestEventsPassThrough(t *testing.T) {
	s := tick(1, web(before))
	s.Events = []sample.Event{
		{Kind: sample.EventRefusal, Inode: 7, Place: sample.PlaceSynQueue, Client: "[::1]:5", Refused: 3, SynQueueLen: 9},
		{Kind: sample.EventBacklogDrop, CPU: 2, Device: "eth0", Refused: 4},
	}
	e := frames(s)[0].Events
	if !reflect.DeepEqual(e[0].Event, s.Events[0]) || e[0].Listener != "0.0.0.0:80" || !reflect.DeepEqual(e[1].Event, s.Events[1]) || e[1].Listener != "" {
		t.Errorf("events %+v", e)
	}
}
