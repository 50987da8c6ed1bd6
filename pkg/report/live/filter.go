// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// filter is what the user wants to see of the tables: rows that match all of its
// words. A word is a text that some name has, whatever its case, or one of
// port:8080, pid:123, cpu:3, comm:nginx, cgroup:api.
type filter struct {
	text, comm, cgroup []string
	port, pid, cpu     []string
}

// filterKinds are the words that a table's rows can be found by, besides names; the
// others say nothing about them.
type filterKinds uint8

const (
	byPort filterKinds = 1 << iota
	byPID
	byCPU

	allKinds = byPort | byPID | byCPU
)

// only is f without the words that rows of those kinds know nothing of.
func (f filter) only(kinds filterKinds) filter {
	if kinds&byPort == 0 {
		f.port = nil
	}
	if kinds&byPID == 0 {
		f.pid = nil
	}
	if kinds&byCPU == 0 {
		f.cpu = nil
	}
	return f
}

// maxFilter bounds, in bytes, what the user may type.
const maxFilter = 200

func parseFilter(s string) filter {
	var f filter
	for _, word := range strings.Fields(strings.ToLower(s)) {
		kind, rest, ok := strings.Cut(word, ":")
		list := map[string]*[]string{"port": &f.port, "pid": &f.pid, "cpu": &f.cpu, "comm": &f.comm, "cgroup": &f.cgroup}[kind]
		switch {
		case !ok || list == nil: // an address has colons, too
			f.text = append(f.text, word)
		case rest != "": // or it is not typed yet
			*list = append(*list, rest)
		}
	}
	return f
}

// traits are what a row has to be found by. A nil list is of what it has not.
type traits struct {
	names              []string // all that can be read in its row
	comms, cgroups     []string
	ports, pids, cores []uint64
}

func (f *filter) matches(r traits) bool {
	return allIn(f.text, r.names, r.comms, r.cgroups) && allIn(f.comm, r.comms) && allIn(f.cgroup, r.cgroups) &&
		allOf(f.port, r.ports) && allOf(f.pid, r.pids) && allOf(f.cpu, r.cores)
}

// allIn reports whether each word is part of some name.
func allIn(words []string, names ...[]string) bool {
	for _, w := range words {
		found := false
		for _, list := range names {
			for _, name := range list {
				found = found || strings.Contains(strings.ToLower(safe(name)), w)
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// allOf reports whether each word is one of the numbers.
func allOf(words []string, numbers []uint64) bool {
	for _, w := range words {
		found := false
		for _, n := range numbers {
			found = found || strconv.FormatUint(n, 10) == w
		}
		if !found {
			return false
		}
	}
	return true
}

// filtered is t, what a finding is about first, with the rows that the filter lets
// through.
func filtered[T any](v *View, t *table[T], of func() func(T) traits, kinds filterKinds) *table[T] {
	t.ranked = true
	if v.UI.Filter != "" {
		f, of := parseFilter(v.UI.Filter).only(kinds), of()
		t.match = func(r T) bool { return f.matches(of(r)) }
	}
	return t
}

// groups are the names by which the cgroups are found, those above them included.
func (v *View) groups() map[uint64][]string {
	out := make(map[uint64][]string)
	for _, g := range v.cgroups() {
		out[g.ID] = []string{g.Path, g.Title()}
	}
	return out
}

func (v *View) listenerTraits() func(*model.Listener) traits {
	of := make(map[uint32]uint64) // pid to cgroup
	for _, p := range v.processes() {
		of[p.PID] = p.CGroupID
	}
	groups := v.groups()
	return func(l *model.Listener) traits {
		r := traits{names: []string{listenerName(l), waitName(l.Wait)}, comms: []string{l.Program}}
		if l.Proto != "unix" {
			r.ports = []uint64{uint64(l.Port)}
		}
		for i := range l.Threads {
			w := &l.Threads[i]
			r.comms = append(r.comms, w.Comm)
			r.pids = append(r.pids, uint64(w.PID), uint64(w.TID))
			r.cgroups = append(r.cgroups, groups[of[w.PID]]...)
		}
		return r
	}
}

// cpuTraits are those of a core: what ran or waits there.
func (v *View) cpuTraits() func(*model.CPU) traits {
	at := make(map[int]*traits)
	groups := v.groups()
	for _, p := range v.processes() {
		for i := range p.Top {
			t := &p.Top[i]
			r := at[t.CPU]
			if r == nil {
				r = &traits{}
				at[t.CPU] = r
			}
			r.comms = append(r.comms, t.Comm, p.Comm, p.Program)
			r.pids = append(r.pids, uint64(p.PID), uint64(t.TID))
			r.cgroups = append(r.cgroups, groups[p.CGroupID]...)
		}
	}
	return func(c *model.CPU) traits {
		var r traits
		if on := at[c.CPU.CPU]; on != nil {
			r = *on
		}
		r.names, r.cores = []string{"cpu" + strconv.Itoa(c.CPU.CPU)}, []uint64{uint64(c.CPU.CPU)}
		return r
	}
}

func (v *View) cgroupTraits() func(*model.CGroup) traits {
	groups := v.groups()
	in := make(map[uint64]*traits) // those of its processes
	byID := make(map[uint64]*model.CGroup)
	for _, g := range v.cgroups() {
		byID[g.ID] = g
	}
	for _, p := range v.processes() {
		for g := byID[p.CGroupID]; g != nil; g = g.Parent {
			r := in[g.ID]
			if r == nil {
				r = &traits{}
				in[g.ID] = r
			}
			r.comms, r.pids = append(r.comms, p.Comm, p.Program), append(r.pids, uint64(p.PID))
		}
	}
	return func(g *model.CGroup) traits {
		var r traits
		if inside := in[g.ID]; inside != nil {
			r = *inside
		}
		r.names, r.cgroups = nil, groups[g.ID]
		return r
	}
}

func (v *View) processTraits() func(*model.Process) traits {
	groups := v.groups()
	return func(p *model.Process) traits {
		return traits{names: []string{programOf(p)}, comms: []string{p.Comm, p.Program}, pids: []uint64{uint64(p.PID)}, cgroups: groups[p.CGroupID]}
	}
}

// findingTraits are those of what a finding is about.
func (v *View) findingTraits() func(*diagnose.Finding) traits {
	listener, group, core, process := v.listenerTraits(), v.cgroupTraits(), v.cpuTraits(), v.processTraits()
	listeners := make(map[uint64]*model.Listener)
	for _, l := range v.listeners() {
		listeners[l.Inode] = l
	}
	groups := make(map[uint64]*model.CGroup)
	for _, g := range v.cgroups() {
		groups[g.ID] = g
	}
	return func(f *diagnose.Finding) traits {
		out := traits{names: []string{f.ID, f.Sentence(), f.Remedy}}
		if l := listeners[f.Inode]; l != nil {
			out.add(listener(l))
		}
		if g := groups[f.CGroupID]; g != nil {
			out.add(group(g))
		}
		if f.CPU >= 0 {
			for _, c := range v.cpus() {
				if c.CPU.CPU == f.CPU {
					out.add(core(c))
				}
			}
		}
		for _, p := range v.processes() {
			if f.PID != 0 && p.PID == f.PID {
				out.add(process(p))
			}
		}
		return out
	}
}

func (r *traits) add(other traits) {
	r.comms, r.cgroups = slices.Concat(r.comms, other.comms), slices.Concat(r.cgroups, other.cgroups)
	r.ports, r.pids, r.cores = slices.Concat(r.ports, other.ports), slices.Concat(r.pids, other.pids), slices.Concat(r.cores, other.cores)
}
