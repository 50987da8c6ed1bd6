// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	roleListenServer = "_listen-server"

	serverCtlFD = 3
)

// accepting is what the server does with the connections of its queue.
type accepting string

const (
	acceptNone  accepting = "none"
	acceptAll   accepting = "all"
	acceptPaced accepting = "paced"
)

// serverAddress is where the server of a listenKind is in the namespace of
// the lab. Its prefix is the network of the clients.
type serverAddress struct {
	kind   string
	bind   string
	prefix netip.Prefix
}

var serverAddresses = []serverAddress{
	{"tcp4", "10.0.0.1", netip.MustParsePrefix("10.0.0.1/8")},
	{"tcp6", "fd48:4c::1", netip.MustParsePrefix("fd48:4c::1/64")},
	{"dual", "::", netip.MustParsePrefix("10.0.0.1/8")},
}

// v6 says which table of /proc its sockets are in.
func (s *serverAddress) v6() bool { return strings.Contains(s.bind, ":") }

func findServer(kind *listenKind) *serverAddress {
	for i := range serverAddresses {
		if serverAddresses[i].kind == kind.name {
			return &serverAddresses[i]
		}
	}
	return nil
}

// serverConfig travels to the server process in its argument.
type serverConfig struct {
	Bind    string    `json:"bind"`
	Port    int       `json:"port"`
	Backlog int       `json:"backlog"`
	Sockets int       `json:"sockets"`
	Comm    string    `json:"comm"`
	Accept  accepting `json:"accept"`
	Rate    float64   `json:"rate"` // of acceptPaced, per second
}

// serverReport is what the server accepted; Times (CLOCK_MONOTONIC) only
// where it is paced.
type serverReport struct {
	Accepts int64   `json:"accepts"`
	Times   []int64 `json:"times"`
}

// listenServer is the process that owns the listening sockets: nobody else
// holds them, so that a tracer finds one owner, and its name.
type listenServer struct {
	cfg     serverConfig
	polled  []unix.PollFd // the control pipe, then the sockets
	next    time.Time     // of acceptPaced: not before
	accepts int64
	times   []int64
}

// runListenServer is the server process: listen, say ready, accept as told,
// report when asked to, end when told to. From the report on it accepts no
// more, so that what it reported and what is queued add up.
func runListenServer(arg string) error {
	s := &listenServer{polled: []unix.PollFd{{Fd: serverCtlFD, Events: unix.POLLIN}}}
	if err := decodeConfig(arg, &s.cfg); err != nil {
		return err
	}
	if err := setComm(s.cfg.Comm); err != nil {
		return err
	}
	for range s.cfg.Sockets {
		if err := s.listen(); err != nil {
			return err
		}
	}
	if err := send(workerReady{Ready: true}); err != nil {
		return err
	}
	if s.cfg.Accept != acceptNone {
		if err := s.serve(); err != nil {
			return err
		}
	}
	awaitRequest(serverCtlFD)
	if err := send(serverReport{s.accepts, s.times}); err != nil {
		return err
	}
	awaitStop(serverCtlFD)
	return nil
}

// listen opens one more socket of the group.
func (s *listenServer) listen() error {
	domain, sockaddr := inetAddress(s.cfg.Bind, s.cfg.Port)
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("make a listener: %w", err)
	}
	if err := setListenOptions(fd, domain, s.cfg.Sockets > 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return fmt.Errorf("bind %s port %d: %w", s.cfg.Bind, s.cfg.Port, err)
	}
	if err := unix.Listen(fd, s.cfg.Backlog); err != nil {
		return fmt.Errorf("listen on %s port %d: %w", s.cfg.Bind, s.cfg.Port, err)
	}
	s.polled = append(s.polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	return nil
}

// serve accepts and closes until the control pipe is readable.
func (s *listenServer) serve() error {
	for {
		polled, limit := s.polled, -1
		if wait := time.Until(s.next); wait > 0 {
			polled, limit = s.polled[:1], int((wait+time.Millisecond-1)/time.Millisecond)
		}
		if _, err := unix.Poll(polled, limit); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for a connection: %w", err)
		}
		if polled[0].Revents != 0 {
			return nil
		}
		for _, p := range polled[1:] {
			if p.Revents == 0 {
				continue
			}
			if err := s.accept(int(p.Fd)); err != nil {
				return err
			}
		}
	}
}

// accept takes what one socket has: all of it or, paced, what is due.
func (s *listenServer) accept(listener int) error {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return fmt.Errorf("accept a connection: %w", errno)
		}
		_ = unix.Close(int(fd))
		s.accepts++
		if s.cfg.Accept == acceptAll {
			continue
		}
		s.times = append(s.times, monotonic())
		s.next = latest(s.next, time.Now().Add(-10*time.Millisecond)).Add(time.Duration(float64(time.Second) / s.cfg.Rate))
		if time.Until(s.next) > 0 {
			return nil
		}
	}
}

// awaitRequest blocks until the parent writes a byte to the control pipe, or
// is gone.
func awaitRequest(ctlFD int) {
	var b [1]byte
	for {
		if _, err := unix.Read(ctlFD, b[:]); err != unix.EINTR {
			return
		}
	}
}

// monotonic is a time that processes can compare.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return ts.Nano()
}

// acceptQueues reads how many connections each listening socket of the port
// holds (net/ipv4/tcp_ipv4.c: get_tcp4_sock(), rx_queue). /proc lists the
// listeners before all others.
func acceptQueues(v6 bool, port int) (lens []int, err error) {
	err = scanSockets(v6, func(local, state, queues string) bool {
		if state != tcpListen {
			return false
		}
		var n uint64
		if _, p, _ := strings.Cut(local, ":"); p == fmt.Sprintf("%04X", port) {
			_, rx, _ := strings.Cut(queues, ":")
			n, err = strconv.ParseUint(rx, 16, 32)
			lens = append(lens, int(n))
		}
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the accept queues: %w", err)
	}
	return lens, nil
}

// requests counts the half-open requests of all listeners, which are in the
// established hash.
func requests(v6 bool) (n int, err error) {
	err = scanSockets(v6, func(_, state, _ string) bool {
		if state == tcpSynRecv {
			n++
		}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("count the half-open requests: %w", err)
	}
	return n, nil
}

// States of /proc/net/tcp (include/net/tcp_states.h).
const (
	tcpSynRecv = "03"
	tcpListen  = "0A"
)

// scanSockets calls see for each TCP socket of the namespace until it says no.
func scanSockets(v6 bool, see func(local, state, queues string) bool) error {
	path := "/proc/self/net/tcp"
	if v6 {
		path += "6"
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[0] == "sl" {
			continue
		}
		if !see(fields[1], fields[3], fields[4]) {
			break
		}
	}
	return lines.Err()
}
