// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// endedKept is how many ended workers a listener keeps one by one.
	endedKept = 256
	// closedKept is how many closed listeners are kept, the busiest ones.
	closedKept = 256
	// holdersEvery is how often the holders of all sockets are looked up again
	// without a reason.
	holdersEvery = 10 * time.Second
	// holdersGap is the least time between two look-ups with a reason.
	holdersGap = 500 * time.Millisecond
)

// acceptReader turns the accept signal's maps into sample.Accept.
type acceptReader struct {
	opts                        *Options
	polled                      *listenerPoll // where there is no BPF; the maps are nil then, and the iterators
	listeners, workers, retired *ebpf.Map
	itListeners, itWorkers      *link.Iter
	itHolders                   *link.Iter
	byInode                     map[uint64]*listenerState
	holders                     *holders
	procs                       *procCache
	events                      []sample.Event
	orphans                     map[uint64]int // looks at workers without a listener, by its inode
	orphaned                    uint64         // what accept returned to those that were given up
	looked                      time.Time      // between ticks, last
	lookCost                    time.Duration
	seeded                      bool           // the listeners that were there at attach are known
	started                     bool           // a Sample was read
	byState                     bool           // Ready is counted for a port, not a socket
	acceptsCounted              bool           // so what was accepted is known
	listen                      *listenReader  // nil: the signal is not measured
	est                         *wakeEstimates // nil as long as the wake hooks were always there
}

type listenerState struct {
	raw         bpf.AcceptListener
	closed      bool
	workers     map[uint32]*workerState
	overflow    sample.Counters
	gone        sample.Counters
	goneWorkers int
	queued      uint64
	stalled     uint64
	peeks       int    // looks at its workers between ticks
	completions uint64 // the most that was ever seen
	old         bool   // it was there at attach: so may be what waits in its queue
	family      bool   // it belongs to a process that was asked for, or did
	queues      queueState
}

type workerState struct {
	raw     bpf.AcceptWorker
	idle    bool // it waits, and no program has seen it yet
	ended   bool
	member  bool            // it was found to belong to the listener
	deleted bool            // its element was: another one begins at 0
	before  sample.Counters // of elements before this one
	wait    string
	waitAt  time.Time // when wait was found out
	program string
}

func newAcceptReader(k *kernel, o *Options, born map[uint32]*sample.TCPExt) (r *acceptReader, err error) {
	r = &acceptReader{
		opts:           o,
		listeners:      k.mapOf("listeners"),
		workers:        k.mapOf("workers"),
		retired:        k.mapOf("retired"),
		byInode:        make(map[uint64]*listenerState),
		procs:          newProcCache(),
		byState:        k.hasFlag(SignalWake, flagByState),
		acceptsCounted: k.chosen[SignalAccept] != nil,
	}
	if k.chosen[SignalListen] != nil {
		r.listen = newListenReader(k, born)
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.itListeners, err = k.iterator("dump_listeners", r.listeners); err != nil {
		return r, err
	}
	if r.itWorkers, err = k.iterator("dump_workers", r.workers); err != nil {
		return r, err
	}
	if r.itHolders, err = k.iterator("dump_holders", nil); err != nil {
		return r, err
	}
	r.holders = newHolders(func() ([]bpf.AcceptHolder, error) { return readIter[bpf.AcceptHolder](r.itHolders) }, o.PIDs)
	if err := r.holders.refresh(); err != nil {
		return r, err
	}
	// So that the first tick knows whose totals to read.
	_, err = r.readListeners()
	return r, err
}

// Close detaches the iterators.
func (r *acceptReader) Close() {
	for _, it := range []*link.Iter{r.itListeners, r.itWorkers, r.itHolders} {
		if it != nil {
			it.Close()
		}
	}
	if r.listen != nil {
		r.listen.disarm()
	}
	if r.polled != nil {
		r.polled.Close()
	}
}

// read makes the signal's part of a Sample, and the events since the last one.
func (r *acceptReader) read(final bool) (*sample.Accept, []sample.Event, error) {
	if r.listen != nil {
		r.listen.readTotals(r, final) // first, or what is counted meanwhile would look unseen
	}
	// Workers before listeners: so no accept is shown whose completion is not.
	workers, err := r.dumpWorkers()
	if err != nil {
		return nil, nil, err
	}
	first := !r.started
	r.started = true
	closed, err := r.readListeners()
	if err != nil {
		return nil, nil, err
	}
	if closed {
		// Their workers may have accepted since: nothing follows that would tell.
		if workers, err = r.dumpWorkers(); err != nil {
			return nil, nil, err
		}
	}
	r.takeWorkers(workers, true)
	if first {
		r.findIdle()
	} else if err := r.refreshHolders(); err != nil {
		return nil, nil, err
	}
	if r.listen != nil {
		if err := r.listen.settle(r); err != nil {
			return nil, nil, err
		}
	}
	r.procs.nextTick()
	if r.polled != nil {
		clear(r.polled.single)
	}
	out := &sample.Accept{Listeners: []sample.Listener{}}
	for _, ls := range r.byInode {
		if r.isSelected(ls) {
			out.Listeners = append(out.Listeners, r.listenerSample(ls))
		}
	}
	slices.SortFunc(out.Listeners, func(a, b sample.Listener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Inode, b.Inode))
	})
	r.forgetClosed()
	r.sweepEstimates()
	events := r.selected(r.events)
	r.events = nil
	return out, events, nil
}

// readListeners takes in the state of every listener, and empties the maps of
// those that are gone. It reports whether there were any of these.
func (r *acceptReader) readListeners() (closed bool, err error) {
	raws, err := r.dumpListeners()
	if err != nil {
		return false, err
	}
	for i := range raws {
		raw := &raws[i]
		ls := r.listener(raw)
		if raw.Live == 0 {
			r.deleteListener(raw)
			r.close(ls)
			closed = true
		}
	}
	r.seeded = true
	retired, err := r.drainRetired()
	return closed || retired, err
}

// catchUp reads the listeners once more in a tick, and the workers of those that
// have closed since: they may be forgotten when the tick is over.
func (r *acceptReader) catchUp() error {
	closed, err := r.readListeners()
	if err != nil || !closed {
		return err
	}
	workers, err := r.dumpWorkers()
	if err == nil {
		r.takeWorkers(workers, false)
	}
	return err
}

// dumpListeners returns the state of every listener.
func (r *acceptReader) dumpListeners() ([]bpf.AcceptListener, error) {
	if r.polled != nil {
		return r.polled.listeners(), nil
	}
	raws, err := readIter[bpf.AcceptListener](r.itListeners)
	if err != nil {
		return nil, fmt.Errorf("read listener map: %w", err)
	}
	return raws, nil
}

// dumpWorkers returns what each worker was seen to do.
func (r *acceptReader) dumpWorkers() ([]bpf.AcceptWorker, error) {
	if r.polled != nil {
		return nil, nil
	}
	raws, err := readIter[bpf.AcceptWorker](r.itWorkers)
	if err != nil {
		return nil, fmt.Errorf("read worker map: %w", err)
	}
	return raws, nil
}

// deleteListener frees the element of a dead listener, unless its address has
// become another's since it was read.
func (r *acceptReader) deleteListener(raw *bpf.AcceptListener) {
	if r.polled != nil {
		return
	}
	var now bpf.AcceptListener
	if err := r.listeners.Lookup(raw.Sk, &now); err == nil && now.Ino == raw.Ino {
		r.listeners.Delete(raw.Sk)
	}
}

// drainRetired takes in the listeners whose struct sock became another's, and
// reports whether there were any.
func (r *acceptReader) drainRetired() (bool, error) {
	if !r.anyRetired() {
		return false, nil
	}
	var ino uint64
	var raw bpf.AcceptListener
	var inodes []uint64
	it := r.retired.Iterate()
	for it.Next(&ino, &raw) {
		inodes = append(inodes, ino)
		if raw.Ino != ino { // two CPUs retired it at once, and this is its successor
			if ls := r.byInode[ino]; ls != nil {
				r.close(ls)
			}
			continue
		}
		raw.Live = 0 // what the last dump had found
		r.close(r.listener(&raw))
	}
	for _, ino := range inodes {
		r.retired.Delete(ino)
	}
	if err := it.Err(); err != nil {
		return true, fmt.Errorf("read retired listeners: %w", err)
	}
	return true, nil
}

func (r *acceptReader) anyRetired() bool {
	var ino uint64
	return r.retired != nil && r.retired.NextKey(nil, &ino) == nil
}

func (r *acceptReader) listener(raw *bpf.AcceptListener) *listenerState {
	ls := r.byInode[raw.Ino]
	if ls == nil {
		ls = &listenerState{workers: make(map[uint32]*workerState), old: !r.seeded}
		r.byInode[raw.Ino] = ls
		if r.seeded {
			r.holders.wanted = true
			r.events = append(r.events, sample.Event{MonoNS: monoNS(), Kind: sample.EventListenerOpened, Inode: raw.Ino})
		}
	}
	if ls.closed && raw.Live != 0 {
		ls.reopen()
	}
	ls.raw = *raw
	if r.listen != nil && raw.Protocol != 0 {
		r.listen.look(ls)
	}
	return ls
}

// reopen is for a socket that was shut down and listens again.
func (ls *listenerState) reopen() {
	ls.closed = false
	for tid, w := range ls.workers {
		if w.deleted {
			ls.bank(tid, w)
		}
	}
	ls.queues.reopen(&ls.raw)
}

func (r *acceptReader) close(ls *listenerState) {
	if ls.closed {
		return
	}
	ls.closed = true
	ls.raw.AcceptQueueLen = 0
	r.events = append(r.events, sample.Event{MonoNS: monoNS(), Kind: sample.EventListenerClosed, Inode: ls.raw.Ino})
}

// forgetClosed drops closed listeners: the idle ones at once, the others when
// there are too many.
func (r *acceptReader) forgetClosed() {
	var closed []*listenerState
	for ino, ls := range r.byInode {
		if !ls.closed {
			continue
		}
		if ls.completions == 0 && ls.queues.booked.Total()+ls.queues.cookies == 0 && len(ls.workers) == 0 && ls.gone == (sample.Counters{}) {
			delete(r.byInode, ino)
			continue
		}
		closed = append(closed, ls)
	}
	if len(closed) <= closedKept {
		return
	}
	slices.SortFunc(closed, func(a, b *listenerState) int { return cmp.Compare(b.weight(), a.weight()) })
	for _, ls := range closed[closedKept:] {
		delete(r.byInode, ls.raw.Ino)
	}
}

// weight is how much was going on at a listener.
func (ls *listenerState) weight() uint64 { return ls.completions + ls.queues.booked.Total() }

func (r *acceptReader) refreshHolders() error {
	age := time.Since(r.holders.at)
	if r.polled != nil && age < r.polled.holdersRest() {
		return nil
	}
	if (r.holders.wanted && age >= holdersGap) || age >= holdersEvery {
		if err := r.holders.refresh(); err != nil {
			return err
		}
		r.findIdle()
	}
	return nil
}

// isSelected applies the filters.
func (r *acceptReader) isSelected(ls *listenerState) bool {
	if len(r.opts.Ports) > 0 && !slices.Contains(r.opts.Ports, ls.raw.Port) {
		return false
	}
	if len(r.opts.PIDs) == 0 {
		return true
	}
	for _, w := range ls.workers {
		ls.family = ls.family || r.holders.isFamily(w.raw.Tgid)
	}
	for pid := range r.holders.of[ls.raw.Ino] {
		ls.family = ls.family || r.holders.isFamily(pid)
	}
	return ls.family
}

// selected keeps the events of the selected listeners.
func (r *acceptReader) selected(events []sample.Event) []sample.Event {
	if len(r.opts.Ports) == 0 && len(r.opts.PIDs) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(e sample.Event) bool {
		ls := r.byInode[e.Inode]
		return ls == nil || !r.isSelected(ls)
	})
}
