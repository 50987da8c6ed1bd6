// SPDX-License-Identifier: Apache-2.0

package live

import "github.com/herdtrace/herdtrace/pkg/report/diagnose"

// drill is what is behind a row that the user opened.
type drill struct {
	title string
	what  string                         // the row is, in a sentence
	about func(w int) []line             // lines over the table
	table lister                         // nil where alone
	alone bool                           // there are only those lines
	of    func(f *diagnose.Finding) bool // whether f is about it
}

// drill is nil where nothing is opened, or what was is gone.
func (v *View) drill() *drill {
	if v.UI.Opened == 0 {
		return nil
	}
	if v.cache == nil {
		return v.newDrill()
	}
	d, made := v.cache.drills[v.UI.Panel]
	if !made {
		d = v.newDrill()
		v.cache.drills[v.UI.Panel] = d
	}
	return d
}

func (v *View) newDrill() *drill {
	switch v.UI.Panel {
	case CPUs:
		return v.openedCPU()
	case CGroups:
		return v.openedCGroup()
	case Processes:
		return v.openedProcess()
	case Findings:
		return v.openedFinding()
	}
	return v.openedListener()
}

// texts are lines as they are.
func texts(lines ...string) func(int) []line {
	return func(int) []line {
		var out []line
		for _, t := range lines {
			out = append(out, line{text: t, indent: tableLeft})
		}
		return out
	}
}

// both are the lines of one and then those of the other.
func both(a, b func(int) []line) func(int) []line {
	return func(w int) []line { return append(a(w), b(w)...) }
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
	case v.UI.Panel == Findings:
		return "evidence"
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
