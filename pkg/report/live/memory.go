// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

const (
	// keepEvents bounds the events that the screen remembers: a cgroup's last stops
	// are among them.
	keepEvents = 512
	// keepCleared bounds the findings that are gone.
	keepCleared = 100
)

// memory is what a screen remembers of the Steps. Its View has no UI, and its
// history goes on changing.
type memory struct {
	View
	history *History
}

// add takes a Step in.
func (m *memory) add(step *report.Step) {
	m.Frame, m.Clock = step.Frame, step.Frame.Elapsed
	m.Active = slices.Clone(step.Active)
	m.history.add(step.Frame)
	// New slices: a View that was handed out still has the old ones.
	m.Events = lastOf(slices.Concat(m.Events, step.Frame.Events), keepEvents)
	slices.SortStableFunc(m.Events, func(a, b model.Event) int { return a.Wall.Compare(b.Wall) })
	for i := range step.Changed {
		if f := &step.Changed[i]; f.State == diagnose.Cleared {
			m.QuietFrom = max(m.QuietFrom, f.Elapsed)
			m.Cleared = lastOf(append(slices.Clip(m.Cleared), *f), keepCleared)
		}
	}
}

func lastOf[T any](list []T, n int) []T { return slices.Clone(list[max(len(list)-n, 0):]) }

// forget is for what begins anew.
func (m *memory) forget() {
	m.View = View{Header: m.Header, Recording: m.Recording}
	m.history = newHistory()
}

// view is what to show of it now. Its History changes with the next add: Clone it
// to keep it.
func (m *memory) view() View {
	v := m.View
	v.History = m.history
	return v
}
