// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// takeWorkers takes in the workers' counters and banks those that ended. Whose
// listener is not known is judged by ticks alone: between two, one that has died
// is not taken in yet.
func (r *acceptReader) takeWorkers(raws []bpf.AcceptWorker, tick bool) {
	r.estimateWorkers(raws)
	orphans, deleted := make(map[uint64]int), make(map[bpf.AcceptWorkerKey]bool)
	for i := range raws {
		raw := &raws[i]
		ls := r.byInode[raw.Ino]
		if ls == nil && !tick {
			continue
		}
		if ls == nil {
			// Its listener came up since the listeners were read; or was lost,
			// a map being full, if that does not change.
			orphans[raw.Ino] = r.orphans[raw.Ino] + 1
			if orphans[raw.Ino] > 3 {
				r.workers.Delete(bpf.AcceptWorkerKey{Ino: raw.Ino, Tid: raw.Tid})
				r.est.forget(raw)
				r.orphaned += raw.Accepts + raw.Eagains
			}
			continue
		}
		key := bpf.AcceptWorkerKey{Ino: raw.Ino, Tid: raw.Tid}
		over := ls.closed || raw.Tid != 0 && raw.Live == 0
		if over && deleted[key] {
			continue // a dump may show an element twice
		}
		if raw.Tid == 0 {
			ls.overflow = countersOf(raw)
			if over {
				ls.gone.Add(ls.overflow)
				ls.overflow = sample.Counters{}
			}
		} else {
			w := ls.workers[raw.Tid]
			if w != nil && w.idle {
				w = nil
			}
			if w != nil && w.raw.StartNs != raw.StartNs {
				// The number went to a new thread.
				ls.bank(raw.Tid, w)
				w = nil
			}
			if w == nil {
				w = &workerState{wait: sample.WaitUnknown}
				ls.workers[raw.Tid] = w
				if !r.holders.has(raw.Ino, raw.Tgid) {
					r.holders.wanted = true
				}
			}
			if w.deleted {
				w.before = w.counters()
			}
			w.raw = *raw
			w.ended, w.deleted = raw.Live == 0, over
			if call := waitCalls[int64(raw.WaitNr)]; w.wait == sample.WaitUnknown && call != "" && call != sample.WaitEpoll {
				w.wait = call // of epoll, only /proc knows in which way
			}
		}
		if over {
			r.workers.Delete(key)
			r.est.forget(raw)
			deleted[key] = true
		}
	}
	if tick {
		r.orphans = orphans
	}
	for _, ls := range r.byInode {
		ls.bankEnded()
	}
}

// bankEnded keeps the number of ended workers bounded.
func (ls *listenerState) bankEnded() {
	ended := 0
	for _, w := range ls.workers {
		if w.ended {
			ended++
		}
	}
	for tid, w := range ls.workers {
		if ended <= endedKept {
			return
		}
		if w.ended {
			ls.bank(tid, w)
			ended--
		}
	}
}

func (ls *listenerState) bank(tid uint32, w *workerState) {
	ls.gone.Add(w.counters())
	ls.goneWorkers++
	delete(ls.workers, tid)
}

func (w *workerState) counters() sample.Counters {
	c := w.before
	c.Add(countersOf(&w.raw))
	return c
}

func countersOf(w *bpf.AcceptWorker) sample.Counters {
	return sample.Counters{
		AcceptsTotal:       w.Accepts,
		AcceptEAGAINTotal:  w.Eagains,
		WakeupsTotal:       w.Wakeups,
		WastedWakeupsTotal: w.Wasted,
		DrainEAGAINTotal:   w.Drains,
		EmptyWakeupsTotal:  w.EmptyWakeups,
		EmptyBurstsTotal:   w.EmptyBursts,
		EmptyCPUNS:         w.EmptyNs,
	}
}
