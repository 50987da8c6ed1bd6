// SPDX-License-Identifier: Apache-2.0

package model

import (
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// SignalListen is the signal behind Queues and Queue, as the Header names it.
const SignalListen = "listen"

// Where a queue's limit comes from.
const (
	LimitApplication   = "listen backlog"      // what listen(2) was asked for
	LimitSomaxconn     = "somaxconn"           // net.core.somaxconn cut it
	LimitMaxSynBacklog = "tcp_max_syn_backlog" // of the SYN queue, where cookies are off
)

// Queues is the listen signal: the sums over all TCP listeners.
type Queues struct {
	RefusalsPerS  float64
	SynPerS       float64 // of them, those at a full SYN queue
	CookiesPerS   float64
	RefusalsTotal uint64 // since attach; those of closed and unknown listeners included
	RefusedTotal  uint64 // clients, of the listeners that are known
	// Unattributed refusals since attach: counted by the kernel, at no known listener.
	Unattributed uint64
	Accuracy     string // sample.Exact or sample.Approximate
}

// Queue is a TCP listener's two queues during the interval.
type Queue struct {
	sample.Queues // the totals since attach

	// AcceptTop and SynTop are the greatest lengths since the first Sample, those
	// of the Samples are of an interval each.
	AcceptTop, SynTop uint32

	Delta        sample.Refusals // in the interval
	ClientsDelta uint64
	CookiesDelta uint64
	RefusalsPerS float64
	SynPerS      float64 // of them, those at a full SYN queue
	CookiesPerS  float64
	// AcceptFull is the share of the interval in which the accept queue was full.
	AcceptFull float64
	// WaitS estimates how many seconds a connection waits in the accept queue
	// until it is accepted: its length by the accepts per second (Little's law).
	// It is unknown where nothing waits or nothing was measured, +Inf where
	// connections wait and none is accepted.
	WaitS float64
	// TakenDelta is how many connections left the accept queue in the interval:
	// the accepts, or what completions and lengths imply where those are not
	// seen. TakenPerS is unknown where neither tells.
	TakenDelta uint64
	TakenPerS  float64
	// NetNS are the settings and counters of its namespace; nil: not known.
	NetNS *sample.NetNS
	// LimitFrom and SynLimitFrom are one of the Limit constants; "" not known.
	LimitFrom    string
	SynLimitFrom string
	// LimitUncertain: listen(2)'s argument was not seen and the limit equals
	// somaxconn, which may be what the application asked for (Go does).
	LimitUncertain bool
}

// tally is a sum over counters that come and go: what the gone ones had counted
// stays in it.
type tally[K comparable] struct {
	last map[K]uint64
	gone uint64
}

// update takes the counters that there are now.
func (t *tally[K]) update(now map[K]uint64) {
	for k, n := range t.last {
		if _, ok := now[k]; !ok {
			t.gone += n
		}
	}
	t.last = now
}

func (t *tally[K]) sum() uint64 {
	n := t.gone
	for _, v := range t.last {
		n += v
	}
	return n
}

// buildQueues fills the Queue of f's listeners and returns their sums.
func (b *Builder) buildQueues(f *Frame) *Queues {
	if !f.Measured(SignalListen) {
		return nil
	}
	if f.Accept != nil {
		b.eachQueue(f)
	}
	if f.Sample.Listen == nil {
		return nil
	}
	unattributed := make(map[sample.NetNSID]uint64, len(f.Sample.Listen.NetNS))
	for i := range f.Sample.Listen.NetNS {
		n := &f.Sample.Listen.NetNS[i]
		unattributed[n.ID()] = n.Unattributed.Total()
	}
	b.unattributed.update(unattributed)
	q := &Queues{
		RefusalsPerS: f.sumQueues(func(q *Queue) float64 { return q.RefusalsPerS }),
		SynPerS:      f.sumQueues(func(q *Queue) float64 { return q.SynPerS }),
		CookiesPerS:  f.sumQueues(func(q *Queue) float64 { return q.CookiesPerS }),
		RefusedTotal: b.clients.sum(),
		Unattributed: b.unattributed.sum(),
		Accuracy:     f.queueAccuracy(),
	}
	q.RefusalsTotal = b.refusals.sum() + q.Unattributed
	return q
}

// eachQueue builds the Queue of each listener and keeps count of what they refused.
func (b *Builder) eachQueue(f *Frame) {
	before := make(map[uint64]*sample.Listener)
	if b.prev != nil && b.prev.Accept != nil {
		for i := range b.prev.Accept.Listeners {
			l := &b.prev.Accept.Listeners[i]
			before[l.Inode] = l
		}
	}
	settings := make(map[sample.NetNSID]*sample.NetNS)
	if f.Sample.Listen != nil {
		for i := range f.Sample.Listen.NetNS {
			n := &f.Sample.Listen.NetNS[i]
			settings[n.ID()] = n
		}
	}
	refusals, clients := make(map[uint64]uint64), make(map[uint64]uint64)
	tops := make(map[uint64]lengths)
	for _, l := range f.Accept.Listeners {
		if l.Queues == nil {
			continue
		}
		q := buildQueue(l, before[l.Inode], settings[l.NetNSID()], f)
		l.Queue = q
		top := b.tops[l.Inode]
		q.AcceptTop = max(top.accept, q.AcceptQueuePeak, l.AcceptQueueLen)
		q.SynTop = max(top.syn, q.SynQueuePeak, q.SynQueueLen)
		tops[l.Inode] = lengths{q.AcceptTop, q.SynTop}
		refusals[l.Inode], clients[l.Inode] = l.Queue.Refusals.Total(), l.Queue.Clients.Total
	}
	b.refusals.update(refusals)
	b.clients.update(clients)
	b.tops = tops
}

// sumQueues adds up what is known of the queues. It is unknown where there are
// some and none is known, and before the first interval.
func (f *Frame) sumQueues(of func(q *Queue) float64) float64 {
	if f.Accept == nil || f.Interval <= 0 {
		return Unknown()
	}
	out, some, known := 0.0, false, false
	for _, l := range f.Accept.Listeners {
		if l.Queue == nil {
			continue
		}
		some = true
		if v := of(l.Queue); Known(v) {
			out, known = out+v, true
		}
	}
	if some && !known {
		return Unknown()
	}
	return out
}

func (f *Frame) queueAccuracy() string {
	if f.Accept != nil {
		for _, l := range f.Accept.Listeners {
			if l.Queue != nil && l.Queue.Approximate {
				return sample.Approximate
			}
		}
	}
	for _, s := range f.Header.Signals {
		if s.Name == SignalListen {
			return s.Accuracy
		}
	}
	return sample.Exact
}

// buildQueue compares with prev, which is nil for a listener that is new.
func buildQueue(l *Listener, prev *sample.Listener, ns *sample.NetNS, f *Frame) *Queue {
	q := &Queue{
		Queues: *l.Queues, NetNS: ns,
		RefusalsPerS: Unknown(), SynPerS: Unknown(), CookiesPerS: Unknown(),
		AcceptFull: Unknown(), WaitS: Unknown(), TakenPerS: Unknown(),
	}
	q.LimitFrom, q.LimitUncertain = limitFrom(&l.Listener, ns)
	q.SynLimitFrom = synLimitFrom(&l.Listener, ns)
	if prev == nil {
		prev = &sample.Listener{Queues: &sample.Queues{}}
	}
	if l.Interval <= 0 || prev.Queues == nil {
		return q // its zero point
	}
	p := prev.Queues
	q.Delta = sample.Refusals{
		AcceptQueueSYN:    since(q.Refusals.AcceptQueueSYN, p.Refusals.AcceptQueueSYN),
		AcceptQueueACK:    since(q.Refusals.AcceptQueueACK, p.Refusals.AcceptQueueACK),
		AcceptQueueCookie: since(q.Refusals.AcceptQueueCookie, p.Refusals.AcceptQueueCookie),
		SynQueue:          since(q.Refusals.SynQueue, p.Refusals.SynQueue),
	}
	q.ClientsDelta = since(q.Clients.Total, p.Clients.Total)
	q.CookiesDelta = since(q.SyncookiesSentTotal, p.SyncookiesSentTotal)
	q.RefusalsPerS = perSecond(q.Refusals.Total(), p.Refusals.Total(), l.Interval)
	q.SynPerS = perSecond(q.Refusals.SynQueue, p.Refusals.SynQueue, l.Interval)
	q.CookiesPerS = perSecond(q.SyncookiesSentTotal, p.SyncookiesSentTotal, l.Interval)
	// The two clocks are read one after the other: full all the time may be a
	// little more than the interval.
	q.AcceptFull = min(perSecond(q.AcceptFullNS, p.AcceptFullNS, l.Interval)/1e9, 1)
	q.drain(l, prev, f)
	return q
}

// drain fills what left the accept queue, and how long what is in it waits. The
// present length is the fair one: it is what a connection that comes now has
// before it, whereas the peak may have lasted a millisecond.
func (q *Queue) drain(l *Listener, prev *sample.Listener, f *Frame) {
	if l.AcceptsTotal < prev.AcceptsTotal || l.CompletionsTotal < prev.CompletionsTotal {
		return
	}
	switch accepts, completions := f.MeasuredAt(l, SignalAccept), f.MeasuredAt(l, SignalWake); {
	case accepts && l.AcceptsTotal > 0:
		q.TakenDelta = l.Delta.AcceptsTotal
	case completions:
		// None was ever seen: nobody accepts, or in a way that the variant in
		// use does not see (io_uring).
		q.TakenDelta = since(l.CompletionsDelta+uint64(prev.AcceptQueueLen), uint64(l.AcceptQueueLen))
	default:
		return
	}
	q.TakenPerS = float64(q.TakenDelta) / l.Interval.Seconds()
	if l.AcceptQueueLen > 0 && !l.Closed {
		q.WaitS = float64(l.AcceptQueueLen) / q.TakenPerS
	}
}

// limitFrom says what set the accept queue's limit, which the kernel fixes at
// listen(2): min(backlog, somaxconn) (net/socket.c: __sys_listen_socket()).
func limitFrom(l *sample.Listener, ns *sample.NetNS) (from string, uncertain bool) {
	switch asked, limit := l.Queues.Backlog, l.AcceptQueueMax; {
	case l.NoLimit:
		return "", false
	case asked >= 0 && uint32(asked) > limit:
		return LimitSomaxconn, false
	case asked >= 0:
		return LimitApplication, false
	case ns == nil || limit > ns.Somaxconn: // somaxconn was lowered since then
		return "", false
	case limit < ns.Somaxconn:
		return LimitApplication, false
	}
	return LimitSomaxconn, true
}

// synLimitFrom says what limits the SYN queue. Without cookies the last quarter
// of tcp_max_syn_backlog is kept for clients that are known to be alive
// (net/ipv4/tcp_input.c: tcp_conn_request()).
func synLimitFrom(l *sample.Listener, ns *sample.NetNS) string {
	switch {
	case ns == nil || l.NoLimit || ns.Somaxconn == 0: // its settings cannot be read
		return ""
	case ns.Syncookies == 0 && ns.MaxSynBacklog-ns.MaxSynBacklog>>2 < l.AcceptQueueMax:
		return LimitMaxSynBacklog
	}
	return LimitApplication
}
