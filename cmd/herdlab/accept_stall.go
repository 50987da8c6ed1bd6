// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// stallWatch samples, every pollEvery, whether connections wait in the accept
// queue while every worker sleeps: the stalled accept queue. A healthy server
// shows it for one sample at most, which measures as 0 s.
type stallWatch struct {
	stop, done chan struct{}
	known      bool
	queueMax   int
	longest    time.Duration
}

// watchStall starts sampling. The goroutine owns the fields until result.
func watchStall(server *listening, workers sleepers) *stallWatch {
	w := &stallWatch{stop: make(chan struct{}), done: make(chan struct{})}
	_, w.known = server.queueLen()
	go func() {
		defer close(w.done)
		var since time.Time
		for w.known {
			select {
			case <-w.stop:
				return
			case now := <-time.After(pollEvery):
				n, _ := server.queueLen()
				w.queueMax = max(w.queueMax, n)
				switch {
				case n == 0 || !workers.asleep():
					since = time.Time{}
				case since.IsZero():
					since = now
				default:
					w.longest = max(w.longest, now.Sub(since))
				}
			}
		}
	}()
	return w
}

// result stops the sampling; both values are nil where the queue is unknown.
func (w *stallWatch) result() (queueMax *int, longestSeconds *float64) {
	close(w.stop)
	<-w.done
	if !w.known {
		return nil, nil
	}
	seconds := w.longest.Seconds()
	return &w.queueMax, &seconds
}
