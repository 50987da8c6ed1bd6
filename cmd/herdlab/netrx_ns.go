// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	netrxSendDevice    = "herdlab-tx"
	netrxReceiveDevice = "herdlab-rx"

	vethInfoPeer = 1 // VETH_INFO_PEER of linux/veth.h
)

// netrxReceiverIP is of TEST-NET-1, and netrxSenderIP its neighbour, which
// nobody has: the frames come from elsewhere, as far as the receiver can tell.
var (
	netrxReceiverIP = [4]byte{192, 0, 2, 2}
	netrxSenderIP   = [4]byte{192, 0, 2, 1}
)

// netrxOwnSysfs mounts the sysfs of this network namespace over /sys, for this
// process alone: a sysfs shows the devices of the namespace that mounted it.
func netrxOwnSysfs() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts of this process private: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount a sysfs for the network namespace: %w", err)
	}
	return nil
}

// netrxNoIPv6 keeps IPv6 from announcing itself on the new devices, so that
// they carry our packets alone. /proc/sys/net is that of our namespace.
func netrxNoIPv6() error {
	for _, which := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("disable IPv6 in the network namespace: %w", err)
		}
	}
	return nil
}

// netrxMakeVeth makes the pair, both ends in this namespace. Without GRO and
// XDP, veth hands each packet to netif_rx() on the sender's CPU, which asks
// get_rps_cpu() for the target: the way of a NIC driver without NAPI. The
// cpus are the receiving end's RPS mask; nil: all.
func netrxMakeVeth(cpus []int) error {
	if err := netrxAddVeth(); err != nil {
		return err
	}
	if cpus == nil {
		counters, err := readSoftnet()
		if err != nil {
			return err
		}
		for _, c := range counters {
			cpus = append(cpus, c.cpu)
		}
	}
	if err := netrxSetRPS(netrxReceiveDevice, cpus); err != nil {
		return err
	}
	if err := netrxSetAddress(netrxReceiveDevice, netrxReceiverIP); err != nil {
		return err
	}
	if err := netrxLinkUp(netrxSendDevice); err != nil {
		return err
	}
	return netrxLinkUp(netrxReceiveDevice)
}

// netrxAddVeth asks rtnetlink for the pair, with one queue at each end: rx-0
// is then the queue of every packet, and its mask the only one.
func netrxAddVeth() error {
	end := func(name string) []byte {
		body := make([]byte, unix.SizeofIfInfomsg)
		body = netrxAttr(body, unix.IFLA_IFNAME, append([]byte(name), 0))
		body = netrxAttr(body, unix.IFLA_NUM_TX_QUEUES, binary.NativeEndian.AppendUint32(nil, 1))
		return netrxAttr(body, unix.IFLA_NUM_RX_QUEUES, binary.NativeEndian.AppendUint32(nil, 1))
	}
	info := netrxAttr(nil, unix.IFLA_INFO_KIND, []byte("veth"))
	info = netrxAttr(info, unix.IFLA_INFO_DATA, netrxAttr(nil, vethInfoPeer, end(netrxReceiveDevice)))
	body := netrxAttr(end(netrxSendDevice), unix.IFLA_LINKINFO, info)
	msg := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(msg, uint32(cap(msg)))
	binary.NativeEndian.PutUint16(msg[4:], unix.RTM_NEWLINK)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if err := netrxAsk(append(msg, body...)); err != nil {
		return fmt.Errorf("make a veth pair: %w (does this kernel have veth?)", err)
	}
	return nil
}

// netrxAttr appends one attribute, padded to 4 bytes.
func netrxAttr(to []byte, kind uint16, value []byte) []byte {
	to = binary.NativeEndian.AppendUint16(to, uint16(unix.SizeofRtAttr+len(value)))
	to = binary.NativeEndian.AppendUint16(to, kind)
	to = append(to, value...)
	for len(to)%4 != 0 {
		to = append(to, 0)
	}
	return to
}

// netrxAsk sends one request and returns the errno of its acknowledgement.
func netrxAsk(msg []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return errors.New("rtnetlink gave another answer than an acknowledgement")
	}
	if code := int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// netrxIoctl asks the named device for something.
func netrxIoctl(device string, request uint, prepare func(*unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if err := prepare(ifr); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, request, ifr)
}

func netrxLinkUp(device string) error {
	err := netrxIoctl(device, unix.SIOCSIFFLAGS, func(ifr *unix.Ifreq) error {
		ifr.SetUint16(unix.IFF_UP)
		return nil
	})
	if err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	return nil
}

// netrxSetAddress gives the device the address, with the /24 of its class.
func netrxSetAddress(device string, ip [4]byte) error {
	err := netrxIoctl(device, unix.SIOCSIFADDR, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr(ip[:]) })
	if err != nil {
		return fmt.Errorf("give %s its address: %w", device, err)
	}
	return nil
}

func netrxRPSFile(device string) string { return "/sys/class/net/" + device + "/queues/rx-0/rps_cpus" }

// netrxSetRPS sets the mask and makes sure that the kernel took it: it takes
// no isolated CPUs (rps_cpumask_housekeeping()).
func netrxSetRPS(device string, cpus []int) error {
	mask := netrxCPUMask(cpus)
	if err := os.WriteFile(netrxRPSFile(device), []byte(mask), 0); err != nil {
		return fmt.Errorf("set the RPS mask of %s to %s: %w (needs CONFIG_RPS, and a CPU that is not isolated)", device, mask, err)
	}
	got, err := netrxRPSMask(device)
	if err == nil && got != mask {
		err = fmt.Errorf("set the RPS mask of %s: asked for %s, got %s (isolated CPUs?)", device, mask, got)
	}
	return err
}

// netrxRPSMask reads the mask, without its leading zeros.
func netrxRPSMask(device string) (string, error) {
	text, err := os.ReadFile(netrxRPSFile(device))
	if err != nil {
		return "", fmt.Errorf("read the RPS mask of %s: %w", device, err)
	}
	mask := strings.TrimLeft(strings.TrimSpace(string(text)), "0,")
	if mask == "" {
		mask = "0"
	}
	return mask, nil
}

// netrxCPUMask formats CPUs as the kernel does (bitmap_print_to_pagebuf()): hex,
// a comma after every 32 bits, here without leading zeros.
func netrxCPUMask(cpus []int) string {
	var words []uint32
	for _, cpu := range cpus {
		for len(words) <= cpu/32 {
			words = append(words, 0)
		}
		words[cpu/32] |= 1 << (cpu % 32)
	}
	mask := "0"
	for i := len(words) - 1; i >= 0; i-- {
		if i == len(words)-1 {
			mask = strconv.FormatUint(uint64(words[i]), 16)
		} else {
			mask += fmt.Sprintf(",%08x", words[i])
		}
	}
	return mask
}
