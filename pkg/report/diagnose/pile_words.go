// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// several reports whether the same mask holds threads to more than one core.
func (p *pile) several() bool { return len(p.allowed) > 1 }

func (p *pile) subject() string {
	s := fmt.Sprintf("core %d", p.core.CPU.CPU)
	if p.several() {
		s = "cores " + cpuList(p.allowed)
	}
	if names := p.programs(); len(names) > 0 {
		s += " (" + listed(names) + ")"
	}
	return s
}

// programs are those whose threads wait there, by how many, each once.
func (p *pile) programs() []string {
	count := p.counts()
	return slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
}

func (p *pile) counts() map[string]int {
	count := make(map[string]int)
	for i := range p.threads {
		count[processName(p.threads[i].process)]++
	}
	return count
}

// lengths says how many threads are runnable there; where the mask has several
// cores, of those where they pile up.
func (p *pile) lengths(l *Limits) string {
	if !p.several() {
		return fmt.Sprintf("has %d runnable threads on average", p.runnable())
	}
	least, most := p.runnable(), p.runnable()
	for _, c := range p.piled(l) {
		n := runnable(c, c.Runq.Waiting)
		least, most = min(least, n), max(most, n)
	}
	switch n := len(p.piled(l)); {
	case n < len(p.allowed):
		return fmt.Sprintf("have up to %d runnable threads on average (%d of them)", most, max(n, 1))
	case least == most:
		return fmt.Sprintf("have %d runnable threads each on average", most)
	}
	return fmt.Sprintf("have %d to %d runnable threads each on average", least, most)
}

func (p *pile) evidence(l *Limits) string {
	s := p.lengths(l)
	if p.why == byWeight {
		s += fmt.Sprintf(" while core %d runs hardly anything but one, %s (pid %d)", p.rival.cpu, processName(p.rival.process), p.rival.process.PID)
	} else if len(p.idle) == 0 {
		s += fmt.Sprintf(" while %s idle by turns, %.1f of them at a time", pluralIs(len(p.apart), "core"), p.spare)
	} else {
		s += fmt.Sprintf(" while %s idle (%s)", pluralIs(len(p.idle), "core"), cpuList(p.idle))
	}
	var who []string
	count := p.counts()
	for _, name := range p.programs() {
		who = append(who, fmt.Sprintf("%d of %s", count[name], name))
	}
	if len(who) > 0 {
		s += ": " + listed(who)
	}
	if n := taken(p.core); n >= l.SoldSteal {
		s += fmt.Sprintf("; the hypervisor takes %s of the core", percent(n))
	}
	return s + p.waits()
}

// waits compares the waits here with those elsewhere.
func (p *pile) waits() string {
	here, others := p.core.Runq.WaitP99NS, model.Unknown()
	if !model.Known(here) {
		return ""
	}
	for i := range p.f.CPUs {
		c := &p.f.CPUs[i]
		apart := c.CPU.CPU != p.core.CPU.CPU && !slices.Contains(p.allowed, c.CPU.CPU)
		if apart && c.Runq != nil && model.Known(c.Runq.WaitP99NS) && !(others > c.Runq.WaitP99NS) {
			others = c.Runq.WaitP99NS
		}
	}
	s := fmt.Sprintf("; wait p99 up to %s", durationText(here))
	if model.Known(others) {
		s += fmt.Sprintf(", elsewhere %s", durationText(others))
	}
	return s
}

func (p *pile) cause() string {
	cores := "core " + cpuList(p.allowed)
	if p.several() {
		cores = "cores " + cpuList(p.allowed)
	}
	switch p.why {
	case byMask:
		if len(p.programs()) > 1 {
			return fmt.Sprintf("their affinity mask allows %s only (isolcpus=, CPUAffinity=, taskset)", cores)
		}
		return fmt.Sprintf("their affinity mask allows %s only (taskset, sched_setaffinity, CPUAffinity=)", cores)
	case byCPUSet:
		return fmt.Sprintf("their cpuset allows %s only (cpuset.cpus, AllowedCPUs=, --cpuset-cpus)", cores)
	case byChoice:
		return "no affinity mask or cpuset holds them there: it is the scheduler's choice, or the idle cores are isolated from its balancing"
	case byWeight:
		if p.rival.mine == p.rival.theirs {
			return "the load balancer evens out the weight of groups, not the number of threads, and each session is one (autogroup): all that wait weigh as much as that one thread"
		}
		return fmt.Sprintf("the load balancer evens out the weight of cgroups, not the number of threads: all of %s weigh as much as that one thread of %s",
			cgroupName(p.rival.mine), cgroupName(p.rival.theirs))
	}
	return "what holds them there could not be seen"
}

func (p *pile) remedy() string {
	switch p.why {
	case byMask:
		return p.taskset(cpuList(p.wider())) + "; and undo what pins them"
	case byCPUSet:
		return p.widerCPUSet()
	case byWeight:
		return p.heavier()
	case byChoice:
		return "cat /sys/devices/system/cpu/isolated; pinning is the last resort, one thread to each idle core: " + p.spread()
	}
	return fmt.Sprintf("find them (ps -eLo tid,psr,comm | awk '$2 == %d') and look at their masks (taskset -pc TID)", p.core.CPU.CPU)
}

// widerCPUSet is for the cpuset of those that it holds.
func (p *pile) widerCPUSet() string {
	w, all := &p.threads[0], cpuList(p.wider())
	if h := p.held(); h != nil {
		w = h
	}
	g := groups(p.f)[w.process.CGroupID]
	switch {
	case g == nil:
		return fmt.Sprintf("widen their cpuset to %s (cat /proc/%d/cpuset names it)", all, w.process.PID)
	case strings.Contains(g.Path, "kubepods"):
		return fmt.Sprintf("give %s more whole CPUs in the pod's spec, or the node the CPU manager policy none (the kubelet's static one keeps it to these)", cgroupName(g))
	}
	k := knob{v2: "cpuset.cpus", v2Value: all, v1: "cpuset/cpuset.cpus", v1Value: all,
		systemd: "AllowedCPUs=" + all, docker: "--cpuset-cpus " + all}
	return k.set(p.f, g.Path) + "; or the one above it that limits it"
}

// heavier is how to give the group that waits what its threads are worth.
func (p *pile) heavier() string {
	g := p.rival.mine
	if g == p.rival.theirs {
		return "sysctl -w kernel.sched_autogroup_enabled=0"
	}
	n := uint64(max(len(p.threads), p.runnable(), 1))
	weight := min(max(uint64(g.Weight), 100)*n, 10000)
	// cpu.shares 1024 is cpu.weight 100 (kernel/sched/core.c: cpu_weight_write_u64()).
	k := knob{v2: "cpu.weight", v2Value: strconv.FormatUint(weight, 10), v1: "cpu/cpu.shares", v1Value: strconv.FormatUint(weight*1024/100, 10),
		systemd: fmt.Sprintf("CPUWeight=%d", weight)}
	return k.set(p.f, g.Path)
}

func (p *pile) verify() string {
	if p.why == byWeight {
		return "the threads spread: ps -eLo psr,tid,comm shows them on several cores, and the waits are alike on all"
	}
	return "no thread waits there while other cores are idle, and the waits are alike on all cores"
}

// taskset gives each of the threads these cores; a few by name.
func (p *pile) taskset(cores string) string {
	const most = 8
	var out []string
	held := 0
	for i := range p.threads {
		w := &p.threads[i]
		if w.heldBy(p.others()) != p.why {
			continue
		}
		if held++; held <= most {
			out = append(out, fmt.Sprintf("taskset -pc %s %d", cores, w.TID))
		}
	}
	s := strings.Join(out, "; ")
	if held > most {
		s += fmt.Sprintf(" and so on for %d more", held-most)
	}
	return s
}

// spread gives one thread to each idle core that it may use.
func (p *pile) spread() string {
	const most = 8
	var out []string
	given := make(map[uint32]bool)
	for _, core := range p.others() {
		for i := range p.threads {
			w := &p.threads[i]
			if len(out) < most && !given[w.TID] && w.mayUse(core) {
				out, given[w.TID] = append(out, fmt.Sprintf("taskset -pc %d %d", core, w.TID)), true
				break
			}
		}
	}
	return strings.Join(out, "; ")
}

// wider are the cores that they may use and those that could take them: not all
// that are there, some may be reserved. Where none is idle by now, it is all.
func (p *pile) wider() []int {
	if others := p.others(); len(others) > 0 {
		return slices.Concat(p.allowed, others)
	}
	var out []int
	for i := range p.f.CPUs {
		out = append(out, p.f.CPUs[i].CPU.CPU)
	}
	return out
}

// cpuList is a set of cores as taskset and cpusets take it: "0-3,7".
func cpuList(cores []int) string {
	cores = slices.DeleteFunc(slices.Clone(cores), func(c int) bool { return c < 0 || c >= mostCPUs })
	slices.Sort(cores)
	cores = slices.Compact(cores)
	var out []string
	for i := 0; i < len(cores); {
		end := i
		for end+1 < len(cores) && cores[end+1] == cores[end]+1 {
			end++
		}
		switch end {
		case i:
			out = append(out, strconv.Itoa(cores[i]))
		default:
			out = append(out, fmt.Sprintf("%d-%d", cores[i], cores[end]))
		}
		i = end + 1
	}
	return strings.Join(out, ",")
}

// pluralIs is "1 core is", "3 cores are".
func pluralIs(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return model.Plural(n, what) + " are"
}
