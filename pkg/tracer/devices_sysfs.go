// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// device is what sysfs says of one.
type device struct {
	sample.NetDevice
	flags uint64
	bus   string // the device behind it: "0000:00:03.0", "virtio2"; "" for a virtual one
	msi   []int  // its message-signalled interrupts
}

// relevant leaves out what is down, and loopback.
func (d *device) relevant() bool {
	return d.flags&unix.IFF_UP != 0 && d.flags&unix.IFF_LOOPBACK == 0
}

// openSysfs returns where to see the devices of the namespace that the process
// lives in, "" where no sysfs can be had, and what to call when done.
func openSysfs(proc string, own bool) (sys string, done func()) {
	ns := proc + "/ns/net"
	if own {
		ns = ""
	}
	if fd, err := sysfsOf(ns); err == nil {
		return fmt.Sprintf("/proc/self/fd/%d", fd), func() { unix.Close(fd) }
	}
	if own {
		sys = "/sys"
	}
	return sys, func() {}
}

// namedDevices are those of a namespace for which no sysfs can be had.
func namedDevices(proc string, netns uint32) []sample.NetDevice {
	var out []sample.NetDevice
	b, _ := os.ReadFile(proc + "/net/dev")
	counts := parseNetDev(b)
	delete(counts, "lo")
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, sample.NetDevice{NetNS: netns, Name: name})
	}
	return out[:min(len(out), devicesKept)]
}

// listDevices lists what is mounted at sys, the oldest first: real devices are
// older than most virtual ones.
func listDevices(sys string) []device {
	dir, err := os.Open(filepath.Join(sys, "class/net"))
	if err != nil {
		return nil
	}
	defer dir.Close()
	var devices []device
	names, _ := dir.Readdirnames(devicesListed)
	for _, name := range names {
		ifindex, err := strconv.ParseUint(readTrimmed(dir.Name()+"/"+name+"/ifindex"), 10, 32)
		if err != nil {
			continue // bonding_masters is a file; or it was just removed
		}
		devices = append(devices, device{NetDevice: sample.NetDevice{IfIndex: uint32(ifindex), Name: name}})
	}
	slices.SortFunc(devices, func(a, b device) int { return cmp.Compare(a.IfIndex, b.IfIndex) })
	return devices
}

func (d *device) readFlags(sys string) {
	d.flags, _ = strconv.ParseUint(readTrimmed(filepath.Join(sys, "class/net", d.Name, "flags")), 0, 32)
}

// read reads the rest.
func (d *device) read(sys string) {
	dir := filepath.Join(sys, "class/net", d.Name)
	d.Driver = linkName(dir + "/device/driver")
	d.bus = linkName(dir + "/device")
	d.msi = numbersIn(dir+"/device/msi_irqs", "")
	queues := numbersIn(dir+"/queues", "rx-")
	for _, n := range queues[:min(len(queues), queuesKept)] {
		d.Queues = append(d.Queues, readQueue(fmt.Sprintf("%s/queues/rx-%d", dir, n)))
	}
}

// readQueue reads the settings of receive packet steering, which kernels without
// CONFIG_RPS do not have: it is off then, too.
func readQueue(dir string) sample.RXQueue {
	flows, _ := strconv.ParseUint(readTrimmed(dir+"/rps_flow_cnt"), 10, 32)
	return sample.RXQueue{RPS: parseCPUMask(readTrimmed(dir + "/rps_cpus")), RPSFlowCnt: uint32(flows)}
}

// linkName is the last part of what a symbolic link points to.
func linkName(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// numbersIn lists the N of the entries called prefixN, in order.
func numbersIn(dir, prefix string) []int {
	var out []int
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		s, ok := strings.CutPrefix(e.Name(), prefix)
		if n, err := strconv.ParseUint(s, 10, 31); ok && err == nil {
			out = append(out, int(n))
		}
	}
	slices.Sort(out)
	return out
}
