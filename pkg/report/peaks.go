// SPDX-License-Identifier: Apache-2.0

package report

import (
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// peaks are the greatest queue lengths of each listener since attach, by inode:
// a Sample has those since the one before it only.
type peaks map[uint64]peak

type peak struct{ accept, syn uint32 }

// next is p with f's peaks, and without the listeners that are no longer there.
func (p peaks) next(f *model.Frame) peaks {
	if f.Accept == nil {
		return p
	}
	out := make(peaks)
	for _, l := range f.Accept.Listeners {
		if q := l.Queue; q != nil {
			old := p[l.Inode]
			out[l.Inode] = peak{max(old.accept, q.AcceptQueuePeak, l.AcceptQueueLen), max(old.syn, q.SynQueuePeak, q.SynQueueLen)}
		}
	}
	return out
}
