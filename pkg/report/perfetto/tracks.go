// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// maxTracks bounds the tracks of a trace, and with them what is kept in memory.
const maxTracks = 20_000

// longestName bounds a name, in characters.
const longestName = 200

// group is a track that holds others.
type group int

const (
	groupRoot group = iota
	groupFindings
	groupCommand
	groupListeners
	groupRunq
	groupRunnable
	groupWait
	groupNetRX
	groupNetRXTime
	groupPackets
	groupCGroups
	groupCost
	groupGaps
	groupNotes
	groupCount
)

// groupInfo says how the groups are named, ordered and nested; of those beside
// each other in their order. Each comes after the one that it is in.
var groupInfo = [groupCount]struct {
	name   string
	in     group
	order  uint64
	detail string
}{
	groupRoot:      {"herdtrace", groupRoot, orderByRank, "What herdtrace measured, and what it says of it. A counter keeps its value where a tick has none that is known; what is no longer there goes to 0."},
	groupFindings:  {"Findings", groupRoot, orderByName, "From when the cause was seen until it was gone, or the trace ended. The arguments of a slice say what, why, and what to do."},
	groupCommand:   {"Command", groupRoot, orderByName, "The command that was traced."},
	groupListeners: {"Listeners", groupRoot, orderByName, "Listening sockets: their connections, the wake-ups that these cost, and the accept queue."},
	groupRunq:      {"Run queue", groupRoot, orderByRank, "The cores' run queues."},
	groupRunnable:  {"Runnable threads", groupRunq, orderByRank, "Threads that ran or waited at a core, as a mean over the interval; without those that waited for a CPU quota."},
	groupWait:      {"Wait p99", groupRunq, orderByRank, "Run-queue latency: 99 % of the waits that ended in the interval were shorter."},
	groupNetRX:     {"NET_RX", groupRoot, orderByRank, "The receive path, by core."},
	groupNetRXTime: {"Time in NET_RX", groupNetRX, orderByRank, "Share of a core's time in the NET_RX softirq."},
	groupPackets:   {"Packets", groupNetRX, orderByRank, "Packets that a core took in."},
	groupCGroups:   {"CGroups", groupRoot, orderByName, "Control groups: stops for a used-up CPU quota, cores used, share of the periods in which it was throttled. One that is not listed any more, for it is gone or did less than the others, goes to 0."},
	groupCost:      {"Own cost", groupRoot, orderByRank, "What herdtrace itself took."},
	groupGaps:      {"Not measured", groupRoot, orderByRank, "Where a signal was not measured, or only a part of the time. A counter's value stands still there."},
	groupNotes:     {"Notes", groupRoot, orderByRank, "About this trace."},
}

// nameKey is a name among the tracks of one parent.
type nameKey struct {
	parent uint64
	name   string
}

// rowKey is a listener or a cgroup, whose tracks stand together.
type rowKey struct {
	in group
	id uint64
}

// track is a descriptor.
type track struct {
	parent      uint64
	name        string
	description string
	order       uint64 // of its children
	rank        int    // among its siblings
	counter     *unit  // nil: for slices and instants
}

// unit is what a counter counts.
type unit struct {
	kind uint64 // one of the unit constants, 0: by name
	name string
	axis string // counters of one parent with the same word share the scale
}

// text makes a name that somebody else chose fit for a trace.
func text(s string) string { return model.WithoutMiddle(model.Printable(s), longestName) }

// newTrack describes a track, and returns its number; 0 where there are too many.
func (t *Trace) newTrack(d track) uint64 {
	if t.tracks >= maxTracks {
		t.budget.untracked++
		return 0
	}
	if d.name == "" {
		d.name = "?"
	}
	t.tracks++
	uuid := t.firstID + uint64(t.tracks)
	b := &t.buf
	p := t.packet()
	at := b.begin(packetTrackDescriptor)
	b.uint(trackUUID, uuid)
	b.string(trackName, d.name)
	if d.parent != 0 {
		b.uint(trackParent, d.parent)
	}
	if d.counter != nil {
		c := b.begin(trackCounter)
		if d.counter.kind != 0 {
			b.uint(counterUnit, d.counter.kind)
		}
		if d.counter.name != "" {
			b.string(counterUnitName, d.counter.name)
		}
		if d.counter.axis != "" {
			b.string(counterYAxis, d.counter.axis)
		}
		b.end(c)
	}
	if d.order != 0 {
		b.uint(trackChildOrdering, d.order)
	}
	if d.rank > 0 {
		b.uint(trackRank, uint64(d.rank))
	}
	if d.description != "" {
		b.string(trackDescription, d.description)
	}
	b.end(at)
	t.emit(p)
	return uuid
}

// describeRoot describes the track that holds all others.
func (t *Trace) describeRoot() {
	i := &groupInfo[groupRoot]
	name := i.name
	if t.header.Host != "" {
		name += " on " + text(t.header.Host)
	}
	t.groups[groupRoot] = t.newTrack(track{name: name, order: i.order, description: i.detail})
}

// group returns the track of g, which is described when it is needed: what was
// not measured is not there.
func (t *Trace) group(g group) uint64 {
	if t.groups[g] == 0 {
		i := &groupInfo[g]
		t.groups[g] = t.newTrack(track{parent: t.group(i.in), name: i.name, order: i.order, rank: int(g), description: i.detail})
	}
	return t.groups[g]
}

// unique returns name as no other track of parent has it: those that share one
// would be drawn as one. The number tells what it is of.
func (t *Trace) unique(parent uint64, name, what string, id uint64) string {
	if t.named[nameKey{parent, name}] {
		name = fmt.Sprintf("%s (%s %d)", name, what, id)
	}
	t.named[nameKey{parent, name}] = true
	return name
}

// rowKnown returns the track of a listener or cgroup that has one.
func (t *Trace) rowKnown(in group, id uint64) uint64 { return t.rows[rowKey{in, id}] }

// rowOf returns the track that holds those of one listener or cgroup; 0: there
// are too many.
func (t *Trace) rowOf(key rowKey, name, idName string) uint64 {
	if row := t.rows[key]; row != 0 {
		return row
	}
	if t.tracks >= maxTracks {
		t.budget.untracked++
		return 0
	}
	parent := t.group(key.in)
	row := t.newTrack(track{parent: parent, name: t.unique(parent, text(name), idName, key.id), order: orderByRank})
	t.rows[key] = row
	return row
}
