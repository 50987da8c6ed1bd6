// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/herdtrace/herdtrace/bpf"
)

// findIdle makes workers of the processes that wait at a listener and were
// neither woken nor got a connection yet: no program has seen them, and yet a
// share is only as uneven as there are others who have less. Only their main
// thread is looked at.
func (r *acceptReader) findIdle() {
	for ino, pids := range r.holders.of {
		ls := r.byInode[ino]
		if ls == nil || ls.closed {
			continue
		}
		known := make(map[uint32]bool)
		for tid, w := range ls.workers {
			if w.idle && !r.holders.has(ino, w.raw.Tgid) {
				delete(ls.workers, tid) // it is gone, and took nothing with it
				continue
			}
			known[w.raw.Tgid] = true
		}
		for pid := range pids {
			if known[pid] || r.procs.lookups <= 0 {
				continue
			}
			r.procs.lookups--
			if r.waitsFor(ino, pid, pid) || r.polled != nil && r.watches(ino, pid) {
				ls.workers[pid] = &workerState{idle: true, raw: idleWorker(ino, pid)}
			}
		}
	}
}

// idleWorker is the element that the kernel would have.
func idleWorker(ino uint64, pid uint32) bpf.AcceptWorker {
	w := bpf.AcceptWorker{Ino: ino, Tid: pid, Tgid: pid, Live: 1, State: 1, WaitNr: ^uint32(0)}
	for i, c := range []byte(readTrimmed(fmt.Sprintf("/proc/%d/comm", pid))) {
		if i < len(w.Comm) {
			w.Comm[i] = int8(c)
		}
	}
	return w
}

// refreshIdle reads what an idle worker ran meanwhile: it may be busy with
// something else (fs/proc/base.c: proc_pid_schedstat()). Where somebody waits for
// it, it may be stopped.
func refreshIdle(w *bpf.AcceptWorker, awaited bool) {
	if awaited || w.State&stoppedStates != 0 {
		w.State = 1
		if isHeld(w.Tgid) {
			w.State = stoppedState
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", w.Tgid))
	if err != nil {
		return
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return
	}
	w.RunNs, _ = strconv.ParseUint(string(f[0]), 10, 64)
	w.WaitNs, _ = strconv.ParseUint(string(f[1]), 10, 64)
}

// isHeld reports whether a signal, a debugger or a freezer keeps the process from
// running. A frozen one is asleep like others (kernel/signal.c: do_freezer_trap(),
// mostly inlined; kernel/freezer.c), and only where tells.
func isHeld(pid uint32) bool {
	var st statLine
	if b, err := os.ReadFile(procDir(pid) + "/stat"); err == nil && st.parse(b) && (st.state == 'T' || st.state == 't') {
		return true
	}
	switch readTrimmed(procDir(pid) + "/wchan") {
	case "get_signal", "do_freezer_trap", "__refrigerator":
		return true
	}
	return false
}
