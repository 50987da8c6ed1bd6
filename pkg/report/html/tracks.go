// SPDX-License-Identifier: Apache-2.0

package html

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// So many of each are followed over time; more come only from a crafted recording,
// or over days: then those that matter least are forgotten.
const (
	mostCores     = 1024
	mostListeners = 256
	mostGroups    = 512
)

// timeline is what the plots draw, on one axis.
type timeline struct {
	axis
	cores     tracks[int, *coreTrack]
	listeners tracks[uint64, *listenerTrack]
	groups    tracks[uint64, *groupTrack]
	ticks     int
}

func newTimeline(width time.Duration) *timeline {
	return &timeline{
		axis:      axis{width: max(width, 10*time.Millisecond)},
		cores:     tracks[int, *coreTrack]{most: mostCores},
		listeners: tracks[uint64, *listenerTrack]{most: mostListeners},
		groups:    tracks[uint64, *groupTrack]{most: mostGroups},
	}
}

// moment is where on the axis the interval of a Frame lies.
type moment struct {
	tick     int
	from, to int
	seconds  float64
}

// add takes a Frame's interval.
func (t *timeline) add(f *model.Frame) {
	from, to, folds := t.slots(f.Elapsed, f.Interval)
	for range folds {
		t.cores.fold()
		t.listeners.fold()
		t.groups.fold()
	}
	t.ticks++
	m := moment{t.ticks, from, to, f.Interval.Seconds()}
	for i := range f.CPUs {
		c := &f.CPUs[i]
		if k := t.cores.get(c.CPU.CPU, m, func() *coreTrack { return &coreTrack{number: c.CPU.CPU} }); k != nil {
			k.add(m, c)
		}
	}
	if f.Accept != nil {
		for _, l := range f.Accept.Listeners {
			if k := t.listeners.get(l.Inode, m, func() *listenerTrack { return &listenerTrack{inode: l.Inode} }); k != nil {
				k.add(m, f, l)
			}
		}
	}
	for _, g := range f.CGroups {
		if g.CFS == nil {
			continue
		}
		if k := t.groups.get(g.ID, m, func() *groupTrack { return &groupTrack{id: g.ID} }); k != nil {
			k.add(m, g)
		}
	}
}

// track is something that is followed over time.
type track interface {
	fold()
	// weight is how much it matters.
	weight() float64
	seen() int // the last tick that listed it
}

// tracks are at most so many.
type tracks[K cmp.Ordered, T track] struct {
	most int
	of   map[K]T
}

// get is the track of k; a new one takes the place of the one that matters least
// of those that were not listed lately. It is the zero T where all were.
func (t *tracks[K, T]) get(k K, m moment, begin func() T) (out T) {
	if have, ok := t.of[k]; ok {
		return have
	}
	if t.of == nil {
		t.of = make(map[K]T)
	}
	if len(t.of) >= t.most && !t.forget(m) {
		return out
	}
	t.of[k] = begin()
	return t.of[k]
}

// forget makes room; false: all were listed just now.
func (t *tracks[K, T]) forget(m moment) bool {
	var least K
	found := false
	for key, have := range t.of {
		if have.seen() >= m.tick-1 {
			continue
		}
		if !found || cmp.Or(cmp.Compare(have.weight(), t.of[least].weight()), cmp.Compare(key, least)) < 0 {
			least, found = key, true
		}
	}
	if found {
		delete(t.of, least)
	}
	return found
}

func (t *tracks[K, T]) fold() {
	for _, k := range t.of {
		k.fold()
	}
}

// byWeight are the tracks, those that matter most first.
func (t *tracks[K, T]) byWeight() []T {
	keys := make([]K, 0, len(t.of))
	for k := range t.of {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int {
		return cmp.Or(cmp.Compare(t.of[b].weight(), t.of[a].weight()), cmp.Compare(a, b))
	})
	out := make([]T, 0, len(keys))
	for _, k := range keys {
		out = append(out, t.of[k])
	}
	return out
}

// coreTrack is one core over time.
type coreTrack struct {
	number  int
	tick    int
	queue   peaks // threads that ran or waited
	netrx   means // share of its time
	packets means // per second
	longest float64
}

func (k *coreTrack) fold() {
	k.queue.fold()
	k.netrx.fold()
	k.packets.fold()
}

func (k *coreTrack) weight() float64 { return k.longest }
func (k *coreTrack) seen() int       { return k.tick }

func (k *coreTrack) add(m moment, c *model.CPU) {
	k.tick = m.tick
	q := report.QueueLen(c)
	k.queue.add(m.from, m.to, q)
	k.netrx.add(m.from, m.to, c.NetRXRatio, m.seconds)
	k.packets.add(m.from, m.to, c.PacketsPerS, m.seconds)
	k.longest = max(k.longest, known(q))
}

// listenerTrack is one listener over time.
type listenerTrack struct {
	inode         uint64
	tick          int
	name, program string
	wakeups       means // per second
	conns         means // per second
	accept, syn   queueTrack
	useless       float64 // wake-ups beyond one for each connection, in all
	woken, served float64 // wake-ups and connections, in all, where both are known
}

// queueTrack is one of a listener's two queues over time.
type queueTrack struct {
	length   peaks
	refused  counts
	cookies  counts
	limit    uint32
	noLimit  bool
	measured bool
	top      float64
	refusals float64 // in all, since the first Sample
	sent     float64 // cookies, in all
	about    bool    // the refusals are inferred in part
	sampled  bool    // the lengths were looked at now and then
}

func (k *queueTrack) fold() {
	k.length.fold()
	k.refused.fold()
	k.cookies.fold()
}

func (k *listenerTrack) fold() {
	k.wakeups.fold()
	k.conns.fold()
	k.accept.fold()
	k.syn.fold()
}

func (k *listenerTrack) weight() float64 {
	return 1e6*(k.accept.refusals+k.syn.refusals) + 1e3*k.useless + k.served
}
func (k *listenerTrack) seen() int { return k.tick }

func (k *listenerTrack) add(m moment, f *model.Frame, l *model.Listener) {
	k.tick = m.tick
	keep(&k.name, l.Name)
	keep(&k.program, l.Program)
	conns := l.AcceptsPerS
	if !model.Known(conns) || l.CompletionsPerS > conns { // io_uring's accepts may not be seen
		conns = l.CompletionsPerS
	}
	k.wakeups.add(m.from, m.to, l.WakeupsPerS, m.seconds)
	k.conns.add(m.from, m.to, conns, m.seconds)
	k.useless += known(l.UselessPerS) * m.seconds
	if model.Known(l.WakeupsPerS) && model.Known(conns) {
		k.woken += l.WakeupsPerS * m.seconds
		k.served += conns * m.seconds
	}
	q := l.Queue
	if q == nil {
		return
	}
	k.accept.add(m, max(l.AcceptQueueLen, q.AcceptQueuePeak), l.AcceptQueueMax, l.NoLimit, q.RefusalsPerS-q.SynPerS, 0, q.Approximate)
	k.accept.sampled = k.accept.sampled || q.PeakSampled
	if !q.NoSynLen {
		k.syn.add(m, max(q.SynQueueLen, q.SynQueuePeak), q.SynQueueMax, l.NoLimit, q.SynPerS, q.CookiesPerS, q.Approximate)
		k.syn.sampled = k.syn.sampled || q.SynPeakSampled
	}
}

func (k *queueTrack) add(m moment, length, limit uint32, noLimit bool, refusedPerS, cookiesPerS float64, about bool) {
	k.measured = true
	k.limit, k.noLimit, k.about = limit, noLimit, k.about || about
	k.length.add(m.from, m.to, float64(length))
	k.refused.add(m.from, m.to, refusedPerS*m.seconds)
	k.cookies.add(m.from, m.to, cookiesPerS*m.seconds)
	k.top = max(k.top, float64(length))
	k.refusals += known(refusedPerS) * m.seconds
	k.sent += known(cookiesPerS) * m.seconds
}

// groupTrack is one cgroup with a quota over time.
type groupTrack struct {
	id                 uint64
	tick               int
	title              string
	share              means // of its periods that were throttled
	used               means // cores
	quota              float64
	periods, throttled uint64
	stoppedNS, worstNS uint64
}

func (k *groupTrack) fold() {
	k.share.fold()
	k.used.fold()
}

func (k *groupTrack) weight() float64 { return float64(k.throttled) + float64(k.stoppedNS)/1e12 }
func (k *groupTrack) seen() int       { return k.tick }

func (k *groupTrack) add(m moment, g *model.CGroup) {
	k.tick = m.tick
	keep(&k.title, g.Title())
	k.share.add(m.from, m.to, g.ThrottledRatio, m.seconds)
	if g.PeriodsDelta == 0 { // it was idle
		k.share.add(m.from, m.to, 0, m.seconds)
	}
	k.used.add(m.from, m.to, g.Used, m.seconds)
	k.quota = g.Quota
	k.periods += g.PeriodsDelta
	k.throttled += g.ThrottledPeriods
	k.stoppedNS += g.ThrottledNSDelta
	k.worstNS = max(k.worstNS, g.WorstStallNS)
}

// keep stores a name that somebody else chose, without holding on to more of the
// recording than is shown.
func keep(into *string, name string) {
	if name = clip(name, mostName); name != *into {
		*into = strings.Clone(name)
	}
}

func known(v float64) float64 {
	if model.Known(v) {
		return v
	}
	return 0
}
