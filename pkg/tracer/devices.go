// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
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
	// lookFor is how long a tick may look them up; the next ones go on.
	lookFor = 20 * time.Millisecond
	// These bound what is looked at: the namespaces, of each the devices and
	// among how many, of each the queues and the interrupts.
	namespacesKept = 64
	devicesKept    = 256
	devicesListed  = 4096
	queuesKept     = 128
	irqsKept       = 2 * queuesKept
)

// deviceReader knows the network devices of the namespaces that matter: our
// own, those of the listeners, those in which packets were dropped, and all
// while a core is busy receiving.
type deviceReader struct {
	listeners func() []uint32 // the listeners' namespaces
	busy      bool
	own       uint32 // 0 where it cannot be known
	wanted    bool   // there is a reason to look again
	dropped   map[deviceKey]bool
	spaces    []deviceSpace // as the last look-up found them
	at        time.Time     // when that ended
	look      *lookup       // nil: none is under way
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
func (r *deviceReader) read(cpus []int, drops []sample.BacklogDrop, busy, final bool) []sample.NetDevice {
	r.wanted = r.wanted || busy && !r.busy
	r.busy = busy
	for i := range drops {
		key := deviceKey{drops[i].NetNS, drops[i].IfIndex}
		r.wanted = r.wanted || !r.dropped[key]
		r.dropped[key] = true
	}
	age := time.Since(r.at)
	if r.look == nil && (r.wanted && (age >= devicesGap || final) || age >= devicesEvery) {
		r.begin(drops)
	}
	if r.look != nil {
		r.goOn(cpus, time.Now().Add(lookFor))
	}
	r.forgetMoved()
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

// forgetMoved leaves out the namespaces whose process is in another one by now, or
// is another process: what it shows is of other devices.
func (r *deviceReader) forgetMoved() {
	r.spaces = slices.DeleteFunc(r.spaces, func(s deviceSpace) bool {
		moved := !s.inside()
		r.wanted = r.wanted || moved
		return moved
	})
}

// inside reports whether the process still lives in the namespace.
func (s *deviceSpace) inside() bool {
	netns, ok := namespaceOf(s.proc)
	return ok && netns == s.netns
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
