// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"runtime"
)

// listenOracle is what herdlab listen prints.
type listenOracle struct {
	NetNS    uint64 `json:"netns"`
	Clients  int64  `json:"clients"`
	Fill     int64  `json:"fill_refusals"`
	Packets  int64  `json:"packets"`
	Refusals places `json:"refusals"`
	Peak     int64  `json:"accept_queue_peak"`

	Overflows int64 `json:"listen_overflows_delta"`
	Drops     int64 `json:"listen_drops_delta"`
	Cookies   int64 `json:"syncookies_sent_delta"`
}

// judgeListen: the sums are TcpExt's by every variant; places, peak and clients
// are known by those that are exact.
func judgeListen(j *judgement, _ string) {
	var o listenOracle
	if err := json.Unmarshal(j.run.oracle, &o); err != nil || o.NetNS == 0 {
		j.wrong("the lab said no oracle: %v", err)
		return
	}
	var sum listenerRecord
	inodes := make(map[uint64]bool)
	for _, l := range j.run.summary().Listeners {
		if l.NetNS != o.NetNS {
			continue
		}
		inodes[l.Inode] = true
		sum.Refusals.add(&l.Refusals)
		sum.RefusalsTotal += l.RefusalsTotal
		sum.Seen += l.Seen
		sum.Clients += l.Clients
		sum.Estimated = sum.Estimated || l.Estimated
		sum.CookiesSent += l.CookiesSent
		sum.AcceptQueuePeak = max(sum.AcceptQueuePeak, l.AcceptQueuePeak)
	}
	j.equal("listeners", int64(len(inodes)), 1)
	j.equal("refusals at the accept queue", sum.Refusals.overflows(), o.Overflows)
	j.equal("refusals", sum.RefusalsTotal, o.Drops)
	j.equal("cookies", sum.CookiesSent, o.Cookies)
	for _, n := range j.run.summary().NetNS {
		if n.NetNS == o.NetNS {
			j.equal("ListenOverflows", n.TCPExt["listen_overflows_total"], o.Overflows)
			j.equal("ListenDrops", n.TCPExt["listen_drops_total"], o.Drops)
			if n.Unattributed != (places{}) {
				j.wrong("unattributed refusals %+v", n.Unattributed)
			}
		}
	}
	if !j.exact {
		return
	}
	if sum.Refusals != o.Refusals {
		j.wrong("refusals %+v, the lab made %+v", sum.Refusals, o.Refusals)
	}
	j.equal("accept queue peak", int64(sum.AcceptQueuePeak), o.Peak)
	judgeClients(j, &o, &sum, inodes)
}

// judgeClients: each refused client is known. Without fexit the first SYN of each
// core tells nothing where it is the SYN queue that is full.
func judgeClients(j *judgement, o *listenOracle, sum *listenerRecord, inodes map[uint64]bool) {
	unseen := min(sum.Refusals.SynQ, int64(runtime.NumCPU()))
	if sum.Seen+unseen < sum.RefusalsTotal || sum.Seen > sum.RefusalsTotal {
		j.wrong("%d of %d refusals were seen one by one", sum.Seen, sum.RefusalsTotal)
	}
	want := o.Fill
	if o.Drops > 0 {
		want += o.Clients
	}
	if sum.Estimated || sum.Clients != want {
		j.wrong("%d refused clients (estimated: %v), want %d", sum.Clients, sum.Estimated, want)
	}
	var told int64
	for i := range j.run.records {
		if e := &j.run.records[i]; e.Type == "event" && e.Kind == "refusal" && inodes[e.Inode] {
			told += e.Refused
		}
	}
	j.equal("refusals that the events tell of", told, sum.Seen)
}
