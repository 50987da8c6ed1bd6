// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestLedger: whatever the programs saw, each namespace's books equal the
// kernel's totals, and what was not seen is booked where it can have happened.
func TestLedger(t *testing.T) {
	type listener struct {
		raw                 bpf.AcceptListener
		acceptFull, synFull bool
		want                sample.Refusals
		approximate         bool
	}
	full := func(drops uint32, seen ...uint64) listener {
		l := listener{acceptFull: true}
		l.raw.Drops = drops
		copy(l.raw.Refused[:], seen)
		return l
	}
	with := func(l listener, want sample.Refusals, approximate bool) listener {
		l.want, l.approximate = want, approximate
		return l
	}
	tests := []struct {
		name         string
		total        sample.TCPExt
		blind        bool
		listeners    []listener
		unattributed sample.Refusals
	}{
		{
			name:      "all seen",
			total:     sample.TCPExt{ListenOverflows: 7, ListenDrops: 9},
			listeners: []listener{with(full(11, 4, 2, 1, 2), sample.Refusals{AcceptQueueSYN: 4, AcceptQueueACK: 2, AcceptQueueCookie: 1, SynQueue: 2}, false)},
		},
		{
			name:  "SYNs unseen, one listener dropped",
			total: sample.TCPExt{ListenOverflows: 10, ListenDrops: 13},
			listeners: []listener{
				with(full(15, 0, 2), sample.Refusals{AcceptQueueSYN: 8, AcceptQueueACK: 2, SynQueue: 3}, false),
				with(listener{}, sample.Refusals{}, false),
			},
		},
		{
			name:      "one ACK of three was missed",
			total:     sample.TCPExt{ListenOverflows: 3, ListenDrops: 3},
			listeners: []listener{with(full(6, 0, 2), sample.Refusals{AcceptQueueACK: 3}, true)},
		},
		{
			name:  "two dropped and nothing was seen",
			total: sample.TCPExt{ListenOverflows: 40, ListenDrops: 40},
			listeners: []listener{
				with(full(30), sample.Refusals{AcceptQueueSYN: 30}, true),
				with(full(10), sample.Refusals{AcceptQueueSYN: 10}, true),
			},
		},
		{
			name:      "blind: final ACKs count twice in sk_drops",
			total:     sample.TCPExt{ListenOverflows: 10, ListenDrops: 10},
			blind:     true,
			listeners: []listener{with(full(16), sample.Refusals{AcceptQueueSYN: 4, AcceptQueueACK: 6}, true)},
		},
		{
			name:  "blind: none was seen full, sk_drops tell which it was",
			total: sample.TCPExt{ListenOverflows: 8, ListenDrops: 8},
			blind: true,
			listeners: []listener{
				with(listener{raw: bpf.AcceptListener{Drops: 8}}, sample.Refusals{AcceptQueueSYN: 8}, true),
				{},
			},
		},
		{
			name:         "the listener is gone",
			total:        sample.TCPExt{ListenOverflows: 5, ListenDrops: 6},
			listeners:    []listener{{}, {}},
			unattributed: sample.Refusals{AcceptQueueSYN: 5, SynQueue: 1},
		},
		{
			name:      "seen before the kernel's counters were read",
			total:     sample.TCPExt{ListenOverflows: 3, ListenDrops: 3},
			listeners: []listener{with(full(5, 5), sample.Refusals{AcceptQueueSYN: 5}, false)},
		},
		{
			name:      "drops that are no refusals",
			total:     sample.TCPExt{},
			listeners: []listener{with(full(50), sample.Refusals{}, false)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s sums
			var entries []*entry
			for i := range tt.listeners {
				l := &tt.listeners[i]
				e := &entry{}
				e.take(&l.raw, &s)
				if l.acceptFull {
					e.acceptFull = thisTick
				}
				entries = append(entries, e)
			}
			for range 2 { // the second time there is nothing to do
				s.settle(&tt.total, entries, tt.blind)
			}
			for i, e := range entries {
				if e.booked != tt.listeners[i].want || e.approximate != tt.listeners[i].approximate {
					t.Errorf("listener %d: %+v approximate=%v, want %+v %v", i, e.booked, e.approximate, tt.listeners[i].want, tt.listeners[i].approximate)
				}
			}
			if s.unattributed != tt.unattributed {
				t.Errorf("unattributed %+v, want %+v", s.unattributed, tt.unattributed)
			}
		})
	}
}

// TestLedgerCookies: a listener whose SYN queue was full sent them.
func TestLedgerCookies(t *testing.T) {
	var s sums
	a, b := &entry{}, &entry{synFull: thisTick}
	s.settle(&sample.TCPExt{SyncookiesSent: 100, SyncookiesFailed: 3}, []*entry{a, b}, false)
	if a.cookies != 0 || b.cookies != 100 || b.failed != 3 {
		t.Errorf("cookies %d and %d, failed %d and %d; want all at the second", a.cookies, b.cookies, a.failed, b.failed)
	}
}

// TestEntryAges: growth of sk_drops that nothing explains is forgotten after a
// tick, or a later refusal elsewhere would be booked here.
func TestEntryAges(t *testing.T) {
	var s sums
	e := &entry{}
	e.take(&bpf.AcceptListener{Drops: 9}, &s)
	e.age()
	if e.unexplained != 9 {
		t.Errorf("%d unexplained after the first tick, want 9: the kernel's counters may come a tick later", e.unexplained)
	}
	e.age()
	if e.unexplained != 0 {
		t.Errorf("%d unexplained after the second tick, want 0", e.unexplained)
	}
}
