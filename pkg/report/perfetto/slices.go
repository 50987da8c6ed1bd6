// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"math"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// sliceKey is the slices, or the instants, of one thing.
type sliceKey struct {
	in   group
	id   uint64
	name string
}

// maxLanes bounds the tracks of one thing: no more than this many slices of it
// may overlap, the others are left out.
const maxLanes = 64

// lanes are the tracks of slices that may overlap: those on one track have to
// nest. As they have the same name, they are drawn as one.
type lanes struct {
	parent uint64
	name   string
	rank   int
	lane   []lane
}

type lane struct{ uuid, until uint64 }

// lanesOf returns the lanes of one thing below parent; nil where there are too many.
func (t *Trace) lanesOf(key sliceKey, parent uint64, rank int) *lanes {
	l := t.slices[key]
	if l == nil {
		if len(t.slices) >= maxTracks {
			t.budget.untracked++
			return nil
		}
		l = &lanes{parent: parent, name: key.name, rank: rank}
		t.slices[key] = l
	}
	return l
}

// free returns a track on which nothing is drawn from a time on, and keeps it
// until another; 0 where there is none. Slices come in the order of their ends,
// so that those before are all seen.
func (t *Trace) free(l *lanes, from, until uint64) uint64 {
	for i := range l.lane {
		if n := &l.lane[i]; n.until <= from {
			n.until = until
			return n.uuid
		}
	}
	if len(l.lane) >= maxLanes {
		return 0
	}
	uuid := t.newTrack(track{parent: l.parent, name: l.name, rank: l.rank})
	if uuid != 0 {
		l.lane = append(l.lane, lane{uuid, until})
	}
	return uuid
}

// slice writes a slice: both its ends at once, so that there is never one
// without the other. From is what it may take its two events from.
func (t *Trace) slice(left *uint64, l *lanes, from, until uint64, name string, args ...arg) {
	if l == nil {
		return
	}
	until = max(from, until)
	if !t.budget.take(left, 2) {
		return
	}
	uuid := t.free(l, from, until)
	if uuid == 0 {
		t.budget.untracked++
		return
	}
	t.event(from, sliceBegin, uuid, name, args)
	t.event(until, sliceEnd, uuid, "", nil)
}

// instant writes an event without a duration.
func (t *Trace) instant(left *uint64, l *lanes, at uint64, name string, args ...arg) {
	if l == nil || !t.budget.take(left, 1) {
		return
	}
	if len(l.lane) == 0 {
		uuid := t.newTrack(track{parent: l.parent, name: l.name, rank: l.rank})
		if uuid == 0 {
			return
		}
		l.lane = append(l.lane, lane{uuid: uuid})
	}
	t.event(at, instant, l.lane[0].uuid, name, args)
}

func (t *Trace) event(at, kind, uuid uint64, name string, args []arg) {
	b := &t.buf
	p := t.packetAt(at)
	e := b.begin(packetTrackEvent)
	b.uint(eventType, kind)
	b.uint(eventTrackUUID, uuid)
	if name != "" {
		b.string(eventName, name)
	}
	for i := range args {
		args[i].append(b, eventAnnotation)
	}
	b.end(e)
	t.emit(p)
}

// arg is a debug annotation: a string, a uint64, a float64, or several of it by
// their names.
type arg struct {
	name  string
	value any
}

// append appends a. What is empty or unknown is left out.
func (a *arg) append(b *proto, f field) {
	at := b.begin(f)
	b.string(annotationName, a.name)
	switch v := a.value.(type) {
	case string:
		b.string(annotationString, v)
	case uint64:
		b.uint(annotationUint, v)
	case float64:
		b.double(annotationDouble, v)
	case map[string]float64:
		for _, name := range sortedNames(v) {
			one := arg{text(name), v[name]}
			one.append(b, annotationDict)
		}
	}
	b.end(at)
}

// some returns those of args that say something.
func some(args ...arg) []arg {
	return slices.DeleteFunc(args, func(a arg) bool {
		switch v := a.value.(type) {
		case string:
			return v == ""
		case uint64:
			return v == 0
		case map[string]float64:
			return len(v) == 0
		}
		return false
	})
}

// sortedNames are the names in v of what has a value, in order.
func sortedNames(v map[string]float64) []string {
	var names []string
	for name, x := range v {
		if model.Known(x) && !math.IsInf(x, 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
