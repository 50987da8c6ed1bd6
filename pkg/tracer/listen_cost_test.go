// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"io"
	"net"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// roundTrips sends n small requests over one established connection, each
// answered by a small reply.
func roundTrips(t testing.TB, n int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(c, c)
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 64)
	for range n {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
}

func establishedPackets(b *testing.B, n int) { roundTrips(b, n) }

// TestEstablishedCostsNothing: no hook of the listen signal runs for a packet
// of an established connection. Its hooks are named, with how often they ran.
func TestEstablishedCostsNothing(t *testing.T) {
	tr := open(t, Options{})
	v := tr.kern.chosen[SignalListen]
	if v == nil {
		t.Fatal("the listen signal is not measured here")
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	runs := func() map[string]uint64 {
		out := make(map[string]uint64)
		for _, h := range v.hooks {
			if p := tr.kern.programs[h.program]; p != nil && !h.demand {
				s, err := p.Stats()
				if err != nil {
					t.Fatal(err)
				}
				out[h.name] = s.RunCount
			}
		}
		return out
	}
	// The rest of the machine runs them, too, so the least of some tries counts.
	const trips = 20_000 // at least two packets each
	least := make(map[string]uint64)
	for range 10 {
		before := runs()
		roundTrips(t, trips)
		for name, n := range runs() {
			if old, ok := least[name]; n-before[name] < old || !ok {
				least[name] = n - before[name]
			}
		}
	}
	for name, n := range least {
		t.Logf("%s: %d runs for %d packets", name, n, 2*trips)
		if n > trips/100 {
			t.Errorf("%s ran %d times for %d packets of an established connection", name, n, 2*trips)
		}
	}
}

// BenchmarkListenCost measures a connection that is not refused, by variant. The
// hook that consume_skb attaches on demand runs for all other packets as well.
func BenchmarkListenCost(b *testing.B) {
	cases := []costCase{
		{"connection/listen-none", nil, connections},
		{"connection/listen-consume_skb", []hook{{program: "listen_kfree_skb"}}, connections},
		{"connection/listen-consume_skb-on-demand", []hook{{program: "listen_kfree_skb"}, {program: "listen_consume_skb"}}, connections},
	}
	for _, v := range variants[SignalListen] {
		if v.name == "consume_skb" || v.name == "tcp_ext" {
			continue
		}
		hooks := slices.DeleteFunc(slices.Clone(v.hooks), func(h hook) bool { return h.program == hookListen.program })
		if err := canAttach(b, hooks); err != nil {
			b.Logf("%s cannot be measured here: %v", v.name, err)
			continue
		}
		cases = append(cases, costCase{"connection/listen-" + v.name, hooks, connections})
	}
	benchmarkCost(b, cases)
}

func canAttach(b *testing.B, hooks []hook) error {
	b.Helper()
	k, _ := attachOnly(b, nil)
	defer k.Close()
	for i := range hooks {
		l, err := k.attachHook(&hooks[i])
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}
