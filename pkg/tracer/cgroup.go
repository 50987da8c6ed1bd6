// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// walkEvery is how often all groups are looked for without a reason; walkGap
	// the least time between two walks with a reason. A walk may take 1 % of a
	// core on the average, and is put off for longer if it would take more.
	walkEvery = 5 * time.Second
	walkGap   = 500 * time.Millisecond
	// limitsEvery is after what time the settings of a group are read again: a
	// little less than the usual interval.
	limitsEvery = 900 * time.Millisecond
	// readAlways is how many groups are read in any tick. With more, 1 % of the
	// time may be spent on them, the ones that were not read for longest first.
	// Of those without a quota in which nothing runs, readTurn at least.
	readAlways = sample.MaxCGroups
	readTurn   = 64
	// readFirst is how long to read, when all are new and on the last tick.
	readFirst = 250 * time.Millisecond
	// cgroupsKept and cgroupsAbsent bound how many groups are known, and of how
	// many it is known that there are none.
	cgroupsKept   = 16384
	cgroupsAbsent = 4096
	// cgroupFDs bounds how many files are kept open.
	cgroupFDs = 256
)

// cgroupReader knows the groups of the cpu controller and what only their files
// say. Its counters are since it was made.
type cgroupReader struct {
	tree *hierarchy
	acct *hierarchy // v1's cpuacct controller, which may be elsewhere; nil where it is not needed
	root *cgroupState
	dev  uint64 // of the tree's file system
	link string // what /proc/self/fd calls the root; "" where groups cannot be opened by id
	now  func() time.Time

	known  map[uint64]*cgroupState
	limits map[uint64]*cgroupState // of them those that have a quota
	fresh  []*cgroupState          // whose files were not read yet
	gone   []*cgroupState          // to forget on the next tick
	absent map[uint64]bool         // what was asked for, and is not there
	kept   int                     // bound on known

	turn    []*cgroupState // all, in the order in which they are read when time is left
	turnAt  int
	tickAt  time.Time
	walkAt  time.Time
	walkCPU time.Duration // of the last walk
	walks   uint64
	wanted  bool // there is a reason to walk
	crowded bool // groups found no room: a new one may be old

	fds        int // files kept open
	skipped    uint64
	unreadable uint64
	buf        [4096]byte
}

// cgroupState is one group. It is valid until the tick after the one in which
// its directory was found to be gone.
type cgroupState struct {
	id     uint64 // inode number of the directory (fs/kernfs: kernfs_ino())
	name   string
	parent *cgroupState // nil: the root
	cgroupLimits
	gone   bool
	young  bool   // it came after attach, and its counters began at 0
	walk   uint64 // the last one that saw it
	looked time.Time
	read   time.Time // its settings
	based  bool      // counts hold what to count from
	counts cfsCounts // as read last
	total  bandwidthTotals
	usage  uint64 // ns since attach
	used   bool   // usage is known
	stat   int    // cpu.stat, -1 where it is not kept open
	acct   int    // v1's cpuacct.usage, likewise
}

// newCGroupReader finds the hierarchy of the cpu controller and everything in
// it. Where there is none to be seen, it fails.
func newCGroupReader() (*cgroupReader, error) {
	tree, err := findHierarchy("cpu")
	if err != nil {
		return nil, err
	}
	var acct *hierarchy
	if !tree.v2 {
		acct, _ = findHierarchy("cpuacct") // else usage is not known
	}
	return openCGroups(tree, acct, cgroupsKept)
}

// openCGroups takes over the hierarchies.
func openCGroups(tree, acct *hierarchy, kept int) (*cgroupReader, error) {
	r := &cgroupReader{
		tree: tree, acct: acct, kept: kept, now: time.Now,
		known: make(map[uint64]*cgroupState), limits: make(map[uint64]*cgroupState), absent: make(map[uint64]bool),
	}
	if err := r.findRoot(); err != nil {
		r.Close()
		return nil, err
	}
	r.walk()
	for _, s := range r.known {
		s.young = false
	}
	r.refresh(nil, r.now().Add(readFirst))
	r.tickAt = r.now()
	return r, nil
}

// Close may be called more than once.
func (r *cgroupReader) Close() {
	for _, s := range r.known {
		r.closeFiles(s)
	}
	r.tree.Close()
	if r.acct != nil {
		r.acct.Close()
	}
}

// tick brings everything up to now. The active groups, by id, are looked for if
// they are not known, and their settings are no older than about a second; so are
// those of all others as long as that takes no more than 1 % of the time.
func (r *cgroupReader) tick(active []uint64, final bool) {
	r.forget()
	now := r.now()
	var states []*cgroupState
	var unknown []uint64
	for _, id := range active {
		if s := r.find(id); s != nil {
			states = append(states, s)
		} else if !r.absent[id] {
			unknown = append(unknown, id)
		}
	}
	r.wanted = r.wanted || len(unknown) > 0
	if age := now.Sub(r.walkAt); age >= 100*r.walkCPU && (age >= walkEvery || r.wanted && age >= walkGap) || final && r.wanted {
		r.walk()
		for _, id := range unknown {
			if s := r.known[id]; s != nil {
				states = append(states, s)
			} else {
				r.noteAbsent(id)
			}
		}
	}
	until := now.Add(min(now.Sub(r.tickAt), time.Second) / 100)
	if final {
		until = now.Add(readFirst)
	}
	r.refresh(states, until)
	r.tickAt = now
}

// lookup returns nil for a group that is not there, or cannot be seen.
func (r *cgroupReader) lookup(id uint64) *cgroupState { return r.known[id] }

// limited lists the groups that have a quota now, and those that had one when
// they were removed since the last tick, by id.
func (r *cgroupReader) limited() []*cgroupState {
	return slices.SortedFunc(maps.Values(r.limits), func(a, b *cgroupState) int { return cmp.Compare(a.id, b.id) })
}

// addLost says what could not be had: groups beyond the bound, files that cannot
// be read or make no sense.
func (r *cgroupReader) addLost(lost map[string]uint64) {
	if r.skipped > 0 {
		lost["cgroup_table_full"] += r.skipped
	}
	if r.unreadable > 0 {
		lost["cgroup_unreadable"] += r.unreadable
	}
}

// path is that below the mount, "/" for the root.
func (s *cgroupState) path() string {
	if s.parent == nil {
		return "/"
	}
	var names []string
	for ; s.parent != nil; s = s.parent {
		names = append(names, s.name)
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/")
}

// parentID is 0 for the root.
func (s *cgroupState) parentID() uint64 {
	if s.parent == nil {
		return 0
	}
	return s.parent.id
}

// bandwidth returns nil where the group has no quota now.
func (s *cgroupState) bandwidth() *sample.Bandwidth {
	if s.quotaUS == 0 {
		return nil
	}
	b := &sample.Bandwidth{
		QuotaUS: s.quotaUS, PeriodUS: s.periodUS, BurstUS: s.burstUS,
		Periods: s.total.periods, Throttled: s.total.throttled, ThrottledNS: s.total.throttledNS,
	}
	if s.used {
		usage := s.usage
		b.UsageNS = &usage
	}
	return b
}

// find returns nil where the group must be looked for by a walk, or is absent.
func (r *cgroupReader) find(id uint64) *cgroupState {
	s := r.known[id]
	if s != nil || r.link == "" || r.absent[id] {
		return s
	}
	if s = r.resolve(id); s == nil {
		r.noteAbsent(id)
	}
	return s
}

// noteAbsent remembers not to look for it again: no id is given twice.
func (r *cgroupReader) noteAbsent(id uint64) {
	if len(r.absent) >= cgroupsAbsent {
		clear(r.absent)
	}
	r.absent[id] = true
}

// add takes in a group, nil where there is no room.
func (r *cgroupReader) add(id uint64, name string, parent *cgroupState) *cgroupState {
	if len(r.known) >= r.kept {
		r.crowded = true
		return nil
	}
	// One that was known before was taken for gone when it was not.
	young := !r.crowded && !r.absent[id]
	s := &cgroupState{id: id, name: name, parent: parent, young: young, stat: -1, acct: -1}
	r.known[id] = s
	delete(r.absent, id)
	r.fresh = append(r.fresh, s)
	r.turn = append(r.turn, s)
	return s
}

// lose marks a group whose directory is gone: this tick still reports it.
func (r *cgroupReader) lose(s *cgroupState) {
	if !s.gone {
		s.gone = true
		r.gone = append(r.gone, s)
		r.closeFiles(s)
	}
}

func (r *cgroupReader) forget() {
	for _, s := range r.gone {
		delete(r.known, s.id)
		delete(r.limits, s.id)
		r.noteAbsent(s.id)
	}
	if len(r.gone) > 0 {
		r.turn = slices.DeleteFunc(r.turn, func(s *cgroupState) bool { return s.gone })
	}
	r.gone = r.gone[:0]
}

func (r *cgroupReader) closeFiles(s *cgroupState) {
	r.closeFile(&s.stat)
	r.closeFile(&s.acct)
}

func (r *cgroupReader) closeFile(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
		r.fds--
	}
	*fd = -1
}
