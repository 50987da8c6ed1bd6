// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgeSynQueue finds a SYN queue that is full: without cookies SYNs are
// refused, with cookies nobody is, but it says that something is amiss.
func judgeSynQueue(l *Limits, past *window, f *model.Frame, now *model.Listener) verdict {
	q, w := now.Queue, &past.sum
	if q == nil {
		return verdict{}
	}
	var n, sent uint64
	switch {
	case q.NetNS == nil || q.NetNS.Syncookies == 0:
		n = w.refused.SynQueue
	case q.NetNS.Syncookies == 1 && w.refused.AcceptQueue() < l.RefusedMin:
		// What is refused all the same was no matter of the queue (no memory,
		// no route back). Cookies beside refusals at the accept queue come of
		// those, and accept-queue-overflow has said it.
		sent = w.cookies
	default: // or cookies are sent for every SYN, whatever the queue
	}
	cookies := w.rate(sent, l)
	v := verdict{
		bad:    n > 0 || cookies >= l.CookiesPerS,
		calm:   n == 0 && cookies < l.CookiesPerS/2,
		weight: w.rate(n+sent, l),
		outcome: func() string {
			if q.NoSynLen {
				return fmt.Sprintf("no SYN refused now and %s cookies a second", model.Num(cookies))
			}
			return fmt.Sprintf("SYN queue %d of %d now, no SYN refused and %s cookies a second", q.SynQueueLen, q.SynQueueMax, model.Num(cookies))
		},
	}
	switch {
	case !v.bad:
	case n > 0:
		v.after = trickle(l, w, n)
		v.finding = synRefused(l, w, f, now)
	default:
		v.finding = cookiesSent(l, w, f, now)
	}
	return v
}

func synRefused(l *Limits, w *tick, f *model.Frame, now *model.Listener) Finding {
	q, n := now.Queue, w.refused.SynQueue
	peak := uint64(max(w.synPeak, q.SynQueueMax)) // it was full, whatever the looks found
	off := ""
	if q.NetNS != nil {
		off = ", SYN cookies are off"
	}
	out := Finding{
		Severity: refusalSeverity(l, w, n),
		Subject:  subject(now),
		Evidence: fmt.Sprintf("SYN queue %d of %d%s: %s SYNs refused a second%s; %s",
			peak, q.SynQueueMax, off, roughly(q.Approximate, w.rate(n, l)), clients(q), refusedSYN),
		Cause: synLimitCause(now),
		Remedy: sysctl(f, now, "net.ipv4.tcp_syncookies", 1) + " (they are sent only while the queue is full)" +
			longerSynQueue(f, now, sufficient(peak, refusedAtOnce(q, n))),
		Verify: "ListenDrops stops rising (" + inNetNS(f, now) + "nstat -az TcpExtListenDrops)",
		Values: map[string]float64{
			"syn_refused_per_s": w.rate(n, l),
			"syn_queue_peak":    float64(peak),
			"syn_queue_max":     float64(q.SynQueueMax),
		},
	}
	if f.ClientsKnown() {
		out.Values["refused_clients_total"] = float64(q.Clients.Total)
	}
	if w.connsFor > 0 {
		out.Values["refused_ratio"] = part(n, w.conns)
	}
	return out
}

func synLimitCause(now *model.Listener) string {
	switch q := now.Queue; q.SynLimitFrom {
	case model.LimitMaxSynBacklog:
		return fmt.Sprintf("without cookies three quarters of net.ipv4.tcp_max_syn_backlog (%d) are the limit, not the listen backlog (%d)",
			q.NetNS.MaxSynBacklog, now.AcceptQueueMax)
	case model.LimitApplication:
		return fmt.Sprintf("the limit is the listen backlog %d, not net.ipv4.tcp_max_syn_backlog (%d)", now.AcceptQueueMax, q.NetNS.MaxSynBacklog)
	}
	return "where the limit comes from could not be seen"
}

// longerSynQueue is the other way: raise what is below n, which each of the two
// may be.
func longerSynQueue(f *model.Frame, now *model.Listener, n uint64) string {
	q, out := now.Queue, ""
	if q.NetNS != nil && uint64(q.NetNS.MaxSynBacklog-q.NetNS.MaxSynBacklog>>2) < n {
		// n is a power of two: three quarters of it are not enough, of the next are.
		out = sysctl(f, now, "net.ipv4.tcp_max_syn_backlog", 2*n)
	}
	if uint64(now.AcceptQueueMax) < n {
		if out != "" {
			out += " and "
		}
		out += longerQueue(f, now, n)
	}
	if out == "" {
		return ""
	}
	return "; or without them " + out
}

// cookiesSent is about a queue that overflows and refuses nobody. A full accept
// queue fills it, for the last ACKs find no place; then that is what to cure.
func cookiesSent(l *Limits, w *tick, f *model.Frame, now *model.Listener) Finding {
	q := now.Queue
	peak := uint64(max(w.synPeak, q.SynQueueMax))
	cause := fmt.Sprintf("with cookies the limit is the listen backlog %d: raising net.ipv4.tcp_max_syn_backlog (%d) will not help; ",
		now.AcceptQueueMax, q.NetNS.MaxSynBacklog)
	enough := sufficient(peak, w.cookies)
	remedy := longerQueue(f, now, enough)
	switch {
	case w.refused.AcceptQueue() > 0 || w.longest > now.AcceptQueueMax:
		cause += fmt.Sprintf("the accept queue is full as well (%d of %d), and that is the true cause, no attack", peakWhenFull(w.longest, now.AcceptQueueMax), now.AcceptQueueMax)
		k := workOf(l, w, f, now)
		if k.plight != noPlight {
			remedy = k.cure()
		}
	case w.connsFor == 0:
		cause += "whether these handshakes are completed is not measured: more clients at once than it holds, or a SYN flood"
	case 2*w.conns >= w.cookies:
		cause += "more clients come at once than it holds, and they do connect: no attack"
	default:
		most := "none of these handshakes is completed"
		if w.conns > 0 {
			most = fmt.Sprintf("most of these handshakes are never completed (%s connections a second)", roughly(false, w.rate(w.conns, l)))
		}
		cause += most + ": a SYN flood, or SYN-ACKs that get lost"
		remedy = fmt.Sprintf("nothing at the server, cookies protect it; look where they come from (%sss -Htn state syn-recv sport = :%d) and whether SYN-ACKs get out", inNetNS(f, now), now.Port)
	}
	none := ""
	if w.refused.Total() == 0 {
		none = ", nobody is refused"
	}
	out := Finding{
		Severity: Warn,
		Subject:  subject(now),
		Evidence: fmt.Sprintf("SYN queue %d of %d: %s SYN cookies sent a second%s", peak, q.SynQueueMax, roughly(q.Approximate, w.rate(w.cookies, l)), none),
		Cause:    cause,
		Remedy:   remedy,
		Verify:   "SyncookiesSent stops rising (" + inNetNS(f, now) + "nstat -az TcpExtSyncookiesSent)",
		Values: map[string]float64{
			"syncookies_per_s":   w.rate(w.cookies, l),
			"syn_queue_peak":     float64(peak),
			"syn_queue_max":      float64(q.SynQueueMax),
			"sufficient_backlog": float64(enough),
		},
	}
	if w.connsFor > 0 {
		out.Values["connections_per_s"] = w.rate(w.conns, l)
	}
	return out
}
