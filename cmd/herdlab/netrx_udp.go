// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	udpPort      = 9000
	udpFirstPort = 20000 // source ports of the flows, from here on
	udpPayload   = 18    // with the headers the smallest Ethernet frame
	udpReadEvery = 5 * time.Millisecond
	// udpBurstEvery shares no multiple with the period of any tick: /proc/stat
	// samples at the tick, and would always see the same part of a burst.
	udpBurstEvery = 9700 * time.Microsecond

	// Bytes of memory that a socket is charged for a small packet
	// (skb->truesize), rounded up.
	udpPacketCharge = 1024
)

// udpTraffic sends frames into one end of the veth pair, and reads from a UDP
// socket what comes out of the other.
type udpTraffic struct {
	cfg       *netrxConfig
	even      bool
	out, in   int
	frames    [][]byte // one per flow
	taps      time.Duration
	sent      int64
	delivered atomic.Int64
}

func openUDPTraffic(cfg *netrxConfig, mode *netrxMode) (*udpTraffic, error) {
	t := &udpTraffic{cfg: cfg, even: mode.even}
	receiver, err := net.InterfaceByName(netrxReceiveDevice)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", netrxReceiveDevice, err)
	}
	sender, err := net.InterfaceByName(netrxSendDevice)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", netrxSendDevice, err)
	}
	for i := range cfg.Flows {
		t.frames = append(t.frames, udpFrame(receiver.HardwareAddr, sender.HardwareAddr, uint16(udpFirstPort+i)))
	}
	pairs, cost, err := calibrateTap()
	if err != nil {
		return nil, err
	}
	t.taps = cost * time.Duration(cfg.Cost)
	if err := openTaps(receiver.Index, cfg.Cost, pairs); err != nil {
		return nil, err
	}
	if err := t.openIn(); err != nil {
		return nil, err
	}
	return t, t.openOut(sender.Index)
}

// udpFrame is an Ethernet frame with a UDP packet for the receiver; a checksum
// of 0 is none (RFC 768).
func udpFrame(dst, src net.HardwareAddr, sourcePort uint16) []byte {
	f := append(append([]byte{}, dst...), src...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	ip := len(f)
	f = append(f, 0x45, 0) // version 4, 5 words of header
	f = binary.BigEndian.AppendUint16(f, 20+8+udpPayload)
	f = append(f, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0) // don't fragment, time to live 64
	f = append(append(f, netrxSenderIP[:]...), netrxReceiverIP[:]...)
	sum := uint32(0)
	for i := ip; i < len(f); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(f[ip+10:], ^uint16(sum))
	f = binary.BigEndian.AppendUint16(f, sourcePort)
	f = binary.BigEndian.AppendUint16(f, udpPort)
	f = binary.BigEndian.AppendUint16(f, 8+udpPayload)
	return append(f, make([]byte, 2+udpPayload)...)
}

// openIn makes the receiving socket, with room for what comes between two
// reads: losses are to be the input backlog's, not the socket's.
func (t *udpTraffic) openIn() (err error) {
	if t.in, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("make the receiving socket: %w", err)
	}
	if err := unix.SetsockoptInt(t.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE: %w", err)
	}
	if err := unix.Bind(t.in, &unix.SockaddrInet4{Addr: netrxReceiverIP, Port: udpPort}); err != nil {
		return fmt.Errorf("bind the receiving socket: %w", err)
	}
	return nil
}

// openOut makes the sending socket. Protocol 0: it receives nothing. A packet
// in the backlog still counts as the sender's (skb_scrub_packet() keeps
// skb->sk), so the send buffer must hold a full backlog, or it would pace us.
func (t *udpTraffic) openOut(ifindex int) (err error) {
	if t.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("make the sending socket: %w", err)
	}
	buffer := min((t.cfg.MaxBacklog+4096)*udpPacketCharge, 1<<30)
	if err := unix.SetsockoptInt(t.out, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, int(buffer)); err != nil {
		return fmt.Errorf("set SO_SNDBUFFORCE: %w", err)
	}
	if err := unix.Bind(t.out, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		return fmt.Errorf("bind the sending socket to %s: %w", netrxSendDevice, err)
	}
	return nil
}

// run sends in bursts, as traffic comes from a network. A burst that is late
// is not made up for: two at once would be another load.
func (t *udpTraffic) run(ctx context.Context) error {
	go t.receive()
	burst, interval := int64(64), time.Duration(0)
	if t.cfg.Rate > 0 {
		burst = max(1, int64(t.cfg.Rate*udpBurstEvery.Seconds()+0.5))
		interval = time.Duration(float64(burst) / t.cfg.Rate * float64(time.Second))
	}
	for next := time.Now(); ctx.Err() == nil; next = latest(next.Add(interval), time.Now()) {
		if interval > 0 {
			pause(ctx, time.Until(next))
		}
		for range burst {
			if t.cfg.Packets > 0 && t.sent == t.cfg.Packets {
				return nil
			}
			if err := t.send(); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends the next flow's frame. ENOBUFS is a packet, too, which was sent
// and then dropped: netif_rx() says NET_RX_DROP, and newer kernels' veth_xmit()
// passes it on, where older ones kept it to themselves.
func (t *udpTraffic) send() error {
	for {
		_, err := unix.Write(t.out, t.frames[t.sent%int64(len(t.frames))])
		switch err {
		case nil, unix.ENOBUFS:
			t.sent++
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("send packet %d: %w", t.sent+1, err)
		}
	}
}

// receive reads what there is every now and then, to the end of the process. A
// receiver that waits in recv(2) would be woken for every packet, and cost
// the loaded CPU more than the packet.
func (t *udpTraffic) receive() {
	var buf [2048]byte
	for ; ; time.Sleep(udpReadEvery) {
		for {
			if _, err := unix.Read(t.in, buf[:]); err != nil {
				break
			}
			t.delivered.Add(1)
		}
	}
}

// report fills in what the sockets and the taps know.
func (t *udpTraffic) report(o *netrxOracle) {
	delivered, cost := t.delivered.Load(), t.taps.Seconds()
	o.PacketsSent, o.PacketsDelivered, o.PacketCostSeconds = t.sent, &delivered, &cost
	o.SenderCPU = &t.cfg.SenderCPU
	if !t.even {
		o.CPU = &t.cfg.CPU
	}
}
