// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"math"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgeQueueWait finds connections that are let in and then wait long to be
// accepted: what is left of an overflow when the queue is made long enough. A
// queue alone is no fault, nor is a moment's burst: its length must hold, and
// mean seconds at the rate at which it is taken from.
func judgeQueueWait(l *Limits, past *window, f *model.Frame, now *model.Listener) verdict {
	w := &past.sum
	if now.Queue == nil || w.takenFor <= 0 {
		return verdict{}
	}
	perS := float64(w.taken) / w.takenFor.Seconds()
	// By the least length of the window: +Inf where none is taken.
	least := float64(w.waiting) / perS
	present := float64(now.AcceptQueueLen) / perS
	v := verdict{
		calm:   now.AcceptQueueLen < l.WaitMinLen || present < l.WaitSeconds/2,
		weight: present,
		outcome: func() string {
			return fmt.Sprintf("accept queue %d of %d now, %s accepted a second", now.AcceptQueueLen, now.AcceptQueueMax, model.Num(perS))
		},
	}
	long := w.waiting >= l.WaitMinLen && least >= l.WaitSeconds
	seen := len(past.recent) > 1 && w.takenFor >= l.Window*3/4
	// Refused clients are accept-queue-overflow, sleeping workers accept-stall.
	others := w.refused.AcceptQueue() >= l.RefusedMin || w.queued > 0 && 2*w.stalled >= w.queued
	if v.bad = long && seen && !others; !v.bad {
		return v
	}
	k := workOf(l, w, f, now)
	v.finding = Finding{
		Severity: Warn,
		Subject:  subject(now),
		Evidence: waitEvidence(now, w, perS, present),
		Cause:    waitCause(k),
		Remedy:   waitRemedy(k),
		Verify:   "the accept queue (Recv-Q in ss -lnt) returns to 0 between connections",
		Values: map[string]float64{
			"accept_queue_len": float64(now.AcceptQueueLen),
			"accept_queue_max": float64(now.AcceptQueueMax),
			"accepted_per_s":   perS,
		},
	}
	k.values(v.finding.Values)
	if !math.IsInf(present, 0) {
		v.finding.Values["accept_queue_wait_seconds"] = present
	}
	if least >= l.WaitCritSeconds {
		v.finding.Severity = Crit
	}
	return v
}

func waitEvidence(now *model.Listener, w *tick, perS, present float64) string {
	if w.taken == 0 {
		return fmt.Sprintf("%s in the accept queue (of at most %d) and none was accepted in the last %.1f s",
			wait(now.AcceptQueueLen), uint64(now.AcceptQueueMax)+1, w.takenFor.Seconds())
	}
	return fmt.Sprintf("a connection waits ~%s s in the accept queue before it is accepted (%d wait, of at most %d, and %s a second are accepted)",
		model.Num(present), now.AcceptQueueLen, uint64(now.AcceptQueueMax)+1, roughly(false, perS))
}

func waitCause(k *work) string {
	switch c := k.cause(); {
	case c == "":
		return "connections come faster than they are accepted, or did so until now"
	case k.plight == idleQueue:
		return c + ": the clients are connected, and get no answer"
	default:
		return c
	}
}

func waitRemedy(k *work) string {
	cure := k.cure()
	if cure == "" {
		cure = moreWorkers(k.listener) + ", or less work between two accepts"
	}
	return cure + "; a longer queue would only make them wait longer, a shorter one refuses early what cannot be served in time"
}
