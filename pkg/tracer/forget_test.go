// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// servedOne returns the port of a listener that accepted one connection and closed.
func servedOne(t *testing.T) int {
	t.Helper()
	fd, port := listenOn(t, 0, 8)
	knock(t, port)
	c, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(c)
	unix.Close(fd)
	return port
}

// TestListenerDiedBetweenTicks: its workers wait for the tick that takes it in,
// however often others are looked at meanwhile.
func TestListenerDiedBetweenTicks(t *testing.T) {
	tr := open(t, Options{})
	next(t, tr)
	dead := servedOne(t)
	for range 8 {
		fd, port := listenOn(t, 0, 8)
		knock(t, port)
		c, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(c)
		tr.accept.looked = time.Time{} // however long that took
		if err := tr.accept.checkQueues(); err != nil {
			t.Fatal(err)
		}
	}
	accepts := uint64(0)
	for _, l := range final(t, tr).Accept.Listeners {
		if int(l.Port) == dead {
			accepts += l.AcceptsTotal
		}
	}
	if accepts != 1 {
		t.Errorf("%d accepts from the listener that died, want 1", accepts)
	}
}

// TestForgottenNamespaces: of many that are over, each is known to be no new one;
// the new ones begin at 0 all the same.
func TestForgottenNamespaces(t *testing.T) {
	l := &listenReader{born: make(map[uint32]*sample.TCPExt), netns: make(map[sample.NetNSID]*netnsState), forgotten: make(map[sample.NetNSID]bool)}
	at := func(inode uint32) *netnsState {
		ls := &listenerState{raw: bpf.AcceptListener{Netns: inode, NetnsCookie: uint64(inode), Live: 1}}
		l.look(ls)
		return l.netns[ls.netns()]
	}
	for i := range uint32(netnsKept) + 1 {
		at(100 + i)
	}
	l.forget()
	if len(l.netns) != 0 || len(l.forgotten) != netnsKept+1 {
		t.Fatalf("%d namespaces are known, %d forgotten", len(l.netns), len(l.forgotten))
	}
	if ns := at(7); ns.base == nil || *ns.base != (sample.TCPExt{}) {
		t.Errorf("a new one begins at %v, want 0", ns.base)
	}
	if ns := at(100); ns.base != nil {
		t.Errorf("one that came back begins at %v, want what is read next", *ns.base)
	}
	for i := range uint32(forgottenKept) {
		l.netns[sample.NetNSID{Inode: 1 << 20, Cookie: uint64(i)}] = &netnsState{}
	}
	l.forget()
	if len(l.forgotten) > forgottenKept || !l.crowded {
		t.Errorf("%d are remembered (crowded: %v), want %d at most", len(l.forgotten), l.crowded, forgottenKept)
	}
}

// TestGroupsUnseen: where no group can be seen, none is kept.
func TestGroupsUnseen(t *testing.T) {
	g := &cgroupTable{groups: make(map[uint64]*groupState), waits: make(map[uint64]bpf.SchedWaits)}
	for id := range uint64(100) {
		g.add(id, &activity{})
		g.active(id)
		g.setWaits(&bpf.SchedWaits{CgroupId: id}, 1)
	}
	g.samples(true, false)
	if len(g.groups)+len(g.waits)+len(g.pending) != 0 || len(g.dropped) != 100 {
		t.Errorf("%d groups, %d waits, %d pending are kept, and %d dropped", len(g.groups), len(g.waits), len(g.pending), len(g.dropped))
	}
}

// TestFamilyForgets: a child is found, and one that ended long ago is no member
// any more, as its number may be another's.
func TestFamilyForgets(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	const pidMax = 1 << 22 // include/linux/threads.h: PID_MAX_LIMIT, which no process has
	h := newHolders(nil, []uint32{uint32(os.Getpid())})
	h.family[pidMax] = time.Now()
	h.growFamily()
	if !h.isFamily(uint32(child.Process.Pid)) || !h.isFamily(uint32(os.Getpid())) || !h.isFamily(pidMax) {
		t.Errorf("the family is %v, want this process, its child, and one that has just ended", h.family)
	}
	for pid := range h.family {
		h.family[pid] = time.Now().Add(-2 * familyKept)
	}
	h.growFamily()
	if !h.isFamily(uint32(child.Process.Pid)) || h.isFamily(pidMax) {
		t.Errorf("the family is %v, want those that live", h.family)
	}
}

// TestListenerOfTheLastMoment: one that came and went while its namespace was looked
// up, at the end of a tick, is complete before it may be forgotten.
func TestListenerOfTheLastMoment(t *testing.T) {
	listenOn(t, 0, 8) // so that the namespace is known
	tr := open(t, Options{})
	next(t, tr)
	port := servedOne(t)
	for _, ns := range tr.accept.listen.netns {
		ns.fresh, ns.total, ns.live = false, nil, true // as if it were new
	}
	if err := tr.accept.listen.settle(tr.accept); err != nil {
		t.Fatal(err)
	}
	accepts := uint64(0)
	for _, ls := range tr.accept.byInode {
		if int(ls.raw.Port) != port {
			continue
		}
		for _, w := range ls.workers {
			accepts += w.raw.Accepts
		}
		if !ls.closed {
			t.Error("the listener is not closed")
		}
	}
	if accepts != 1 {
		t.Errorf("%d accepts of it are known, want 1", accepts)
	}
}

// TestCountsOfDeletedElements: a listener that looked dead while it was not, and a
// worker's second element, take nothing away from what was counted before.
func TestCountsOfDeletedElements(t *testing.T) {
	tr := open(t, Options{})
	next(t, tr)
	fd, port := listenOn(t, 0, 8)
	defer unix.Close(fd)
	served := func() {
		knock(t, port)
		c, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(c)
	}
	take := func() {
		workers, err := tr.accept.dumpWorkers()
		if err != nil {
			t.Fatal(err)
		}
		tr.accept.takeWorkers(workers, true)
	}
	served()
	if _, err := tr.accept.readListeners(); err != nil {
		t.Fatal(err)
	}
	for _, ls := range tr.accept.byInode {
		if int(ls.raw.Port) == port {
			tr.accept.close(ls)
		}
	}
	take()
	served()
	take()
	served()
	for _, l := range final(t, tr).Accept.Listeners {
		if int(l.Port) == port && (l.AcceptsTotal != 3 || l.Closed) {
			t.Errorf("%d accepts, closed: %v; want 3 of one that is open", l.AcceptsTotal, l.Closed)
		}
	}
}
