// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/inet_diag.h, sock_diag.h and tcp_states.h.
const (
	diagByFamily    = 20 // SOCK_DIAG_BY_FAMILY
	diagSKMemInfo   = 7  // INET_DIAG_SKMEMINFO: an array of u32
	diagSKV6Only    = 11 // INET_DIAG_SKV6ONLY
	diagReqProtocol = 3  // INET_DIAG_REQ_PROTOCOL, for what fits no byte
	memInfoDrops    = 8  // SK_MEMINFO_DROPS, since Linux 4.7
	tcpListen       = 10 // TCP_LISTEN
	diagRequestSize = 56 // struct inet_diag_req_v2
	diagMessageSize = 72 // struct inet_diag_msg
	nlHeaderSize    = 16 // struct nlmsghdr
	nlAttrSize      = 4  // struct nlattr
)

// diagSocket asks for the sockets of the network namespace that it was opened in.
type diagSocket struct {
	fd  int
	seq uint32
	buf []byte
}

// openDiag opens one in the namespace of the calling thread.
func openDiag() (*diagSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	// A kernel that never answers must not hold the trace up.
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	return &diagSocket{fd: fd, buf: make([]byte, 64<<10)}, nil
}

// Close may be called again.
func (d *diagSocket) Close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	d.fd = -1
}

// cookie tells the namespace from another one that had its number; 0 before
// Linux 5.14.
func (d *diagSocket) cookie() uint64 {
	c, err := unix.GetsockoptUint64(d.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return c
}

// diagListener is a listening socket as sock_diag shows it.
type diagListener struct {
	family        uint16
	port          uint16
	addr          [16]uint8
	ifindex       uint32
	cookie        uint64
	length, limit uint32 // of the accept queue
	inode         uint32
	drops         uint32 // sk_drops
	v6only        bool
}

// listeners asks for those of a family and protocol.
func (d *diagSocket) listeners(family uint8, protocol uint32) ([]diagListener, error) {
	d.seq++
	if err := unix.Sendto(d.fd, diagRequest(d.seq, family, protocol), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask sock_diag: %w", err)
	}
	var out []diagListener
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read sock_diag: %w", err)
		}
		done, err := parseDiag(d.buf[:n], d.seq, &out)
		if err != nil {
			return nil, fmt.Errorf("read sock_diag: %w", err)
		}
		if done {
			return out, nil
		}
	}
}

// diagRequest is a struct nlmsghdr and a struct inet_diag_req_v2 for all that listen.
func diagRequest(seq uint32, family uint8, protocol uint32) []byte {
	b := make([]byte, nlHeaderSize+diagRequestSize, nlHeaderSize+diagRequestSize+8)
	ne := binary.NativeEndian
	ne.PutUint16(b[4:], diagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ne.PutUint32(b[8:], seq)
	r := b[nlHeaderSize:]
	r[0], r[1] = family, uint8(min(protocol, unix.IPPROTO_RAW))
	r[2] = 1 << (diagSKMemInfo - 1)
	ne.PutUint32(r[4:], 1<<tcpListen)
	if protocol > 255 {
		b = ne.AppendUint16(b, nlAttrSize+4)
		b = ne.AppendUint16(b, diagReqProtocol)
		b = ne.AppendUint32(b, protocol)
	}
	ne.PutUint32(b, uint32(len(b)))
	return b
}

var errDiagShort = errors.New("a message is cut off")

// parseDiag takes in a datagram of messages; done is set at the last one.
func parseDiag(b []byte, seq uint32, out *[]diagListener) (done bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= nlHeaderSize {
		size := int(ne.Uint32(b))
		if size < nlHeaderSize || size > len(b) {
			return false, errDiagShort
		}
		kind, body := ne.Uint16(b[4:]), b[nlHeaderSize:size]
		ours := ne.Uint32(b[8:]) == seq // else the rest of an answer that was given up
		b = b[min((size+3)&^3, len(b)):]
		switch {
		case !ours:
		case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
			if len(body) >= 4 && int32(ne.Uint32(body)) < 0 {
				return false, unix.Errno(-int32(ne.Uint32(body)))
			}
			return true, nil
		case kind == diagByFamily && len(body) >= diagMessageSize:
			*out = append(*out, parseDiagMessage(body))
		}
	}
	return false, nil
}

// parseDiagMessage reads a struct inet_diag_msg and its attributes, of which
// those of a listener are filled in by net/ipv4/inet_diag.c: inet_sk_diag_fill().
func parseDiagMessage(b []byte) diagListener {
	ne := binary.NativeEndian
	l := diagListener{
		family: uint16(b[0]), port: binary.BigEndian.Uint16(b[4:]), ifindex: ne.Uint32(b[40:]),
		cookie: uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32,
		length: ne.Uint32(b[56:]), limit: ne.Uint32(b[60:]), inode: ne.Uint32(b[68:]),
	}
	if l.family == unix.AF_INET6 {
		copy(l.addr[:], b[8:24])
	} else {
		copy(l.addr[:4], b[8:12])
	}
	for a := b[diagMessageSize:]; len(a) >= nlAttrSize; {
		size := int(ne.Uint16(a))
		if size < nlAttrSize || size > len(a) {
			break
		}
		kind, v := ne.Uint16(a[2:]), a[nlAttrSize:size]
		switch {
		case kind == diagSKMemInfo && len(v) >= 4*(memInfoDrops+1):
			l.drops = ne.Uint32(v[4*memInfoDrops:])
		case kind == diagSKV6Only && len(v) > 0:
			l.v6only = v[0] != 0
		}
		a = a[min((size+3)&^3, len(a)):]
	}
	return l
}
