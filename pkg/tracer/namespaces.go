// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// quietRead is how many namespaces without any sign of trouble are read in
	// a tick; the others take turns.
	quietRead = 16
	// noProcFor is how long not to look for a process in a namespace again: it
	// takes a walk over all processes.
	noProcFor = 10 * time.Second
	// netnsKept is how many namespaces are known at most, those without
	// listeners included.
	netnsKept = 1024
	// netnsTries is how often a process is looked for in a namespace that was never
	// read and whose listeners are closed.
	netnsTries = 5
	// forgottenKept is of how many others it is known that they were.
	forgottenKept = 1 << 16
)

// netnsState is one network namespace that has TCP listeners.
type netnsState struct {
	id       sample.NetNSID
	sums     sums
	base     *sample.TCPExt // before attach
	raw      *sample.TCPExt // as read last
	total    *sample.TCPExt // since then; nil: could not be read
	settings sample.NetNS
	proc     string    // "/proc/N" of a process in it
	noProc   time.Time // when none was found last
	since    time.Time // when it was first seen
	tries    int       // to read it, in vain
	fresh    bool      // total was read in this tick
	trouble  bool
	live     bool // it has a listener that is open
	used     bool // it has one that is still known
}

func (ls *listenerState) netns() sample.NetNSID {
	return sample.NetNSID{Inode: ls.raw.Netns, Cookie: ls.raw.NetnsCookie}
}

// readNamespaces reads what was counted in each network namespace; nil where no
// process is left to read it through.
func readNamespaces() map[uint32]*sample.TCPExt {
	born := make(map[uint32]*sample.TCPExt)
	for ns, pid := range netnsPids() {
		born[ns] = nil
		if pid != 0 {
			born[ns], _ = readTCPExt(fmt.Sprintf("/proc/%d", pid)) // else it is read when it has a listener
		}
	}
	return born
}

// reused reports whether the number of ns was another namespace's before.
func (l *listenReader) reused(ns *netnsState) bool {
	for id := range l.netns {
		if id.Inode == ns.id.Inode && id.Cookie < ns.id.Cookie {
			return true
		}
	}
	return false
}

// readTotals reads what the kernel counted for each namespace: where there is
// trouble, and some of the others in turn; all of them at the end.
func (l *listenReader) readTotals(r *acceptReader, final bool) {
	keys := slices.SortedFunc(maps.Keys(l.netns), compareNetNS)
	n := len(keys)
	for i, key := range keys {
		ns := l.netns[key]
		ns.fresh = false
		inTurn := n <= quietRead || (i-l.turn%n+n)%n < quietRead
		if ns.live && (final || inTurn || ns.trouble) || ns.unread() {
			l.read(ns, r)
		}
	}
	l.turn += quietRead
}

func compareNetNS(a, b sample.NetNSID) int {
	return cmp.Or(cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Cookie, b.Cookie))
}

// unread reports whether what it counted is not known at all: its listeners may be
// closed by now, but what they refused is in there.
func (ns *netnsState) unread() bool {
	return ns.total == nil && (ns.live || ns.used && ns.tries < netnsTries)
}

// read leaves the counters of before where no process is left to read through.
func (l *listenReader) read(ns *netnsState, r *acceptReader) {
	if !ns.findProc(r) {
		ns.tries++
		return
	}
	now, err := readTCPExt(ns.proc)
	if err != nil {
		ns.proc = ""
		return
	}
	if ns.raw != nil && (now.ListenDrops < ns.raw.ListenDrops || now.SyncookiesSent < ns.raw.SyncookiesSent) {
		// Its number went to a new namespace (before Linux 5.12 nothing else tells).
		ns.base, ns.sums = &sample.TCPExt{}, sums{}
	}
	ns.raw = now
	if ns.base == nil {
		// What was seen since attach, until now, is in these numbers.
		base := *now
		base.ListenOverflows = less(now.ListenOverflows, ns.sums.booked.AcceptQueue())
		base.ListenDrops = less(now.ListenDrops, ns.sums.booked.Total())
		base.SyncookiesSent = less(now.SyncookiesSent, ns.sums.cookies)
		base.SyncookiesFailed = less(now.SyncookiesFailed, ns.sums.failed)
		ns.base = &base
	}
	total := tcpExtSince(now, ns.base)
	if ns.total != nil && (total.ListenDrops > ns.total.ListenDrops || total.SyncookiesSent > ns.total.SyncookiesSent) {
		l.trouble(ns)
	} else {
		ns.trouble = false
	}
	ns.total, ns.fresh = &total, true
}

// findProc finds a process in the namespace: the reader itself, else one that
// holds a listener there, else any.
func (ns *netnsState) findProc(r *acceptReader) bool {
	if ns.proc != "" {
		if in, ok := namespaceOf(ns.proc); ok && in == ns.id.Inode {
			return true
		}
	}
	try := func(proc string) bool {
		in, ok := namespaceOf(proc)
		if ok = ok && in == ns.id.Inode; ok {
			ns.proc = proc
		}
		return ok
	}
	ns.proc = ""
	if try("/proc/self") {
		return true
	}
	for _, ls := range r.byInode {
		if ls.netns() != ns.id {
			continue
		}
		for pid := range r.holders.of[ls.raw.Ino] {
			if try(fmt.Sprintf("/proc/%d", pid)) {
				return true
			}
		}
	}
	if time.Since(ns.noProc) < noProcFor {
		return false
	}
	if pid := r.holders.netns()[ns.id.Inode]; pid != 0 && try(fmt.Sprintf("/proc/%d", pid)) {
		return true
	}
	if r.holders.netnsAt.After(ns.since) { // else that walk was before its time
		ns.noProc = time.Now()
	}
	return false
}

// forget drops namespaces that have no listener any more, when there are many:
// one that comes back must not be counted twice.
func (l *listenReader) forget() {
	if len(l.netns) <= netnsKept {
		return
	}
	for key, ns := range l.netns {
		if !ns.used {
			delete(l.netns, key)
			if len(l.forgotten) >= forgottenKept {
				l.crowded = true
				clear(l.forgotten)
			}
			l.forgotten[key] = true
		}
	}
}
