// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func (r *acceptReader) listenerSample(ls *listenerState) sample.Listener {
	raw := &ls.raw
	out := sample.Listener{
		Inode:              raw.Ino,
		Proto:              protoOf(raw),
		Addr:               addrOf(raw),
		Port:               raw.Port,
		V6Only:             raw.V6only != 0,
		NetNS:              raw.Netns,
		NetNSCookie:        raw.NetnsCookie,
		ReusePort:          raw.Reuseport != 0,
		Closed:             ls.closed,
		AcceptQueueLen:     raw.AcceptQueueLen,
		AcceptQueueMax:     raw.AcceptQueueMax,
		QueuedChecksTotal:  ls.queued,
		StalledChecksTotal: ls.stalled,
		Processes:          len(r.holders.of[raw.Ino]),
		BurstsUnsentTotal:  raw.BurstsUnsent,
		NoWakeups:          r.byState && raw.Protocol == 0 || r.est != nil && r.est.workers.off,
		Gone:               ls.gone,
		GoneWorkers:        ls.goneWorkers,
	}
	if r.listen != nil && raw.Protocol != 0 {
		out.Queues = r.listen.queuesOf(ls)
	}
	out.Counters.Add(ls.gone)
	out.Counters.Add(ls.overflow)
	least := r.leastWakeups(ls)
	for _, w := range ls.workers {
		if r.isStranger(ls, w) {
			continue
		}
		out.Counters.Add(w.counters())
		if !isBystander(w, least) {
			out.Workers = append(out.Workers, r.workerSample(ls, w))
		}
	}
	slices.SortFunc(out.Workers, func(a, b sample.Worker) int { return cmp.Compare(a.TID, b.TID) })
	out.CompletionsTotal = r.completionsOf(ls, out.AcceptsTotal)
	if out.Holders = r.holders.lowest(raw.Ino, sample.MaxHolders); len(out.Holders) > 0 {
		out.HolderProgram = r.procs.program(out.Holders[0])
	}
	if r.polled != nil {
		r.polled.correct(&out)
	}
	return out
}

// completionsOf counts the connections that were put on the accept queue. The
// data_ready callback is not called for one that a worker takes before its turn
// comes (net/ipv4/tcp_minisocks.c: tcp_child_process(), the child is owned by
// user), so what was accepted or waits now may be more. A look at both is not
// atomic and may miss some, which the next look finds.
func (r *acceptReader) completionsOf(ls *listenerState, accepts uint64) uint64 {
	if r.polled != nil {
		return 0 // nobody counts
	}
	n := accepts + uint64(ls.raw.AcceptQueueLen)
	if ls.old {
		n -= min(n, uint64(ls.raw.AcceptQueueFirst))
	}
	// An estimate may be too high: then what was accepted has the last word.
	if ready := r.ready(&ls.raw); (r.est == nil || accepts == 0) && (!r.byState || ls.raw.Reuseport == 0) {
		n = max(n, ready)
	}
	ls.completions = max(ls.completions, n)
	return ls.completions
}

// isStranger reports whether w was woken inside a listener's window and yet has
// nothing to do with it: it never called accept there, and its process does not
// hold the socket.
func (r *acceptReader) isStranger(ls *listenerState, w *workerState) bool {
	// Once a member, always one: what it counted stays in the sum.
	c := w.counters()
	w.member = w.member || c.AcceptsTotal+c.AcceptEAGAINTotal > 0 || r.holders.has(ls.raw.Ino, w.raw.Tgid)
	if w.member {
		return false
	}
	if !w.ended && !ls.closed {
		return true
	}
	// Nobody is left to ask. A sibling of an accepting worker has its comm.
	for _, o := range ls.workers {
		if o.counters().AcceptsTotal > 0 && o.raw.Comm == w.raw.Comm {
			return false
		}
	}
	return true
}

// isBystander reports whether w is too rarely woken to be a worker: a thread of
// the server that a timer woke inside the window, once in ten thousand
// connections. Its wake-ups stay in the sum, which is that approximate.
func isBystander(w *workerState, least uint64) bool {
	c := w.counters()
	return !w.idle && c.AcceptsTotal+c.AcceptEAGAINTotal == 0 && c.WakeupsTotal < least
}

// leastWakeups is how often a thread that never called accept must have been woken
// to be a worker: in a herd, all are woken about as often.
func (r *acceptReader) leastWakeups(ls *listenerState) uint64 {
	most := uint64(0)
	for _, w := range ls.workers {
		if r.acceptsCounted && !r.isStranger(ls, w) {
			most = max(most, w.counters().WakeupsTotal)
		}
	}
	return max(3, ls.completions/100, most/10)
}

// Task states of include/linux/sched.h: __TASK_STOPPED, and with it __TASK_TRACED
// and TASK_FROZEN.
const (
	stoppedState  = 0x4
	stoppedStates = stoppedState | 0x8 | 0x8000
)

func (r *acceptReader) workerSample(ls *listenerState, w *workerState) sample.Worker {
	raw := &w.raw
	r.resolve(ls, w)
	if w.idle && !ls.closed {
		refreshIdle(raw, ls.raw.AcceptQueueLen > 0)
	}
	ended := w.ended || ls.closed
	return sample.Worker{
		PID:      raw.Tgid,
		TID:      raw.Tid,
		Comm:     commOf(raw),
		Program:  w.program,
		Wait:     w.wait,
		RunNS:    raw.RunNs,
		WaitNS:   raw.WaitNs,
		Sleeps:   raw.Sleeps,
		Asleep:   raw.State != 0,
		Stopped:  raw.State&stoppedStates != 0 && !ended,
		Ended:    ended,
		Counters: w.counters(),
	}
}

// resolve finds out what only /proc knows of a worker, as long as it lives.
func (r *acceptReader) resolve(ls *listenerState, w *workerState) {
	if w.ended || ls.closed {
		return
	}
	w.program = r.procs.program(w.raw.Tgid)
	r.findWait(ls, w)
}

func commOf(w *bpf.AcceptWorker) string {
	b := make([]byte, 0, len(w.Comm))
	for _, c := range w.Comm {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return strings.ToValidUTF8(string(b), "?")
}

func protoOf(l *bpf.AcceptListener) string {
	switch {
	case l.Protocol == 0:
		return "unix"
	case l.Mptcp != 0:
		return "mptcp"
	}
	return "tcp"
}

func addrOf(l *bpf.AcceptListener) string {
	switch {
	case l.Protocol != 0 && l.Family == 2: // AF_INET
		return netip.AddrFrom4([4]byte(l.Addr[:4])).String()
	case l.Protocol != 0:
		return netip.AddrFrom16(l.Addr).String()
	}
	path := l.Path[:min(int(l.PathLen), len(l.Path))]
	if len(path) > 0 && path[0] == 0 {
		return "@" + strings.ToValidUTF8(string(path[1:]), "?")
	}
	path, _, _ = bytes.Cut(path, []byte{0})
	return strings.ToValidUTF8(string(path), "?")
}
