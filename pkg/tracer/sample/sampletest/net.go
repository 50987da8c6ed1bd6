// SPDX-License-Identifier: Apache-2.0

package sampletest

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	netns      = 4026531840
	firstInode = 1_100_000
	firstPID   = 20_000
	backlog    = 128
)

// The listeners that have something: the first is a herd, the second refuses.
const (
	herd = iota
	refusing
)

var waits = []string{sample.WaitEpoll, sample.WaitEpollExclusive, sample.WaitEpollET, sample.WaitAccept, sample.WaitPoll, sample.WaitURing}

// listener is the i-th one. It wakes a worker for every other connection, so
// that it is no herd; but the first one is.
func (l Load) listener(i int, t uint64) sample.Listener {
	li := sample.Listener{
		Inode: firstInode + uint64(i), Proto: "tcp", Addr: fmt.Sprintf("10.%d.%d.%d", i/100, i%100, i%7), Port: uint16(8000 + i),
		NetNS: netns, ReusePort: i%5 == 4, AcceptQueueMax: backlog, AcceptQueueLen: uint32(level(seedListener+uint64(i), t, 7)),
		Processes: l.Workers, HolderProgram: program(i),
	}
	for w := range l.Workers {
		pid := uint32(firstPID + i*l.Workers + w)
		li.Holders = append(li.Holders, pid)
		seed := seedWorker + uint64(pid)*8
		accepts := 40 + uint64(i*7%300)
		c := sample.Counters{
			AcceptsTotal: grown(seed, t, accepts), WakeupsTotal: grown(seed+1, t, accepts/2), AcceptEAGAINTotal: grown(seed+2, t, accepts/3),
			WastedWakeupsTotal: grown(seed+3, t, accepts/9), EmptyWakeupsTotal: grown(seed+4, t, accepts/8), EmptyBurstsTotal: t,
			EmptyCPUNS: grown(seed+5, t, accepts*micro),
		}
		c.DrainEAGAINTotal = c.AcceptEAGAINTotal - c.WastedWakeupsTotal
		if i == herd {
			c.WakeupsTotal, c.EmptyWakeupsTotal = c.AcceptsTotal*4, c.AcceptsTotal*3
		}
		li.Workers = append(li.Workers, sample.Worker{
			PID: pid, TID: pid, Comm: program(i), Program: program(i), Wait: waits[i%len(waits)],
			RunNS: grown(seed+6, t, 55*milli), WaitNS: grown(seed+7, t, 3*milli), Sleeps: grown(seed, t, accepts), Asleep: level(seed, t, 1) == 0,
			Counters: c,
		})
		li.Counters.Add(c)
	}
	li.CompletionsTotal = li.AcceptsTotal
	li.Queues = queues(i, t, &li)
	return li
}

func queues(i int, t uint64, li *sample.Listener) *sample.Queues {
	seed := seedListener + uint64(i)*8
	q := &sample.Queues{
		SynQueueLen: uint32(level(seed+1, t, 40)), SynQueueMax: backlog, SynQueuePeak: 40 + uint32(level(seed+2, t, 20)), SynPeakSampled: true,
		AcceptQueuePeak: 8 + uint32(level(seed+3, t, 90)), AcceptFullNS: grown(seed+4, t, milli), Backlog: backlog,
	}
	if i == refusing {
		li.AcceptQueueLen, q.AcceptQueuePeak, q.AcceptFullNS = backlog+1, backlog+1, grown(seed+4, t, 400*milli)
		q.Refusals = refusals(t)
		q.SeenTotal = q.Refusals.Total()
		q.Clients = sample.RefusedClients{Total: q.SeenTotal / 3, Retries: [4]uint64{q.SeenTotal / 9, q.SeenTotal / 9, q.SeenTotal / 9}, Max: 6}
		for c := range 8 {
			q.Clients.Top = append(q.Clients.Top, sample.RefusedClient{Addr: "192.0.2.7", Port: uint16(40_000 + c), Refusals: 6})
		}
	}
	return q
}

// refusals are those of the listener that refuses.
func refusals(t uint64) sample.Refusals {
	return sample.Refusals{AcceptQueueSYN: grown(seedListener-1, t, 90), AcceptQueueACK: grown(seedListener-2, t, 40)}
}

func namespace(t uint64) sample.NetNS {
	r := refusals(t)
	return sample.NetNS{
		Inode: netns, Somaxconn: 4096, MaxSynBacklog: 512, Syncookies: 1,
		TCPExt: &sample.TCPExt{ListenOverflows: r.Total(), ListenDrops: r.Total()},
	}
}

// netRX is one device with a queue for each of eight cores, and loopback.
func (l Load) netRX(t uint64) *sample.NetRX {
	d := sample.NetDevice{NetNS: netns, IfIndex: 2, Name: "eth0", Driver: "virtio_net", RXPackets: grown(seedCore-1, t, 900_000)}
	for q := range min(l.Cores, 8) {
		d.Queues = append(d.Queues, sample.RXQueue{})
		irq := sample.IRQ{Number: 40 + q, Name: fmt.Sprintf("virtio0-input.%d", q), Affinity: []int{q}, PerCPU: make([]uint64, l.Cores)}
		irq.PerCPU[q] = grown(seedCore-uint64(q)-2, t, 9000)
		d.IRQs = append(d.IRQs, irq)
	}
	return &sample.NetRX{
		MaxBacklog: 1000, Budget: 300, BudgetUsecs: 2000,
		Devices: []sample.NetDevice{d, {NetNS: netns, IfIndex: 1, Name: "lo", RXPackets: grown(seedCore-20, t, 50_000)}},
	}
}

// events are some of each kind.
func (l Load) events(t uint64) (es []sample.Event) {
	if t == 0 {
		return nil
	}
	at := func(i uint64) uint64 { return boot + (t-1)*second + i*100*milli }
	for i := range uint64(3) {
		es = append(es, sample.Event{MonoNS: at(i), Kind: sample.EventHerdBurst, Inode: firstInode + herd, Woken: uint32(l.Workers)})
	}
	for i := range uint64(3) {
		es = append(es, sample.Event{
			MonoNS: at(3 + i), Kind: sample.EventRefusal, Inode: firstInode + refusing, Place: sample.PlaceAcceptQueueSYN,
			Client: fmt.Sprintf("192.0.2.7:%d", 40_000+t), Refused: 1 + level(seedEvent, t+i, 40), AcceptQueueLen: backlog + 1,
		})
	}
	for i := range min(throttled, l.CGroups) {
		stop := 10*milli + level(seedEvent+1+uint64(i), t, 50*milli)
		es = append(es, sample.Event{
			MonoNS: at(6 + uint64(i)), Kind: sample.EventThrottle, CGroupID: firstGroup + uint64(i), CGroup: groupPath(i),
			DurationNS: stop, ThrottledNS: 2 * stop, Cores: 2, Threads: 2, TIDs: []uint32{firstPID, firstPID + 1},
		})
	}
	return es
}

func program(i int) string { return fmt.Sprintf("app-%d", i) }
