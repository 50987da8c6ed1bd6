// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"io"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// armedFor is how long refused SYNs are looked at one by one after the last
	// sign of trouble: longer than a client takes to try again twice.
	armedFor = 10 * time.Second
)

// listenReader keeps the refusal ledger: what the programs saw at each
// listener, and what the kernel counted for each network namespace.
type listenReader struct {
	kern    *kernel
	blind   bool  // the variant sees no refusals one by one
	demand  *hook // looks at each SYN; attached only while there is trouble
	probe   io.Closer
	until   time.Time // when it may be detached
	bounds  *boundMap
	clients *clientMap // nil: none is seen

	sampledPeak bool // the accept queue's high-water mark is not kept by a hook
	sampledSyn  bool // nor is that of the SYN queue

	born   map[uint32]*sample.TCPExt // namespaces that were there before attach; what was counted by then, if known
	netns  map[sample.NetNSID]*netnsState
	turn   int
	looked time.Time
	unread uint64 // times that the clients could not be read
	// Namespaces that were forgotten, and may come back; crowded: there were too
	// many to know them.
	forgotten map[sample.NetNSID]bool
	crowded   bool
}

// queueState is what the reader keeps of one TCP listener's queues.
type queueState struct {
	entry
	acceptPeak, synPeak uint32 // since the last tick
	fullNS              uint64 // how long the accept queue was seen full, where no hook tells
	wasFull             bool
	known               bool   // it was looked at
	bankedFullNS        uint64 // of elements that are no more, and when the listener was closed
	bankedUnsent        uint64
	synNow              uint32
	told                uint64          // refusals that events told of
	ahead               uint64          // of them, those that no event of the kernel's told of yet
	toldSeen            sample.Refusals // what was seen when the last events were sent
}

func newListenReader(k *kernel, born map[uint32]*sample.TCPExt) *listenReader {
	v := k.chosen[SignalListen]
	wake, accept := k.chosen[SignalWake], k.chosen[SignalAccept]
	l := &listenReader{
		kern:        k,
		blind:       v.name == "tcp_ext" || k.noBPF,
		sampledPeak: wake == nil || accept == nil || k.hasFlag(SignalWake, flagByState),
		sampledSyn:  v.name != "fexit" && v.name != "kprobe",
		born:        born,
		netns:       make(map[sample.NetNSID]*netnsState),
		forgotten:   make(map[sample.NetNSID]bool),
	}
	if k.noBPF {
		return l
	}
	l.bounds, l.clients = newBoundMap(k.mapOf("bounds")), newClientMap(k)
	for i := range v.hooks {
		if v.hooks[i].demand {
			l.demand = &v.hooks[i]
		}
	}
	return l
}

// look takes in what a dump says of a TCP listener, ten times a second.
func (l *listenReader) look(ls *listenerState) {
	raw, q := &ls.raw, &ls.queues
	ns := l.netns[ls.netns()]
	if ns == nil {
		ns = &netnsState{id: ls.netns(), live: true, since: time.Now()}
		l.netns[ls.netns()] = ns
		base, old := l.born[raw.Netns]
		switch {
		case l.crowded || l.forgotten[ns.id]: // it begins when it is read
		case !old || l.reused(ns):
			ns.base = &sample.TCPExt{} // it began after us, at 0
		default:
			ns.base = base
		}
	}
	if raw.Live != 0 {
		ns.settings = sample.NetNS{Inode: raw.Netns, Somaxconn: raw.Somaxconn, MaxSynBacklog: raw.MaxSynBacklog,
			Syncookies: raw.Syncookies, AbortOnOverflow: raw.AbortOnOverflow}
	}
	if ls.old && !q.known {
		q.drops = raw.Drops
	}
	q.known = true
	q.take(raw, &ns.sums)
	q.notePeaks(ls, raw)
	q.synNow = raw.SynQueueLen
	now := time.Now()
	full := raw.Live != 0 && raw.AcceptQueueLen > raw.AcceptQueueMax
	if full && q.wasFull && !l.looked.IsZero() {
		q.fullNS += uint64(now.Sub(l.looked))
	}
	q.wasFull = full
	if raw.Live == 0 && !ls.closed && raw.AcceptFullSince != 0 {
		q.bankedFullNS += less(monoNS(), raw.AcceptFullSince)
	}
	if raw.Live != 0 && (isFilling(raw.AcceptQueuePeak, raw.AcceptQueueMax) || isFilling(raw.SynQueuePeak, synMax(ls))) {
		l.trouble(ns)
	}
}

// trouble makes the next readings look closer.
func (l *listenReader) trouble(ns *netnsState) {
	ns.trouble = true
	l.until = time.Now().Add(armedFor)
}

// isFilling reports whether a queue is more than half full; one of a few only
// when it is full, since it is half full all the time.
func isFilling(peak, limit uint32) bool {
	return peak > limit || peak >= 4 && 2*peak > limit
}

// notePeaks takes in the marks of a dump, which has reset them.
func (q *queueState) notePeaks(ls *listenerState, raw *bpf.AcceptListener) {
	q.acceptPeak = max(q.acceptPeak, raw.AcceptQueuePeak)
	q.synPeak = max(q.synPeak, raw.SynQueuePeak)
	if raw.AcceptQueuePeak > raw.AcceptQueueMax {
		q.acceptFull = thisTick
	}
	if raw.SynQueuePeak > synMax(ls) {
		q.synFull = thisTick
	}
}

// reopen is for a socket that listens again: its element began at 0.
func (q *queueState) reopen(before *bpf.AcceptListener) {
	q.last = counted{}
	q.bankedFullNS += before.AcceptFullNs
	q.bankedUnsent += before.RefusalsUnsent
}

// synMax is the SYN queue's limit (net/ipv4/tcp_input.c: tcp_conn_request()):
// the listen backlog, and where no cookies are sent three quarters of
// tcp_max_syn_backlog, too, if that is less.
func synMax(ls *listenerState) uint32 {
	raw := &ls.raw
	if raw.Syncookies != 0 {
		return raw.AcceptQueueMax
	}
	return min(raw.AcceptQueueMax, raw.MaxSynBacklog-raw.MaxSynBacklog>>2)
}

// arm attaches the hook that looks at each SYN while there is trouble, and
// detaches it afterwards.
func (l *listenReader) arm(r *acceptReader) {
	l.looked = time.Now()
	if l.demand == nil {
		return
	}
	if l.looked.After(l.until) {
		l.disarm()
		return
	}
	l.bounds.update(r.byInode)
	if l.probe != nil {
		return
	}
	l.forgetLooks()
	l.kern.setVariable("looking", true) // it is there
	probe, err := l.kern.attachHook(l.demand)
	if err != nil {
		// It could be attached before. Refusals are counted all the same.
		l.kern.setVariable("looking", false)
		l.demand = nil
		return
	}
	l.probe = probe
}

func (l *listenReader) disarm() {
	if l.probe == nil {
		return
	}
	l.probe.Close()
	l.probe = nil
	l.kern.setVariable("looking", false)
}

// forgetLooks removes what the kernel's counters were when a SYN was looked at
// last: what happened since then happened to others.
func (l *listenReader) forgetLooks() {
	m := l.kern.mapOf("last_mibs")
	var key uint64
	for m.NextKey(nil, &key) == nil && m.Delete(key) == nil {
	}
}

// settle closes the books of a tick: what the kernel had counted when the tick
// began is then booked, and what the programs have seen since.
func (l *listenReader) settle(r *acceptReader) error {
	late := false
	for _, ns := range l.netns {
		if !ns.fresh && ns.unread() {
			l.read(ns, r) // it is new
			late = late || ns.fresh
		}
	}
	if late {
		// What was seen before that must be booked first, or it would look unseen.
		if err := r.catchUp(); err != nil {
			return err
		}
	}
	entries := make(map[sample.NetNSID][]*entry)
	for _, ns := range l.netns {
		ns.live = false
	}
	for _, ls := range r.byInode {
		if ls.raw.Protocol == 0 {
			continue
		}
		key := ls.netns()
		entries[key] = append(entries[key], &ls.queues.entry)
		l.netns[key].live = l.netns[key].live || !ls.closed
	}
	for key, ns := range l.netns {
		if ns.fresh {
			ns.sums.settle(ns.total, entries[key], l.blind)
			for _, e := range entries[key] {
				e.age()
			}
		}
		ns.used = len(entries[key]) > 0
	}
	l.arm(r)
	if l.clients != nil && l.clients.sweep(r.byInode) != nil {
		l.unread++ // the clients stay as they were
	}
	return nil
}

// queuesOf is the listener's part of a Sample; it begins a new tick.
func (l *listenReader) queuesOf(ls *listenerState) *sample.Queues {
	raw, q := &ls.raw, &ls.queues
	out := &sample.Queues{
		SynQueueLen: q.synNow, SynQueueMax: synMax(ls),
		AcceptQueuePeak: q.acceptPeak, PeakSampled: l.sampledPeak,
		SynQueuePeak: q.synPeak, SynPeakSampled: l.sampledSyn,
		AcceptFullNS:        raw.AcceptFullNs + q.bankedFullNS,
		Refusals:            q.booked,
		SyncookiesSentTotal: q.cookies, SyncookiesFailedTotal: q.failed,
		Approximate:  q.approximate,
		SeenTotal:    q.seen.Total(),
		EventsUnsent: raw.RefusalsUnsent + q.bankedUnsent,
		Backlog:      raw.Backlog,
	}
	if l.clients != nil {
		out.Clients = l.clients.of(raw.Ino)
	}
	out.NoSynLen = l.kern.noBPF
	switch {
	case l.sampledPeak:
		out.AcceptFullNS = q.fullNS
	case raw.AcceptFullSince != 0 && !ls.closed && raw.AcceptQueueLen > raw.AcceptQueueMax:
		out.AcceptFullNS += less(monoNS(), raw.AcceptFullSince)
	}
	if ls.closed {
		out.SynQueueLen = 0
	}
	q.acceptPeak, q.synPeak = 0, 0
	return out
}

// tell completes the events of refusals: the kernel sends one at most every
// tenth of a second, which also tells of those since the last one, and the end
// of a burst would wait for the next. So each tick sums up what is left.
func (l *listenReader) tell(r *acceptReader, events []sample.Event) []sample.Event {
	for i := range events {
		ls := r.byInode[events[i].Inode]
		if events[i].Kind != sample.EventRefusal || ls == nil {
			continue
		}
		q := &ls.queues
		repeated := min(q.ahead, events[i].Refused-1)
		q.ahead -= repeated
		events[i].Refused -= repeated
		q.told += events[i].Refused
	}
	for _, ls := range r.byInode {
		q := &ls.queues
		rest := less(q.seen.Total(), q.told)
		if rest == 0 {
			continue
		}
		q.told += rest
		q.ahead += rest
		events = append(events, sample.Event{
			MonoNS: monoNS(), Kind: sample.EventRefusal, Inode: ls.raw.Ino, Refused: rest, Place: mostRefused(&q.seen, &q.toldSeen),
			AcceptQueueLen: ls.raw.AcceptQueueLen, SynQueueLen: q.synNow,
		})
	}
	for _, ls := range r.byInode {
		ls.queues.toldSeen = ls.queues.seen
	}
	return events
}

// mostRefused is the place at which most was refused since before.
func mostRefused(now, before *sample.Refusals) string {
	place, most := sample.PlaceAcceptQueueSYN, less(now.AcceptQueueSYN, before.AcceptQueueSYN)
	for _, p := range []struct {
		name string
		n    uint64
	}{
		{sample.PlaceAcceptQueueACK, less(now.AcceptQueueACK, before.AcceptQueueACK)},
		{sample.PlaceAcceptQueueCookie, less(now.AcceptQueueCookie, before.AcceptQueueCookie)},
		{sample.PlaceSynQueue, less(now.SynQueue, before.SynQueue)},
	} {
		if p.n > most {
			place, most = p.name, p.n
		}
	}
	return place
}

// sample is what belongs to no single listener. With a filter, the namespaces
// of listeners that are not selected are left out.
func (l *listenReader) sample(r *acceptReader) *sample.Listen {
	selected := make(map[sample.NetNSID]bool)
	for _, ls := range r.byInode {
		if ls.raw.Protocol != 0 && r.isSelected(ls) {
			selected[ls.netns()] = true
		}
	}
	out := &sample.Listen{NetNS: []sample.NetNS{}}
	for key, ns := range l.netns {
		if !selected[key] {
			continue
		}
		s := ns.settings
		s.Inode, s.Cookie, s.TCPExt, s.Unattributed = key.Inode, key.Cookie, ns.total, ns.sums.unattributed
		out.NetNS = append(out.NetNS, s)
	}
	l.forget()
	slices.SortFunc(out.NetNS, func(a, b sample.NetNS) int { return compareNetNS(a.ID(), b.ID()) })
	return out
}
