// SPDX-License-Identifier: Apache-2.0

package live

import "github.com/herdtrace/herdtrace/pkg/report/diagnose"

// drill is what is behind a row that the user opened.
type drill struct {
	title string
	what  string   // the row is, in a sentence
	about []string // lines over the table
	table lister
	of    func(f *diagnose.Finding) bool // whether f is about it
}

// drill is nil where nothing is opened, or what was is gone.
func (v *View) drill() *drill {
	if v.UI.Opened == 0 {
		return nil
	}
	switch v.UI.Panel {
	case CPUs:
		return v.openedCPU()
	case CGroups:
		return v.openedCGroup()
	case Processes:
		return v.openedProcess()
	}
	return v.openedListener()
}

// opens is what Enter shows of a row of the shown panel, "" where nothing.
func (v *View) opens() string {
	switch sched := v.Frame != nil && v.Frame.Sched != nil; {
	case v.UI.Panel == Herd, v.UI.Panel == Queues, v.UI.Panel == Processes:
		return "threads"
	case v.UI.Panel == CPUs && sched:
		return "threads"
	case v.UI.Panel == CGroups && sched:
		return "processes"
	}
	return ""
}

// worstBy are the severities of the findings by what they are about, of which 0
// is nothing.
func worstBy(v *View, id func(f *diagnose.Finding) uint64) map[uint64]diagnose.Severity {
	worst := make(map[uint64]diagnose.Severity)
	for i := range v.Active {
		f := &v.Active[i]
		if k := id(f); k != 0 {
			worst[k] = max(worst[k], f.Severity)
		}
	}
	return worst
}

// marked is the mark of a row whose worst finding has the severity s, 0 for none.
func marked(s diagnose.Severity) (string, Style) {
	if s > 0 {
		return mark(s)
	}
	return "", Normal
}
