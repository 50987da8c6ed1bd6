// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enterNetns moves the calling thread, which must be the locked main thread,
// into a new network namespace and returns the inode number of that. Children
// that this thread forks are in it as a whole, and /proc/self/net and
// /proc/self/ns/net show it, since they follow the main thread
// (fs/proc/proc_net.c: get_proc_task_net()). The namespace ends with the last
// process in it: it has no name and no mount.
func enterNetns() (inode uint64, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("make a network namespace: %w (it needs root: CAP_SYS_ADMIN and CAP_NET_ADMIN; use sudo)", err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("read the inode number of the network namespace: %w", err)
	}
	return st.Ino, raiseLink("lo")
}

// setSysctl sets a setting of the network namespace of this thread, named by
// its path under /proc/sys.
func setSysctl(path string, value int) error {
	if err := os.WriteFile("/proc/sys/"+path, []byte(strconv.Itoa(value)), 0); err != nil {
		return fmt.Errorf("set %s to %d: %w (it needs root, and a writable /proc/sys)", strings.ReplaceAll(path, "/", "."), value, err)
	}
	return nil
}

// linkIoctl does an ioctl about one network device of this namespace: set puts
// the request in, get takes the answer out; both may be nil.
func linkIoctl(link string, request uint, set, get func(*unix.Ifreq)) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	if set != nil {
		set(ifr)
	}
	if err := unix.IoctlIfreq(fd, request, ifr); err != nil {
		return err
	}
	if get != nil {
		get(ifr)
	}
	return nil
}

// raiseLink is `ip link set LINK up`.
func raiseLink(link string) error {
	var flags uint16
	err := linkIoctl(link, unix.SIOCGIFFLAGS, nil, func(i *unix.Ifreq) { flags = i.Uint16() })
	if err == nil {
		err = linkIoctl(link, unix.SIOCSIFFLAGS, func(i *unix.Ifreq) { i.SetUint16(flags | unix.IFF_UP) }, nil)
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w (it needs root: CAP_NET_ADMIN)", link, err)
	}
	return nil
}

// addAddress is `ip address add ADDRESS/BITS dev LINK`: it makes the address a
// local one, and routes the rest of its prefix to the device, which must be up.
func addAddress(link string, prefix netip.Prefix) error {
	var err error
	if prefix.Addr().Is4() {
		err = addAddress4(link, prefix)
	} else {
		err = addAddress6(link, prefix)
	}
	if err != nil {
		return fmt.Errorf("give %s the address %v: %w", link, prefix, err)
	}
	return nil
}

// addAddress4 sets the mask in a second step, as a point-to-point device gets
// /32 by the first one (net/ipv4/devinet.c: devinet_ioctl()).
func addAddress4(link string, prefix netip.Prefix) error {
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-prefix.Bits()))
	addr := prefix.Addr().As4()
	// SetInet4Addr fails only for slices that are not four bytes long.
	err := linkIoctl(link, unix.SIOCSIFADDR, func(i *unix.Ifreq) { _ = i.SetInet4Addr(addr[:]) }, nil)
	if err != nil {
		return err
	}
	return linkIoctl(link, unix.SIOCSIFNETMASK, func(i *unix.Ifreq) { _ = i.SetInet4Addr(mask[:]) }, nil)
}

// addAddress6 is for devices with IFF_NOARP, as TUN is one: an address of
// theirs is usable at once, of others only after a second of DAD.
func addAddress6(link string, prefix netip.Prefix) error {
	request := struct { // struct in6_ifreq
		addr  [16]byte
		bits  uint32
		index int32
	}{addr: prefix.Addr().As16(), bits: uint32(prefix.Bits())}
	err := linkIoctl(link, unix.SIOCGIFINDEX, nil, func(i *unix.Ifreq) { request.index = int32(i.Uint32()) })
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return awaitAddress6(prefix.Addr())
}

// awaitAddress6 waits for the route to the address. "At once" is when a worker
// of the kernel gets to it, and the route is the last that it adds
// (net/ipv6/addrconf.c: addrconf_dad_completed()).
func awaitAddress6(addr netip.Addr) error {
	route := fmt.Sprintf("%x 80 ", addr.AsSlice())
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		routes, err := os.ReadFile("/proc/self/net/ipv6_route")
		if err != nil {
			return err
		}
		if strings.Contains(string(routes), "\n"+route) || strings.HasPrefix(string(routes), route) {
			return nil
		}
	}
	return fmt.Errorf("it has no route after %v", startLimit)
}

// openTun makes a TUN device in this namespace, brings it up and returns its
// non-blocking descriptor. The device lives as long as the descriptor. What
// the kernel sends waits in a ring of queueLen packets; more are dropped.
func openTun(link string, queueLen uint32) (fd int, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w (the kernel needs TUN: modprobe tun; a container needs the device)", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	ifr, err := unix.NewIfreq(link)
	if err != nil {
		return -1, fmt.Errorf("name the TUN device %q: %w", link, err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return -1, fmt.Errorf("make the TUN device %s: %w (it needs root: CAP_NET_ADMIN)", link, err)
	}
	if err := linkIoctl(link, unix.SIOCSIFTXQLEN, func(i *unix.Ifreq) { i.SetUint32(queueLen) }, nil); err != nil {
		return -1, fmt.Errorf("set the queue length of %s to %d: %w", link, queueLen, err)
	}
	return fd, raiseLink(link)
}

// netCounters are the counters of the network namespace of the main thread,
// by names such as "TcpExt.ListenDrops". One that the kernel does not have is 0.
type netCounters map[string]int64

func readNetCounters() (netCounters, error) {
	counters := netCounters{}
	for _, path := range []string{"/proc/self/net/snmp", "/proc/self/net/netstat"} {
		f, err := os.Open(path)
		if err == nil {
			err = counters.parse(f)
			f.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("read the counters of %s: %w", path, err)
		}
	}
	return counters, nil
}

// parse adds the counters of a file of pairs of lines, names above values.
func (c netCounters) parse(r io.Reader) error {
	var names []string
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		values := strings.Fields(lines.Text())
		if names == nil {
			names = values
			continue
		}
		if len(names) != len(values) || len(names) == 0 || names[0] != values[0] {
			return fmt.Errorf("a line of %d names is followed by one of %d values", len(names), len(values))
		}
		for i, name := range names[1:] {
			n, err := strconv.ParseInt(values[i+1], 10, 64)
			if err != nil {
				return fmt.Errorf("decode %s: %w", name, err)
			}
			c[strings.TrimSuffix(names[0], ":")+"."+name] = n
		}
		names = nil
	}
}

// checksum adds the big-endian 16-bit words of b to a sum that began as 0 or
// as the sum of what comes before; foldChecksum makes the internet checksum
// (RFC 1071) of it. b may have an odd length only at the very end.
func checksum(sum uint64, b []byte) uint64 {
	for ; len(b) >= 4; b = b[4:] {
		sum += uint64(binary.BigEndian.Uint32(b)) // 2^16 = 1 in ones' complement: two words at once
	}
	if len(b) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

func foldChecksum(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
