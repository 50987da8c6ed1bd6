// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"math"
	"slices"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// entry is one listener's page of the refusal ledger, since attach.
type entry struct {
	booked          sample.Refusals // what it stands for: seen, or found missing
	seen            sample.Refusals // of them, those seen one by one
	cookies, failed uint64          // SYN cookies, booked
	approximate     bool
	last            counted // what the programs' element had at the last call of take

	drops       uint32 // sk_drops when it was looked at last
	unexplained uint64 // by how much it grew beyond what was booked
	growth      uint64 // by how much it grew since the last tick
	acceptFull  recent // its accept queue was full
	synFull     recent // its SYN queue was
	ackRefused  recent // a refused final ACK was seen
}

// counted is what the programs count at a listener's element.
type counted struct {
	refused         sample.Refusals
	cookies, failed uint64
}

// recent is for how many more ticks something counts as having just happened:
// the kernel's counters may be read a little before or after what they count.
type recent uint8

const thisTick recent = 2

// age ends a tick. What is left unexplained by then was something else.
func (e *entry) age() {
	e.unexplained = min(e.unexplained, e.growth)
	e.growth = 0
	e.acceptFull -= min(e.acceptFull, 1)
	e.synFull -= min(e.synFull, 1)
	e.ackRefused -= min(e.ackRefused, 1)
}

// take books what the programs saw since the last call.
func (e *entry) take(raw *bpf.AcceptListener, sum *sums) {
	now := counted{cookies: raw.CookiesSent, failed: raw.CookiesFailed, refused: sample.Refusals{
		AcceptQueueSYN:    raw.Refused[bpf.AcceptPlacePLACE_ACCEPT_QUEUE_SYN],
		AcceptQueueACK:    raw.Refused[bpf.AcceptPlacePLACE_ACCEPT_QUEUE_ACK],
		AcceptQueueCookie: raw.Refused[bpf.AcceptPlacePLACE_ACCEPT_QUEUE_COOKIE],
		SynQueue:          raw.Refused[bpf.AcceptPlacePLACE_SYN_QUEUE],
	}}
	d := sample.Refusals{
		AcceptQueueSYN:    less(now.refused.AcceptQueueSYN, e.last.refused.AcceptQueueSYN),
		AcceptQueueACK:    less(now.refused.AcceptQueueACK, e.last.refused.AcceptQueueACK),
		AcceptQueueCookie: less(now.refused.AcceptQueueCookie, e.last.refused.AcceptQueueCookie),
		SynQueue:          less(now.refused.SynQueue, e.last.refused.SynQueue),
	}
	cookies, failed := less(now.cookies, e.last.cookies), less(now.failed, e.last.failed)
	e.last = now
	for _, r := range []*sample.Refusals{&e.seen, &e.booked, &sum.booked} {
		addRefusals(r, &d)
	}
	if d.AcceptQueueACK > 0 {
		e.ackRefused = thisTick
	}
	e.cookies += cookies
	e.failed += failed
	sum.cookies += cookies
	sum.failed += failed
	// A refused final ACK is counted twice: net/ipv4/tcp_ipv4.c: tcp_listendrop(),
	// then discard_and_relse.
	grown := uint64(raw.Drops - e.drops)
	e.growth += grown
	e.unexplained += grown
	e.unexplained = less(e.unexplained, d.Total()+d.AcceptQueueACK)
	e.drops = raw.Drops
}

func addRefusals(to, d *sample.Refusals) {
	to.AcceptQueueSYN += d.AcceptQueueSYN
	to.AcceptQueueACK += d.AcceptQueueACK
	to.AcceptQueueCookie += d.AcceptQueueCookie
	to.SynQueue += d.SynQueue
}

// sums are what one namespace's listeners have in their books together, those
// included that are closed and forgotten.
type sums struct {
	booked          sample.Refusals
	unattributed    sample.Refusals
	cookies, failed uint64
}

// settle books what the kernel counted (total, since attach) and no program
// saw, at the listeners that it can have happened to. blind: the variant sees
// no refused ACK, either, so that they must be told from sk_drops, which counts
// them twice.
func (s *sums) settle(total *sample.TCPExt, entries []*entry, blind bool) {
	accept := less(total.ListenOverflows, s.booked.AcceptQueue()+s.unattributed.AcceptQueue())
	syn := less(total.ListenDrops-min(total.ListenDrops, total.ListenOverflows), s.booked.SynQueue+s.unattributed.SynQueue)
	weight := (*entry).acceptWeight
	if blind && !slices.ContainsFunc(entries, func(e *entry) bool { return e.acceptFull > 0 }) {
		weight = (*entry).dropWeight // it was full between two looks: sk_drops tells where
	}
	distribute(accept, entries, weight, func(e *entry, n uint64) {
		ack := uint64(0)
		if e != nil && (blind || e.ackRefused > 0) {
			ack = min(n, less(e.unexplained, n+syn)) // or it was one of these, that was missed
		}
		d := sample.Refusals{AcceptQueueSYN: n - ack, AcceptQueueACK: ack}
		if e == nil {
			addRefusals(&s.unattributed, &d)
			return
		}
		e.unexplained = less(e.unexplained, n+ack)
		e.approximate = e.approximate || blind || ack > 0
		addRefusals(&e.booked, &d)
		addRefusals(&s.booked, &d)
	})
	distribute(syn, entries, (*entry).synWeight, func(e *entry, n uint64) {
		d := sample.Refusals{SynQueue: n}
		if e == nil {
			addRefusals(&s.unattributed, &d)
			return
		}
		e.unexplained = less(e.unexplained, n)
		addRefusals(&e.booked, &d)
		addRefusals(&s.booked, &d)
	})
	distribute(less(total.SyncookiesSent, s.cookies), entries, (*entry).cookieWeight, func(e *entry, n uint64) {
		s.cookies += n
		if e != nil {
			e.cookies += n
		}
	})
	distribute(less(total.SyncookiesFailed, s.failed), entries, (*entry).failedWeight, func(e *entry, n uint64) {
		s.failed += n
		if e != nil {
			e.failed += n
		}
	})
}

// fullWeight is that of a queue that was full, beside 100 for each drop that
// speaks for it.
const fullWeight = 1

// The weights say how likely a listener is to be the one; none of them compares
// with those of another kind.

func (e *entry) acceptWeight() uint64 {
	if e.acceptFull == 0 {
		return 0
	}
	return fullWeight + 100*e.unexplained
}

func (e *entry) dropWeight() uint64 { return e.unexplained }

func (e *entry) synWeight() uint64 {
	if e.synFull == 0 {
		return 100 * e.unexplained
	}
	return fullWeight + 100*e.unexplained
}

func (e *entry) cookieWeight() uint64 {
	if e.synFull > 0 {
		return 1
	}
	return 0
}

func (e *entry) failedWeight() uint64 { return e.cookies }

// distribute shares n out by weight. A single candidate gets all of it, and
// that is exact; with several it is an estimate. Where no weight speaks for
// any, a lone listener gets it, and nil does where there are more.
func distribute(n uint64, entries []*entry, weight func(*entry) uint64, book func(*entry, uint64)) {
	if n == 0 {
		return
	}
	var sum uint64
	var candidates []*entry
	for _, e := range entries {
		if w := weight(e); w > 0 {
			sum += w
			candidates = append(candidates, e)
		}
	}
	switch {
	case len(candidates) == 1:
		book(candidates[0], n)
		return
	case len(candidates) == 0 && len(entries) == 1:
		book(entries[0], n)
		return
	case len(candidates) == 0:
		book(nil, n)
		return
	}
	weights := make([]uint64, len(candidates)) // book() changes them
	for i, e := range candidates {
		weights[i] = weight(e)
	}
	left := n
	for i, e := range candidates {
		share := min(left, uint64(math.Round(float64(n)*float64(weights[i])/float64(sum))))
		if i == len(candidates)-1 {
			share = left
		}
		left -= share
		if share > 0 {
			e.approximate = true
			book(e, share)
		}
	}
}
