// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// netSpace is a network namespace whose listeners are asked for.
type netSpace struct {
	inode    uint32
	cookie   uint64
	proc     string      // /proc directory of a process in it
	diag     *diagSocket // nil: by /proc/PID/net/tcp
	settings listenSettings

	// masters are the MPTCP sockets by the address of their subflow that listens,
	// as of the TCP listeners of that list.
	masters   map[diagKey]uint32
	asked     []uint64
	noMasters bool // this kernel has none, or does not show them
}

// listenSettings are those of a namespace that limit its listeners.
type listenSettings struct{ somaxconn, maxSynBacklog, syncookies, abortOnOverflow uint32 }

// diagKey is what an MPTCP socket and its subflow have in common, and the
// members of a SO_REUSEPORT group.
type diagKey struct {
	family, port uint16
	addr         [16]uint8
	ifindex      uint32
}

func (l *diagListener) key() diagKey { return diagKey{l.family, l.port, l.addr, l.ifindex} }

// openSpace opens the one that the process at proc lives in. Where it is not our
// own, that takes CAP_SYS_ADMIN.
func openSpace(inode uint32, proc string, own, byProc bool) (*netSpace, error) {
	s := &netSpace{inode: inode, proc: proc}
	var err error
	enter := func() {
		if !byProc {
			if s.diag, err = openDiag(); err != nil {
				return
			}
			s.cookie = s.diag.cookie()
		}
		s.settings = readListenSettings()
	}
	if own {
		enter()
		return s, err
	}
	onDyingThread(func() {
		if err = enterNetNS(proc); err == nil {
			enter()
		}
	})
	return s, err
}

func enterNetNS(proc string) error {
	ns, err := unix.Open(proc+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return unix.Setns(ns, unix.CLONE_NEWNET)
}

// readListenSettings reads those of the calling thread's namespace
// (net/sysctl_net.c: net_ctl_header_lookup()).
func readListenSettings() listenSettings {
	read := func(name string) uint32 {
		n, _ := strconv.ParseUint(readTrimmed("/proc/sys/net/"+name), 10, 32)
		return uint32(n)
	}
	return listenSettings{
		somaxconn: read("core/somaxconn"), maxSynBacklog: read("ipv4/tcp_max_syn_backlog"),
		syncookies: read("ipv4/tcp_syncookies"), abortOnOverflow: read("ipv4/tcp_abort_on_overflow"),
	}
}

// Close lets the namespace go.
func (s *netSpace) Close() {
	if s.diag != nil {
		s.diag.Close()
	}
}

// inside reports whether the process still lives there. A socket of ours would
// keep the namespace alive when all others have left.
func (s *netSpace) inside() bool {
	in, ok := namespaceOf(s.proc)
	return ok && in == s.inode
}

// listeners are those of TCP; a master's inode and true stand in for a subflow's.
func (s *netSpace) listeners() (rows []diagListener, mptcp map[int]bool, err error) {
	if s.diag == nil {
		rows, err = readProcTCP(s.proc)
		return rows, nil, err
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		some, err := s.diag.listeners(family, unix.IPPROTO_TCP)
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, some...)
	}
	s.askMasters(rows)
	for i := range rows {
		if inode, ok := s.masters[rows[i].key()]; ok {
			if mptcp == nil {
				mptcp = make(map[int]bool)
			}
			rows[i].inode, mptcp[i] = inode, true
		}
	}
	return rows, mptcp, nil
}

// askMasters asks for the MPTCP listeners when the TCP ones have changed.
func (s *netSpace) askMasters(rows []diagListener) {
	var now []uint64
	for i := range rows {
		now = append(now, rows[i].cookie)
	}
	slices.Sort(now)
	if s.noMasters || slices.Equal(now, s.asked) {
		return
	}
	s.asked, s.masters = now, make(map[diagKey]uint32)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		some, err := s.diag.listeners(family, unix.IPPROTO_MPTCP)
		if err != nil {
			s.noMasters = true // no mptcp_diag, or before Linux 5.18
			return
		}
		for i := range some {
			s.masters[some[i].key()] = some[i].inode
		}
	}
}

// readProcTCP finds the listeners in /proc/PID/net/tcp and tcp6, which shows how
// many connections wait, but not how many may.
func readProcTCP(proc string) ([]diagListener, error) {
	var out []diagListener
	b, err := os.ReadFile(proc + "/net/tcp")
	if err != nil {
		return nil, fmt.Errorf("read listeners: %w", err)
	}
	out = parseProcTCP(b, unix.AF_INET, out)
	if b, err = os.ReadFile(proc + "/net/tcp6"); err == nil { // else there is no IPv6
		out = parseProcTCP(b, unix.AF_INET6, out)
	}
	return out, nil
}

// parseProcTCP reads lines "sl local remote st tx:rx tr:when retrnsmt uid timeout
// inode ..." of which rx of a listener is the length of its accept queue
// (net/ipv4/tcp_ipv4.c: get_tcp4_sock()). An address is in words of the host's
// byte order.
func parseProcTCP(b []byte, family uint16, out []diagListener) []diagListener {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 10 || string(f[3]) != "0A" {
			continue
		}
		addr, port, ok1 := bytes.Cut(f[1], []byte(":"))
		_, rx, ok2 := bytes.Cut(f[4], []byte(":"))
		words, err1 := hex.DecodeString(string(addr))
		n, err2 := strconv.ParseUint(string(port), 16, 16)
		length, err3 := strconv.ParseUint(string(rx), 16, 32)
		inode, err4 := strconv.ParseUint(string(f[9]), 10, 32)
		if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || err4 != nil || len(words) > 16 || len(words)%4 != 0 {
			continue
		}
		l := diagListener{family: family, port: uint16(n), length: uint32(length), inode: uint32(inode), cookie: inode}
		for i := 0; i < len(words); i += 4 { // little-endian, as both architectures are
			l.addr[i], l.addr[i+1], l.addr[i+2], l.addr[i+3] = words[i+3], words[i+2], words[i+1], words[i]
		}
		out = append(out, l)
	}
	return out
}
