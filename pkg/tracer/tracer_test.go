// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// asked reports whether somebody wants the tests that trace: then one that
// cannot run fails.
func asked() bool {
	return os.Getenv("HERDTRACE_ROOT_TESTS") != "" || os.Getenv("CI") != ""
}

// need ends a test for which something is missing.
func need(t testing.TB, missing string) {
	t.Helper()
	if asked() {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// open attaches, or skips where nobody asked for tests that trace.
func open(t testing.TB, o Options) *Tracer {
	t.Helper()
	if !asked() && (testing.Short() || os.Geteuid() != 0) {
		t.Skip("it needs root and BPF: sudo make test")
	}
	tr, err := Open(o)
	if err != nil {
		t.Fatalf("this test needs root and BPF (sudo make test): %v", err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// final takes the last Sample.
func final(t testing.TB, tr *Tracer) *sample.Sample {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := tr.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("after the final Sample: %v, want io.EOF", err)
	}
	return s
}

func onPort(s *sample.Sample, port uint16) []sample.Listener {
	var out []sample.Listener
	for _, l := range s.Accept.Listeners {
		if l.Port == port {
			out = append(out, l)
		}
	}
	return out
}

// rawListener is a listening socket without the Go runtime's poller behind it.
func rawListener(t testing.TB, flags int) (fd int, port uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, uint16(sa.(*unix.SockaddrInet4).Port)
}

func connect(t testing.TB, port uint16) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve takes n connections from fd, and then one EAGAIN if it is non-blocking.
func serve(t testing.TB, fd int, port uint16, n int, eagain bool) {
	t.Helper()
	for range n {
		c := connect(t, port)
		nfd, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(nfd)
		c.Close()
	}
	if eagain {
		if _, _, err := unix.Accept4(fd, 0); err != unix.EAGAIN {
			t.Fatalf("accept4 on an empty queue: %v, want EAGAIN", err)
		}
	}
}

// TestDescriptorReuse: the same descriptor of the same process is another
// listener once the first one is closed.
func TestDescriptorReuse(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	first, p1 := rawListener(t, unix.SOCK_NONBLOCK)
	serve(t, first, p1, 5, true)
	unix.Close(first)
	second, p2 := rawListener(t, unix.SOCK_NONBLOCK)
	if second != first {
		t.Fatalf("the descriptor was not reused: %d, then %d", first, second)
	}
	serve(t, second, p2, 7, true)
	unix.Close(second)
	s := final(t, tr)
	for port, want := range map[uint16]uint64{p1: 5, p2: 7} {
		ls := onPort(s, port)
		if len(ls) != 1 || ls[0].AcceptsTotal != want || ls[0].CompletionsTotal != want || ls[0].AcceptEAGAINTotal != 1 || !ls[0].Closed {
			t.Errorf("port %d: %+v, want %d accepts, 1 EAGAIN, closed", port, ls, want)
		}
	}
}

// TestConnectionsBeforeAttach: what waited in the queue already is accepted, but
// did not complete during the trace.
func TestConnectionsBeforeAttach(t *testing.T) {
	fd, port := rawListener(t, 0)
	defer unix.Close(fd)
	for range 3 {
		defer connect(t, port).Close()
	}
	tr := open(t, Options{Interval: time.Hour})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 3 {
		nfd, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(nfd)
	}
	serve(t, fd, port, 4, false)
	ls := onPort(final(t, tr), port)
	if len(ls) != 1 || ls[0].AcceptsTotal != 7 || ls[0].CompletionsTotal != 4 {
		t.Errorf("%+v: want 7 accepts, of them 4 that completed during the trace", ls)
	}
}

// TestFullWorkerMap: what finds no room for itself is counted all the same, for
// its listener, and the loss is said.
func TestFullWorkerMap(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour, MaxWorkers: 16})
	fd, port := rawListener(t, 0)
	defer unix.Close(fd)
	const threads, each = 40, 5
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(threads)
	for range threads {
		done.Go(func() {
			runtime.LockOSThread() // and never unlocked: each goroutine is a thread
			ready.Done()
			<-release
			serve(t, fd, port, each, false)
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
	s := final(t, tr)
	ls := onPort(s, port)
	if len(ls) != 1 || ls[0].AcceptsTotal != threads*each || ls[0].CompletionsTotal != threads*each {
		t.Errorf("%+v: want %d accepts", ls, threads*each)
	}
	if s.Self.Lost["worker_map_full"] == 0 {
		t.Errorf("no loss is said: %+v", s.Self)
	}
}

// TestFullListenerMap: listeners beyond the map's size are lost, and counted so.
func TestFullListenerMap(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour, MaxListeners: 4})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 8 {
		fd, port := rawListener(t, 0)
		defer unix.Close(fd)
		serve(t, fd, port, 1, false)
	}
	if s := final(t, tr); s.Self.Lost["listener_map_full"] == 0 {
		t.Errorf("no loss is said: %+v", s.Self)
	}
}

// TestKilledWorker: a worker that is killed keeps its counts.
func TestKilledWorker(t *testing.T) {
	tr := open(t, Options{Interval: 100 * time.Millisecond})
	fd, port := rawListener(t, 0)
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	cmd := exec.Command("python3", "-c", `
import socket
s = socket.socket(fileno=3)
while True: s.accept()[0].close()`)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Fatal(err) // gunicorn, which the tests need anyway, brings it
	}
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It sleeps for the first one at least, so that there is a wait to be seen.
	waits := func() bool {
		s, asleep := sleepsIn(uint32(cmd.Process.Pid), uint32(cmd.Process.Pid))
		return asleep && s.wait == sample.WaitAccept
	}
	for end := time.Now().Add(30 * time.Second); !waits() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	const n = 20
	for range n {
		c := connect(t, port)
		c.Read(make([]byte, 1)) // until it was accepted and closed
		c.Close()
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	var ls []sample.Listener
	for range 50 {
		s, err := tr.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if ls = onPort(s, port); len(ls) == 1 && len(ls[0].Workers) == 1 && ls[0].Workers[0].Ended {
			break
		}
	}
	if len(ls) != 1 || ls[0].AcceptsTotal != n || len(ls[0].Workers) != 1 || !ls[0].Workers[0].Ended {
		t.Fatalf("%+v: want %d accepts by one ended worker", ls, n)
	}
	if w := ls[0].Workers[0]; w.Wait != sample.WaitAccept || w.WakeupsTotal > n {
		t.Errorf("%+v: want wait %q and %d wake-ups at most", w, sample.WaitAccept, n)
	}
}

// TestForcedVariant: a name that there is not is an error of the caller's.
func TestForcedVariant(t *testing.T) {
	open(t, Options{}).Close()
	if _, err := Open(Options{Variants: map[string]string{"accept": "magic"}}); err == nil || errors.Is(err, ErrHost) {
		t.Errorf("got %v, want an error that is not the host's", err)
	}
}

// BenchmarkTick measures a tick, by the number of listeners.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var rl unix.Rlimit
			unix.Getrlimit(unix.RLIMIT_NOFILE, &rl)
			rl.Cur = rl.Max
			unix.Setrlimit(unix.RLIMIT_NOFILE, &rl)
			for range n {
				fd, port := rawListener(b, 0)
				defer unix.Close(fd)
				serve(b, fd, port, 1, false)
			}
			tr := open(b, Options{Interval: time.Hour})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tr.collect(false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
