// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// listenOracle is the line on stdout. Null is what cannot be known in this
// mode, never a zero.
type listenOracle struct {
	V                int      `json:"v"`
	Type             string   `json:"type"`
	Scenario         string   `json:"scenario"`
	Mode             string   `json:"mode"`
	Listen           string   `json:"listen"`
	Addr             string   `json:"addr"`
	Port             int      `json:"port"`
	NetNS            uint64   `json:"netns"`
	PID              int      `json:"pid"`
	Comm             string   `json:"comm"`
	Backlog          int      `json:"backlog"`
	Sockets          int      `json:"sockets"`
	Cookies          bool     `json:"cookies"`
	MaxSynBacklog    int      `json:"max_syn_backlog"`
	Abort            bool     `json:"abort"`
	SynsSent         int64    `json:"syns_sent"`
	AcksSent         int64    `json:"acks_sent"`
	Packets          int      `json:"packets"`
	Clients          int      `json:"clients"`
	ClientAddresses  int      `json:"client_addresses"`
	ClientRefusalMax int64    `json:"client_refusals_max"`
	SynAcks          int64    `json:"syn_acks"`
	SynAckRetransmit int64    `json:"syn_ack_retransmissions"`
	Resets           int64    `json:"resets"`
	Handshakes       int64    `json:"handshakes"`
	Accepts          int64    `json:"accepts"`
	Refusals         refusals `json:"refusals"`
	FillRefusals     int64    `json:"fill_refusals"` // of them, before the flood or beside it: a client each
	listenCounters
	AcceptQueuePeak int     `json:"accept_queue_peak"`
	SynQueuePeak    *int    `json:"syn_queue_peak"`
	LongestWaitNS   *int64  `json:"longest_wait_ns"`
	FloodSeconds    float64 `json:"flood_seconds"`
}

// refusals are the lab's own arithmetic: packets without effect, by what kept
// them from having one.
type refusals struct {
	AcceptQueueSyn    int64 `json:"accept_queue_syn"`
	AcceptQueueAck    int64 `json:"accept_queue_ack"`
	AcceptQueueCookie int64 `json:"accept_queue_cookie"`
	SynQueue          int64 `json:"syn_queue"`
}

func (r refusals) overflows() int64 { return r.AcceptQueueSyn + r.AcceptQueueAck + r.AcceptQueueCookie }
func (r refusals) total() int64     { return r.overflows() + r.SynQueue }

// listenCounters are the kernel's own counts since the namespace began. A
// listen drop is any refusal; the overflows are contained in them.
type listenCounters struct {
	ListenOverflows   int64 `json:"listen_overflows_delta"`
	ListenDrops       int64 `json:"listen_drops_delta"`
	ReqQFullDrop      int64 `json:"req_q_full_drop_delta"`
	ReqQFullDoCookies int64 `json:"req_q_full_do_cookies_delta"`
	SyncookiesSent    int64 `json:"syncookies_sent_delta"`
	SyncookiesRecv    int64 `json:"syncookies_recv_delta"`
	SyncookiesFailed  int64 `json:"syncookies_failed_delta"`
}

func listenDeltas(before, after netCounters) listenCounters {
	delta := func(name string) int64 { return after["TcpExt."+name] - before["TcpExt."+name] }
	return listenCounters{
		delta("ListenOverflows"), delta("ListenDrops"), delta("TCPReqQFullDrop"), delta("TCPReqQFullDoCookies"),
		delta("SyncookiesSent"), delta("SyncookiesRecv"), delta("SyncookiesFailed"),
	}
}

// refusals adds up what was sent and had no effect: a SYN without an answer,
// and a final ACK without a connection, accepted or queued.
func (l *listenLab) refusals(accepts int64) (r refusals, err error) {
	lens, err := l.queues()
	if err != nil {
		return r, err
	}
	completed := accepts
	for _, n := range lens {
		completed += int64(n)
	}
	syns, acks := l.wire.syns-l.wire.answers, l.wire.acks-completed
	if l.cfg.mode.keepsFull() {
		r.SynQueue = syns
	} else {
		r.AcceptQueueSyn = syns
	}
	if l.cfg.mode.cookieACKs {
		r.AcceptQueueCookie = acks
	} else {
		r.AcceptQueueAck = acks
	}
	return r, nil
}

// newOracle adds up what clients, server and kernel counted.
func (l *listenLab) newOracle(served serverReport, after netCounters) (*listenOracle, error) {
	refused, err := l.refusals(served.Accepts)
	if err != nil {
		return nil, err
	}
	c, w := l.cfg, l.wire
	o := &listenOracle{
		V: 1, Type: "oracle", Scenario: "listen", Mode: c.mode.name, Listen: c.kind.name, Addr: l.server.bind, Port: c.port,
		NetNS: l.netns, PID: l.owner.pid(), Comm: c.comm, Backlog: c.backlog, Sockets: c.sockets,
		Cookies: c.cookies, MaxSynBacklog: c.maxSynBacklog, Abort: c.abort,
		SynsSent: w.syns, AcksSent: w.acks, Packets: l.packets,
		SynAcks: w.synAcks, SynAckRetransmit: w.synAcks - w.answers, Resets: w.resets,
		Handshakes: w.acks - refused.AcceptQueueAck - refused.AcceptQueueCookie, Accepts: served.Accepts,
		Refusals: refused, FillRefusals: l.filling.total(), listenCounters: listenDeltas(l.before, after),
		AcceptQueuePeak: l.acceptPeak, FloodSeconds: l.floodTime.Seconds(),
	}
	if c.refuses() {
		o.Clients, o.ClientAddresses, o.ClientRefusalMax = l.clients.refused()
	}
	if c.sockets == 1 || c.mode.keepsFull() {
		o.SynQueuePeak = &l.synPeak
	}
	if c.mode.accepting == acceptPaced {
		wait := longestWait(l.ackedAt, served.Times)
		o.LongestWaitNS = &wait
	}
	return o, nil
}

// refused counts who sent the flood: with all of it refused, who was.
func (c *crowd) refused() (clients, addresses int, most int64) {
	last := uint32(0)
	for id := range c.peers {
		if c.peers[id].flood == 0 {
			continue
		}
		clients++
		most = max(most, int64(c.peers[id].flood))
		if addr, _ := c.endpoint(id); addr != last {
			addresses++
			last = addr
		}
	}
	return clients, addresses, most
}

// longestWait pairs the final ACKs with the accepts: the accept queue of one
// socket is first in, first out. Who is not accepted yet has waited until now.
func longestWait(acked, accepted []int64) (longest int64) {
	now := monotonic()
	for i, from := range acked {
		to := now
		if i < len(accepted) {
			to = accepted[i]
		}
		longest = max(longest, to-from)
	}
	return longest
}

// judge compares the lab's arithmetic with the kernel's counters, and what
// became of the flood with what it was for.
func (l *listenLab) judge(o *listenOracle) error {
	var want listenCounters
	want.ListenOverflows, want.ListenDrops = o.Refusals.overflows(), o.Refusals.total()
	if _, byBacklog := l.cfg.synQueueRoom(); byBacklog && !l.cfg.cookies {
		want.ReqQFullDrop = o.Refusals.SynQueue
	}
	if l.cfg.mode.fillsSyn && l.cfg.cookies {
		want.SyncookiesSent = l.wire.answers - l.admitted
		want.ReqQFullDoCookies = want.SyncookiesSent
	}
	if l.cfg.mode.cookieACKs {
		want.SyncookiesRecv = o.AcksSent
	}
	var wrong []string
	differ := func(what string, want, got int64) {
		if want != got {
			wrong = append(wrong, fmt.Sprintf("%s is %d, want %d", what, got, want))
		}
	}
	got := o.listenCounters
	differ("ListenOverflows", want.ListenOverflows, got.ListenOverflows)
	differ("ListenDrops", want.ListenDrops, got.ListenDrops)
	differ("TCPReqQFullDrop", want.ReqQFullDrop, got.ReqQFullDrop)
	differ("TCPReqQFullDoCookies", want.ReqQFullDoCookies, got.ReqQFullDoCookies)
	differ("SyncookiesSent", want.SyncookiesSent, got.SyncookiesSent)
	differ("SyncookiesRecv", want.SyncookiesRecv, got.SyncookiesRecv)
	differ("SyncookiesFailed", 0, got.SyncookiesFailed)
	refused := int64(0)
	if l.cfg.refuses() {
		refused = int64(o.Packets)
	}
	differ("the number of refusals in the flood", refused, o.Refusals.total()-o.FillRefusals)
	if len(wrong) > 0 {
		return fmt.Errorf("check the oracle against TcpExt: %s", strings.Join(wrong, "; "))
	}
	return nil
}
