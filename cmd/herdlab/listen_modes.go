// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"
)

const (
	floodBatch = 256 // packets between two looks at the answers and the clock
	fillWindow = 64  // handshakes at once while a queue is filled

	// How long the kernel keeps a request depends on how full its SYN queue is,
	// down to 1+2+4 s and no further (net/ipv4/inet_connection_sock.c:
	// reqsk_timer_handler()). With 2 retransmissions of the SYN-ACK it is 7 s in
	// any case; with 12 (1+2+4+...+64 s and 6 times 120 s, at most half full)
	// longer than maxDuration.
	shortSynAckRetries = 2
	longSynAckRetries  = 12
	requestAge         = 6500 * time.Millisecond
)

// listenMode is one way to refuse clients, or its healthy twin.
type listenMode struct {
	name       string
	brief      string
	backlog    int // default
	packets    int // default, where it is not the flag's
	maxClients int
	group      bool // may be an SO_REUSEPORT group
	halfOpen   bool // the flood is final ACKs of requests that the server holds
	cookieACKs bool // the flood is ACKs that carry SYN cookies
	fillsSyn   bool // the SYN queue is full
	retries    int  // tcp_synack_retries
	accepting  accepting
	fill       func(*listenLab) error // before the flood; may be nil
	flood      func(*listenLab, context.Context) error
}

var listenModes = []listenMode{
	{name: "accept-overflow", brief: "the accept queue is full: SYNs are dropped",
		backlog: 16, maxClients: 200000, group: true, retries: shortSynAckRetries, accepting: acceptNone,
		fill: (*listenLab).fillAcceptQueue, flood: (*listenLab).floodSYNs},
	{name: "ack-overflow", brief: "the accept queue is full: the final ACKs of half-open requests are dropped",
		backlog: 1024, maxClients: 65000, halfOpen: true, retries: longSynAckRetries, accepting: acceptNone,
		fill: (*listenLab).fillBehindRequests, flood: (*listenLab).floodACKs},
	{name: "cookie-overflow", brief: "the accept queue is full: final ACKs that carry SYN cookies are dropped",
		backlog: 128, maxClients: 65000, cookieACKs: true, fillsSyn: true, retries: shortSynAckRetries, accepting: acceptNone,
		fill: (*listenLab).fillByCookies, flood: (*listenLab).floodACKs},
	{name: "syn-overflow", brief: "the SYN queue is full: SYNs are dropped or, with --cookies on, answered with cookies",
		backlog: 128, maxClients: 200000, group: true, fillsSyn: true, retries: shortSynAckRetries, accepting: acceptNone,
		fill: (*listenLab).fillSynQueue, flood: (*listenLab).floodSYNs},
	{name: "healthy", brief: "as many handshakes, all accepted at once and closed: nothing is refused",
		backlog: 4096, maxClients: 65000, group: true, retries: shortSynAckRetries, accepting: acceptAll,
		flood: (*listenLab).floodHandshakes},
	{name: "slow", brief: "nothing is refused, but the server accepts slower than clients come: they wait in the queue",
		backlog: 4096, packets: 2000, maxClients: 65000, retries: shortSynAckRetries, accepting: acceptPaced,
		flood: (*listenLab).floodHandshakes},
}

// findListenMode returns the row of that name, or nil.
func findListenMode(name string) *listenMode {
	for i := range listenModes {
		if listenModes[i].name == name {
			return &listenModes[i]
		}
	}
	return nil
}

func listenModeNames() string {
	var names []string
	for _, m := range listenModes {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}

// keepsFull: the flood meets a full SYN queue, so that has to stay full.
func (m *listenMode) keepsFull() bool { return m.fillsSyn && !m.cookieACKs }

// refuses: what the flood sends is refused.
func (c *listenConfig) refuses() bool {
	return c.mode.accepting == acceptNone && !(c.mode.keepsFull() && c.cookies)
}

// handshakes is how many complete handshakes the flood is; each needs a port.
func (c *listenConfig) handshakes() int {
	if c.mode.accepting == acceptNone {
		return 0
	}
	return c.packets
}

// synQueueRoom is how many requests one socket admits (since 6.1; 5.10 one
// less where the backlog is what limits it). include/net/
// inet_connection_sock.h: inet_csk_reqsk_queue_is_full(); without cookies also
// net/ipv4/tcp_input.c: tcp_conn_request(), the last quarter.
func (c *listenConfig) synQueueRoom() (room int, byBacklog bool) {
	if reserve := c.maxSynBacklog - c.maxSynBacklog/4 + 1; !c.cookies && reserve < c.backlog+1 {
		return reserve, false
	}
	return c.backlog + 1, true
}

// wave is how many connections floodHandshakes opens at once, and how many
// may be in flight.
func (c *listenConfig) wave() (wave, limit int) {
	switch {
	case c.mode.accepting == acceptPaced:
		return c.batch(min(fillWindow, c.backlog)), c.backlog
	case c.burst > 0:
		return c.burst, c.burst
	}
	limit = max(1, min(2*fillWindow, c.backlog/4))
	return c.batch(max(1, limit/2)), limit
}

// batch is how many packets are sent at once: at a rate, those of 1 ms.
func (c *listenConfig) batch(most int) int {
	if c.rate == 0 {
		return most
	}
	return max(1, min(most, int(c.rate/1000)))
}
