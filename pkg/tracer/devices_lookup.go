// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// lookup is a look-up of all devices, which may take several ticks.
type lookup struct {
	interrupts interrupts
	spaces     []*spaceLookup // in the order in which they are looked at
	done       int            // spaces
}

// spaceLookup is that of one namespace.
type spaceLookup struct {
	deviceSpace
	listed bool
	left   []device // that were listed and not looked at yet
}

// begin begins to look everything up again.
func (r *deviceReader) begin(drops []sample.BacklogDrop) {
	r.look = &lookup{interrupts: readInterrupts()}
	want := r.namespaces(drops)
	found := findNamespaces(r.own, want, r.busy)
	if r.busy {
		want = append(want, slices.Sorted(maps.Keys(found))...)
	}
	for _, netns := range want {
		if proc := found[netns]; proc != "" && len(r.look.spaces) < namespacesKept {
			r.look.spaces = append(r.look.spaces, &spaceLookup{deviceSpace: deviceSpace{netns: netns, proc: proc}})
			delete(found, netns)
		}
	}
	r.dropped = make(map[deviceKey]bool)
	for i := range drops {
		r.dropped[deviceKey{drops[i].NetNS, drops[i].IfIndex}] = true
	}
	r.wanted = false
}

// goOn looks up at least one device more, and others until then. What was known
// before holds until the whole look-up is through.
func (r *deviceReader) goOn(cpus []int, until time.Time) {
	l := r.look
	for l.done < len(l.spaces) {
		if s := l.spaces[l.done]; !s.inside() || r.lookInto(s, cpus, until) {
			l.done++
		}
		if l.done < len(l.spaces) && time.Now().After(until) {
			return
		}
	}
	r.spaces = nil
	for _, s := range l.spaces {
		r.spaces = append(r.spaces, s.deviceSpace)
	}
	slices.SortFunc(r.spaces, func(a, b deviceSpace) int { return cmp.Compare(a.netns, b.netns) })
	r.at = time.Now()
	r.look = nil
}

// lookInto reports whether it is through with s. The namespace is not held from
// one tick to the next.
func (r *deviceReader) lookInto(s *spaceLookup, cpus []int, until time.Time) bool {
	sys, done := openSysfs(s.proc, s.netns == r.own)
	defer done()
	if sys == "" {
		s.devices = namedDevices(s.proc, s.netns)
		return true
	}
	return r.lookAt(sys, s, cpus, until)
}

// lookAt looks at the devices that sys shows.
func (r *deviceReader) lookAt(sys string, s *spaceLookup, cpus []int, until time.Time) bool {
	if !s.listed {
		s.left, s.listed = listDevices(sys), true
	}
	for len(s.left) > 0 && len(s.devices) < devicesKept {
		d := &s.left[0]
		s.left = s.left[1:]
		d.NetNS = s.netns
		if d.readFlags(sys); d.relevant() || r.dropped[deviceKey{s.netns, d.IfIndex}] {
			d.read(sys)
			d.IRQs = irqsOf(d, r.look.interrupts, cpus)
			s.devices = append(s.devices, d.NetDevice)
		}
		if time.Now().After(until) {
			return len(s.left) == 0
		}
	}
	return true
}

// namespaces lists those that matter, the ones with drops first.
func (r *deviceReader) namespaces(drops []sample.BacklogDrop) []uint32 {
	want := []uint32{r.own}
	for i := range drops {
		want = append(want, drops[i].NetNS)
	}
	return append(want, r.listeners()...)
}

// findNamespaces finds for each namespace of want, or for all, the /proc
// directory of a process that lives in it; none where there is no such process.
func findNamespaces(own uint32, want []uint32, all bool) map[uint32]string {
	found, left := make(map[uint32]string), make(map[uint32]bool)
	for _, netns := range want {
		left[netns] = true
	}
	if delete(left, 0); left[own] {
		found[own] = "/proc/self"
		delete(left, own)
	}
	dirs := []os.DirEntry(nil)
	if all || len(left) > 0 {
		dirs, _ = os.ReadDir("/proc")
	}
	for _, d := range dirs {
		if _, err := strconv.ParseUint(d.Name(), 10, 32); err != nil {
			continue
		}
		proc := "/proc/" + d.Name()
		netns, ok := namespaceOf(proc)
		if ok && found[netns] == "" && (all || left[netns]) {
			found[netns] = proc
			delete(left, netns)
		}
		if !all && len(left) == 0 {
			break
		}
	}
	return found
}
