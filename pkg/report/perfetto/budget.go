// SPDX-License-Identifier: Apache-2.0

package perfetto

// MaxEvents is the most events (a value of a counter, an end of a slice, an
// instant) that a Trace writes: with more, ui.perfetto.dev gets slow.
const MaxEvents = 2_000_000

// maxNotes is more than there can be: the rate is halved less than 64 times.
const maxNotes = 100

// budget shares out the events that may be written. The first half and more of
// the counters' share is spent at every tick; of what is left then, each eighth
// at half the rate of the one before, so that it never ends.
type budget struct {
	events   uint64 // in all
	counters uint64 // that may still be written
	level    uint64 // of these, before they are thinned more
	stride   uint64 // ticks for each value
	details  uint64 // ends of throttle slices, and instants, that may still be written
	rest     uint64 // the same of findings, gaps and the command
	notes    uint64 // the same of notes

	leftOut   uint64 // events for which there was no room
	untracked uint64 // and those that got no track
}

func newBudget(events uint64) budget {
	b := budget{events: events, counters: events / 100 * 85, rest: events / 100, notes: maxNotes, stride: 1}
	b.details = events - b.counters - b.rest - b.notes
	b.level = b.counters / 17 * 15
	return b
}

// take takes n events from what is left, if there are as many.
func (b *budget) take(left *uint64, n uint64) bool {
	if *left < n {
		b.leftOut += n
		return false
	}
	*left -= n
	return true
}

func (b *budget) counter() bool {
	if b.level > 0 {
		b.level--
	}
	return b.take(&b.counters, 1)
}

// thin doubles the stride where the level is used up.
func (b *budget) thin() bool {
	if b.level > 0 {
		return false
	}
	b.level = max(b.counters/8, 1)
	b.stride *= 2
	return true
}
