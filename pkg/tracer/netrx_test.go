// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func dropsOf(byCPU ...uint64) dropTable {
	t := make(dropTable)
	for cpu, n := range byCPU {
		t[bpf.NetrxBacklogKey{Netns: 1, Ifindex: 2, Cpu: uint32(cpu)}] = bpf.NetrxDeviceDrops{Dropped: n}
	}
	return t
}

// TestSettle: whatever was on the way while it was read, the parts sum to the
// kernel's total, none is outside of what was read, and no loss is invented.
func TestSettle(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after dropTable
		total, known  uint64
		lost          uint64
		want          dropTable
	}{
		"nothing":             {dropsOf(), dropsOf(), 0, 0, 0, dropsOf()},
		"quiet":               {dropsOf(5, 7), dropsOf(5, 7), 12, 0, 0, dropsOf(5, 7)},
		"on the way":          {dropsOf(5, 7), dropsOf(6, 9), 14, 0, 0, dropsOf(6, 8)},
		"all arrived":         {dropsOf(5, 7), dropsOf(6, 7), 13, 0, 0, dropsOf(6, 7)},
		"lost":                {dropsOf(5, 7), dropsOf(5, 7), 20, 0, 8, dropsOf(5, 7)},
		"lost before":         {dropsOf(5, 7), dropsOf(5, 8), 21, 8, 8, dropsOf(5, 8)},
		"lost before, some":   {dropsOf(5, 7), dropsOf(9, 9), 21, 8, 8, dropsOf(6, 7)},
		"a new device":        {dropsOf(5), dropsOf(5, 3), 7, 0, 0, dropsOf(5, 2)},
		"nobody sees":         {dropsOf(), dropsOf(), 3, 0, 3, dropsOf()},
		"known was too much":  {dropsOf(5), dropsOf(5), 6, 3, 1, dropsOf(5)},
		"no total to go with": {dropsOf(5), dropsOf(6), 0, 0, 0, dropsOf(5)},
	} {
		lost := settle(tt.before, tt.after, tt.total, tt.known)
		if lost != tt.lost || !maps.Equal(tt.before, tt.want) {
			t.Errorf("%s: %d lost, %v; want %d, %v", name, lost, tt.before, tt.lost, tt.want)
		}
		if sum := lost + tt.before.sum(); tt.total > 0 && sum != tt.total {
			t.Errorf("%s: the sum is %d, want %d", name, sum, tt.total)
		}
	}
}

// TestReplacedDrops: of devices that go by the same numbers, the one that dropped
// last has the row.
func TestReplacedDrops(t *testing.T) {
	then := time.Now()
	r := &dropReader{changes: make(map[bpf.NetrxBacklogKey]dropChange)}
	table := make(dropTable)
	for cookie, n := range []uint64{40, 5, 300} {
		key := bpf.NetrxBacklogKey{NetnsCookie: uint64(cookie), Netns: 1, Ifindex: 2}
		table[key] = bpf.NetrxDeviceDrops{Dropped: n}
		r.changes[key] = dropChange{at: then.Add(time.Duration(cookie*2%3) * time.Second)} // 0, 2, 1
	}
	rows, replaced := r.drops(table)
	if want := []sample.BacklogDrop{{NetNS: 1, IfIndex: 2, Dropped: 5}}; !slices.Equal(rows, want) || replaced != 340 {
		t.Errorf("%+v, %d of others; want %+v, 340", rows, replaced, want)
	}
}

// TestForgetDrops: the bank has room for so many; no drop is lost from the sum.
func TestForgetDrops(t *testing.T) {
	r := &dropReader{bank: make(dropTable), live: make(map[bpf.NetrxBacklogKey]bool)}
	then := time.Now()
	for i := range uint32(bankKept + 3) {
		key := bpf.NetrxBacklogKey{Netns: 1, Ifindex: i}
		r.bank[key] = bpf.NetrxDeviceDrops{Dropped: uint64(i) + 1}
		r.live[key] = i == 0 // it drops again
		r.note(r.bank, then.Add(time.Duration(i)*time.Second))
	}
	sum := r.bank.sum()
	r.forget(maps.Clone(r.bank))
	if len(r.bank) != bankKept+1 || r.unattributed != 2+3 || r.bank.sum()+r.unattributed != sum {
		t.Errorf("%d keys, %d of no device: want %d, the two that were idle longest", len(r.bank), r.unattributed, bankKept+1)
	}
}

func TestMergeDropEvents(t *testing.T) {
	ms := uint64(1e6)
	raw := func(at, dropped uint64, ifindex, cpu uint32) bpf.NetrxBacklogEvent {
		e := bpf.NetrxBacklogEvent{MonoNs: at * ms, Dropped: dropped, Key: bpf.NetrxBacklogKey{Netns: 1, Ifindex: ifindex, Cpu: cpu}}
		copy(e.Device[:], "eth0")
		return e
	}
	got := mergeDropEvents([]bpf.NetrxBacklogEvent{raw(1000, 1, 2, 0), raw(1050, 5, 2, 1), raw(1060, 9, 3, 1), raw(1100, 7, 2, 0)})
	want := []sample.Event{
		{MonoNS: 1000 * ms, Kind: sample.EventBacklogDrop, Device: "eth0", Refused: 6},
		{MonoNS: 1060 * ms, Kind: sample.EventBacklogDrop, Device: "eth0", Refused: 9, CPU: 1},
		{MonoNS: 1100 * ms, Kind: sample.EventBacklogDrop, Device: "eth0", Refused: 7},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("event %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func FuzzDecodeDropEvent(f *testing.F) {
	f.Add(make([]byte, 56))
	f.Fuzz(func(t *testing.T, b []byte) {
		if raw, ok := decodeRecord[bpf.NetrxBacklogEvent](b); ok {
			mergeDropEvents([]bpf.NetrxBacklogEvent{raw, raw})
		}
	})
}

func TestHasConfig(t *testing.T) {
	const config = "CONFIG_TICK_CPU_ACCOUNTING=y\n# CONFIG_VIRT_CPU_ACCOUNTING_GEN is not set\nCONFIG_IRQ_TIME_ACCOUNTING=y\n"
	for text, want := range map[string]bool{
		config: true,
		"# CONFIG_IRQ_TIME_ACCOUNTING is not set\nCONFIG_HAVE_IRQ_TIME_ACCOUNTING=y\n": false,
		"": false,
	} {
		if got := hasConfig(strings.NewReader(text), "CONFIG_IRQ_TIME_ACCOUNTING=y"); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestParseKthread(t *testing.T) {
	const stat = "14 (ksoftirqd/0) S 2 0 0 0 -1 69238848 0 0 0 0 4 812 0 0 20 0 1 0 8 0 0 18446744073709551615"
	if got := parseStatTimes([]byte(stat)); got != 816*nsPerTick {
		t.Errorf("by ticks: %d, want %d", got, 816*nsPerTick)
	}
	if got := parseSchedstat([]byte("8167194614 136101053912 173925\n")); got != 8167194614 {
		t.Errorf("by schedstat: %d", got)
	}
	for _, bad := range []string{"", ")", "1 (a) b) S 2", "x y z"} {
		if a, b := parseStatTimes([]byte(bad)), parseSchedstat([]byte(bad)); a != 0 || (b != 0 && bad[0] != '1') {
			t.Errorf("%q: %d, %d", bad, a, b)
		}
	}
}
