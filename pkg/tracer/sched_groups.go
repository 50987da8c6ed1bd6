// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"slices"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// cgroupTable adds up what the threads of each cgroup did.
type cgroupTable struct {
	files   *cgroupReader // nil: there is no cpu controller to be seen,
	why     error         // and this is why
	names   *nameFinder
	groups  map[uint64]*groupState
	waits   map[uint64]bpf.SchedWaits // as last seen
	pending []uint64                  // active in this tick
	paired  map[bpf.SchedRivals]uint64
	dropped []uint64        // whose waits the kernel need not keep
	ended   []sample.CGroup // of those that are gone, the ones that did most
}

// groupState is one cgroup and the threads that are directly in it.
type groupState struct {
	id     uint64
	own    activity // of its own threads, and of its descendants that are gone
	rivals []sample.Rival
	active int  // threads, in this tick
	ran    bool // in this tick

	// What is known of it, also when it is gone.
	parent    uint64
	path      string
	naming    naming
	weight    uint32
	bandwidth *sample.Bandwidth
	named     bool
	gone      bool
	unnamed   int // ticks in which it was looked for in vain

	sum     activity // with its descendants, in this tick
	tick    uint64   // how active it was, likewise
	before  uint64   // run and wait time of sum at the last tick
	threads int
}

// activity is what threads did.
type activity struct {
	sample.RunTimes
	sample.Switches
}

func (a *activity) add(d *activity) {
	a.RunTimes.Add(d.RunTimes)
	a.Switches.Add(d.Switches)
}

// newCGroupTable works without a cpu controller, too: there are just no groups.
// The host's files are below hostRoot, "" for the usual place.
func newCGroupTable(hostRoot string) *cgroupTable {
	t := &cgroupTable{names: newNameFinder(hostRoot), groups: make(map[uint64]*groupState), waits: make(map[uint64]bpf.SchedWaits)}
	if t.files, t.why = newCGroupReader(); t.files == nil {
		return t
	}
	var limited []*groupState
	for _, s := range t.files.limited() {
		g := t.group(s.id)
		t.describe(g)
		limited = append(limited, g)
	}
	t.wantNames(limited) // for the first tick: findings are about these
	return t
}

// Close closes files.
func (t *cgroupTable) Close() {
	t.names.Close()
	if t.files != nil {
		t.files.Close()
	}
}

// real is the id of a thread's group: one in an autogroup is in the root
// (kernel/sched/autogroup.h: autogroup_task_group()).
func (t *cgroupTable) real(id uint64) uint64 {
	if id == 0 && t.files != nil {
		return t.files.root.id
	}
	return id
}

func (t *cgroupTable) group(id uint64) *groupState {
	id = t.real(id)
	g := t.groups[id]
	if g == nil {
		g = &groupState{id: id}
		t.groups[id] = g
	}
	return g
}

// add counts d for the group.
func (t *cgroupTable) add(id uint64, d *activity) { t.group(id).own.add(d) }

// active counts a thread of the group that ran or waited in this tick.
func (t *cgroupTable) active(id uint64) {
	g := t.group(id)
	g.active++
	if !g.ran {
		g.ran = true
		t.pending = append(t.pending, g.id)
	}
}

// setWaits takes in what of the waits of a group's own threads is no contention.
func (t *cgroupTable) setWaits(raw *bpf.SchedWaits, scale float64) {
	old := t.waits[raw.CgroupId]
	t.group(raw.CgroupId).own.RunTimes.Add(waitsSince(raw, &old, scale))
	t.waits[raw.CgroupId] = *raw
}

// addRivals adds up for each group who had the core while its threads waited.
func (t *cgroupTable) addRivals(pairs []bpf.SchedContention, table *threadTable) {
	seen := make(map[bpf.SchedRivals]uint64, len(pairs))
	for i := range pairs {
		c := &pairs[i]
		seen[c.Who] = c.WaitNs
		p := table.procs[c.Who.Tgid]
		d := less(c.WaitNs, t.paired[c.Who])
		if p == nil || d == 0 {
			continue
		}
		g := t.group(p.cgroupID)
		k := slices.IndexFunc(g.rivals, func(r sample.Rival) bool { return r.PID == c.Who.Holder })
		if k < 0 {
			g.rivals = append(g.rivals, sample.Rival{PID: c.Who.Holder, Comm: threadComm(c.Comm[:])})
			k = len(g.rivals) - 1
		}
		g.rivals[k].WaitNS += d
	}
	t.paired = seen
	for _, g := range t.groups {
		slices.SortFunc(g.rivals, func(a, b sample.Rival) int {
			return cmp.Or(cmp.Compare(b.WaitNS, a.WaitNS), cmp.Compare(a.PID, b.PID))
		})
		g.rivals = g.rivals[:min(len(g.rivals), rivalsKept)]
	}
}

// rivalsKept is more than is shown: one that is new must be able to climb.
const rivalsKept = 8 * sample.MaxRivals

// path returns "" where it is not known.
func (t *cgroupTable) path(id uint64) string {
	if g := t.groups[t.real(id)]; g != nil && g.named {
		return g.path
	}
	if t.files != nil {
		if s := t.files.lookup(t.real(id)); s != nil {
			return s.path()
		}
	}
	return ""
}

// samples reads the files, adds up, and returns what is worth showing. Where the
// threads were not looked at, what they did stays as it was.
func (t *cgroupTable) samples(looked, final bool) []sample.CGroup {
	if t.files == nil {
		t.forgetAll()
		return nil
	}
	t.files.tick(t.pending, final)
	t.pending = t.pending[:0]
	for _, s := range t.files.limited() {
		t.group(s.id)
	}
	for _, g := range t.groups {
		t.describe(g)
	}
	t.setNames()
	if looked {
		t.addUp()
	}
	shown := t.choose(final)
	t.wantNames(shown)
	out := make([]sample.CGroup, 0, len(shown))
	for _, g := range shown {
		out = append(out, g.sample())
	}
	if final {
		out = append(out, t.ended[:min(len(t.ended), sample.MaxCGroups-len(out))]...)
	}
	t.forget()
	return out
}

func (g *groupState) sample() sample.CGroup {
	return sample.CGroup{
		ID: g.id, ParentID: g.parent, Path: g.path, Name: g.naming.name, RunTimes: g.sum.RunTimes, Switches: g.sum.Switches,
		ContendedBy: slices.Clone(g.rivals[:min(len(g.rivals), sample.MaxRivals)]),
		Threads:     g.threads, Weight: g.weight, CFS: g.bandwidth,
	}
}

// describe brings up to date what is known of g and makes its ancestors known.
func (t *cgroupTable) describe(g *groupState) {
	s := t.files.lookup(g.id)
	if s == nil {
		g.unnamed++
		g.gone = g.named || g.unnamed > unnamedTicks && !g.ran
		return
	}
	if !g.named || g.ran { // it may have been renamed
		g.path, g.parent = s.path(), s.parentID()
	}
	g.named, g.gone, g.weight, g.bandwidth = true, s.gone, s.weight, s.bandwidth()
	for p := s.parent; p != nil; p = p.parent {
		if t.groups[p.id] == nil {
			t.groups[p.id] = &groupState{id: p.id, named: true, path: p.path(), parent: p.parentID(), weight: p.weight, bandwidth: p.bandwidth()}
		}
	}
}

// addUp makes the sums of each group and its descendants.
func (t *cgroupTable) addUp() {
	for _, g := range t.groups {
		g.sum, g.threads = activity{}, 0
	}
	for _, g := range t.groups {
		for a, depth := g, 0; a != nil && depth < maxCGroupDepth; a, depth = t.groups[a.parent], depth+1 {
			a.sum.add(&g.own)
			a.threads += g.active
			if a.parent == 0 {
				break
			}
		}
	}
	for _, g := range t.groups {
		now := g.sum.RunNS + g.sum.WaitNS
		g.tick, g.before = less(now, g.before), now
		g.active, g.ran = 0, false
	}
}

// unnamedTicks is for how many ticks a group without a directory is kept: its
// threads are where none can be seen, or it was gone at once.
const unnamedTicks = 10

// maxCGroupDepth bounds how far up to go, whatever the files say.
const maxCGroupDepth = 256

// choose returns the groups with a quota, the most active others and the
// ancestors of both, by id.
func (t *cgroupTable) choose(final bool) []*groupState {
	var all []*groupState
	for _, g := range t.groups {
		if g.named && (g.bandwidth != nil || g.tick > 0 || final && g.before > 0) {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b *groupState) int {
		return cmp.Or(
			cmp.Compare(b.rank(), a.rank()),
			cmp.Compare(b.tick, a.tick), cmp.Compare(b.before, a.before), cmp.Compare(a.id, b.id),
		)
	})
	chosen := make(map[uint64]*groupState)
	for _, g := range all {
		var line []*groupState
		for a := g; a != nil && chosen[a.id] == nil && len(line) < maxCGroupDepth; a = t.groups[a.parent] {
			line = append(line, a)
		}
		if len(chosen)+len(line) > sample.MaxCGroups {
			break
		}
		for _, a := range line {
			chosen[a.id] = a
		}
	}
	var out []*groupState
	for _, g := range chosen {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *groupState) int { return cmp.Compare(a.id, b.id) })
	return out
}

// rank: groups with a quota that do something, others that do, and the rest.
func (g *groupState) rank() int {
	switch {
	case g.tick == 0:
		return 0
	case g.bandwidth == nil:
		return 1
	}
	return 2
}

// forget drops groups that are gone and were shown; what they did stays with
// the nearest ancestor that is not.
func (t *cgroupTable) forget() {
	var gone []*groupState
	for _, g := range t.groups {
		if g.gone {
			gone = append(gone, g)
		}
	}
	for _, g := range gone {
		p := t.groups[g.parent]
		for p != nil && p.gone {
			p = t.groups[p.parent]
		}
		if p == nil {
			p = t.group(t.files.root.id) // which is never gone
		}
		p.own.add(&g.own)
		t.bury(g)
	}
	for _, g := range gone {
		delete(t.groups, g.id)
		delete(t.waits, g.id)
		t.dropped = append(t.dropped, g.id)
	}
}

// forgetAll is for where no group can be seen, and so none be found to be gone.
func (t *cgroupTable) forgetAll() {
	for id := range t.waits {
		t.dropped = append(t.dropped, id)
	}
	clear(t.groups)
	clear(t.waits)
	t.pending = t.pending[:0]
}

// endedGroups bounds the groups that are gone and in the last Sample.
const endedGroups = 64

func (t *cgroupTable) bury(g *groupState) {
	if !g.named {
		return
	}
	t.ended = append(t.ended, g.sample())
	slices.SortStableFunc(t.ended, func(a, b sample.CGroup) int {
		return cmp.Compare(b.RunNS+b.WaitNS, a.RunNS+a.WaitNS)
	})
	t.ended = t.ended[:min(len(t.ended), endedGroups)]
}
