// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"slices"
)

// bases are the totals that deltas are taken from. A Sample lists only what was
// active since the one before: of what was not listed there, the last totals
// that were still hold, and what was never listed did nothing since the attach,
// where all totals begin. That ends where a list was full: what is missing in it
// may just have done less than the others.
type bases[K comparable, T any] struct {
	most  int // so many are remembered
	known map[K]base[T]
	tick  int  // the number of the present Sample, from 1
	full  int  // that of the last Sample before it whose list left something out
	lost  bool // something was forgotten
}

type base[T any] struct {
	totals T
	tick   int  // when it was listed last
	over   bool // it ended, and will not be listed again but on the last tick
}

func newBases[K comparable, T any](most int) *bases[K, T] {
	return &bases[K, T]{most: most, known: make(map[K]base[T])}
}

// begin starts with the next Sample.
func (b *bases[K, T]) begin() { b.tick++ }

// of is what k's delta is taken from; not ok where that is not known. New is
// what was never listed.
func (b *bases[K, T]) of(k K) (totals T, isNew, ok bool) {
	switch was, found := b.known[k]; {
	case b.tick < 2:
		return totals, false, false
	case found:
		return was.totals, false, was.tick >= b.full
	}
	return totals, true, b.full == 0 && !b.lost
}

func (b *bases[K, T]) set(k K, totals T, over bool) {
	b.known[k] = base[T]{totals, b.tick, over}
}

// end closes the present Sample, whose list was full or not.
func (b *bases[K, T]) end(full bool) {
	if full {
		b.full = b.tick
	}
	if len(b.known) <= b.most {
		return
	}
	type aged struct {
		key  K
		tick int
		over bool
	}
	all := make([]aged, 0, len(b.known))
	for k, v := range b.known {
		all = append(all, aged{k, v.tick, v.over})
	}
	// What ended goes first, and then what was not listed for long. That is done
	// for many at once, for it costs a look at all.
	slices.SortFunc(all, func(x, y aged) int {
		switch {
		case x.over && !y.over:
			return -1
		case y.over && !x.over:
			return 1
		}
		return cmp.Compare(x.tick, y.tick)
	})
	for _, v := range all[:len(all)-b.most*3/4] {
		if v.tick == b.tick {
			continue // a Sample that lists more than that is its own bound
		}
		delete(b.known, v.key)
		b.lost = b.lost || !v.over
	}
}
