// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// processColumns are those of the process panel.
func (v *View) processColumns() []column[*model.Process] {
	type p = *model.Process
	perSecond := func(of func(s *sample.Switches) uint64) func(p) float64 {
		return func(r p) float64 {
			if v.Frame.Interval <= 0 || !model.Known(r.Run) {
				return model.Unknown()
			}
			return float64(of(&r.Switched)) / v.Frame.Interval.Seconds()
		}
	}
	migrations := func(x float64) string {
		if v.Frame.RunqPolled() {
			return "?"
		}
		return count(x)
	}
	claimed := func(x float64) string { return v.measured(model.SignalCPUTime, cores(x)) }
	paths := make(map[uint64]string)
	for _, g := range v.cgroups() {
		paths[g.ID] = cgroupName(g.Title())
	}
	return slices.Concat([]column[p]{
		number("PID", 11, 7, func(r p) float64 { return float64(r.PID) }, whole),
		{title: "PROGRAM", keep: 12, min: 11, max: 20, text: programOf,
			cut: func(s string, w int) string { return cutMarked(s, endedMark, w, clip) }},
		{title: "CGROUP", keep: 0, min: 8, max: 32, text: func(r p) string { return cmp.Or(paths[r.CGroupID], none) }, cut: cutCGroup},
		number("THREADS", 3, 7, func(r p) float64 { return float64(r.Threads) }, whole),
		number("RUN", 10, v.wide(5), func(r p) float64 { return r.Run }, v.roughly(cores)),
		number("CLAIMED", 8, 7, func(r p) float64 { return r.Claimed }, claimed),
		number("WAIT", 9, v.wide(4), func(r p) float64 { return r.Wait }, v.waits(v.roughly(factor))),
	}, causeColumns(v, 7, func(r p) *sample.RunTimes { return &r.Delta }), []column[p]{
		number("SW/s", 2, v.wide(5), perSecond(func(s *sample.Switches) uint64 { return s.Voluntary + s.Involuntary }), v.roughly(count)),
		number("INVOL/s", 1, 7, perSecond(func(s *sample.Switches) uint64 { return s.Involuntary }), v.roughly(count)),
		number("MIGR/s", 1, 6, perSecond(func(s *sample.Switches) uint64 { return s.Migrations }), migrations),
	})
}

// endedMark follows the name of a process that is no more.
const endedMark = " ended"

// programOf is what a person would call r.
func programOf(r *model.Process) string {
	name := safe(cmp.Or(r.Program, r.Comm, "?"))
	if r.Ended {
		return name + endedMark
	}
	return name
}

// processes are the rows of the process panel, most active first.
func (v *View) processes() []*model.Process {
	if v.Frame == nil || v.Frame.Sched == nil {
		return nil
	}
	rows := make([]*model.Process, len(v.Frame.Sched.Processes))
	for i := range rows {
		rows[i] = &v.Frame.Sched.Processes[i]
	}
	return rows
}

func (v *View) processTable() *table[*model.Process] {
	worst := worstBy(v, func(f *diagnose.Finding) uint64 { return uint64(f.PID) })
	return filtered(v, &table[*model.Process]{
		cols: withTrail(v, v.processColumns(), 5, &processMeters[gRun].gauge,
			func(p *model.Process) trail { return v.History.trail(rowID{Processes, uint64(p.PID)}, gRun) }),
		rows:  v.processes(),
		id:    func(p *model.Process) uint64 { return uint64(p.PID) },
		place: v.UI.Process, panel: Processes, held: v.held[Processes], span: v.History.span,
		mark: func(p *model.Process) (string, Style) {
			if m, st := marked(worst[uint64(p.PID)]); m != "" || !p.Ended {
				return m, st
			}
			return "", Dim
		},
	}, v.processTraits, byPID)
}

// openedProcess is what is behind a process: its most active threads.
func (v *View) openedProcess() *drill {
	rows := v.processes()
	i := slices.IndexFunc(rows, func(p *model.Process) bool { return uint64(p.PID) == v.UI.Opened })
	if i < 0 {
		return nil
	}
	p := rows[i]
	return &drill{
		title: fmt.Sprintf("PROCESS %d  %s", p.PID, programOf(p)), what: "process", about: texts(v.processFacts(p)...),
		table: v.taskTable(tasksOf(p), 0),
		of:    func(f *diagnose.Finding) bool { return f.PID == p.PID },
	}
}

// processFacts are the lines about an opened process: its accounts, and who had
// the cores that it waited for.
func (v *View) processFacts(p *model.Process) []string {
	out := fmt.Sprintf("since attach: ran %s, waited %s", nanoseconds(float64(p.RunNS)), v.waits(nanoseconds)(float64(p.WaitNS)))
	if p.ClaimedNS != nil {
		out += fmt.Sprintf("; /proc/%d/stat claims %s", p.PID, nanoseconds(float64(*p.ClaimedNS)))
	}
	if len(p.Top) < p.Threads {
		out += fmt.Sprintf("; its %d most active threads:", len(p.Top))
	}
	lines := []string{out}
	var by []string
	for i := range v.Frame.Sched.Contended {
		if c := &v.Frame.Sched.Contended[i]; c.PID == p.PID && c.Delta > 0 && len(by) < 4 {
			who := "its own threads"
			if c.Holder != c.PID {
				who = fmt.Sprintf("%s (pid %d)", clip(safe(c.HolderComm), 16), c.Holder)
			}
			by = append(by, who+" ~"+nanoseconds(float64(c.Delta)))
		}
	}
	if len(by) > 0 {
		lines = append(lines, "who had the core meanwhile: "+strings.Join(by, ", "))
	}
	return lines
}

// task is a thread and whose it is.
type task struct {
	*model.Thread
	of *model.Process
}

func tasksOf(p *model.Process) []task {
	out := make([]task, len(p.Top))
	for i := range p.Top {
		out[i] = task{&p.Top[i], p}
	}
	return out
}

// taskColumns are those of an opened process or core.
func (v *View) taskColumns(keepProgram int) []column[task] {
	allowed := func(t task) string {
		switch {
		case len(t.Allowed) == 0:
			return "all"
		case t.CPUSet:
			return cpuList(t.Allowed) + " cpuset"
		}
		return cpuList(t.Allowed)
	}
	return slices.Concat([]column[task]{
		number("TID", 12, 7, func(t task) float64 { return float64(t.TID) }, whole),
		{title: "COMM", keep: 11, min: 8, max: 16, text: func(t task) string { return safe(t.Comm) }},
		{title: "PROGRAM", keep: keepProgram, min: 8, max: 20, text: func(t task) string { return programOf(t.of) }},
		number("CPU", 8, 4, func(t task) float64 { return float64(t.CPU) }, whole),
		{title: "ALLOWED", keep: 9, min: 7, max: 20, text: allowed},
		number("RUN%", 10, 5, func(t task) float64 { return t.Run }, percentFine),
		number("WAIT%", 10, 5, func(t task) float64 { return t.Wait }, v.waits(percentFine)),
	}, causeColumns(v, 7, func(t task) *sample.RunTimes { return &t.Delta }), []column[task]{
		number("NOW", 3, 5, func(t task) float64 { return float64(t.PendingNS) }, v.onlyBy(counted, nanoseconds)),
		number("NICE", 2, 4, func(t task) float64 { return float64(t.Nice) }, whole),
		{title: "POLICY", keep: 0, min: 6, max: 8, text: func(t task) string { return safe(cmp.Or(t.Policy, "other")) }},
	})
}

func (v *View) taskTable(rows []task, keepProgram int) *table[task] {
	return &table[task]{
		cols:  v.taskColumns(keepProgram),
		rows:  rows,
		id:    func(t task) uint64 { return uint64(t.TID) },
		place: v.UI.Threads, panel: v.UI.Panel, drill: true, held: v.held[drillKey],
		mark: func(task) (string, Style) { return "", Normal },
	}
}

// openedCPU is what is behind a core: those of the most active threads that run
// or wait there, the longest waits first.
func (v *View) openedCPU() *drill {
	if v.Frame == nil || v.Frame.Sched == nil {
		return nil
	}
	cpus := v.Frame.CPUs
	i := slices.IndexFunc(cpus, func(c model.CPU) bool { return uint64(c.CPU.CPU)+1 == v.UI.Opened })
	if i < 0 {
		return nil
	}
	c := &cpus[i]
	var rows []task
	for _, p := range v.processes() {
		for _, t := range tasksOf(p) {
			if t.CPU == c.CPU.CPU {
				rows = append(rows, t)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b task) int {
		return cmp.Or(byNumber(a.Wait, b.Wait, false), byNumber(a.Run, b.Run, false))
	})
	return &drill{
		title: fmt.Sprintf("CPU %d", c.CPU.CPU), what: "core", about: both(texts(coreFacts(c)...), v.waitLines(c)), table: v.taskTable(rows, 6),
		of: func(f *diagnose.Finding) bool { return panelOf(f) == CPUs && f.CPU == c.CPU.CPU },
	}
}

func coreFacts(c *model.CPU) []string {
	q := c.Runq
	if q == nil || q.Runq == nil {
		return nil
	}
	if q.Partial {
		return []string{fmt.Sprintf("~%s run or wait  busy ~%s  %s switches", factor(runnable(q)), percent(q.BusyRatio), perSecond(q.SwitchesPerS))}
	}
	return []string{fmt.Sprintf("%s run or wait, %d at most  busy %s  one waits beside an idle core %s  wait p99 %s  %s switches",
		factor(runnable(q)), q.Peak, percent(q.BusyRatio), percent(q.UnclaimedRatio), nanoseconds(q.WaitP99NS), perSecond(q.SwitchesPerS))}
}
