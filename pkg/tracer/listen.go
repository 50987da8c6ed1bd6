// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// armedFor is how long refused SYNs are looked at one by one after the last
	// sign of trouble: longer than a client takes to try again twice.
	armedFor = 10 * time.Second
	// quietRead is how many namespaces without any sign of trouble are read in
	// a tick; the others take turns.
	quietRead = 16
	// netnsKept is how many namespaces are known at most, those without
	// listeners included.
	netnsKept = 1024
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
	clients *clientMap

	sampledPeak bool // the accept queue's high-water mark is not kept by a hook
	sampledSyn  bool // nor is that of the SYN queue

	born    map[uint32]*sample.TCPExt // namespaces that were there at attach; what was counted by then, if known
	netns   map[netnsKey]*netnsState
	crowded bool // namespaces were forgotten, and may come back
	turn    int
	looked  time.Time
}

// netnsKey tells network namespaces apart: an inode number is given to another
// one once its owner is gone, and the cookie is 0 before Linux 5.12.
type netnsKey struct {
	inode  uint32
	cookie uint64
}

func (ls *listenerState) netns() netnsKey {
	return netnsKey{ls.raw.Netns, ls.raw.NetnsCookie}
}

// netnsState is one network namespace that has TCP listeners.
type netnsState struct {
	netnsKey
	sums     sums
	base     *sample.TCPExt // at attach
	total    *sample.TCPExt // since then; nil: could not be read
	settings sample.NetNS
	proc     string // "/proc/N" of a process in it
	fresh    bool   // total was read in this tick
	trouble  bool
	live     bool // it has a listener that is open
	used     bool // it has one that is still known
}

// queueState is what the reader keeps of one TCP listener's queues.
type queueState struct {
	entry
	acceptPeak, synPeak uint32 // since the last tick
	fullNS              uint64 // how long the accept queue was seen full, where no hook tells
	wasFull             bool
	lastFullNS          uint64 // how long it had been full when the listener was closed
	synNow              uint32
	told                uint64 // refusals that events told of
	ahead               uint64 // of them, those that no event of the kernel's told of yet
}

func newListenReader(k *kernel) *listenReader {
	v := k.chosen[SignalListen]
	wake, accept := k.chosen[SignalWake], k.chosen[SignalAccept]
	l := &listenReader{
		kern:        k,
		blind:       v.name == "tcp_ext",
		sampledPeak: wake == nil || accept == nil || k.hasFlag(SignalWake, flagByState),
		sampledSyn:  v.name != "fexit",
		bounds:      newBoundMap(k.mapOf("bounds")),
		clients:     newClientMap(k.mapOf("clients"), k.mapOf("sketches")),
		born:        make(map[uint32]*sample.TCPExt),
		netns:       make(map[netnsKey]*netnsState),
	}
	for ns, pid := range netnsPids() {
		l.born[ns] = nil
		if pid != 0 {
			l.born[ns], _ = readTCPExt(fmt.Sprintf("/proc/%d", pid)) // else it is read when it has a listener
		}
	}
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
		ns = &netnsState{netnsKey: ls.netns(), live: true}
		l.netns[ls.netns()] = ns
		base, old := l.born[raw.Netns]
		switch {
		case l.crowded: // what is new may have been forgotten: it begins when it is read
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
	if ls.old && !l.seeded() {
		q.drops = raw.Drops
	}
	drops := q.drops
	q.take(raw, &ns.sums)
	q.acceptPeak = max(q.acceptPeak, raw.AcceptQueuePeak)
	q.synPeak = max(q.synPeak, raw.SynQueuePeak)
	q.synNow = raw.SynQueueLen
	now := time.Now()
	full := raw.Live != 0 && raw.AcceptQueueLen > raw.AcceptQueueMax
	if full && q.wasFull && !l.looked.IsZero() {
		q.fullNS += uint64(now.Sub(l.looked))
	}
	q.wasFull = full
	if raw.Live == 0 && !ls.closed && raw.AcceptFullSince != 0 {
		q.lastFullNS += less(monoNS(), raw.AcceptFullSince)
	}
	if raw.AcceptQueuePeak > raw.AcceptQueueMax {
		q.acceptFull = thisTick
	}
	if raw.SynQueuePeak > synMax(ls) {
		q.synFull = thisTick
	}
	if raw.Live != 0 && (raw.Drops != drops || 2*raw.AcceptQueuePeak > raw.AcceptQueueMax+1 || 2*raw.SynQueuePeak > synMax(ls)+1) {
		ns.trouble = true
		l.until = now.Add(armedFor)
	}
}

// reused reports whether the number of ns was another namespace's before.
func (l *listenReader) reused(ns *netnsState) bool {
	for key := range l.netns {
		if key.inode == ns.inode && key.cookie < ns.cookie {
			return true
		}
	}
	return false
}

// seeded reports whether the listeners that were there at attach are known.
func (l *listenReader) seeded() bool { return !l.looked.IsZero() }

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
	l.kern.setVariable("looking", true)      // it is there
	l.probe, _ = l.kern.attachHook(l.demand) // it could be attached before; else refusals are counted all the same
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

// readTotals reads what the kernel counted for each namespace.
func (l *listenReader) readTotals(r *acceptReader) {
	i, n := 0, len(l.netns)
	for _, ns := range l.netns {
		ns.fresh = false
		due := ns.trouble || n <= quietRead || (i+n-l.turn%n)%n < quietRead
		i++
		if !ns.live || !due && ns.total != nil {
			continue
		}
		ns.read(r)
	}
	l.turn += quietRead
}

// read leaves the counters of before where no process is left to read through.
func (ns *netnsState) read(r *acceptReader) {
	if !ns.findProc(r) {
		return
	}
	now, err := readTCPExt(ns.proc)
	if err != nil {
		ns.proc = ""
		return
	}
	if ns.base == nil {
		// What was seen since attach, until now, is in these numbers.
		ns.base = now
		ns.base.ListenOverflows = less(now.ListenOverflows, ns.sums.booked.AcceptQueue())
		ns.base.ListenDrops = less(now.ListenDrops, ns.sums.booked.Total())
		ns.base.SyncookiesSent = less(now.SyncookiesSent, ns.sums.cookies)
		ns.base.SyncookiesFailed = less(now.SyncookiesFailed, ns.sums.failed)
	}
	total := tcpExtSince(now, ns.base)
	ns.total, ns.fresh, ns.trouble = &total, true, false
}

// findProc finds a process in the namespace: the reader itself, else one that
// holds a listener there, else any.
func (ns *netnsState) findProc(r *acceptReader) bool {
	if ns.proc != "" {
		if in, ok := namespaceOf(ns.proc); ok && in == ns.inode {
			return true
		}
	}
	try := func(proc string) bool {
		in, ok := namespaceOf(proc)
		if ok = ok && in == ns.inode; ok {
			ns.proc = proc
		}
		return ok
	}
	ns.proc = ""
	if try("/proc/self") {
		return true
	}
	for _, ls := range r.byInode {
		if ls.netns() != ns.netnsKey {
			continue
		}
		for pid := range r.holders.of[ls.raw.Ino] {
			if try(fmt.Sprintf("/proc/%d", pid)) {
				return true
			}
		}
	}
	if pid := r.holders.netns()[ns.inode]; pid != 0 {
		return try(fmt.Sprintf("/proc/%d", pid))
	}
	return false
}

// settle closes the books of a tick: each namespace's sums then equal what the
// kernel had counted when the tick began.
func (l *listenReader) settle(r *acceptReader) error {
	entries := make(map[netnsKey][]*entry)
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
		if ns.total == nil && ns.live {
			ns.read(r) // it is new
		}
		if ns.fresh {
			ns.sums.settle(ns.total, entries[key], l.blind)
			for _, e := range entries[key] {
				e.age()
			}
		}
		ns.used = len(entries[key]) > 0
	}
	l.arm(r)
	return l.clients.sweep(r.byInode)
}

// queuesOf is the listener's part of a Sample; it begins a new tick.
func (l *listenReader) queuesOf(ls *listenerState) *sample.Queues {
	raw, q := &ls.raw, &ls.queues
	out := &sample.Queues{
		SynQueueLen: q.synNow, SynQueueMax: synMax(ls),
		AcceptQueuePeak: q.acceptPeak, PeakSampled: l.sampledPeak,
		SynQueuePeak: q.synPeak, SynPeakSampled: l.sampledSyn,
		AcceptFullNS:        raw.AcceptFullNs + q.lastFullNS,
		Refusals:            q.booked,
		SyncookiesSentTotal: q.cookies, SyncookiesFailedTotal: q.failed,
		Approximate:  q.approximate,
		SeenTotal:    q.seen.Total(),
		Clients:      l.clients.of(raw.Ino),
		EventsUnsent: raw.RefusalsUnsent,
		Backlog:      raw.Backlog,
	}
	switch {
	case l.sampledPeak:
		out.AcceptFullNS = q.fullNS
	case raw.AcceptFullSince != 0 && !ls.closed:
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
			MonoNS: monoNS(), Kind: sample.EventRefusal, Inode: ls.raw.Ino, Refused: rest, Place: mostRefused(&q.seen),
			AcceptQueueLen: ls.raw.AcceptQueueLen, SynQueueLen: q.synNow,
		})
	}
	return events
}

func mostRefused(r *sample.Refusals) string {
	place, most := sample.PlaceAcceptQueueSYN, r.AcceptQueueSYN
	for name, n := range map[string]uint64{sample.PlaceAcceptQueueACK: r.AcceptQueueACK, sample.PlaceAcceptQueueCookie: r.AcceptQueueCookie, sample.PlaceSynQueue: r.SynQueue} {
		if n > most {
			place, most = name, n
		}
	}
	return place
}

// sample is what belongs to no single listener. With a filter, the namespaces
// of listeners that are not selected are left out.
func (l *listenReader) sample(r *acceptReader) *sample.Listen {
	selected := make(map[netnsKey]bool)
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
		s.Inode, s.TCPExt, s.Unattributed = key.inode, ns.total, ns.sums.unattributed
		out.NetNS = append(out.NetNS, s)
	}
	l.forget()
	slices.SortFunc(out.NetNS, func(a, b sample.NetNS) int { return cmp.Compare(a.Inode, b.Inode) })
	return out
}

// forget drops namespaces that have no listener any more, when there are many:
// one that comes back must not be counted twice.
func (l *listenReader) forget() {
	if len(l.netns) <= netnsKept {
		return
	}
	l.crowded = true
	for key, ns := range l.netns {
		if !ns.used {
			delete(l.netns, key)
		}
	}
}
