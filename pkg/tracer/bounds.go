// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
)

// boundMap tells the program that looks at each SYN which listeners a packet
// may be for.
type boundMap struct {
	m    *ebpf.Map
	have map[bpf.AcceptBoundKey]bpf.AcceptBound
}

func newBoundMap(m *ebpf.Map) *boundMap {
	return &boundMap{m: m, have: make(map[bpf.AcceptBoundKey]bpf.AcceptBound)}
}

// update writes what has changed. A full map, and members of a SO_REUSEPORT
// group beyond the 64th, leave some refusals unseen, which are then counted
// without their clients.
func (b *boundMap) update(listeners map[uint64]*listenerState) {
	want := boundAddresses(listeners)
	for k, v := range want {
		if old, ok := b.have[k]; !ok || old != v {
			if b.m.Put(&k, &v) != nil {
				delete(want, k)
			}
		}
	}
	for k := range b.have {
		if _, ok := want[k]; !ok {
			b.m.Delete(&k)
		}
	}
	b.have = want
}

// boundAddresses lists for each address the sockets that listen there. An IPv4
// packet goes to an IPv6 wildcard listener only where no IPv4 one is bound.
func boundAddresses(listeners map[uint64]*listenerState) map[bpf.AcceptBoundKey]bpf.AcceptBound {
	groups := make(map[bpf.AcceptBoundKey][]uint64)
	var dual []*bpf.AcceptListener
	for _, ls := range listeners {
		raw := &ls.raw
		if ls.closed || raw.Protocol == 0 {
			continue
		}
		k := bpf.AcceptBoundKey{Netns: raw.Netns, Port: raw.Port, Family: raw.Family, Addr: raw.Addr}
		if a := netip.AddrFrom16(raw.Addr); raw.Family == unix.AF_INET6 && a.Is4In6() {
			k.Family, k.Addr = unix.AF_INET, [16]uint8{}
			copy(k.Addr[:], a.Unmap().AsSlice())
		} else if raw.Family == unix.AF_INET6 && a.IsUnspecified() && raw.V6only == 0 {
			dual = append(dual, raw)
		}
		groups[k] = append(groups[k], raw.Sk)
	}
	v4 := make(map[bpf.AcceptBoundKey][]uint64)
	for _, raw := range dual {
		k := bpf.AcceptBoundKey{Netns: raw.Netns, Port: raw.Port, Family: unix.AF_INET}
		if groups[k] == nil {
			v4[k] = append(v4[k], raw.Sk)
		}
	}
	out := make(map[bpf.AcceptBoundKey]bpf.AcceptBound, len(groups)+len(v4))
	for _, g := range []map[bpf.AcceptBoundKey][]uint64{groups, v4} {
		for k, sks := range g {
			slices.Sort(sks) // so that an unchanged group is equal to what it was
			var v bpf.AcceptBound
			v.N = uint64(copy(v.Sk[:], sks))
			out[k] = v
		}
	}
	return out
}
