// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestSchedUsage(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		code       int
		want       string // in stdout when the code is 0, else in stderr
	}{
		{"help", "-h", exitOK, "below-quota"},
		{"no mode", "", exitUsage, "use one of: pile, spread"},
		{"unknown mode", "--mode heap", exitUsage, `--mode "heap" is not a mode`},
		{"quota of pile", "--mode pile --quota 1", exitUsage, "--quota does not apply to --mode pile"},
		{"pinned of spread", "--mode spread --pinned 2", exitUsage, "--pinned does not apply to --mode spread"},
		{"churn of hide", "--mode hide --churn 1", exitUsage, "--churn does not apply to --mode hide"},
		{"duration", "--mode pile --duration 0s", exitUsage, "use a positive time"},
		{"workers", "--mode pile --workers 0", exitUsage, "use 1 to 512"},
		{"one pinned", "--mode pile --pinned 1", exitUsage, "use 2 to 512"},
		{"too many pinned", "--mode pile --workers 3 --pinned 4", exitUsage, "use at most the number of --workers, 3"},
		{"negative cpu", "--mode hide --cpu -2", exitUsage, "--cpu -2"},
		{"no such cpu", "--mode hide --cpu 4095", exitUsage, "use one of the CPUs of this process"},
		{"threads", "--mode throttle --threads 65", exitUsage, "use 1 to 64"},
		{"groups", "--mode oversold --groups 0", exitUsage, "use 1 to 64"},
		{"NaN quota", "--mode throttle --quota NaN", exitUsage, "--quota NaN"},
		{"period", "--mode throttle --period 2s", exitUsage, "use 1ms to 1s"},
		{"tiny quota", "--mode throttle --quota 0.1 --period 5ms", exitUsage, "the kernel wants 1000 us or more"},
		{"quota of all threads", "--mode below-quota --threads 1 --quota 1", exitUsage, "cannot exceed that: use less than 1"},
		{"burst alone", "--mode throttle --burst 10ms", exitUsage, "--burst needs --every"},
		{"every alone", "--mode throttle --every 10ms", exitUsage, "--every needs --burst"},
		{"burst longer than every", "--mode below-quota --burst 20ms --every 10ms", exitUsage, "use more than the burst of 20ms"},
		{"pairs", "--mode churn --pairs 0", exitUsage, "use 1 to 64"},
		{"switches", "--mode churn --switches 0", exitUsage, "use 1 or more"},
		{"NaN churn", "--mode churn --churn NaN", exitUsage, "--churn NaN"},
		{"comm", "--mode pile --comm sixteen-bytes-xx", exitUsage, "1 to 15 bytes"},
		{"linger", "--mode pile --linger -1s", exitUsage, "--linger -1s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := runHerdlab(t, append([]string{"sched"}, strings.Fields(tc.args)...)...)
			data, silent := r.stdout, r.stderr
			if tc.code != exitOK {
				data, silent = r.stderr, r.stdout
			}
			if r.code != tc.code || !strings.Contains(data, tc.want) || silent != "" {
				t.Errorf("exit code %d, got %q and %q; want %d, %q and nothing", r.code, data, silent, tc.code, tc.want)
			}
		})
	}
}

// needSched is need for root, cgroups with the cpu controller, and two CPUs.
func needSched(t *testing.T) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "this test needs root"
	} else if _, err := openCPUHierarchy(os.Stderr); err != nil {
		missing = err.Error()
	} else if cpus, err := ownCPUs(); err != nil || len(cpus) < 2 {
		missing = "this test needs 2 CPUs"
	}
	need(t, missing)
}

// schedOracleOf demands a successful run with exactly one line on stdout, whose
// parts sum to the whole, and which left nothing behind.
func schedOracleOf(t *testing.T, r result) (o schedOracle) {
	t.Helper()
	decodeOracle(t, r, &o)
	total, processes, threads := o.Runtime, int64(0), int64(0)
	for _, w := range o.Workers {
		total = total.plus(schedTask{Run: w.Run, Wait: w.Wait, Switches: w.Switches})
		// At rest before and after: as often on to a CPU as off it. Linux 7.3
		// now and then counts one off it that stays.
		if off := w.VoluntarySwitches + w.InvoluntarySwitches; off < w.Switches || off > w.Switches+w.Switches/20+2 {
			t.Errorf("thread %d: %d switches, %d voluntary and %d involuntary ones", w.TID, w.Switches, w.VoluntarySwitches, w.InvoluntarySwitches)
		}
		// The clocks of the run queue and of the lab are not the same.
		if limit := o.DurationNS + o.DurationNS/100 + 1e6; w.Run < 0 || w.Wait < 0 || w.Run+w.Wait > limit {
			t.Errorf("thread %d ran %d and waited %d ns in %d", w.TID, w.Run, w.Wait, o.DurationNS)
		}
		if _, err := os.Stat("/proc/" + strconv.Itoa(w.PID)); err == nil {
			t.Errorf("worker %d is left behind", w.PID)
		}
	}
	for _, p := range o.Processes {
		processes += p.RunNS
	}
	if e := o.Ended; e != nil {
		total = total.plus(schedTask{Run: e.RunNS, Wait: e.WaitNS, Switches: e.Switches})
		if e.RunUnseenNS < 0 || e.RunUnseenNS > e.RunNS {
			t.Errorf("of the ended, %d of %d ns are unseen", e.RunUnseenNS, e.RunNS)
		}
		threads = e.Threads
	}
	if total != o.Total {
		t.Errorf("the parts sum to %+v, the total is %+v", total, o.Total)
	}
	// The processes' own clocks know their dead threads, not their children.
	if living := o.Total.Run - processes; o.Ended == nil && living != 0 || living < 0 {
		t.Errorf("the threads ran %d ns, the processes %d (%d threads have ended)", o.Total.Run, processes, threads)
	}
	for _, c := range o.Cgroups {
		if _, err := os.Stat(c.Dir); err == nil {
			t.Errorf("%s is left behind", c.Dir)
		}
		if c.CgroupID == 0 || c.NrThrottled > c.NrPeriods || c.RunNS <= 0 {
			t.Errorf("cgroup %+v", c)
		}
	}
	return o
}

// schedModeTests run each mode for a moment, and say what must hold however
// busy the machine is besides.
var schedModeTests = []struct {
	args  string
	check func(t *testing.T, o *schedOracle)
}{
	{"pile --duration 1s", checkPile},
	{"spread --duration 600ms", func(t *testing.T, o *schedOracle) {
		for _, w := range o.Workers {
			// Of a cycle, 1 ms in 34 is work; where the CPU is emulated, more.
			if limit := o.DurationNS / 4; w.CPUPinned != nil || w.Run > limit {
				t.Errorf("worker %+v: want one that ran for %d ns at most", w, limit)
			}
		}
	}},
	{"crowd --workers 10 --duration 600ms", func(t *testing.T, o *schedOracle) {
		crowd, other := o.Cgroups[0], o.Cgroups[1]
		if len(o.Workers) != 9+o.Cores || crowd.QuotaUS != nil || crowd.WaitNS <= 2*crowd.RunNS || crowd.WaitNS <= other.WaitNS {
			t.Errorf("crowd %+v, other %+v", crowd, other)
		}
	}},
	{"throttle --quota 0.1 --period 50ms --duration 1s", checkThrottle},
	{"throttle --quota 0.1 --period 50ms --threads 1 --duration 800ms --nested", checkThrottle},
	{"throttle --quota 0.2 --period 50ms --burst 20ms --every 200ms --duration 800ms", func(t *testing.T, o *schedOracle) {
		if c := o.Cgroups[0]; c.NrThrottled == 0 || c.NrThrottled >= c.NrPeriods || *c.QuotaUsedRatio > 1.1 {
			t.Errorf("cgroup %+v: want some periods throttled", c)
		}
	}},
	{"unthrottled --period 50ms --duration 600ms", func(t *testing.T, o *schedOracle) {
		if c := o.Cgroups[0]; c.NrThrottled != 0 || c.ThrottledNS != 0 || c.NrPeriods == 0 || *c.QuotaUsedRatio >= 1 {
			t.Errorf("cgroup %+v: want periods, and none throttled", c)
		}
	}},
	{"below-quota --quota 0.2 --period 50ms --duration 1500ms", func(t *testing.T, o *schedOracle) {
		if c := o.Cgroups[0]; *c.QuotaUsedRatio >= 0.6 || 10*c.NrThrottled < 3*c.NrPeriods || c.ThrottledNS == 0 {
			t.Errorf("cgroup %+v uses %.2f of its quota: want less than 0.6, and 0.3 of the periods throttled", c, *c.QuotaUsedRatio)
		}
	}},
	{"oversold --period 50ms --duration 1s", func(t *testing.T, o *schedOracle) {
		idle := int64(0)
		for _, c := range o.CPUs {
			idle += c.IdleNS
		}
		if limit := o.DurationNS * int64(len(o.CPUs)) / 10; idle > limit {
			t.Errorf("the host was idle for %d ns, want less than %d", idle, limit)
		}
		checkSold(t, o, 0.92)
	}},
	{"undersold --period 50ms --duration 600ms", func(t *testing.T, o *schedOracle) { checkSold(t, o, 0.5) }},
	{"seen --duration 1s", func(t *testing.T, o *schedOracle) {
		if h := o.Hidden; h.UnseenNS > h.RunNS/2 {
			t.Errorf("%+v: want the run time in that of the host", h)
		}
	}},
	{"compile --workers 3 --duration 500ms", func(t *testing.T, o *schedOracle) {
		if e := o.Ended; e.Processes < 3 || e.RunNS < e.Processes*40e6 || e.Threads != 0 {
			t.Errorf("%+v: want 3 processes or more of 40 ms or more", e)
		}
	}},
	{"nice --duration 500ms", func(t *testing.T, o *schedOracle) {
		nice := 0
		for _, w := range o.Workers {
			if w.Nice == 19 && w.Comm == schedOtherComm {
				nice++
			} else if w.Nice != 0 {
				t.Errorf("worker %+v", w)
			}
		}
		if nice != o.Cores {
			t.Errorf("%d threads at nice 19, want %d", nice, o.Cores)
		}
	}},
	{"spin --duration 500ms", func(t *testing.T, o *schedOracle) {
		for _, w := range o.Workers {
			switch alone := strconv.Itoa(*o.CPU); {
			case w.Comm == schedOtherComm:
				if w.CPUsAllowed == alone {
					t.Errorf("worker %+v is on the core of the spinner", w)
				}
			case w.CPUsAllowed != alone || w.Run+w.Wait < o.DurationNS*8/10:
				t.Errorf("the spinner %+v did not spin there for %d ns", w, o.DurationNS)
			}
		}
	}},
	{"churn --switches 100000 --churn 500", func(t *testing.T, o *schedOracle) {
		switches := int64(0)
		for _, w := range o.Workers {
			switches += w.Switches
		}
		if e := o.Ended; len(o.Workers) != 9 || switches < 100000 || e.Threads == 0 || e.Processes == 0 || e.Switches < e.Threads {
			t.Errorf("%d switches, ended %+v: want 100000, and some ended", switches, e)
		}
	}},
}

func checkPile(t *testing.T, o *schedOracle) {
	var pinned, run, wait int64
	for _, w := range o.Workers {
		if w.CPUPinned == nil {
			if w.Run > o.DurationNS/10 {
				t.Errorf("worker %+v: want one that mostly sleeps", w)
			}
			continue
		}
		pinned, run, wait = pinned+1, run+w.Run, wait+w.Wait
		if *w.CPUPinned != *o.CPU || w.CPUsAllowed != strconv.Itoa(*o.CPU) {
			t.Errorf("worker %+v: want CPU %d", w, *o.CPU)
		}
	}
	// All 13 want to run all the time, and one core has no more than that.
	if d := o.DurationNS; pinned != 13 || len(o.Workers) != 34 || run > d+d/50 || run+wait < 13*d*8/10 || wait < 9*run {
		t.Errorf("%d pinned of %d ran %d and waited %d ns in %d", pinned, len(o.Workers), run, wait, d)
	}
}

func checkThrottle(t *testing.T, o *schedOracle) {
	c := o.Cgroups[0]
	// The first and the last period may be cut short, and two without work
	// follow before the timer stops.
	if c.NrPeriods < 10 || 10*c.NrThrottled < 9*(c.NrPeriods-4) || c.ThrottledNS < o.DurationNS/2 {
		t.Errorf("cgroup %+v: want all periods throttled", c)
	}
	if r := *c.QuotaUsedRatio; r < 0.7 || r > 1.3 {
		t.Errorf("%.2f of the quota are used, want about all of it", r)
	}
	for _, w := range o.Workers {
		if w.Run+w.Wait < o.DurationNS*8/10 {
			t.Errorf("worker %+v did not want to run all the time", w)
		}
	}
	if len(o.Cgroups) == 1 {
		return
	}
	inner := o.Cgroups[1]
	if inner.Path != c.Path+"/"+cgroupInner || *o.Workers[0].Cgroup != inner.Path || inner.QuotaUS != nil ||
		inner.NrThrottled != 0 || inner.RunNS != c.RunNS || inner.WaitNS != c.WaitNS {
		t.Errorf("the inner cgroup is %+v, the outer one %+v", inner, c)
	}
}

// checkSold demands quotas that sell the host 1.67 times, and nobody throttled.
func checkSold(t *testing.T, o *schedOracle, used float64) {
	if r := *o.CPUSoldRatio; len(o.Cgroups) != 3 || r < 1.66 || r > 1.68 {
		t.Errorf("%d cgroups, cpu_sold_ratio %v", len(o.Cgroups), r)
	}
	for _, c := range o.Cgroups {
		if c.NrThrottled != 0 || c.ThrottledNS != 0 || *c.QuotaUsedRatio > used {
			t.Errorf("cgroup %+v uses %.2f of its quota: want %.2f at most, and no throttling", c, *c.QuotaUsedRatio, used)
		}
	}
}

func TestSchedModes(t *testing.T) {
	needSched(t)
	tested := map[string]bool{"hide": true} // has a test of its own
	for _, tc := range schedModeTests {
		mode, _, _ := strings.Cut(tc.args, " ")
		tested[mode] = true
		t.Run(tc.args, func(t *testing.T) {
			o := schedOracleOf(t, runHerdlab(t, append([]string{"sched", "--mode"}, strings.Fields(tc.args)...)...))
			tc.check(t, &o)
			if t.Failed() {
				t.Logf("%+v", o)
			}
		})
	}
	for _, m := range schedModes {
		if !tested[m.name] {
			t.Errorf("mode %s is not tested", m.name)
		}
	}
}

// TestSchedHide wants a moment in which nobody else is busy on the core: what
// runs while the process sleeps over a tick is booked for both. Who competes
// makes it wait; a kernel that always sees it without that is a failure.
func TestSchedHide(t *testing.T) {
	needSched(t)
	cpus, err := ownCPUs()
	if err != nil {
		t.Fatal(err)
	}
	competed := false
	for i := range 6 {
		o := schedOracleOf(t, runHerdlab(t, "sched", "--mode", "hide", "--duration", "500ms", "--cpu", strconv.Itoa(cpus[i%len(cpus)])))
		h, waited := o.Hidden, o.Workers[0].Wait
		t.Logf("%+v, waited %d ns", h, waited)
		if h.UnseenNS > h.RunNS/2 && h.RunNS > o.DurationNS/4 {
			return
		}
		competed = competed || waited > o.DurationNS/50
	}
	if !competed {
		t.Error("want a process that runs most of the time, unseen by /proc/stat")
	}
}
