// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
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

// devicesIn returns the devices of the namespace that the process lives in. Of
// those for which no sysfs can be had it knows the names.
func devicesIn(proc string, own bool) []device {
	ns := proc + "/ns/net"
	if own {
		ns = ""
	}
	if fd, err := sysfsOf(ns); err == nil {
		defer unix.Close(fd)
		return readDevices(fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	if own {
		return readDevices("/sys")
	}
	var devices []device
	b, _ := os.ReadFile(proc + "/net/dev")
	for name := range parseNetDev(b) {
		if name != "lo" {
			devices = append(devices, device{NetDevice: sample.NetDevice{Name: name}, flags: unix.IFF_UP})
		}
	}
	slices.SortFunc(devices, func(a, b device) int { return cmp.Compare(a.Name, b.Name) })
	return devices
}

// readDevices reads what is mounted at sys.
func readDevices(sys string) []device {
	var devices []device
	entries, _ := os.ReadDir(filepath.Join(sys, "class/net"))
	for _, e := range entries {
		dir := filepath.Join(sys, "class/net", e.Name())
		ifindex, err := strconv.ParseUint(readTrimmed(dir+"/ifindex"), 10, 32)
		if err != nil {
			continue // bonding_masters is a file; or it was just removed
		}
		d := device{NetDevice: sample.NetDevice{IfIndex: uint32(ifindex), Name: e.Name()}}
		d.flags, _ = strconv.ParseUint(readTrimmed(dir+"/flags"), 0, 32)
		d.Driver = linkName(dir + "/device/driver")
		d.bus = linkName(dir + "/device")
		d.msi = numbersIn(dir+"/device/msi_irqs", "")
		for _, n := range numbersIn(dir+"/queues", "rx-") {
			d.Queues = append(d.Queues, readQueue(fmt.Sprintf("%s/queues/rx-%d", dir, n)))
		}
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b device) int { return cmp.Compare(a.IfIndex, b.IfIndex) })
	return devices
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
