// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
)

// TestBoundAddresses: a packet is looked for under its destination and under
// the wildcard, in its own family.
func TestBoundAddresses(t *testing.T) {
	listeners := make(map[uint64]*listenerState)
	add := func(sk uint64, addr string, port uint16, v6only, closed bool) {
		a := netip.MustParseAddr(addr)
		raw := bpf.AcceptListener{Sk: sk, Ino: sk, Netns: 7, Port: port, Protocol: 6, Family: unix.AF_INET6, Addr: a.As16()}
		if a.Is4() {
			raw.Family, raw.Addr = unix.AF_INET, [16]uint8{}
			copy(raw.Addr[:], a.AsSlice())
		}
		if v6only {
			raw.V6only = 1
		}
		listeners[sk] = &listenerState{raw: raw, closed: closed}
	}
	add(1, "0.0.0.0", 80, false, false)
	add(2, "::", 80, false, false) // IPv4 packets go to 1
	add(3, "::", 81, false, false)
	add(4, "::", 82, true, false)
	add(5, "::ffff:10.0.0.1", 83, false, false)
	add(6, "10.0.0.2", 84, false, false)
	add(7, "10.0.0.2", 84, false, false) // SO_REUSEPORT
	add(8, "10.0.0.2", 84, false, true)  // closed
	got := boundAddresses(listeners)
	for _, tt := range []struct {
		addr string
		port uint16
		want []uint64
	}{
		{"0.0.0.0", 80, []uint64{1}}, {"::", 80, []uint64{2}},
		{"0.0.0.0", 81, []uint64{3}}, {"::", 81, []uint64{3}},
		{"0.0.0.0", 82, nil}, {"::", 82, []uint64{4}},
		{"10.0.0.1", 83, []uint64{5}}, {"0.0.0.0", 83, nil},
		{"10.0.0.2", 84, []uint64{6, 7}},
	} {
		a := netip.MustParseAddr(tt.addr)
		k := bpf.AcceptBoundKey{Netns: 7, Port: tt.port, Family: unix.AF_INET}
		if a.Is6() {
			k.Family = unix.AF_INET6
		}
		copy(k.Addr[:], a.AsSlice())
		v := got[k]
		if !slices.Equal(v.Sk[:v.N], tt.want) && v.N+uint64(len(tt.want)) > 0 {
			t.Errorf("%s port %d: sockets %v, want %v", tt.addr, tt.port, v.Sk[:v.N], tt.want)
		}
	}
}
