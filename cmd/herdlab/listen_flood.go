// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"
)

// floodSYNs sends the SYNs that are to be refused, or answered with cookies.
func (l *listenLab) floodSYNs(ctx context.Context) error {
	return l.floodBy(ctx, func(id int) error { return l.wire.syn(l.clients, id) })
}

// floodACKs sends the final ACKs that are to be refused.
func (l *listenLab) floodACKs(ctx context.Context) error {
	return l.floodBy(ctx, func(id int) error { return l.wire.ack(l.clients, id) })
}

// floodBy sends the packets, the clients in turn, at the rate asked for.
func (l *listenLab) floodBy(ctx context.Context, send func(id int) error) error {
	batch := l.cfg.batch(floodBatch)
	pace := newPacer(l.cfg.rate)
	for l.packets < l.cfg.packets {
		n := min(batch, l.cfg.packets-l.packets)
		if !pace.await(ctx, n, l.end) {
			return nil
		}
		if l.cfg.mode.keepsFull() {
			if full, err := l.keepSynQueueFull(ctx); err != nil || !full {
				return err
			}
		}
		for range n {
			id := l.packets % l.cfg.clients
			if err := send(id); err != nil {
				return err
			}
			l.clients.peers[id].flood++
			l.packets++
		}
		if err := l.wire.drain(); err != nil {
			return err
		}
	}
	return nil
}

// floodHandshakes connects while there is room for what is in flight, and
// waits until the server has accepted and closed all of it.
func (l *listenLab) floodHandshakes(ctx context.Context) error {
	wave, limit := l.cfg.wave()
	pace := newPacer(l.cfg.rate)
	for l.packets < l.cfg.packets {
		n := min(wave, l.cfg.packets-l.packets)
		if !pace.await(ctx, n, l.end) {
			break
		}
		if l.cfg.mode.accepting == acceptPaced {
			lens, err := l.queues()
			if err != nil {
				return err
			}
			if lens[0]+n > limit {
				break
			}
		} else if done, err := l.awaitClosed(ctx, limit-n); err != nil || !done {
			return err
		}
		if err := l.handshakes(l.clients, l.packets, n); err != nil {
			return err
		}
		l.packets += n
		if _, err := l.queues(); err != nil {
			return err
		}
	}
	_, err := l.awaitClosed(ctx, 0)
	return err
}

// awaitClosed waits until at most left connections are in flight; it is false
// when the run is over first.
func (l *listenLab) awaitClosed(ctx context.Context, left int) (done bool, err error) {
	for {
		if err := l.wire.drain(); err != nil {
			return false, err
		}
		if l.wire.acks-l.wire.finished <= int64(left) {
			return true, nil
		}
		if ctx.Err() != nil || l.late() {
			return false, nil
		}
		l.wire.await(pollEvery)
	}
}

// pacer spreads packets evenly; one that is late is made up for.
type pacer struct {
	rate  float64
	start time.Time
	sent  int
}

func newPacer(rate float64) *pacer { return &pacer{rate: rate, start: time.Now()} }

// await waits until n packets more may be sent; it is false when the run is
// over first.
func (p *pacer) await(ctx context.Context, n int, end time.Time) bool {
	if p.rate > 0 {
		due := p.start.Add(time.Duration(float64(p.sent) / p.rate * float64(time.Second)))
		if due.After(end) {
			due = end
		}
		if wait := time.Until(due); wait > 0 {
			pause(ctx, wait)
		}
	}
	p.sent += n
	return ctx.Err() == nil && time.Now().Before(end)
}
