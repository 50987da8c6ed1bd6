// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// listenOn makes a listening TCP socket on loopback, on a port of its own where
// port is 0.
func listenOn(t testing.TB, port, backlog int, options ...int) (fd, bound int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for i := 0; i+2 < len(options); i += 3 {
		if err := unix.SetsockoptInt(fd, options[i], options[i+1], options[i+2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	a, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, a.(*unix.SockaddrInet4).Port
}

// knock begins a connection, and sends a byte if it is there at once.
func knock(t testing.TB, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	unix.Write(fd, []byte("x"))
}

// TestPeaksOfMany: no high-water mark is lost, however many listeners there are.
func TestPeaksOfMany(t *testing.T) {
	tr := open(t, Options{})
	next(t, tr)
	const listeners, clients = 600, 3
	ports := make(map[uint16]bool)
	for range listeners {
		_, port := listenOn(t, 0, 16)
		ports[uint16(port)] = true
		for range clients {
			knock(t, port)
		}
	}
	found := 0
	for _, l := range final(t, tr).Accept.Listeners {
		if !ports[l.Port] || l.Queues == nil {
			continue
		}
		found++
		if l.Queues.AcceptQueuePeak != clients {
			t.Errorf("port %d: accept_queue_peak %d, want %d", l.Port, l.Queues.AcceptQueuePeak, clients)
		}
		if l.Queues.Backlog != 16 {
			t.Errorf("port %d: listen_backlog %d, want 16", l.Port, l.Queues.Backlog)
		}
	}
	if found != listeners {
		t.Errorf("%d listeners were found, want %d", found, listeners)
	}
}

// next takes one Sample.
func next(t testing.TB, tr *Tracer) *sample.Sample {
	t.Helper()
	s, err := tr.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var deferred = []int{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}

// TestDeferredIsNoTrouble: TCP_DEFER_ACCEPT makes each healthy connection count
// in sk_drops. That is no refusal, and no reason to look at each SYN.
func TestDeferredIsNoTrouble(t *testing.T) {
	tr := open(t, Options{})
	next(t, tr)
	fd, port := listenOn(t, 0, 128, deferred...)
	for range 100 {
		knock(t, port)
		if c, _, err := unix.Accept(fd); err == nil {
			unix.Close(c)
		}
		if err := tr.accept.checkQueues(); err != nil {
			t.Fatal(err)
		}
	}
	if l := tr.accept.listen; l != nil && l.probe != nil {
		t.Errorf("%s is attached, and nobody was refused", l.demand.name)
	}
	for _, l := range final(t, tr).Accept.Listeners {
		if int(l.Port) == port && l.Queues.Refusals.Total() > 0 {
			t.Errorf("refusals %+v, want none", l.Queues.Refusals)
		}
	}
}

// TestDeferredGroup: of two sockets of a group one is stuck, and the other does
// well: its connections make it look, by sk_drops, as if it refused.
func TestDeferredGroup(t *testing.T) {
	tr := open(t, Options{})
	stuck, port := listenOn(t, 0, 4, deferred...)
	healthy, _ := listenOn(t, port, 4096, deferred...)
	next(t, tr)
	for range 2000 {
		knock(t, port)
		for c, _, err := unix.Accept(healthy); err == nil; c, _, err = unix.Accept(healthy) {
			unix.Close(c)
		}
		if err := tr.accept.checkQueues(); err != nil {
			t.Fatal(err)
		}
	}
	var refused, counted, netns uint64
	s := final(t, tr)
	for _, l := range s.Accept.Listeners {
		if int(l.Port) != port {
			continue
		}
		n := l.Queues.Refusals.AcceptQueue()
		if l.AcceptQueueMax == 4 {
			refused, netns = n, uint64(l.NetNS)
		} else if n > 0 {
			t.Errorf("the healthy socket is said to have refused %+v", l.Queues.Refusals)
		}
	}
	for _, n := range s.Listen.NetNS {
		if uint64(n.Inode) == netns && n.TCPExt != nil {
			counted = n.TCPExt.ListenOverflows
		}
	}
	if refused != counted || refused == 0 {
		t.Errorf("the stuck socket %d is said to have refused %d, the kernel's ListenOverflows %d", stuck, refused, counted)
	}
}

// TestNoVerifierRefusal: what a kernel does not offer is refused for what it is,
// never because a program of ours is wrong.
func TestNoVerifierRefusal(t *testing.T) {
	tr := open(t, Options{})
	for _, s := range tr.Header().Signals {
		for _, r := range s.Rejected {
			if strings.Contains(r.Error, verifierRefused) {
				t.Errorf("%s by %s: %s", s.Name, r.Variant, r.Error)
			}
		}
	}
}
