// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	roleAcceptWorker = "_accept-worker"

	workerListenFD = 3
	workerCtlFD    = 4
)

// rawWorkerEnv makes a raw worker one thread that does its own system calls
// and nothing else: one P, no preemption signals (they would interrupt its
// waits), no collector (the steady state allocates nothing).
var rawWorkerEnv = []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off"}

// workerConfig travels to a worker in its argument.
type workerConfig struct {
	Mode string        `json:"mode"`
	Comm string        `json:"comm"`
	Work time.Duration `json:"work"`
}

// workerReport is what one worker says it did; it is a part of the oracle. A
// nil count is one that the worker cannot know.
type workerReport struct {
	PID               int    `json:"pid"`
	TID               int    `json:"tid"`
	Comm              string `json:"comm"`
	AcceptsTotal      int64  `json:"accepts_total"`
	AcceptEagainTotal *int64 `json:"accept_eagain_total"`
	DrainEagainTotal  *int64 `json:"drain_eagain_total"`
	EventReturns      *int64 `json:"event_returns"`
	FinalAcceptsTotal *int64 `json:"final_accepts_total"`
	FinalEagainTotal  *int64 `json:"final_eagain_total"`
}

// workerReady is the line by which a worker says that it is about to wait.
type workerReady struct {
	Ready bool `json:"ready"`
}

// acceptCounts are the worker's own counts, the truth of the oracle.
type acceptCounts struct {
	accepts      int64
	eagains      int64
	drainEagains int64 // EAGAINs after a success in the same accept loop
	eventReturns int64 // poll/epoll returns with the listener ready
	finalAccepts int64 // of accepts: in the last drain, hence left in the queue until the stop
	finalEagains int64 // of eagains: in the last drain
}

// worker is the one thread that waits, accepts and answers. It uses raw
// descriptors and no Go poller: the listener must have no waiter but ours.
type worker struct {
	mode     *acceptMode
	work     time.Duration
	listenFD int
	ctlFD    int
	epollFD  int
	counts   acceptCounts
	events   [2]unix.EpollEvent
	pollFDs  [2]unix.PollFd
	answer   [1]byte
}

// errListenerShut ends a blocking worker: its listener was shut down.
var errListenerShut = errors.New("the listener was shut down")

// runAcceptWorker is the worker process: prepare, say ready, serve, report.
func runAcceptWorker(arg string) error {
	var cfg workerConfig
	if err := decodeConfig(arg, &cfg); err != nil {
		return err
	}
	mode := findAcceptMode(cfg.Mode)
	if mode == nil {
		return fmt.Errorf("start a worker: unknown mode %q", cfg.Mode)
	}
	if err := setComm(cfg.Comm); err != nil {
		return err
	}
	w := &worker{mode: mode, work: cfg.Work, listenFD: workerListenFD, ctlFD: workerCtlFD, answer: [1]byte{'.'}}
	serve := mode.serve
	if serve == nil {
		serve = serveRaw
	}
	rep, err := serve(w)
	if err != nil {
		return fmt.Errorf("worker %d, mode %s: %w", os.Getpid(), mode.name, err)
	}
	comm, err := os.ReadFile("/proc/thread-self/comm")
	if err != nil {
		return fmt.Errorf("read the name of worker %d: %w", os.Getpid(), err)
	}
	rep.PID, rep.TID, rep.Comm = os.Getpid(), unix.Gettid(), strings.TrimSuffix(string(comm), "\n")
	if mode.serve != nil {
		rep.TID = rep.PID // any thread accepted; name the process
	}
	return send(rep)
}

// serveRaw runs the raw loop to its end and fills in every count.
func serveRaw(w *worker) (workerReport, error) {
	if err := w.mode.open(w); err != nil {
		return workerReport{}, err
	}
	if err := send(workerReady{Ready: true}); err != nil {
		return workerReport{}, err
	}
	if err := w.loop(); err != nil {
		return workerReport{}, err
	}
	c := &w.counts
	return workerReport{
		AcceptsTotal: c.accepts, AcceptEagainTotal: &c.eagains, DrainEagainTotal: &c.drainEagains,
		EventReturns: &c.eventReturns, FinalAcceptsTotal: &c.finalAccepts, FinalEagainTotal: &c.finalEagains,
	}, nil
}

// loop waits and accepts until told to stop, then drains what is left.
func (w *worker) loop() error {
	for {
		ready, stop, err := w.mode.wait(w)
		if err != nil {
			return err
		}
		if ready {
			if err := w.accept(w.mode.drain); errors.Is(err, errListenerShut) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if stop {
			return w.finalDrain()
		}
	}
}

// finalDrain accepts what the mode left in the queue, so that every completed
// connection is accepted by somebody and the counts add up.
func (w *worker) finalDrain() error {
	before := w.counts
	err := w.accept(true)
	w.counts.finalAccepts = w.counts.accepts - before.accepts
	w.counts.finalEagains = w.counts.eagains - before.eagains
	return err
}

// accept takes one connection, or with drain all until EAGAIN, and counts each
// return of accept4(2). The raw call passes no address, so nothing allocates.
func (w *worker) accept(drain bool) error {
	for got := 0; ; {
		fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(w.listenFD), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		switch {
		case errno == 0:
			got++
			w.counts.accepts++
			w.reply(int(fd))
			if !drain {
				return nil
			}
		case errno == unix.EAGAIN:
			w.counts.eagains++
			if got > 0 {
				w.counts.drainEagains++
			}
			return nil
		case errno == unix.EINTR || errno == unix.ECONNABORTED:
		case errno == unix.EINVAL && w.mode.blocking:
			return errListenerShut
		default:
			return fmt.Errorf("accept a connection: %w", errno)
		}
	}
}

// reply burns the configured CPU time, answers with one byte and closes. The
// client may have given up: a failed send is its count, not ours.
func (w *worker) reply(fd int) {
	burn(w.work)
	_ = unix.Send(fd, w.answer[:], unix.MSG_NOSIGNAL)
	_ = unix.Close(fd)
}

// burn uses d of CPU time on the calling thread (not wall time: a worker that
// is preempted or throttled meanwhile still does all of its work).
func burn(d time.Duration) {
	if d <= 0 {
		return
	}
	var ts unix.Timespec
	now := func() time.Duration {
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail for this clock
		return time.Duration(ts.Nano())
	}
	for end := now() + d; now() < end; {
	}
}
