// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// listenKind is one way to be reachable: the socket to make, the address to
// bind, and where clients find it.
type listenKind struct {
	name  string
	brief string
	proto int
	bind  string // what the listener is bound to; empty: a path in a fresh directory
	dial  string // where clients connect to
}

var listenKinds = []listenKind{
	{"tcp4", "127.0.0.1", unix.IPPROTO_TCP, "127.0.0.1", "127.0.0.1"},
	{"tcp6", "::1", unix.IPPROTO_TCP, "::1", "::1"},
	{"dual", "[::] with IPV6_V6ONLY=0, reached over 127.0.0.1", unix.IPPROTO_TCP, "::", "127.0.0.1"},
	{"mptcp", "an IPPROTO_MPTCP listener on 127.0.0.1, plain TCP clients", unix.IPPROTO_MPTCP, "127.0.0.1", "127.0.0.1"},
	{"unix", "a unix stream socket in a fresh directory", 0, "", ""},
}

func findListenKind(name string) *listenKind {
	for i := range listenKinds {
		if listenKinds[i].name == name {
			return &listenKinds[i]
		}
	}
	return nil
}

func listenKindNames() string {
	var names []string
	for _, k := range listenKinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// listening is the open server side: one socket, or one per worker.
type listening struct {
	files []*os.File
	kind  *listenKind
	addr  string // bound address, or path
	port  int    // 0 for a unix socket
	dir   string // fresh directory of a unix socket, removed by close
}

// openListening makes the sockets in the parent, before the workers, as a
// prefork server does. They become non-blocking only after os.NewFile: given a
// non-blocking descriptor it would put the listener into the Go poller, and
// the parent would be one more waiter that each connection wakes.
func openListening(cfg *acceptConfig) (l *listening, err error) {
	l = &listening{kind: cfg.kind, port: cfg.port}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	sockets := 1
	if cfg.mode.perWorker {
		sockets = cfg.workers
	}
	for range sockets {
		fd, err := l.socket(cfg)
		if err != nil {
			return l, err
		}
		l.files = append(l.files, os.NewFile(uintptr(fd), "listener"))
		if err := unix.SetNonblock(fd, !cfg.mode.blocking); err != nil {
			return l, fmt.Errorf("make the listener non-blocking: %w", err)
		}
	}
	return l, nil
}

// socket makes one listening socket and notes the address that it got.
func (l *listening) socket(cfg *acceptConfig) (fd int, err error) {
	domain, sockaddr, err := l.bindAddress()
	if err != nil {
		return -1, err
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, l.kind.proto)
	if err != nil {
		return -1, fmt.Errorf("make a %s listener: %w (does this kernel offer it?)", l.kind.name, err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := setListenOptions(fd, domain, cfg.mode.perWorker); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return -1, fmt.Errorf("bind %s port %d: %w (--port 0 lets the kernel choose a free one)", l.addr, l.port, err)
	}
	if err := unix.Listen(fd, cfg.backlog); err != nil {
		return -1, fmt.Errorf("listen on %s port %d: %w", l.addr, l.port, err)
	}
	if domain == unix.AF_UNIX {
		return fd, nil
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, fmt.Errorf("read the listener's address: %w", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		l.port = a.Port
	case *unix.SockaddrInet6:
		l.port = a.Port
	}
	return fd, nil
}

// bindAddress is where the next socket is bound; sockets after the first of a
// SO_REUSEPORT group reuse the port that the first one got.
func (l *listening) bindAddress() (domain int, sa unix.Sockaddr, err error) {
	if l.kind.bind == "" {
		if l.dir, err = os.MkdirTemp("", "herdlab-"); err != nil {
			return 0, nil, fmt.Errorf("make a directory for the socket: %w", err)
		}
		l.addr = filepath.Join(l.dir, "accept.sock")
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: l.addr}, nil
	}
	l.addr = l.kind.bind
	domain, sa = inetAddress(l.addr, l.port)
	return domain, sa, nil
}

// inetAddress turns a literal address of our own tables into a sockaddr.
func inetAddress(addr string, port int) (domain int, sa unix.Sockaddr) {
	ip := netip.MustParseAddr(addr)
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: port}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: port}
}

func setListenOptions(fd, domain int, reusePort bool) error {
	type option struct {
		name            string
		level, opt, val int
	}
	var options []option
	if domain != unix.AF_UNIX {
		options = append(options, option{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	}
	if domain == unix.AF_INET6 {
		options = append(options, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0})
	}
	if reusePort {
		options = append(options, option{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.val); err != nil {
			return fmt.Errorf("set %s on the listener: %w", o.name, err)
		}
	}
	return nil
}

// dialAddress is what the ready file says: where a client connects to.
func (l *listening) dialAddress() string {
	if l.kind.dial == "" {
		return l.addr
	}
	return netip.AddrPortFrom(netip.MustParseAddr(l.kind.dial), uint16(l.port)).String()
}

// queueLen is the number of connections that wait to be accepted, over all
// sockets: for a listener tcp_get_info() puts sk_ack_backlog in tcpi_unacked.
// ok is false for a unix socket, which has no such window.
func (l *listening) queueLen() (n int, ok bool) {
	if l.kind.bind == "" {
		return 0, false
	}
	for _, f := range l.files {
		info, err := unix.GetsockoptTCPInfo(int(f.Fd()), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, false
		}
		n += int(info.Unacked)
	}
	return n, true
}

func (l *listening) close() {
	for _, f := range l.files {
		f.Close()
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// passiveOpens reads TcpPassiveOpens of this network namespace: connections
// whose handshake the kernel completed (tcp_create_openreq_child()).
func passiveOpens() (int64, error) {
	f, err := os.Open("/proc/self/net/snmp")
	if err != nil {
		return 0, fmt.Errorf("read PassiveOpens: %w", err)
	}
	defer f.Close()
	return parsePassiveOpens(f)
}

// parsePassiveOpens finds the column by its name in the two "Tcp:" lines.
func parsePassiveOpens(r io.Reader) (int64, error) {
	var names []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "PassiveOpens" && i < len(fields) {
				return strconv.ParseInt(fields[i], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("read PassiveOpens: no such column in /proc/self/net/snmp")
}
