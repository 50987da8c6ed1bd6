// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// dropEventGap is the least time between two events of a device: those of
// different cores that are closer become one.
const dropEventGap = 100 * time.Millisecond

// dropReader reads whose packets full CPU backlogs refused.
type dropReader struct {
	table        *ebpf.Map
	ring         *ringbuf.Reader
	live         map[bpf.NetrxBacklogKey]bool       // keys of table
	bank         dropTable                          // what keys had when they were taken out of table
	changes      map[bpf.NetrxBacklogKey]dropChange // of the keys of both
	unattributed uint64
}

type dropTable map[bpf.NetrxBacklogKey]bpf.NetrxDeviceDrops

func newDropReader(k *kernel) (*dropReader, error) {
	ring, err := ringbuf.NewReader(k.mapOf("backlog_events"))
	if err != nil {
		return nil, fmt.Errorf("open backlog ring: %w", err)
	}
	return &dropReader{table: k.mapOf("backlog_drops"), ring: ring, bank: make(dropTable)}, nil
}

// Close unmaps the ring.
func (r *dropReader) Close() { r.ring.Close() }

// read returns the drops by device, and how many more there were of what total
// counts. The kernel counts a drop before a program sees it, so some are always
// on the way between the two.
func (r *dropReader) read(total func() uint64, now time.Time) ([]sample.BacklogDrop, uint64, error) {
	before, err := r.rows()
	if err != nil {
		return nil, 0, err
	}
	all := total()
	after := before
	if all != before.sum()+r.unattributed {
		if after, err = r.rows(); err != nil {
			return nil, 0, err
		}
	}
	r.unattributed = settle(before, after, all, r.unattributed)
	r.note(before, now)
	r.forget(before)
	r.bankIdle(now)
	drops, replaced := r.drops(before)
	return drops, r.unattributed + replaced, nil
}

// rows returns what is in the map and in the bank.
func (r *dropReader) rows() (dropTable, error) {
	t := maps.Clone(r.bank)
	r.live = make(map[bpf.NetrxBacklogKey]bool)
	var key bpf.NetrxBacklogKey
	var d bpf.NetrxDeviceDrops
	it := r.table.Iterate()
	for it.Next(&key, &d) {
		d.Dropped += r.bank[key].Dropped
		t[key] = d
		r.live[key] = true
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read backlog drops: %w", err)
	}
	return t, nil
}

func (t dropTable) sum() (n uint64) {
	for _, d := range t {
		n += d.Dropped
	}
	return n
}

func (t dropTable) keys() []bpf.NetrxBacklogKey {
	keys := make([]bpf.NetrxBacklogKey, 0, len(t))
	for key := range t {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b bpf.NetrxBacklogKey) int {
		return cmp.Or(cmp.Compare(a.Netns, b.Netns), cmp.Compare(a.Ifindex, b.Ifindex), cmp.Compare(a.Cpu, b.Cpu), cmp.Compare(a.NetnsCookie, b.NetnsCookie))
	})
	return keys
}

// drops makes rows of t, one for each device and core that go by the same
// numbers: that of the namespace which dropped last. Replaced is what the others
// have, whose namespaces are gone.
func (r *dropReader) drops(t dropTable) (out []sample.BacklogDrop, replaced uint64) {
	var last bpf.NetrxBacklogKey // of out
	for _, key := range t.keys() {
		d := t[key]
		if d.Dropped == 0 {
			continue // its element was just made
		}
		if n := len(out); n > 0 && key.Netns == last.Netns && key.Ifindex == last.Ifindex && key.Cpu == last.Cpu {
			if r.changes[key].at.Before(r.changes[last].at) {
				replaced += d.Dropped
				continue
			}
			replaced += out[n-1].Dropped
			out = out[:n-1]
		}
		out = append(out, sample.BacklogDrop{NetNS: key.Netns, IfIndex: key.Ifindex, Device: unix.ByteSliceToString(d.Device[:]), FromCPU: int(key.Cpu), Dropped: d.Dropped})
		last = key
	}
	return out, replaced
}

// settle makes of before, the table as it was read before the kernel's total,
// the table at that moment, and returns how many of total it does not have:
// known ones, and those that are not even in after, which was read later. So
// the sum is exact, and no counter ever goes back.
func settle(before, after dropTable, total, known uint64) uint64 {
	had, has := before.sum(), after.sum()
	lost := known
	if total > has {
		lost = max(lost, total-has)
	}
	lost = min(lost, total-min(total, had))
	rest := total - lost - min(total-lost, had)
	for _, key := range after.keys() {
		d := after[key]
		d.Dropped = before[key].Dropped + min(rest, d.Dropped-before[key].Dropped)
		rest -= d.Dropped - before[key].Dropped
		before[key] = d
	}
	return lost
}

// events drains the ring, without waiting.
func (r *dropReader) events() ([]sample.Event, error) {
	raws, err := drainRing[bpf.NetrxBacklogEvent](r.ring, &ringbuf.Record{})
	if err != nil {
		return mergeDropEvents(raws), fmt.Errorf("read backlog ring: %w", err)
	}
	return mergeDropEvents(raws), nil
}

// mergeDropEvents makes one event of a device's that are close to each other.
func mergeDropEvents(raws []bpf.NetrxBacklogEvent) []sample.Event {
	type device struct{ netns, ifindex uint32 }
	last := make(map[device]int) // index of its event in out
	var out []sample.Event
	for i := range raws {
		raw := &raws[i]
		dev := device{raw.Key.Netns, raw.Key.Ifindex}
		if at, ok := last[dev]; ok && raw.MonoNs-out[at].MonoNS < uint64(dropEventGap) {
			out[at].Refused += raw.Dropped
			continue
		}
		last[dev] = len(out)
		out = append(out, sample.Event{
			MonoNS:  raw.MonoNs,
			Kind:    sample.EventBacklogDrop,
			CPU:     raw.Key.Cpu,
			Device:  unix.ByteSliceToString(raw.Device[:]),
			Refused: raw.Dropped,
		})
	}
	return out
}

// prepareLocation tells the program where enqueue_to_backlog() frees packets.
func prepareLocation(k *kernel) error {
	start, size, err := symbolRange("enqueue_to_backlog")
	if err != nil {
		return err
	}
	if err := k.setVariable("backlog_start", start); err != nil {
		return err
	}
	return k.setVariable("backlog_bytes", size)
}
