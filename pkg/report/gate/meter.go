// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// meter keeps of each tick what the last one does not say any more: what
// listeners and cgroups did that are gone, and the worst moments.
type meter struct {
	last      *model.Frame
	summary   *report.Summary
	minConns  uint64
	listeners map[uint64]*model.Listener // of the last tick, by inode
	gone      map[address]*totals        // of those that are not listed any more
	others    totals                     // of addresses beyond mostAddresses
	groups    map[uint64]*model.CGroup   // of the last tick, by id
	goneGroup bandwidth
	queues    *model.Queues
	waitS     float64 // longest wait in an accept queue
	waitAt    string
	reset     string // whose counters went back; "" nobody's
	sawGroups bool
}

const mostAddresses = 4096

// address is what a client sees of the sockets of a SO_REUSEPORT group.
type address struct {
	netns sample.NetNSID
	proto string
	name  string
}

// totals are what the sockets at an address did since attach.
type totals struct {
	program                             string
	conns, completions, accepts, eagain uint64
	wakeups, wasted, clients, cookies   uint64
	noWakeups                           bool
	emptyCPU                            float64 // seconds; NaN where not known
	refusals                            sample.Refusals
	fullNS                              uint64  // the longest
	peak                                float64 // the greatest, by its limit
}

type bandwidth struct {
	periods, throttled, throttledNS uint64
	worst                           float64 // share of the periods
	worstAt                         string
}

func newMeter(minConns uint64) *meter {
	return &meter{minConns: minConns, gone: make(map[address]*totals)}
}

// add takes in a tick.
func (m *meter) add(f *model.Frame) {
	m.last = f
	if f.Accept != nil {
		m.addListeners(f)
	}
	if f.Queues != nil {
		m.queues = f.Queues
	}
	if len(f.CGroups) > 0 {
		m.sawGroups = true
		m.addGroups(f)
	}
}

func (m *meter) addListeners(f *model.Frame) {
	now := make(map[uint64]*model.Listener, len(f.Accept.Listeners))
	for _, l := range f.Accept.Listeners {
		now[l.Inode] = l
		if was := m.listeners[l.Inode]; was != nil && wentBack(was, l) {
			m.reset = nameOf(l)
			m.fold(was)
		}
		if q := l.Queue; q != nil && q.WaitS > m.waitS {
			m.waitS, m.waitAt = q.WaitS, nameOf(l)
		}
	}
	for _, inode := range slices.Sorted(maps.Keys(m.listeners)) {
		if now[inode] == nil {
			m.fold(m.listeners[inode])
		}
	}
	m.listeners = now
}

func wentBack(was, l *model.Listener) bool {
	return l.AcceptsTotal < was.AcceptsTotal || l.CompletionsTotal < was.CompletionsTotal || l.WakeupsTotal < was.WakeupsTotal ||
		l.AcceptEAGAINTotal < was.AcceptEAGAINTotal || was.Queue != nil && l.Queue != nil && l.Queue.Refusals.Total() < was.Queue.Refusals.Total()
}

func nameOf(l *model.Listener) string {
	return model.Printable(l.Name) + " " + model.Printable(l.Program)
}

func addressOf(l *model.Listener) address { return address{l.NetNSID(), l.Proto, l.Name} }

// fold keeps what a listener did that is gone.
func (m *meter) fold(l *model.Listener) {
	a := addressOf(l)
	t := m.gone[a]
	if t == nil && len(m.gone) >= mostAddresses {
		t = &m.others
	}
	if t == nil {
		t = &totals{}
		m.gone[a] = t
	}
	t.add(totalsOf(l))
}

func totalsOf(l *model.Listener) *totals {
	t := &totals{
		program: l.Program, completions: l.CompletionsTotal, conns: max(l.CompletionsTotal, l.AcceptsTotal),
		accepts: l.AcceptsTotal, eagain: l.AcceptEAGAINTotal, wakeups: l.WakeupsTotal, wasted: l.WastedWakeupsTotal,
		noWakeups: l.NoWakeups, emptyCPU: model.EmptyCPUSeconds(&l.Listener),
	}
	if q := l.Queue; q != nil {
		t.refusals, t.clients, t.cookies, t.fullNS = q.Refusals, q.Clients.Total, q.SyncookiesSentTotal, q.AcceptFullNS
		if !l.NoLimit {
			t.peak = float64(q.AcceptTop) / float64(max(l.AcceptQueueMax, 1))
		}
	}
	return t
}

func (t *totals) add(d *totals) {
	if d.program != "" && d.program != "?" && (t.program == "" || t.program == "?" || d.program < t.program) {
		t.program = d.program // whatever order they come in
	}
	t.conns += d.conns
	t.completions += d.completions
	t.accepts += d.accepts
	t.eagain += d.eagain
	t.wakeups += d.wakeups
	t.wasted += d.wasted
	t.clients += d.clients
	t.cookies += d.cookies
	t.noWakeups = t.noWakeups || d.noWakeups
	t.emptyCPU += d.emptyCPU
	t.refusals.AcceptQueueSYN += d.refusals.AcceptQueueSYN
	t.refusals.AcceptQueueACK += d.refusals.AcceptQueueACK
	t.refusals.AcceptQueueCookie += d.refusals.AcceptQueueCookie
	t.refusals.SynQueue += d.refusals.SynQueue
	t.fullNS = max(t.fullNS, d.fullNS)
	t.peak = max(t.peak, d.peak)
}

// byAddress is what all sockets did, the living and the gone.
func (m *meter) byAddress() map[address]*totals {
	out := make(map[address]*totals, len(m.gone)+len(m.listeners))
	for a, t := range m.gone {
		c := *t
		out[a] = &c
	}
	for _, inode := range slices.Sorted(maps.Keys(m.listeners)) {
		l := m.listeners[inode]
		a := addressOf(l)
		if out[a] == nil {
			out[a] = &totals{}
		}
		out[a].add(totalsOf(l))
	}
	return out
}

// all is the sum over all addresses.
func (m *meter) all() *totals {
	sum := m.others
	by := m.byAddress()
	for _, a := range slices.SortedFunc(maps.Keys(by), address.compare) {
		sum.add(by[a])
	}
	return &sum
}

// worst is the address at which of is greatest, the first by name where several are;
// NaN does not count.
func (m *meter) worst(of func(*totals) float64) (v float64, at string) {
	v = math.NaN()
	by := m.byAddress()
	for _, a := range slices.SortedFunc(maps.Keys(by), address.compare) {
		if x := of(by[a]); !math.IsNaN(x) && !(x <= v) {
			v, at = x, model.Printable(a.name)+" "+model.Printable(by[a].program)
		}
	}
	return v, at
}

func (a address) compare(b address) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.proto, b.proto),
		cmp.Compare(a.netns.Inode, b.netns.Inode), cmp.Compare(a.netns.Cookie, b.netns.Cookie))
}

func (m *meter) addGroups(f *model.Frame) {
	now := make(map[uint64]*model.CGroup, len(f.CGroups))
	for _, g := range f.CGroups {
		if g.CFS == nil {
			continue
		}
		now[g.ID] = g
		if was := m.groups[g.ID]; was != nil && (g.CFS.Periods < was.CFS.Periods || g.CFS.ThrottledNS < was.CFS.ThrottledNS) {
			m.reset = model.Printable(g.Title())
			m.goneGroup.add(was)
		}
	}
	for id, g := range m.groups {
		if now[id] == nil {
			m.goneGroup.add(g)
		}
	}
	m.groups = now
}

// leastPeriods is from how many periods on their throttled share says something.
const leastPeriods = 10

func (b *bandwidth) add(g *model.CGroup) {
	b.periods += g.CFS.Periods
	b.throttled += g.CFS.Throttled
	b.throttledNS += g.CFS.ThrottledNS
	if g.CFS.Periods < leastPeriods {
		return
	}
	share, at := float64(g.CFS.Throttled)/float64(g.CFS.Periods), model.Printable(g.Title())
	if share > b.worst || share == b.worst && share > 0 && at < b.worstAt {
		b.worst, b.worstAt = share, at
	}
}

// bandwidth is that of all cgroups, the living and the gone.
func (m *meter) bandwidth() bandwidth {
	b := m.goneGroup
	for _, g := range m.groups {
		b.add(g)
	}
	return b
}
