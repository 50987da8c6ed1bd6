// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// core is a core that spent run in NET_RX and took and dropped that many packets.
func core(number int, run time.Duration, packets, dropped uint64) model.CPU {
	return model.CPU{CPU: sample.CPU{
		CPU:     number,
		SoftIRQ: &sample.NetRXSoftIRQ{RunNS: uint64(run)},
		Softnet: &sample.Softnet{Processed: packets, Dropped: dropped},
	}, NetRXRatio: run.Seconds(), SoftIRQRatio: run.Seconds()}
}

func untimed(cores ...model.CPU) []model.CPU {
	for i := range cores {
		cores[i].SoftIRQ, cores[i].NetRXRatio = nil, model.Unknown()
	}
	return cores
}

func TestNetRXShare(t *testing.T) {
	tests := []struct {
		name  string
		cpus  []model.CPU
		share float64
		top   int
	}{
		{"by time", []model.CPU{core(0, 100, 9, 0), core(2, 300, 1, 0)}, 0.75, 1},
		{"by packets", untimed(core(0, 100, 9, 0), core(2, 300, 1, 0)), 0.9, 0},
		{"idle", []model.CPU{core(0, 0, 0, 0)}, -1, -1},
		{"none", nil, -1, -1},
	}
	for _, tt := range tests {
		share, top := netRXShare(tt.cpus)
		if !model.Known(share) {
			share = -1
		}
		if share != tt.share || top != tt.top {
			t.Errorf("%s: %v at %d, want %v at %d", tt.name, share, top, tt.share, tt.top)
		}
	}
}

func TestNetRXTick(t *testing.T) {
	busy := []model.CPU{core(0, 50*time.Millisecond, 1, 0), core(3, 400*time.Millisecond, 9, 0)}
	tests := []struct {
		name, want string
		cpus       []model.CPU
		share      float64
		top        int
		drops      float64
	}{
		{"lopsided", " rx=88%(cpu3)", busy, 0.88, 1, 0},
		{"without times", " rx=88%(cpu3)", untimed(core(0, 5e7, 1, 0), core(3, 4e8, 9, 0)), 0.88, 1, 0},
		{"even", "", busy, 0.45, 1, 0},
		{"idle", "", busy, 0.88, 0, 0},
		{"one core", "", busy[1:], 1, 0, 0},
		{"drops", " rxdrop=1.2k/s", busy, model.Unknown(), -1, 1234},
	}
	for _, tt := range tests {
		f := &model.Frame{CPUs: tt.cpus, NetRX: &model.NetRX{Share: tt.share, Top: tt.top, DroppedPerS: tt.drops}}
		if got := netRXTick(f); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestNetRXSummary(t *testing.T) {
	dropped := func(device string, from int, n uint64) sample.BacklogDrop {
		return sample.BacklogDrop{Device: device, FromCPU: from, Dropped: n}
	}
	drops := []sample.BacklogDrop{dropped("lo", 2, 5), dropped("\x1b[2J", 0, 80), dropped("a", 0, 4), dropped("b", 0, 3), dropped("c", 0, 2), dropped("d", 0, 1)}
	tests := []struct {
		name, want string
		cpus       []model.CPU
		drops      []sample.BacklogDrop
		unknown    uint64
		header     sample.Header
	}{
		{"idle", "", []model.CPU{core(0, 9*time.Millisecond, 5, 0), core(1, 0, 0, 0)}, nil, 0, sample.Header{}},
		{"busy", "  NET_RX: 80% of its time on cpu1, 40% of that core\n", []model.CPU{core(0, 100*time.Millisecond, 1, 0), core(1, 400*time.Millisecond, 1, 0)}, nil, 0, sample.Header{}},
		{"by packets", "  NET_RX: 90% of all packets on cpu0\n", untimed(core(0, 0, 9, 0), core(1, 0, 1, 0)), nil, 0, sample.Header{}},
		{"drops", "  CPU backlog: 100 packets dropped (netdev_max_backlog 1000) at cpu1 98, cpu0 2; " +
			"of ?[2J from cpu0 80, lo from cpu2 5, a from cpu0 4, b from cpu0 3, others 8\n",
			[]model.CPU{core(0, 0, 1, 2), core(1, 0, 1, 98)}, drops, 5, sample.Header{}},
		{"one device", "  CPU backlog: 80 packets dropped (netdev_max_backlog 1000) at cpu1; of ?[2J from cpu0\n",
			[]model.CPU{core(0, 0, 1, 0), core(1, 0, 1, 80)}, drops[1:2], 0, sample.Header{}},
		{"no hook", "  CPU backlog: 7 packets dropped (netdev_max_backlog 1000) at cpu0; which device is not measured\n",
			[]model.CPU{core(0, 0, 1, 7)}, nil, 7, sample.Header{Signals: []sample.Signal{{Name: model.SignalBacklog, Accuracy: sample.Unavailable}}}},
	}
	for _, tt := range tests {
		f := &model.Frame{Header: &tt.header, Elapsed: time.Second, CPUs: tt.cpus,
			NetRX: &model.NetRX{NetRX: &sample.NetRX{MaxBacklog: 1000, Drops: tt.drops, DropsUnattributed: tt.unknown}}}
		var out bytes.Buffer
		if err := (&Line{w: &out}).netRX(f); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v\n%swant\n%s", tt.name, err, out.String(), tt.want)
		}
	}
}

// TestNetRXRecord: the summary's share is since attach, an empty list is no
// null, and drops that no hook could see are no empty list.
func TestNetRXRecord(t *testing.T) {
	f := &model.Frame{Header: &sample.Header{}, CPUs: []model.CPU{core(4, 100, 0, 0), core(5, 300, 0, 0)},
		NetRX: &model.NetRX{NetRX: &sample.NetRX{}, Share: 1, Top: 0, Devices: []model.Device{{NetDevice: sample.NetDevice{Queues: []sample.RXQueue{{}}}}}}}
	now, total := netRXRecord(f, false), netRXRecord(f, true)
	if *now.ShareRatio != 1 || *now.TopCPU != 4 || *total.ShareRatio != 0.75 || *total.TopCPU != 5 {
		t.Errorf("interval %v of %d, summary %v of %d", *now.ShareRatio, *now.TopCPU, *total.ShareRatio, *total.TopCPU)
	}
	if d := now.Devices[0]; now.Drops == nil || d.RPSCPUs[0] == nil || d.IRQs == nil {
		t.Errorf("%+v", now)
	}
	f.Header.Signals = []sample.Signal{{Name: model.SignalBacklog, Accuracy: sample.Unavailable}}
	f.NetRX.Top = -1
	if r := netRXRecord(f, false); r.Drops != nil || r.TopCPU != nil {
		t.Errorf("%+v", r)
	}
}
