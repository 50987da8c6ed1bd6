// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// room is a network namespace of a test's own. Its loopback device sends what it
// receives through RPS to the last core, where a packet takes long: a packet
// socket looks at each with a filter of thousands of steps.
type room struct {
	t     *testing.T
	netns uint32
	from  int // the core that sends
	to    int
	run   chan func() error
	ran   chan error
}

// newRoom makes the room, and a thread and a process that live in it.
func newRoom(t *testing.T) *room {
	t.Helper()
	_, cpus := readHost()
	if len(cpus) < 2 {
		need(t, "it needs two cores: a core's own packets wait in no other's backlog")
	}
	r := &room{t: t, from: cpus[0].CPU, to: cpus[len(cpus)-1].CPU, run: make(chan func() error), ran: make(chan error)}
	go onDyingThread(func() {
		for f := range r.run {
			r.ran <- f()
		}
	})
	t.Cleanup(func() { close(r.run) })
	r.do(r.build)
	r.do(func() error {
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			return err
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return nil
	})
	return r
}

// do runs f on the thread in the room.
func (r *room) do(f func() error) {
	r.t.Helper()
	r.run <- f
	if err := <-r.ran; err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) build() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return err
	}
	r.netns = uint32(st.Ino)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, _ := unix.NewIfreq("lo")
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := steerLoopback(r.to); err != nil {
		return err
	}
	for range 4 {
		if err := slowSocket(r.t); err != nil {
			return err
		}
	}
	return pin(r.from)
}

func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}

// steerLoopback sets the RPS mask of the thread's own loopback device.
func steerLoopback(cpu int) error {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	mask := fmt.Sprintf("%x", 1<<(cpu%32)) + strings.Repeat(",00000000", cpu/32)
	return os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/class/net/lo/queues/rx-0/rps_cpus", root), []byte(mask), 0)
}

func slowSocket(t *testing.T) error {
	ip := uint16(unix.ETH_P_IP)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	t.Cleanup(func() { unix.Close(fd) })
	filter := slices.Repeat([]unix.SockFilter{{Code: unix.BPF_ALU | unix.BPF_DIV | unix.BPF_K, K: 3}}, 2000)
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}) // and wants none
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attach a slow filter: %w", err)
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip>>8 | ip<<8, Ifindex: 1})
}

// flood sends n packets from the sending core, as fast as it can, and waits
// until the other one has worked them off.
func (r *room) flood(n int) {
	r.t.Helper()
	fd := -1
	r.do(func() (err error) {
		if fd, err = newUDP(); err == nil {
			err = sendUDP(fd, n)
		}
		return err
	})
	defer unix.Close(fd) // not before: a closed port answers each packet
	for range 500 {
		time.Sleep(5 * time.Millisecond)
		rows := readSoftnet(nil)
		if i := slices.IndexFunc(rows, func(row softnetRow) bool { return row.cpu == r.to }); rows[i].queued == 0 {
			return
		}
	}
	r.t.Fatalf("core %d does not get through its backlog", r.to)
}

// newUDP returns a socket that is bound on the loopback device.
func newUDP() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

// sendUDP sends n packets from the socket to itself.
func sendUDP(fd, n int) error {
	to, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	for range n {
		unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, to)
	}
	return nil
}

// refused is what the kernel says that lo of the room has lost.
func (r *room) refused() (n uint64) {
	r.t.Helper()
	r.do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		n = parseNetDev(b)["lo"].dropped
		return err
	})
	return n
}
