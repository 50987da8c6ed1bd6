// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"

	"golang.org/x/sys/unix"
)

// netrxCostCases: a packet over loopback raises, enters and leaves NET_RX once;
// one to a closed port is freed by kfree_skb. A program that ends what another
// begins does its work only beside it.
var netrxCostCases = []costCase{
	{"packet/none", nil, packets},
	{"packet/empty-softirq_entry", []hook{{program: "empty_softirq_entry"}}, packets},
	{"packet/net_rx_entry", []hook{{program: "net_rx_entry"}}, packets},
	{"packet/empty-softirq_exit", []hook{{program: "empty_softirq_exit"}}, packets},
	{"packet/net_rx_entry+exit", []hook{{program: "net_rx_entry"}, {program: "net_rx_exit"}}, packets},
	{"packet/empty-softirq_raise", []hook{{program: "empty_softirq_raise"}}, packets},
	{"packet/net_rx_entry+raise", []hook{{program: "net_rx_entry"}, {program: "net_rx_raise"}}, packets},
	{"packet/empty-all", []hook{{program: "empty_softirq_entry"}, {program: "empty_softirq_exit"}, {program: "empty_softirq_raise"}}, packets},
	{"packet/all", []hook{{program: "net_rx_entry"}, {program: "net_rx_exit"}, {program: "net_rx_raise"}}, packets},
	{"unwanted-packet/none", nil, unwantedPackets},
	{"unwanted-packet/empty-kfree_skb", []hook{{program: "empty_kfree_skb"}}, unwantedPackets},
	{"unwanted-packet/backlog_by_reason", []hook{{program: "backlog_by_reason"}}, unwantedPackets},
	{"unwanted-packet/backlog_by_location", []hook{{program: "backlog_by_location"}}, unwantedPackets},
	{"connection/none", nil, connections},
	{"connection/netrx", []hook{{program: "net_rx_entry"}, {program: "net_rx_exit"}, {program: "net_rx_raise"}, {program: "backlog_by_reason"}}, connections},
}

// packets sends n packets and receives them.
func packets(b *testing.B, n int) {
	fd, err := newUDP()
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 1)
	for range n / 100 {
		if err := sendUDP(fd, 100); err != nil {
			b.Fatal(err)
		}
		for range 100 {
			unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		}
	}
}

// unwantedPackets sends n packets to a port that nobody is bound to. Not
// connected, the socket is not told.
func unwantedPackets(b *testing.B, n int) {
	closed, err := newUDP()
	if err != nil {
		b.Fatal(err)
	}
	to, err := unix.Getsockname(closed)
	unix.Close(closed)
	if err != nil {
		b.Fatal(err)
	}
	fd, err := newUDP()
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	for range n {
		unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, to)
	}
}

// BenchmarkNetRXCost reports as BenchmarkCost does.
func BenchmarkNetRXCost(b *testing.B) { benchmarkCost(b, netrxCostCases) }
