// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgeOverflow finds clients that are turned away because the accept queue is
// full. The queue is where it shows, seldom why: as long as its workers do not
// take connections, a longer queue only turns refusals into waiting.
func judgeOverflow(l *Limits, past *window, f *model.Frame, now *model.Listener) verdict {
	q, w := now.Queue, &past.sum
	if q == nil {
		return verdict{}
	}
	n := w.refused.AcceptQueue()
	v := verdict{bad: n > 0, calm: n == 0, after: trickle(l, w, n), weight: w.rate(n, l),
		outcome: func() string {
			return fmt.Sprintf("accept queue %d of %d now, none refused", now.AcceptQueueLen, now.AcceptQueueMax)
		}}
	if !v.bad {
		return v
	}
	peak := peakWhenFull(w.longest, now.AcceptQueueMax)
	enough := sufficient(peak, refusedAtOnce(q, n))
	k := workOf(l, w, f, now)
	v.finding = Finding{
		Severity: refusalSeverity(l, w, n),
		Subject:  subject(now),
		Evidence: overflowEvidence(l, w, now),
		Cause:    limitCause(now),
		Remedy:   longerQueue(f, now, enough),
		Verify:   "ListenOverflows stops rising (" + inNetNS(f, now) + "nstat -az TcpExtListenOverflows)",
		Values: map[string]float64{
			"refusals_per_s":       w.rate(n, l),
			"refused_at_syn_per_s": w.rate(w.refused.AcceptQueueSYN, l),
			"refused_at_ack_per_s": w.rate(w.refused.AcceptQueueACK+w.refused.AcceptQueueCookie, l),
			"accept_queue_peak":    float64(peak),
			"accept_queue_max":     float64(now.AcceptQueueMax),
			"sufficient_backlog":   float64(enough),
		},
	}
	k.values(v.finding.Values)
	if f.ClientsKnown() {
		v.finding.Values["refused_clients_total"] = float64(q.Clients.Total)
	}
	if w.connsFor > 0 {
		v.finding.Values["refused_ratio"] = part(n, w.conns)
	}
	full := w.share(w.fullNS)
	if model.Known(full) {
		v.finding.Values["accept_queue_full_ratio"] = full
	}
	// Asleep between bursts is not blocked: then the queue is what is too short.
	bursts := full < l.FullShare && w.waiting <= now.AcceptQueueMax/2
	switch {
	case bursts && (k.plight == blocked || k.plight == noPlight):
		v.finding.Cause += "; the queue is full in bursts and has room between them"
	case k.plight != noPlight:
		v.finding.Cause += "; " + k.cause()
		v.finding.Remedy = fmt.Sprintf("%s; only then a longer queue for bursts (%s), which alone would turn refusals into waiting", k.cure(), v.finding.Remedy)
	}
	return v
}

// peakWhenFull is a queue's greatest length when it is known to have been full,
// whatever the looks at it found.
func peakWhenFull(seen, limit uint32) uint64 { return max(uint64(seen), uint64(limit)+1) }

// trickle is how long n refusals in the window must go on to be a finding: more
// than one window, else a single moment would be long enough.
func trickle(l *Limits, w *tick, n uint64) time.Duration {
	if n >= l.RefusedMin {
		return 0
	}
	return max(l.RefusedTrickle, 2*w.interval)
}

func refusalSeverity(l *Limits, w *tick, n uint64) Severity {
	if n >= l.RefusedMin && (w.rate(n, l) >= l.RefusedCritPerS || w.connsFor > 0 && part(n, w.conns) >= l.RefusedCritRatio) {
		return Crit
	}
	return Warn
}

// part is n's share of n and the rest.
func part(n, rest uint64) float64 { return float64(n) / (float64(n) + float64(rest)) }

// refusedAtOnce is how many connections were without a place in the window:
// refusals count a client each time that it comes again. Those that nobody saw
// are taken to be of other clients, in proportion.
func refusedAtOnce(q *model.Queue, refusals uint64) uint64 {
	if q.Clients.Total == 0 || q.SeenTotal == 0 {
		return refusals
	}
	unseen := max(float64(q.Refusals.Total())/float64(q.SeenTotal), 1)
	return min(refusals, uint64(min(float64(q.Clients.Total)*unseen, mostBacklog))+1)
}

// mostBacklog bounds what is advised beyond the present limit: who needs more
// than that does not need a queue.
const mostBacklog = 1 << 16

// sufficient is the limit, a power of two, that would have held what was in a
// queue and what was turned away meanwhile.
func sufficient(held, refused uint64) uint64 {
	return max(powerOf2(held), min(powerOf2(held+min(refused, mostBacklog)), mostBacklog))
}

// powerOf2 is the least one that is not less than n.
func powerOf2(n uint64) uint64 { return 1 << bits.Len64(max(n, 1)-1) }

func overflowEvidence(l *Limits, w *tick, now *model.Listener) string {
	q := now.Queue
	s := fmt.Sprintf("accept queue %d of %d", peakWhenFull(w.longest, now.AcceptQueueMax), now.AcceptQueueMax)
	if full := w.share(w.fullNS); full > 0 {
		s += fmt.Sprintf(" (full %s of the time)", percent(full))
	}
	s += fmt.Sprintf(", %s refusals a second%s%s", roughly(q.Approximate, w.rate(w.refused.AcceptQueue(), l)), places(l, w), clients(q))
	atSYN, atACK := w.refused.AcceptQueueSYN > 0, w.refused.AcceptQueueACK+w.refused.AcceptQueueCookie > 0
	if atSYN {
		s += "; " + refusedSYN
	}
	if atACK && w.refused.AcceptQueueACK > 0 && q.NetNS != nil && q.NetNS.AbortOnOverflow != 0 {
		s += "; at the final ACK the client gets a reset (tcp_abort_on_overflow)"
	} else if atACK {
		s += "; at the final ACK the client believes that it is connected, and runs into its read timeout"
	}
	return s
}

// refusedSYN is what it costs: the initial retransmission timeout is 1 s
// (include/net/tcp.h: TCP_TIMEOUT_INIT), and doubles, at once or, on newer
// clients, after four of them (net.ipv4.tcp_syn_linear_timeouts).
const refusedSYN = "a refused SYN costs its client 1 s or more"

// places says where in the handshake the refusals were.
func places(l *Limits, w *tick) string {
	var parts []string
	for _, p := range []struct {
		n     uint64
		where string
	}{
		{w.refused.AcceptQueueSYN, "at the SYN"},
		{w.refused.AcceptQueueACK, "at the final ACK"},
		{w.refused.AcceptQueueCookie, "at a SYN cookie's ACK"},
	} {
		switch p.n {
		case 0:
		case w.refused.AcceptQueue():
			return " " + p.where
		default:
			parts = append(parts, roughly(false, w.rate(p.n, l))+" "+p.where)
		}
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// clients says who was refused since attach; nothing where none was seen.
func clients(q *model.Queue) string {
	c, least := &q.Clients, ""
	if c.Total == 0 {
		return ""
	}
	if q.SeenTotal < q.Refusals.Total() {
		least = "at least "
	}
	total := model.Plural(int(c.Total), "client")
	if c.Estimated {
		total = roughly(true, float64(c.Total)) + " clients"
	}
	total = fmt.Sprintf(", of %s%s so far", least, total)
	switch again := c.Retries[1] + c.Retries[2] + c.Retries[3]; {
	case again == 0 || c.Total == 1:
		return total
	case again == 1:
		return total + ", of whom 1 was refused more than once"
	default:
		return fmt.Sprintf("%s, of whom %d were refused more than once", total, again)
	}
}
