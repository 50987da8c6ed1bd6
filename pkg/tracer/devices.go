// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"cmp"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// devicesEvery is how often the devices are looked up again without a
	// reason; devicesGap the least time between two look-ups with a reason.
	devicesEvery = 10 * time.Second
	devicesGap   = 500 * time.Millisecond
	// namespacesKept and devicesKept bound what is looked at: the namespaces,
	// and the devices of each.
	namespacesKept = 64
	devicesKept    = 256
)

// deviceReader knows the network devices of the namespaces that matter: our
// own, those of the listeners, those in which packets were dropped, and all
// while a core is busy receiving.
type deviceReader struct {
	listeners func() []uint32 // the listeners' namespaces
	busy      bool
	own       uint32 // 0 where it cannot be known
	at        time.Time
	wanted    bool // there is a reason to look again
	dropped   map[deviceKey]bool
	spaces    []deviceSpace
}

type deviceKey struct{ netns, ifindex uint32 }

// deviceSpace is one network namespace.
type deviceSpace struct {
	netns   uint32
	proc    string // /proc directory of a process that lives in it
	devices []sample.NetDevice
}

func newDeviceReader(listeners func() []uint32) *deviceReader {
	own, _ := namespaceOf("/proc/self")
	return &deviceReader{listeners: listeners, own: own, dropped: make(map[deviceKey]bool)}
}

// read returns the devices with what they have received by now; the counts of
// their interrupts are those of the last look-up, in the order of cpus.
func (r *deviceReader) read(cpus []int, drops []sample.BacklogDrop, busy bool) []sample.NetDevice {
	r.wanted = r.wanted || busy && !r.busy
	r.busy = busy
	for i := range drops {
		key := deviceKey{drops[i].NetNS, drops[i].IfIndex}
		r.wanted = r.wanted || !r.dropped[key]
		r.dropped[key] = true
	}
	age := time.Since(r.at)
	if (r.wanted && age >= devicesGap) || age >= devicesEvery {
		r.refresh(cpus, drops)
	}
	var out []sample.NetDevice
	for i := range r.spaces {
		s := &r.spaces[i]
		b, _ := os.ReadFile(s.proc + "/net/dev")
		counts := parseNetDev(b)
		for _, d := range s.devices {
			if c, ok := counts[d.Name]; ok {
				d.RXPackets, d.RXDropped = c.packets, c.dropped
				out = append(out, d)
			}
		}
	}
	return out
}

// refresh looks everything up again.
func (r *deviceReader) refresh(cpus []int, drops []sample.BacklogDrop) {
	r.spaces = nil
	lines := readInterrupts()
	for netns, proc := range findNamespaces(r.namespaces(drops), r.own) {
		s := deviceSpace{netns: netns, proc: proc}
		for _, d := range devicesIn(proc, netns == r.own) {
			d.NetNS = netns
			if !d.relevant() && !r.dropped[deviceKey{netns, d.IfIndex}] {
				continue
			}
			if len(s.devices) == devicesKept {
				break
			}
			d.IRQs = irqsOf(&d, lines, cpus)
			s.devices = append(s.devices, d.NetDevice)
		}
		r.spaces = append(r.spaces, s)
	}
	slices.SortFunc(r.spaces, func(a, b deviceSpace) int { return cmp.Compare(a.netns, b.netns) })
	r.at = time.Now()
	r.wanted = false
}

// namespaces lists those that matter, the ones with drops first.
func (r *deviceReader) namespaces(drops []sample.BacklogDrop) []uint32 {
	var want []uint32
	add := func(netns uint32) {
		if netns != 0 && !slices.Contains(want, netns) && len(want) < namespacesKept {
			want = append(want, netns)
		}
	}
	add(r.own)
	for i := range drops {
		add(drops[i].NetNS)
	}
	for _, netns := range r.listeners() {
		add(netns)
	}
	if r.busy {
		for _, netns := range slices.Sorted(maps.Keys(netnsPids())) {
			add(netns)
		}
	}
	return want
}

// findNamespaces finds for each namespace the /proc directory of a process that
// lives in it; none where there is no such process.
func findNamespaces(want []uint32, own uint32) map[uint32]string {
	found := make(map[uint32]string)
	if slices.Contains(want, own) {
		found[own] = "/proc/self"
	}
	if len(found) == len(want) {
		return found
	}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		if _, err := strconv.ParseUint(d.Name(), 10, 32); err != nil {
			continue
		}
		proc := "/proc/" + d.Name()
		netns, ok := namespaceOf(proc)
		if ok && found[netns] == "" && slices.Contains(want, netns) {
			found[netns] = proc
		}
		if len(found) == len(want) {
			break
		}
	}
	return found
}

// namespaceOf is the inode number of a process's network namespace.
func namespaceOf(proc string) (netns uint32, ok bool) {
	var st unix.Stat_t
	if err := unix.Stat(proc+"/ns/net", &st); err != nil {
		return 0, false
	}
	return uint32(st.Ino), true
}

// devCounts is what a device has received since it was made.
type devCounts struct{ packets, dropped uint64 }

// parseNetDev reads lines "name: bytes packets errs drop ..." (net/core/net-procfs.c:
// dev_seq_printf_stats()); a name has no colon in it.
func parseNetDev(b []byte) map[string]devCounts {
	counts := make(map[string]devCounts)
	for line := range bytes.Lines(b) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		f := bytes.Fields(rest)
		if !ok || len(f) < 4 {
			continue
		}
		packets, err1 := strconv.ParseUint(string(f[1]), 10, 64)
		dropped, err2 := strconv.ParseUint(string(f[3]), 10, 64)
		if err1 == nil && err2 == nil {
			counts[string(bytes.TrimSpace(name))] = devCounts{packets, dropped}
		}
	}
	return counts
}
