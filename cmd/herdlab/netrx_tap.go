// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tapCost is what one tap adds to the receive path of a packet.
	tapCost = 2 * time.Microsecond
	// tapPairsMax fits into the smallest net.core.optmem_max (20 KB up to
	// Linux 6.6), against which sk_attach_filter() charges the program.
	tapPairsMax = 1000
)

// tapProgram is a classic BPF filter that computes for a while and then takes
// no packet: a tcpdump with a costly filter. The work is done where the packet
// is received, in softirq; nothing is copied or queued, and no process wakes.
// A pair is a division, and the XOR that makes the quotient large again.
func tapProgram(pairs int) []unix.SockFilter {
	p := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_IMM, K: 0x7fffffff}}
	for range pairs {
		p = append(p, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_DIV | unix.BPF_K, K: 3},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_XOR | unix.BPF_K, K: 0x7fffffff})
	}
	return append(p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
}

func attachTapProgram(fd, pairs int) error {
	p := tapProgram(pairs)
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]})
	if err != nil {
		return fmt.Errorf("attach a filter of %d instructions: %w", len(p), err)
	}
	return nil
}

// calibrateTap finds the length of a program that costs tapCost on this
// machine, or comes as close as the kernel allows, and what it costs then.
// unix_dgram_sendmsg() runs the peer's filter in the sender's own time.
func calibrateTap() (pairs int, cost time.Duration, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("calibrate the taps: make a socket pair: %w", err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	var fastest [2]time.Duration
	for i, pairs := range []int{0, tapPairsMax} {
		if err := attachTapProgram(fds[1], pairs); err != nil {
			return 0, 0, fmt.Errorf("calibrate the taps: %w", err)
		}
		fastest[i] = time.Hour
		for range 200 {
			start := time.Now()
			if _, err := unix.Write(fds[0], []byte{0}); err != nil {
				return 0, 0, fmt.Errorf("calibrate the taps: write: %w", err)
			}
			fastest[i] = min(fastest[i], time.Since(start))
		}
	}
	full := max(fastest[1]-fastest[0], 1)
	pairs = min(max(int(tapPairsMax*tapCost/full), 1), tapPairsMax)
	return pairs, full * time.Duration(pairs) / tapPairsMax, nil
}

// openTaps puts n taps on the device, which see every packet of it. They stay
// as long as the process.
func openTaps(ifindex, n, pairs int) error {
	for range n {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make a tap: %w", err)
		}
		if err := attachTapProgram(fd, pairs); err != nil {
			return fmt.Errorf("make a tap: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: ifindex}); err != nil {
			return fmt.Errorf("bind a tap to the device: %w", err)
		}
	}
	return nil
}

// networkOrder is htons(3).
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
