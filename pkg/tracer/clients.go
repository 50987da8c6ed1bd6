// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// clientGone is when a client that was refused no more has given up:
	// net.ipv4.tcp_syn_retries of 6 makes it try for 127 s.
	clientGone = 130 * time.Second
	// sweepEvery is how often clients that have given up are looked for.
	sweepEvery = 10 * time.Second
	// topClients is how many of a listener's clients are named.
	topClients = 8
)

// clientMap counts, by listener, the clients that were refused. The kernel's
// map holds those that may come back, each exactly; what does not fit is
// estimated from a sketch.
type clientMap struct {
	m, sketches *ebpf.Map
	shares      *ebpf.Map
	now         map[uint64]*sample.RefusedClients // as of the last sweep
	done        map[uint64]*sample.RefusedClients // those that have given up
	refusals    uint64                            // by all, when it was swept
	swept       time.Time
	left        bool // clients of listeners that are gone were left in the map
	keys        []bpf.AcceptClientKey
	values      []bpf.AcceptClient
}

func newClientMap(k *kernel) *clientMap {
	return &clientMap{
		m: k.mapOf("clients"), sketches: k.mapOf("sketches"), shares: k.mapOf("client_shares"),
		now:  make(map[uint64]*sample.RefusedClients),
		done: make(map[uint64]*sample.RefusedClients),
	}
}

func (c *clientMap) of(inode uint64) sample.RefusedClients {
	if r := c.now[inode]; r != nil {
		out := *r
		out.Top = slices.Clone(r.Top)
		return out
	}
	return sample.RefusedClients{}
}

// sweep counts the clients anew where there were refusals since the last time,
// and removes those that have given up.
func (c *clientMap) sweep(listeners map[uint64]*listenerState) error {
	var refusals uint64
	for _, ls := range listeners {
		refusals += ls.queues.seen.Total()
	}
	age := time.Since(c.swept)
	if refusals == c.refusals && (age < sweepEvery || len(c.now) == 0 && !c.left) {
		return nil
	}
	c.refusals, c.swept = refusals, time.Now()
	fresh := make(map[uint64]*sample.RefusedClients)
	for inode, d := range c.done {
		if listeners[inode] == nil {
			delete(c.done, inode)
			continue
		}
		copied := *d
		copied.Top = slices.Clone(d.Top)
		fresh[inode] = &copied
	}
	gone, err := c.count(fresh, listeners)
	for i := range gone { // also after an error: these are in c.done
		c.m.Delete(&gone[i])
	}
	if err != nil {
		return err
	}
	c.now = fresh
	return c.estimate(listeners)
}

// count adds the clients of the map to fresh, and returns those to remove.
func (c *clientMap) count(fresh map[uint64]*sample.RefusedClients, listeners map[uint64]*listenerState) ([]bpf.AcceptClientKey, error) {
	if c.keys == nil {
		c.keys = make([]bpf.AcceptClientKey, 4096)
		c.values = make([]bpf.AcceptClient, 4096)
	}
	var gone []bpf.AcceptClientKey
	held := make(map[uint64]uint64)
	for inode := range c.now {
		held[inode] = 0 // where the last one has given up, too
	}
	c.left = false
	now := monoNS()
	var cursor ebpf.MapBatchCursor
	for {
		n, err := c.m.BatchLookup(&cursor, c.keys, c.values, nil)
		for i := range n {
			k, v := &c.keys[i], &c.values[i]
			idle := time.Duration(less(now, v.LastNs))
			if listeners[k.Ino] == nil {
				if idle > sweepEvery { // else it may be too new to be known
					gone = append(gone, *k)
				} else {
					c.left = true
				}
				continue
			}
			addClient(fresh, k, v)
			if idle > clientGone {
				addClient(c.done, k, v)
				gone = append(gone, *k)
				continue
			}
			held[k.Ino]++
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			for inode, n := range held {
				if err := c.shares.Put(inode, n); err != nil {
					return gone, fmt.Errorf("write the shares of refused clients: %w", err)
				}
			}
			return gone, nil
		}
		if err != nil {
			return gone, fmt.Errorf("read refused clients: %w", err)
		}
	}
}

func addClient(to map[uint64]*sample.RefusedClients, k *bpf.AcceptClientKey, v *bpf.AcceptClient) {
	r := to[k.Ino]
	if r == nil {
		r = &sample.RefusedClients{}
		to[k.Ino] = r
	}
	n := uint32(min(v.Refusals, math.MaxUint32))
	r.Total++
	r.Max = max(r.Max, n)
	switch {
	case n <= 1:
		r.Retries[0]++
	case n == 2:
		r.Retries[1]++
	case n <= 5:
		r.Retries[2]++
	default:
		r.Retries[3]++
	}
	if len(r.Top) == topClients && r.Top[topClients-1].Refusals >= n {
		return
	}
	r.Top = append(r.Top, sample.RefusedClient{Addr: clientAddr(k.Family, k.Addr), Port: k.Port, Refusals: n})
	slices.SortFunc(r.Top, func(a, b sample.RefusedClient) int {
		return cmp.Or(cmp.Compare(b.Refusals, a.Refusals), cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Port, b.Port))
	})
	r.Top = r.Top[:min(len(r.Top), topClients)]
}

func clientAddr(family uint16, addr [16]uint8) string {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(addr[:4])).String()
	}
	return netip.AddrFrom16(addr).Unmap().String()
}

// estimate adds the clients that the map had no room for.
func (c *clientMap) estimate(listeners map[uint64]*listenerState) error {
	var inode uint64
	var s bpf.AcceptSketch
	var gone []uint64
	it := c.sketches.Iterate()
	for it.Next(&inode, &s) {
		if listeners[inode] == nil {
			gone = append(gone, inode)
			continue
		}
		r := c.now[inode]
		if r == nil {
			r = &sample.RefusedClients{}
			c.now[inode] = r
		}
		r.Total += hyperLogLog(s.Rank[:])
		r.Estimated = true
	}
	for _, inode := range gone {
		c.sketches.Delete(inode)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read client sketches: %w", err)
	}
	return nil
}

// hyperLogLog estimates how many distinct things were sketched (Flajolet and
// others, 2007, with linear counting where few were): 256 registers give a
// standard error of 6.5 %.
func hyperLogLog(ranks []uint8) uint64 {
	m := float64(len(ranks))
	sum, empty := 0.0, 0.0
	for _, r := range ranks {
		sum += math.Exp2(-float64(r))
		if r == 0 {
			empty++
		}
	}
	e := 0.7213 / (1 + 1.079/m) * m * m / sum
	if e <= 2.5*m && empty > 0 {
		e = m * math.Log(m/empty)
	}
	return uint64(math.Round(e))
}
