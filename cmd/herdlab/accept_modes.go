// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// wakeRule says how many sleeping workers one connection wakes.
type wakeRule int

const (
	wakesUnknown wakeRule = iota // not promised
	wakesOne                     // exclusive wait, or a socket of its own
	wakesAll                     // every worker waits non-exclusively: the herd
)

// acceptMode is one way of waiting for connections. The raw modes differ only
// in open, wait and drain; the loop around them is worker.serve.
type acceptMode struct {
	name      string
	brief     string
	wakes     wakeRule
	blocking  bool   // the listener is blocking: accept4(2) itself is the wait
	perWorker bool   // each worker has a socket of its own (SO_REUSEPORT)
	drain     bool   // accept until EAGAIN after an event; otherwise accept once
	events    uint32 // how the listener is registered with epoll
	open      func(*worker) error
	wait      func(*worker) (ready, stop bool, err error)
	serve     func(*worker) (workerReport, error) // replaces the raw loop
}

// sharesSocket reports whether workers in this mode wait on one non-blocking
// socket that they inherited.
func (m *acceptMode) sharesSocket() bool { return !m.blocking && !m.perWorker && m.serve == nil }

var acceptModes = []acceptMode{
	{name: "block", brief: "blocking accept4(2): the kernel queues waiters exclusively, one wakes",
		wakes: wakesOne, blocking: true, open: openBlock, wait: waitBlock},
	{name: "poll", brief: "poll(2), then one accept: every connection wakes every worker",
		wakes: wakesAll, open: openPoll, wait: waitPoll},
	{name: "epoll-lt", brief: "own epoll, level-triggered, one accept per event: the classic herd",
		wakes: wakesAll, events: unix.EPOLLIN, open: openEpoll, wait: waitEpoll},
	{name: "epoll-et-noloop", brief: "EPOLLET, one accept per event: strands connections (lost edges)",
		events: unix.EPOLLIN | unix.EPOLLET, open: openEpoll, wait: waitEpoll},
	{name: "epoll-et", brief: "EPOLLET, accept until EAGAIN: nothing is stranded",
		drain: true, events: unix.EPOLLIN | unix.EPOLLET, open: openEpoll, wait: waitEpoll},
	{name: "epoll-exclusive", brief: "EPOLLEXCLUSIVE, level-triggered, one accept per event: the cure",
		wakes: wakesOne, events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, open: openEpoll, wait: waitEpoll},
	{name: "reuseport", brief: "a socket per worker (SO_REUSEPORT), epoll level-triggered: the other cure",
		wakes: wakesOne, perWorker: true, events: unix.EPOLLIN, open: openEpoll, wait: waitEpoll},
	{name: "go-net", brief: "a Go net/http server in one process, HTTP/1.0 clients: healthy, one EAGAIN per accept",
		serve: serveGoNet},
}

// findAcceptMode returns the row of that name, or nil.
func findAcceptMode(name string) *acceptMode {
	for i := range acceptModes {
		if acceptModes[i].name == name {
			return &acceptModes[i]
		}
	}
	return nil
}

func acceptModeNames() string {
	names := ""
	for i, m := range acceptModes {
		if i > 0 {
			names += ", "
		}
		names += m.name
	}
	return names
}

// openBlock starts the one helper thread that blocking workers need: nothing
// else can wake a thread out of accept4(2) without making a connection or
// interrupting it. shutdown(2) on the listener makes each accept return EINVAL
// (inet_shutdown() wakes all waiters; inet_csk_wait_for_connect() then sees
// that the socket left TCP_LISTEN), which is neither an accept nor an EAGAIN.
func openBlock(w *worker) error {
	go func() {
		awaitStop(w.ctlFD)
		_ = unix.Shutdown(w.listenFD, unix.SHUT_RDWR) // ENOTCONN: a sibling was faster
	}()
	return nil
}

func waitBlock(*worker) (ready, stop bool, err error) { return true, false, nil }

func openPoll(w *worker) error {
	w.pollFDs[0] = unix.PollFd{Fd: int32(w.listenFD), Events: unix.POLLIN}
	w.pollFDs[1] = unix.PollFd{Fd: int32(w.ctlFD), Events: unix.POLLIN}
	return nil
}

func waitPoll(w *worker) (ready, stop bool, err error) {
	if _, err := unix.Poll(w.pollFDs[:], -1); err != nil {
		if err == unix.EINTR {
			return false, false, nil
		}
		return false, false, fmt.Errorf("poll the listener: %w", err)
	}
	ready = w.pollFDs[0].Revents != 0
	if ready {
		w.counts.eventReturns++
	}
	return ready, w.pollFDs[1].Revents != 0, nil
}

// openEpoll makes the worker's own epoll instance. The control pipe is in it,
// level-triggered: it is silent until the end, so it adds no wake-up before.
func openEpoll(w *worker) error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create an epoll instance: %w", err)
	}
	listener := unix.EpollEvent{Events: w.mode.events, Fd: int32(w.listenFD)}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, w.listenFD, &listener); err != nil {
		return fmt.Errorf("add the listener to epoll: %w", err)
	}
	control := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(w.ctlFD)}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, w.ctlFD, &control); err != nil {
		return fmt.Errorf("add the control pipe to epoll: %w", err)
	}
	w.epollFD = fd
	return nil
}

func waitEpoll(w *worker) (ready, stop bool, err error) {
	n, err := unix.EpollWait(w.epollFD, w.events[:], -1)
	if err != nil {
		if err == unix.EINTR {
			return false, false, nil
		}
		return false, false, fmt.Errorf("wait in epoll: %w", err)
	}
	for _, e := range w.events[:n] {
		if int(e.Fd) == w.ctlFD {
			stop = true
			continue
		}
		ready = true
	}
	if ready {
		w.counts.eventReturns++
	}
	return ready, stop, nil
}
