// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// queueAxis lets an accept queue's length be seen beside its limit.
const queueAxis = "accept queue"

// The tracks of a listener, in their order.
const (
	rankEvents = iota + 1
	rankConns
	rankWakeups
	rankEAGAIN
	rankQueue
	rankPeak
	rankLimit
	rankRefusals
)

var (
	listenerConns    = counterInfo{in: groupListeners, name: "connections/s", rank: rankConns, unit: unit{name: "/s"}}
	listenerWakeups  = counterInfo{in: groupListeners, name: "wake-ups per connection", rank: rankWakeups}
	listenerEAGAIN   = counterInfo{in: groupListeners, name: "EAGAIN/s", rank: rankEAGAIN, unit: unit{name: "/s"}, quiet: true}
	listenerQueue    = counterInfo{in: groupListeners, name: "accept queue length", rank: rankQueue, unit: unit{kind: unitCount, axis: queueAxis}, gauge: true}
	listenerPeak     = counterInfo{in: groupListeners, name: "accept queue peak", rank: rankPeak, unit: unit{kind: unitCount, axis: queueAxis}}
	listenerLimit    = counterInfo{in: groupListeners, name: "accept queue limit", rank: rankLimit, unit: unit{kind: unitCount, axis: queueAxis}, gauge: true}
	listenerRefusals = counterInfo{in: groupListeners, name: "refusals/s", rank: rankRefusals, unit: unit{name: "/s"}, quiet: true}
)

// listenerRow is the track of one listener.
func (t *Trace) listenerRow(inode uint64, name, program string) uint64 {
	if row := t.rowKnown(groupListeners, inode); row != 0 {
		return row
	}
	if name == "" {
		name = "a listener that is gone"
	} else if program != "" && program != "?" {
		name += " " + program
	}
	return t.rowOf(rowKey{groupListeners, inode}, name, "inode")
}

func (t *Trace) listeners(f *model.Frame) {
	if f.Accept == nil {
		return
	}
	t.looked[groupListeners] = true
	for _, l := range f.Accept.Listeners {
		if l.Closed && !l.Closing {
			continue
		}
		row := t.listenerRow(l.Inode, l.Name, l.Program)
		of := func(info *counterInfo) *counter { return t.counterOf(info, l.Inode, row) }
		if f.ConnsKnown(l) {
			t.set(of(&listenerConns), max(l.AcceptsPerS, l.CompletionsPerS))
		}
		t.set(of(&listenerWakeups), l.WakeupsPerAccept)
		t.set(of(&listenerEAGAIN), l.EAGAINPerS)
		t.set(of(&listenerQueue), float64(l.AcceptQueueLen))
		if !l.NoLimit {
			t.set(of(&listenerLimit), float64(l.AcceptQueueMax))
		}
		if l.Queue != nil {
			t.set(of(&listenerPeak), float64(l.Queue.AcceptQueuePeak))
			t.set(of(&listenerRefusals), l.Queue.RefusalsPerS)
		}
	}
}
