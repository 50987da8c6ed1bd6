// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// handshakes does n handshakes from first on at once, as far as the server
// answers.
func (l *listenLab) handshakes(c *crowd, first, n int) error {
	before := l.wire.answers
	if err := l.synRange(c, first, n); err != nil {
		return err
	}
	l.synPeak = max(l.synPeak, l.standing+int(l.wire.answers-before))
	return l.ackRange(c, first, n)
}

// synRange sends n SYNs and reads all that comes of them.
func (l *listenLab) synRange(c *crowd, first, n int) error {
	want := l.wire.answers + int64(n)
	for id := first; id < first+n; id++ {
		if err := l.wire.syn(c, id); err != nil {
			return err
		}
	}
	return l.wire.settle(want)
}

// ackRange sends the final ACKs of those that were answered.
func (l *listenLab) ackRange(c *crowd, first, n int) error {
	for id := first; id < first+n; id++ {
		if !c.peers[id].answered {
			continue
		}
		if l.cfg.mode.accepting == acceptPaced {
			l.ackedAt = append(l.ackedAt, monotonic())
		}
		if err := l.wire.ack(c, id); err != nil {
			return err
		}
	}
	return nil
}

// inBatches calls do for n handshakes, few enough at once for the TUN device
// to hold the answers.
func inBatches(n int, do func(first, n int) error) error {
	for first := 0; first < n; first += floodBatch {
		if err := do(first, min(floodBatch, n-first)); err != nil {
			return err
		}
	}
	return nil
}

// fillAcceptQueue completes handshakes until the accept queue of each socket
// is longer than its backlog, which is what full means (include/net/sock.h:
// sk_acceptq_is_full()). In a group the kernel chooses the socket by a hash,
// so that some handshakes meet a full one and are refused meanwhile.
func (l *listenLab) fillAcceptQueue() error {
	for {
		lens, err := l.queues()
		if err != nil {
			return err
		}
		missing := 0
		for _, n := range lens {
			missing += max(0, l.cfg.backlog+1-n)
		}
		if missing == 0 {
			return nil
		}
		if l.late() {
			return fmt.Errorf("fill the accept queue: room for %d is left after %v (raise --duration)", missing, l.cfg.duration)
		}
		n := min(missing, fillWindow, l.cfg.backlog-l.standing)
		if err := l.handshakes(l.fillers, l.fillers.grow(n), n); err != nil {
			return err
		}
	}
}

// fillBehindRequests opens the requests whose final ACKs will be the flood,
// and then fills the accept queue: on a full one they would not be admitted.
func (l *listenLab) fillBehindRequests() error {
	err := inBatches(l.cfg.clients, func(first, n int) error { return l.synRange(l.clients, first, n) })
	if err != nil {
		return err
	}
	l.standing = int(l.wire.answers)
	l.synPeak = l.standing
	return l.fillAcceptQueue()
}

// fillSynQueue opens requests that nobody completes until each socket has as
// many as it admits. How many were admitted is what the kernel lists: an
// answer may be a cookie.
func (l *listenLab) fillSynQueue() error {
	room, byBacklog := l.cfg.synQueueRoom()
	sockets := l.cfg.sockets
	all := room * sockets
	some := all
	if byBacklog {
		some -= sockets // 5.10: see synQueueRoom
	}
	l.filledAt = time.Now()
	for had := -1; ; {
		now, err := requests(l.server.v6())
		if err != nil {
			return err
		}
		if now == all || now >= some && now == had {
			l.admitted += int64(now)
			l.standing, l.synPeak = now, max(l.synPeak, now/sockets)
			return nil
		}
		if time.Since(l.filledAt) > requestAge {
			return fmt.Errorf("fill the SYN queue: it holds %d of %d requests after %v (is the machine overloaded?)", now, all, requestAge)
		}
		had = now
		n := all - now
		if sockets > 1 {
			n = max(n, 32*sockets) // so that no socket is missed, all but surely
		}
		start := l.fillers.grow(n)
		err = inBatches(n, func(first, n int) error { return l.synRange(l.fillers, start+first, n) })
		if err != nil {
			return err
		}
	}
}

// keepSynQueueFull fills the SYN queue anew before the requests in it expire.
// They cannot be replaced one by one without a drop for each of them (a reset
// of a request counts in sk_drops), so it waits until all are gone. It is
// false when the run is over first.
func (l *listenLab) keepSynQueueFull(ctx context.Context) (full bool, err error) {
	if time.Since(l.filledAt) < requestAge {
		return true, nil
	}
	for ctx.Err() == nil && !l.late() {
		n, err := requests(l.server.v6())
		if err != nil {
			return false, err
		}
		if n > 0 {
			pause(ctx, pollEvery)
			continue
		}
		if err := l.wire.drain(); err != nil {
			return false, err
		}
		refused := l.wire.syns - l.wire.answers
		err = l.fillSynQueue()
		l.filling.SynQueue += l.wire.syns - l.wire.answers - refused
		return true, err
	}
	return false, nil
}

// fillByCookies collects cookies while the SYN queue is full and the accept
// queue is not (a SYN on a full accept queue gets no cookie either), and then
// fills the accept queue by some of them. The others are the flood.
func (l *listenLab) fillByCookies() error {
	if err := l.fillSynQueue(); err != nil {
		return err
	}
	n := l.cfg.backlog + 1
	start := l.fillers.grow(n)
	err := inBatches(n, func(first, n int) error { return l.collectCookies(l.fillers, start+first, n) })
	if err != nil {
		return err
	}
	err = inBatches(l.cfg.clients, func(first, n int) error { return l.collectCookies(l.clients, first, n) })
	if err != nil {
		return err
	}
	if err := l.ackRange(l.fillers, start, n); err != nil {
		return err
	}
	// It must be full; if not, fillAcceptQueue would make no more of it.
	lens, err := l.queues()
	if err == nil && lens[0] != n {
		err = fmt.Errorf("fill the accept queue by cookies: it holds %d of %d connections", lens[0], n)
	}
	return err
}

func (l *listenLab) collectCookies(c *crowd, first, n int) error {
	if full, err := l.keepSynQueueFull(context.Background()); err != nil {
		return err
	} else if !full {
		return fmt.Errorf("collect cookies: not done after %v (raise --duration)", l.cfg.duration)
	}
	return l.synRange(c, first, n)
}
