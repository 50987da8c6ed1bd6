// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	churnWorkers  = 3 // threads that accept from one listener
	churnQueued   = 2 // connections in the queue of a listener that is closed
	churnIOLimit  = 5 // seconds for one connect() or read()
	churnBacklog  = 64
	churnFullFrom = 1 // backlog of a listener whose queue shall be full
	// churnRefuseGap lets a tracer that looks a few times a second find the queue
	// full, and look at the clients after that.
	churnRefuseGap = 50 * time.Millisecond
)

// churnKind is one way to listen.
type churnKind struct {
	name    string
	proto   int
	sockets int
	refuses bool
}

var churnKinds = []churnKind{
	{"tcp", unix.IPPROTO_TCP, 1, false},
	{"reuseport", unix.IPPROTO_TCP, 2, false},
	{"mptcp", unix.IPPROTO_MPTCP, 1, false},
	{"unix", 0, 1, false},
	{"refusing", unix.IPPROTO_TCP, 1, true},
}

// enterSpace puts the whole process into a new network namespace: it executes
// herdlab once more, since unshare(2) is per thread.
func (p *churnPart) enterSpace() error {
	if p.cfg.Inside {
		return raiseLink("lo")
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w (it needs root: CAP_SYS_ADMIN and CAP_NET_ADMIN; use sudo)", err)
	}
	p.cfg.Inside = true
	arg, err := json.Marshal(p.cfg)
	if err != nil {
		return err
	}
	return fmt.Errorf("execute herdlab in its namespace: %w", unix.Exec("/proc/self/exe", []string{"herdlab", roleChurnPart, string(arg)}, os.Environ()))
}

// listeners opens and closes listeners in one namespace, on the same ports.
func (p *churnPart) listeners() error {
	if err := p.enterSpace(); err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	var ports [churnPorts]sync.Mutex
	atOnce := make(slots, churnPorts)
	p.pace(p.cfg.Listeners, func(n int) {
		if !atOnce.take() {
			return
		}
		p.pending.Add(1)
		go func() {
			defer p.pending.Done()
			defer atOnce.free()
			port := n % churnPorts
			ports[port].Lock() // the last one on it may still be there
			defer ports[port].Unlock()
			if err := p.listener(&churnKinds[n%len(churnKinds)], n, p.cfg.Port+port); err != nil {
				p.failed(err)
			}
		}()
	})
	p.pending.Wait()
	return p.countRefusals()
}

// countRefusals reads what this namespace has counted since it began.
func (p *churnPart) countRefusals() error {
	now, err := readNetCounters()
	if err != nil {
		return err
	}
	p.count(func(c *churnCounts) { c.Refusals += now["TcpExt.ListenDrops"] })
	return nil
}

// listener is the life of one: it refuses, if that is its kind, serves, and is
// closed with connections in its queue.
func (p *churnPart) listener(kind *churnKind, n, port int) error {
	l := &churnListener{part: p, kind: kind, n: n, port: port}
	defer l.close()
	if err := l.open(); err != nil {
		return err
	}
	if kind.refuses {
		if err := l.refuse(); err != nil {
			return err
		}
	}
	stop, err := l.work()
	if err != nil {
		return err
	}
	for range p.cfg.Connections {
		l.visit()
	}
	stop()
	if !kind.refuses {
		for range churnQueued {
			if fd := l.dial(); fd >= 0 {
				l.clients = append(l.clients, fd)
				p.count(func(c *churnCounts) { c.QueuedAtEnd++ })
			}
		}
	}
	p.count(func(c *churnCounts) { c.Listeners += int64(len(l.fds)) })
	return nil
}

// churnListener is one listener, or a SO_REUSEPORT group.
type churnListener struct {
	part    *churnPart
	kind    *churnKind
	n, port int
	name    string // of a unix socket, abstract
	fds     []int
	clients []int // that wait in its queue
}

// churnDials numbers the clients: each has an address of its own.
var churnDials atomic.Uint32

func (l *churnListener) open() error {
	backlog := churnBacklog
	if l.kind.refuses {
		backlog = churnFullFrom
	}
	for range l.kind.sockets {
		fd, err := l.socket()
		if err != nil {
			return err
		}
		l.fds = append(l.fds, fd)
		if err := unix.Listen(fd, backlog); err != nil {
			return fmt.Errorf("listen on port %d: %w", l.port, err)
		}
	}
	return nil
}

func (l *churnListener) socket() (fd int, err error) {
	domain, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: l.port, Addr: [4]byte{127, 0, 0, 1}})
	if l.kind.proto == 0 {
		l.name = fmt.Sprintf("%s%d", l.part.cfg.Unix, l.n)
		domain, sa = unix.AF_UNIX, &unix.SockaddrUnix{Name: l.name}
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err = unix.Socket(domain, kind, l.kind.proto)
	if l.kind.proto == unix.IPPROTO_MPTCP && err != nil { // not built in, or off
		fd, err = unix.Socket(domain, kind, unix.IPPROTO_TCP)
	}
	if err != nil {
		return -1, fmt.Errorf("make a %s listener: %w", l.kind.name, err)
	}
	if domain == unix.AF_INET {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil && l.kind.sockets > 1 {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind a %s listener to port %d: %w", l.kind.name, l.port, err)
	}
	return fd, nil
}

// close leaves the connections in the queue to the kernel, which resets them.
func (l *churnListener) close() {
	for _, fd := range append(l.fds, l.clients...) {
		unix.Close(fd)
	}
}

// work starts the threads that accept. All of them wait for all sockets of the
// listener, so that a connection wakes more than one, and the others get EAGAIN.
func (l *churnListener) work() (stop func(), err error) {
	stopFD, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	var workers sync.WaitGroup
	for range churnWorkers {
		workers.Add(1)
		go func() {
			defer workers.Done()
			runtime.LockOSThread() // it ends with the goroutine
			if err := l.acceptUntil(stopFD); err != nil {
				l.part.failed(err)
			}
		}()
	}
	return func() {
		_, _ = unix.Write(stopFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		workers.Wait()
		unix.Close(stopFD)
	}, nil
}

func (l *churnListener) acceptUntil(stopFD int) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make an epoll instance: %w", err)
	}
	defer unix.Close(ep)
	for _, fd := range append([]int{stopFD}, l.fds...) {
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("watch a listener: %w", err)
		}
	}
	var accepts, eagains int64
	defer func() {
		l.part.count(func(c *churnCounts) { c.Accepts += accepts; c.EAGAINs += eagains })
	}()
	for {
		var events [4]unix.EpollEvent
		n, err := unix.EpollWait(ep, events[:], -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for connections: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == stopFD {
				return nil
			}
			fd, _, err := unix.Accept4(int(e.Fd), unix.SOCK_CLOEXEC)
			switch {
			case err == nil:
				accepts++
				unix.Close(fd)
			case err == unix.EAGAIN:
				eagains++
			case err != unix.EINTR && err != unix.ECONNABORTED:
				return fmt.Errorf("accept: %w", err)
			}
		}
	}
}

// visit is a client that waits until it has been served.
func (l *churnListener) visit() {
	fd := l.dial()
	if fd < 0 {
		return
	}
	var b [1]byte
	for {
		if _, err := unix.Read(fd, b[:]); err != unix.EINTR {
			break
		}
	}
	unix.Close(fd)
}

// dial returns a connection, -1 where there is none. When it is closed it is
// reset: so no address stays taken.
func (l *churnListener) dial() int {
	fd, err := l.client(0)
	if err == nil {
		if err = unix.Connect(fd, l.target()); err == nil {
			return fd
		}
		unix.Close(fd)
	}
	l.part.count(func(c *churnCounts) { c.Unaccepted++ })
	return -1
}

func (l *churnListener) target() unix.Sockaddr {
	if l.name != "" {
		return &unix.SockaddrUnix{Name: l.name}
	}
	return &unix.SockaddrInet4{Port: l.port, Addr: [4]byte{127, 0, 0, 1}}
}

// client makes a socket with an address that no client has had for long.
func (l *churnListener) client(flags int) (fd int, err error) {
	domain := unix.AF_INET
	if l.name != "" {
		domain = unix.AF_UNIX
	}
	if fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0); err != nil {
		return -1, err
	}
	limit := unix.Timeval{Sec: churnIOLimit}
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if domain == unix.AF_INET {
		n := churnDials.Add(1)
		err = errors.Join(err, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, byte(1 + n>>16%200), byte(n >> 8), byte(n)}}))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// refuse fills the accept queue, so that each SYN after that is refused. The
// client gives up at once, and does not repeat it.
func (l *churnListener) refuse() error {
	for range churnFullFrom + 1 {
		if fd := l.dial(); fd >= 0 {
			l.clients = append(l.clients, fd)
		}
	}
	for range l.part.cfg.Refusals {
		fd, err := l.client(unix.SOCK_NONBLOCK)
		if err != nil {
			return fmt.Errorf("make a client: %w", err)
		}
		err = unix.Connect(fd, l.target())
		unix.Close(fd)
		if err != nil && err != unix.EINPROGRESS {
			return fmt.Errorf("send a SYN: %w", err)
		}
		rawNap(-1, int64(churnRefuseGap))
	}
	return nil
}
