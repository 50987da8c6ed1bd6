// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/herdtrace/herdtrace/bpf"
)

const (
	// bankAfter is how long a key has been idle when it is taken out of the
	// map, to make room for others. What it had stays in the bank.
	bankAfter = time.Minute
	// bankKept is how many keys have a row of their own there.
	bankKept = 1024
)

// dropChange is what a key had at last, and since when.
type dropChange struct {
	dropped uint64
	at      time.Time
}

// note finds out which keys have changed.
func (r *dropReader) note(t dropTable, now time.Time) {
	changes := make(map[bpf.NetrxBacklogKey]dropChange, len(t))
	for key, d := range t {
		c, ok := r.changes[key]
		if !ok || c.dropped != d.Dropped {
			c = dropChange{d.Dropped, now}
		}
		changes[key] = c
	}
	r.changes = changes
}

// bankIdle takes the keys out of the map that have been idle for long; once it is
// half full, all that were idle since the last tick.
func (r *dropReader) bankIdle(now time.Time) {
	least := bankAfter
	if 2*len(r.live) > int(r.table.MaxEntries()) {
		least = time.Nanosecond
	}
	for key := range r.live {
		if now.Sub(r.changes[key].at) < least {
			continue
		}
		if d, ok := r.take(key); ok {
			d.Dropped += r.bank[key].Dropped
			r.bank[key] = d
		}
	}
}

// take takes one out of the map. A drop by a program that had found the element
// just before and counts it only now is of no device: the sum does not change,
// for it is the kernel's own.
func (r *dropReader) take(key bpf.NetrxBacklogKey) (d bpf.NetrxDeviceDrops, ok bool) {
	err := r.table.LookupAndDelete(&key, &d)
	if errors.Is(err, ebpf.ErrNotSupported) { // before Linux 5.14
		if err = r.table.Lookup(&key, &d); err == nil {
			err = r.table.Delete(&key)
		}
	}
	return d, err == nil
}

// forget leaves only so many rows in the bank, and in t: the longest idle become
// drops of no device.
func (r *dropReader) forget(t dropTable) {
	var idle []bpf.NetrxBacklogKey
	for key := range r.bank {
		if !r.live[key] {
			idle = append(idle, key)
		}
	}
	if len(idle) <= bankKept {
		return
	}
	slices.SortFunc(idle, func(a, b bpf.NetrxBacklogKey) int { return r.changes[a].at.Compare(r.changes[b].at) })
	for _, key := range idle[:len(idle)-bankKept] {
		r.unattributed += r.bank[key].Dropped
		delete(r.bank, key)
		delete(t, key)
	}
}
