// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// goNetRequest is what clients send to a go-net server. HTTP/1.0 has no
// keep-alive, so the server closes after each answer.
const goNetRequest = "GET / HTTP/1.0\r\n\r\n"

// countingListener counts what Accept returned. The EAGAINs behind it stay
// inside internal/poll and cannot be counted from here.
type countingListener struct {
	net.Listener
	accepts atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepts.Add(1)
	}
	return conn, err
}

// serveGoNet is an ordinary net/http server on the inherited listener.
func serveGoNet(w *worker) (workerReport, error) {
	runtime.UnlockOSThread() // the net poller may run this anywhere
	file := os.NewFile(uintptr(w.listenFD), "listener")
	inner, err := net.FileListener(file)
	if err != nil {
		return workerReport{}, fmt.Errorf("adopt the listener: %w", err)
	}
	file.Close() // FileListener works on a duplicate; this one would be a second waiter
	ln := &countingListener{Listener: inner}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			if w.work > 0 {
				runtime.LockOSThread() // burn reads this thread's CPU clock
				burn(w.work)
				runtime.UnlockOSThread()
			}
			_, _ = rw.Write(w.answer[:])
		}),
		ErrorLog: log.New(io.Discard, "", 0), // clients that gave up are their own count
	}
	go func() { _ = srv.Serve(ln) }()
	if err := send(workerReady{Ready: true}); err != nil {
		return workerReport{}, err
	}
	awaitStop(w.ctlFD)
	awaitQuiet(&ln.accepts)
	_ = srv.Close()
	return workerReport{AcceptsTotal: ln.accepts.Load()}, nil
}

// awaitQuiet waits until no accept came for a while: the Go accept loop takes
// all there is before it waits, so quiet means that the queue is empty.
func awaitQuiet(accepts *atomic.Int64) {
	const quiet, limit = 50 * time.Millisecond, 2 * time.Second
	for end := time.Now().Add(limit); time.Now().Before(end); {
		before := accepts.Load()
		time.Sleep(quiet)
		if accepts.Load() == before {
			return
		}
	}
}
