// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
)

// finding writes the slice of a finding once it has cleared, or at the end: only
// then are its numbers those of its worst moment. A track for each rule.
func (t *Trace) finding(f *diagnose.Finding) {
	until := t.last
	if f.State == diagnose.Cleared {
		until = t.mono(f.Until)
	}
	l := t.ruleRows[f.ID]
	if l == nil {
		l = &lanes{parent: t.group(groupFindings), name: f.ID}
		t.ruleRows[f.ID] = l
	}
	t.slice(&t.budget.rest, l, t.mono(f.Since), until, strings.ToUpper(f.Severity.String())+" "+f.Subject,
		some(arg{"severity", f.Severity.String()}, arg{"state", f.State}, arg{"evidence", f.Evidence}, arg{"cause", f.Cause},
			arg{"remedy", f.Remedy}, arg{"verify", f.Verify}, arg{"outcome", f.Outcome}, arg{"values", f.Values})...)
}

// mono is the monotonic time of a wall time that was made from one by the header.
func (t *Trace) mono(wall time.Time) uint64 {
	return t.header.MonoNS + uint64(wall.Sub(time.Unix(0, t.header.WallNS)))
}

// sorted returns findings that are still open in the order in which they were
// raised.
func sorted(fs []diagnose.Finding) []diagnose.Finding {
	return slices.SortedFunc(slices.Values(fs), func(a, b diagnose.Finding) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject),
			cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.CPU, b.CPU), cmp.Compare(a.CGroupID, b.CGroupID), cmp.Compare(a.PID, b.PID))
	})
}
