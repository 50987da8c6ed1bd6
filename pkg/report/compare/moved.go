// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// mostlyOne is the share of a group's refusals from which on they are one socket's.
const mostlyOne = 0.8

// concentrated reports whether a finding that all of a listener's workers had in
// common is now one of a few sockets of its SO_REUSEPORT group.
func (f *FindingDiff) concentrated() bool {
	return f.a != nil && f.b != nil && f.inSome()
}

// inSome reports whether B has more sockets on the address than A, and the finding
// at half of them at the most.
func (f *FindingDiff) inSome() bool {
	a, b := f.on.a, f.on.b
	if a == nil || b == nil || a.kind != aListener || f.b == nil || b.sockets < 2 || b.sockets <= a.sockets {
		return false
	}
	if f.ID == "accept-queue-overflow" || f.ID == "syn-queue-overflow" {
		if share, n := b.topRefuser(); n >= minRefused {
			return share >= mostlyOne
		}
	}
	return 2*len(f.b.sockets) <= b.sockets
}

// minRefused is the least number of refusals whose shares mean something.
const minRefused = 20

// topRefuser is the share of the socket that refused most.
func (u *subject) topRefuser() (share float64, refused uint64) {
	var top uint64
	for _, n := range u.refusedBy {
		refused += n
		top = max(top, n)
	}
	if refused == 0 {
		return 0, 0
	}
	return float64(top) / float64(refused), refused
}

// where says into what it moved.
func (f *FindingDiff) where() string {
	u := f.on.b
	s := fmt.Sprintf("A had it in %s, B in %d of %d of the SO_REUSEPORT group", model.Plural(f.on.a.sockets, "socket"), len(f.b.sockets), u.sockets)
	if share, n := u.topRefuser(); n >= minRefused && share >= mostlyOne {
		s += fmt.Sprintf(": one has %.0f%% of the %d refusals", 100*share, n)
	}
	switch {
	case f.rose():
		return s + "; the sum rose"
	case f.fell():
		return s + "; the sum fell"
	}
	return s + "; the sum did not change"
}

// moveElsewhere finds what is gone from one place and new in another.
func (d *Diff) moveElsewhere() {
	for i := range d.Findings {
		f := &d.Findings[i]
		if f.a == nil {
			continue
		}
		for k := range d.Findings {
			g := &d.Findings[k]
			switch {
			case g.a != nil || g.b == nil || i == k:
			case f.on == g.on && (f.Verdict == Fixed || f.Verdict == Better) && g.Verdict == New && g.inSome():
				// A socket for each worker cured the one and made the other.
				f.Verdict, f.Why = Moved, fmt.Sprintf("to %s, at %d of %d sockets of the SO_REUSEPORT group", g.ID, len(g.b.sockets), g.on.b.sockets)
			case f.ID == g.ID && f.on.one().kind == g.on.one().kind && f.on.b == nil && g.on.a == nil:
				f.Verdict, f.Why = Moved, "it was at "+f.Subject+", which B does not have, and is at "+g.Subject+", which A does not have"
				g.Verdict, g.Why = Moved, "see "+f.Subject
			}
		}
	}
}
