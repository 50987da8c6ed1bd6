// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSchedExact: run and wait time of each thread are schedstat's, and a cgroup's
// throttled periods and time are cpu.stat's, to the nanosecond.
func TestSchedExact(t *testing.T) {
	needRoot(t)
	for _, args := range [][]string{
		{"--mode", "pile", "--duration", "2s"},
		{"--mode", "throttle", "--duration", "2s"},
		{"--mode", "throttle", "--threads", "34", "--quota", "1", "--duration", "2s"},
		{"--mode", "throttle", "--nested", "--threads", "4", "--duration", "2s"},
		{"--mode", "oversold", "--duration", "2s"},
		{"--mode", "churn", "--switches", "1000000", "--churn", "500"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			r := schedLabBy(t, exactly, args...)
			r.checkThreads(t)
			r.checkCGroups(t)
			r.checkParts(t)
			if c := r.summary(t).Cost; c.LostTotal != 0 || c.RecursionMisses != 0 {
				t.Errorf("lost %d, of them %d recursion misses", c.LostTotal, c.RecursionMisses)
			}
		})
	}
}

// checkThreads compares each worker, and the sum of all that the lab did.
func (r *schedRun) checkThreads(t *testing.T) {
	t.Helper()
	got := make(map[int]schedTimes)
	var sum schedTimes
	pids := make(map[int]bool)
	for _, p := range r.oracle.Processes {
		pids[p.PID] = true
	}
	for _, p := range r.last(t).Processes {
		for _, th := range p.TopThreads {
			got[th.TID] = schedTimes{Run: ns(th.Run), Wait: ns(th.Wait)}
		}
		if pids[p.PID] {
			sum.Run += ns(p.Run)
			sum.Wait += ns(p.Wait)
			sum.Switches += p.Voluntary + p.Involuntary
		}
	}
	for _, w := range r.oracle.Workers {
		if w.Run+w.Wait < int64(time.Millisecond) {
			continue // too little to be listed
		}
		if g := got[w.TID]; g.Run != w.Run || g.Wait != w.Wait {
			t.Errorf("thread %d: ran %d ns and waited %d, schedstat says %d and %d", w.TID, g.Run, g.Wait, w.Run, w.Wait)
		}
	}
	if r.oracle.Ended == nil && (sum.Run != r.oracle.Total.Run || sum.Wait != r.oracle.Total.Wait) {
		t.Errorf("all: ran %d ns and waited %d, schedstat says %d and %d", sum.Run, sum.Wait, r.oracle.Total.Run, r.oracle.Total.Wait)
	}
}

func (r *schedRun) checkCGroups(t *testing.T) {
	t.Helper()
	groups := make(map[uint64]cgroupRecord)
	for _, g := range r.last(t).CGroups {
		groups[g.CGroupID] = g
	}
	for _, o := range r.oracle.Cgroups {
		g, ok := groups[o.CgroupID]
		if !ok {
			t.Errorf("cgroup %s is not listed", o.Path)
			continue
		}
		if g.Path != o.Path {
			t.Errorf("the path of cgroup %d is %q, want %q", o.CgroupID, g.Path, o.Path)
		}
		if ns(g.CPU) != o.RunNS || ns(g.Wait) != o.WaitNS {
			t.Errorf("%s: ran %d ns and waited %d, its threads' schedstat says %d and %d", o.Path, ns(g.CPU), ns(g.Wait), o.RunNS, o.WaitNS)
		}
		if o.QuotaUS == nil {
			continue
		}
		if g.QuotaUS != *o.QuotaUS || g.Throttled != o.NrThrottled || ns(g.ThrottledSeconds) != o.ThrottledNS {
			t.Errorf("%s: quota %d us, %d periods throttled, %d ns; cpu.stat says %d, %d, %d",
				o.Path, g.QuotaUS, g.Throttled, ns(g.ThrottledSeconds), *o.QuotaUS, o.NrThrottled, o.ThrottledNS)
		}
		// The timer ends a last period or two after the load.
		if d := g.Periods - o.NrPeriods; d < 0 || d > 2 {
			t.Errorf("%s: %d periods, cpu.stat says %d", o.Path, g.Periods, o.NrPeriods)
		}
		var sum int64
		for _, e := range r.sched {
			if e.Kind == "throttle" && e.CGroupID == o.CgroupID {
				sum += int64(e.ThrottledNS)
			}
		}
		if sum != o.ThrottledNS {
			t.Errorf("%s: the events have %d ns, cpu.stat says %d", o.Path, sum, o.ThrottledNS)
		}
	}
}

// checkParts: the parts of each wait sum up to it.
func (r *schedRun) checkParts(t *testing.T) {
	t.Helper()
	check := func(who string, w *waitRecord) {
		sum := w.Throttled + w.Contended + w.Mask + w.Stolen
		if math.Abs(sum-w.Wait) > 0.01*w.Wait+1e-6 || min(w.Throttled, w.Contended, w.Mask, w.Stolen) < 0 {
			t.Errorf("%s: the parts of %.6f s sum up to %.6f: %+v", who, w.Wait, sum, *w)
		}
	}
	s := r.last(t)
	for i := range s.Processes {
		p := &s.Processes[i]
		check(p.Comm, &p.waitRecord)
		for j := range p.TopThreads {
			check(p.Comm, &p.TopThreads[j].waitRecord)
		}
	}
	for i := range s.CGroups {
		check(s.CGroups[i].Path, &s.CGroups[i].waitRecord)
	}
}

// waits sums up the waits of the workers, or of the pinned ones.
func (r *schedRun) waits(t *testing.T, pinned bool) (sum waitRecord) {
	t.Helper()
	of := make(map[int]bool)
	for _, w := range r.oracle.Workers {
		if !pinned || w.CPUPinned != nil {
			of[w.TID] = true
		}
	}
	for _, p := range r.last(t).Processes {
		for _, th := range p.TopThreads {
			if of[th.TID] {
				sum.Wait += th.Wait
				sum.Throttled += th.Throttled
				sum.Contended += th.Contended
				sum.Mask += th.Mask
				sum.Stolen += th.Stolen
			}
		}
	}
	if sum.Wait == 0 {
		t.Fatal("nobody waited")
	}
	return sum
}

// TestWaitDecomposition: a wait for a quota, for others and for a core that the
// mask forbids is told apart. What else runs on the machine can only add
// contention, so the best of three runs counts.
func TestWaitDecomposition(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		args   []string
		pinned bool
		ok     func(w waitRecord) bool
	}{
		{[]string{"--mode", "throttle", "--threads", "1", "--duration", "2s"}, false,
			func(w waitRecord) bool { return w.Throttled >= 0.95*w.Wait }},
		{[]string{"--mode", "oversold", "--duration", "2s"}, false,
			func(w waitRecord) bool { return w.Throttled+w.Mask <= 0.01*w.Wait && w.Contended >= 0.9*w.Wait }},
		{[]string{"--mode", "pile", "--workers", "4", "--pinned", "4", "--duration", "2s"}, true,
			func(w waitRecord) bool { return w.Mask >= 0.95*w.Wait && w.Throttled == 0 }},
	} {
		t.Run(tt.args[1], func(t *testing.T) {
			var seen []waitRecord
			for range 3 {
				seen = append(seen, schedLabBy(t, exactly, tt.args...).waits(t, tt.pinned))
				if tt.ok(seen[len(seen)-1]) {
					return
				}
			}
			t.Errorf("the waits are %+v", seen)
		})
	}
}

// TestSchedFindings: each is named within two intervals of the begin of the load,
// in one of two runs.
func TestSchedFindings(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		args  []string
		ids   []string // the first one must be raised, the others may
		says  []string
		after time.Duration // beyond two intervals
	}{
		{[]string{"--mode", "pile"}, []string{"runq-pile"}, []string{"herdlab", "while 1 core is idle", "taskset -pc"}, 0},
		{[]string{"--mode", "throttle"}, []string{"cfs-throttle"}, []string{"quota"}, 0},
		{[]string{"--mode", "throttle", "--nested"}, []string{"cfs-throttle"}, []string{"quota"}, 0},
		{[]string{"--mode", "below-quota", "--duration", "8s"}, []string{"cfs-throttle-below-quota"}, []string{"burst"}, 4 * time.Second},
		{[]string{"--mode", "oversold"}, []string{"cpu-oversold"}, []string{"1.67"}, time.Second},
		{[]string{"--mode", "hide", "--duration", "8s"}, []string{"cputime-hidden"}, []string{"herdlab"}, 4 * time.Second},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			wrong := schedLab(t, tt.args...).judge(tt.ids, tt.says, 2500*time.Millisecond+tt.after)
			if wrong != nil { // what else ran may have kept the other core busy
				wrong = schedLab(t, tt.args...).judge(tt.ids, tt.says, 2500*time.Millisecond+tt.after)
			}
			for _, w := range wrong {
				t.Error(w)
			}
		})
	}
}

// judge says what is wrong with what was raised: the first of ids must be, in
// time and with these words, and nothing else but them.
func (r *schedRun) judge(ids, says []string, within time.Duration) (wrong []string) {
	fs := r.of("finding")
	i := slices.IndexFunc(fs, func(f record) bool { return f.ID == ids[0] && f.State == "raised" })
	if i < 0 {
		return []string{fmt.Sprintf("%s was not raised, but %v", ids[0], r.raised())}
	}
	f := &fs[i]
	if after := r.after(f); after > within {
		wrong = append(wrong, fmt.Sprintf("raised %s after the load began", after))
	}
	text := f.Subject + "; " + f.Evidence + "; " + f.Cause + "; " + f.Remedy
	for _, want := range says {
		if !strings.Contains(text, want) {
			wrong = append(wrong, fmt.Sprintf("it does not say %q: %s", want, text))
		}
	}
	for i := range fs {
		if o := &fs[i]; !slices.Contains(ids, o.ID) {
			wrong = append(wrong, fmt.Sprintf("%s, too: %s: %s: %s; %s", o.State, o.ID, o.Subject, o.Evidence, o.Cause))
		}
	}
	return wrong
}

// TestCrowd: workers of one cgroup share a core because a thread of another one
// weighs as much. Whether the load balancer lets that happen is its choice, and
// differs from run to run: where the other thread had a core nearly alone, it
// must be named.
func TestCrowd(t *testing.T) {
	needRoot(t)
	for range 3 {
		r := schedLab(t, "--mode", "crowd", "--duration", "7s")
		if slices.Contains(r.raised(), "runq-pile") {
			if f := r.find(t, "runq-pile"); !strings.Contains(f.Cause, "weigh") {
				t.Errorf("it is not said to be the weights: %s", f.Cause)
			}
			return
		}
		var most int64
		for _, w := range r.oracle.Workers {
			most = max(most, w.Run)
		}
		if alone := float64(most) / float64(r.oracle.DurationNS); alone >= 0.9 {
			t.Errorf("a thread of another cgroup had %.2f of a core, and nothing was raised", alone)
		}
	}
	t.Log("the load balancer evened the load out each time")
}

// TestSchedTwins: the healthy loads raise nothing.
func TestSchedTwins(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"spread", "unthrottled", "undersold", "seen", "compile", "nice", "spin"} {
		t.Run(mode, func(t *testing.T) {
			r := schedLab(t, "--mode", mode, "--duration", "6s")
			for _, f := range r.of("finding") {
				t.Errorf("%s: %s: %s: %s; %s", f.State, f.ID, f.Subject, f.Evidence, f.Cause)
			}
		})
	}
}
