// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10

	tcpHeaderLen = 20
	// What may wait to be read: the close of a whole burst at once.
	tunQueueLen = 32767           // 6.1 and 7.3 refuse more
	settleWait  = 5 * time.Second // for the kernel to process what was written
)

// crowd is a set of forged clients. Each handshake of it has a number, and
// each number an address and a port of its own: four clients share an address,
// and a client that comes again (a round later) comes from another port.
type crowd struct {
	base    uint32 // lowest address, the last 32 bits of it
	clients int
	peers   []peer
	// Every SYN of a client is answered, and nothing is kept: SYN cookies.
	stateless bool
}

// peer is what one handshake came to.
type peer struct {
	isn      uint32 // of the server, from its SYN-ACK
	flood    uint32 // packets of the flood
	answered bool
	finished bool
}

func (c *crowd) endpoint(id int) (addr uint32, port uint16) {
	index, round := id%c.clients, id/c.clients
	return c.base + uint32(index/4), uint16(1024 + 4*round + index%4)
}

// find is the inverse of endpoint; nil where it is none of this crowd's.
func (c *crowd) find(addr uint32, port uint16) *peer {
	index := int(addr-c.base)*4 + int(port)%4
	id := index + (int(port)-1024)/4*c.clients
	if addr < c.base || index >= c.clients || port < 1024 || id >= len(c.peers) {
		return nil
	}
	return &c.peers[id]
}

// grow makes room for n handshakes more and returns the number of the first.
func (c *crowd) grow(n int) (first int) {
	first = len(c.peers)
	c.peers = append(c.peers, make([]peer, n)...)
	return first
}

// clientISN is the initial sequence number of a client, so that it need not
// be kept.
func clientISN(id int) uint32 { return uint32(id)*2654435761 + 1 }

// wire is the network of the forged clients: a TUN device whose packets are
// written and read here. What is written is processed by the kernel before
// write(2) returns (drivers/net/tun.c: tun_get_user()), as is the answer.
type wire struct {
	fd        int
	processed func() (int64, error) // TCP segments that the kernel took in
	crowds    []*crowd
	out       []byte // the packet to write: all but the client's part is constant
	in        [2048]byte
	src       []byte // the varying part of the client's address in out
	pseudo    []byte // both addresses in out, as the TCP checksum sees them
	tcp       []byte // the TCP header in out

	segments, syns, acks               int64 // written; acks: final ones of a handshake
	synAcks, answers, resets, finished int64 // read; answers: SYN-ACKs that are no retransmissions
}

// newWire prepares the packets from clients to a server.
func newWire(fd int, server netip.AddrPort) *wire {
	w := &wire{fd: fd}
	if server.Addr().Is4() {
		w.out = make([]byte, 20+tcpHeaderLen)
		w.out[0], w.out[8], w.out[9] = 0x45, 64, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(w.out[2:], uint16(len(w.out)))
		w.src, w.pseudo, w.tcp = w.out[12:16], w.out[12:20], w.out[20:]
	} else {
		w.out = make([]byte, 40+tcpHeaderLen)
		w.out[0], w.out[6], w.out[7] = 0x60, unix.IPPROTO_TCP, 64
		binary.BigEndian.PutUint16(w.out[4:], tcpHeaderLen)
		copy(w.out[8:], server.Addr().AsSlice()[:12]) // the clients share its first 96 bits
		w.src, w.pseudo, w.tcp = w.out[20:24], w.out[8:40], w.out[40:]
	}
	dst := server.Addr().AsSlice()
	copy(w.pseudo[len(w.pseudo)-len(dst):], dst)
	binary.BigEndian.PutUint16(w.tcp[2:], server.Port())
	w.tcp[12] = tcpHeaderLen / 4 << 4
	binary.BigEndian.PutUint16(w.tcp[14:], 65535) // window
	return w
}

func (w *wire) syn(c *crowd, id int) error {
	w.syns++
	return w.write(c, id, clientISN(id), 0, flagSYN)
}

// ack is the final ACK of a handshake.
func (w *wire) ack(c *crowd, id int) error {
	w.acks++
	return w.write(c, id, clientISN(id)+1, c.peers[id].isn+1, flagACK)
}

func (w *wire) write(c *crowd, id int, seq, ack uint32, flags byte) error {
	addr, port := c.endpoint(id)
	return w.writeFrom(addr, port, seq, ack, flags)
}

func (w *wire) writeFrom(addr uint32, port uint16, seq, ack uint32, flags byte) error {
	binary.BigEndian.PutUint32(w.src, addr)
	binary.BigEndian.PutUint16(w.tcp, port)
	binary.BigEndian.PutUint32(w.tcp[4:], seq)
	binary.BigEndian.PutUint32(w.tcp[8:], ack)
	w.tcp[13] = flags
	w.tcp[16], w.tcp[17] = 0, 0
	sum := checksum(unix.IPPROTO_TCP+tcpHeaderLen, w.pseudo)
	binary.BigEndian.PutUint16(w.tcp[16:], foldChecksum(checksum(sum, w.tcp)))
	if w.out[0] == 0x45 {
		w.out[10], w.out[11] = 0, 0
		binary.BigEndian.PutUint16(w.out[10:], foldChecksum(checksum(0, w.out[:20])))
	}
	for {
		_, err := unix.Write(w.fd, w.out)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return fmt.Errorf("write a packet to the TUN device: %w", err)
		}
		w.segments++
		return nil
	}
}

// drain reads and handles all that the server has sent so far.
func (w *wire) drain() error {
	for {
		n, err := unix.Read(w.fd, w.in[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return fmt.Errorf("read a packet from the TUN device: %w", err)
		default:
			if err := w.handle(w.in[:n]); err != nil {
				return err
			}
		}
	}
}

// handle takes one packet of the server; what is not TCP (a new IPv6 link
// asks for routers and joins groups) is none of its.
func (w *wire) handle(p []byte) error {
	var dst, tcp []byte
	switch {
	case len(p) >= 40 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_TCP:
		dst, tcp = p[16:20], p[int(p[0]&15)*4:]
	case len(p) >= 60 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_TCP:
		dst, tcp = p[36:40], p[40:]
	}
	if len(tcp) < tcpHeaderLen {
		return nil
	}
	addr, port := binary.BigEndian.Uint32(dst), binary.BigEndian.Uint16(tcp[2:])
	for _, c := range w.crowds {
		if peer := c.find(addr, port); peer != nil {
			return w.take(c, peer, addr, port, tcp)
		}
	}
	return nil
}

// take notes what a segment means to the client that it is for. A client
// that the server has closed closes too.
func (w *wire) take(c *crowd, p *peer, addr uint32, port uint16, tcp []byte) error {
	seq, ack := binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	switch flags := tcp[13]; {
	case flags&flagRST != 0:
		w.resets++
	case flags&flagSYN != 0:
		w.synAcks++
		if p.answered && !c.stateless {
			return nil
		}
		p.answered, p.isn = true, seq
		w.answers++
	case flags&flagFIN != 0 && !p.finished:
		p.finished = true
		w.finished++
		return w.writeFrom(addr, port, ack, seq+1, flagFIN|flagACK)
	}
	return nil
}

// settle reads until the number of answers is want, or until the kernel has
// processed all packets and no answer is left.
func (w *wire) settle(want int64) error {
	for end := time.Now().Add(settleWait); ; {
		if err := w.drain(); err != nil || w.answers >= want {
			return err
		}
		done, err := w.processed()
		if err != nil {
			return err
		}
		if done == w.segments {
			return w.drain()
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for the kernel: it took in %d of %d packets within %v", done, w.segments, settleWait)
		}
		w.await(time.Millisecond)
	}
}

// await sleeps until the server sends something, at most limit.
func (w *wire) await(limit time.Duration) {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
}
