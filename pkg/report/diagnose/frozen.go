// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"math"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgeFrozen finds a process whose utime and stime in /proc/PID/stat, and so in
// top and ps, are not what the scheduler ran: they stand still, jump, or drift
// away. On a sound kernel their sum follows sum_exec_runtime to within 30 ms
// (kernel/sched/cputime.c: cputime_adjust()), so this can be tried out on
// recorded and made-up figures only.
func judgeFrozen(l *Limits, past *window, f *model.Frame, now *model.Process) verdict {
	last, all := past.last(1), claimedFor(past)
	off := math.Abs(last.claimedNS - last.ranForNS)
	v := verdict{
		calm:   last.claims > 0 && off <= drift(l, last),
		weight: math.Abs(all.claimedNS - all.ranForNS),
		outcome: func() string {
			return fmt.Sprintf("/proc/%d/stat moves by what the scheduler runs it now", now.PID)
		},
	}
	if last.claims == 0 {
		return v
	}
	what := ""
	frozen, ticks := still(past)
	threads := float64(max(now.Threads, 1))
	if n := float64(f.Header.CPUs); n > 0 {
		threads = min(threads, n)
	}
	could := l.JumpRatio * float64(last.interval) * threads
	switch {
	case ticks >= l.FrozenTicks && frozen.ranForNS >= l.FrozenRunNS && frozen.share(frozen.ranForNS) >= l.FrozenRun:
		what = fmt.Sprintf("/proc/%d/stat stood still for %s while the scheduler ran it for %s (%s of a core)",
			now.PID, durationText(float64(frozen.interval)), durationText(frozen.ranForNS), percent(frozen.share(frozen.ranForNS)))
	case last.claimedNS > could+l.DriftNS && last.claimedNS > l.JumpRatio*last.ranForNS+l.DriftNS:
		what = fmt.Sprintf("/proc/%d/stat jumped by %s in %s, more than its %s can use; the scheduler ran it for %s",
			now.PID, durationText(last.claimedNS), durationText(float64(last.interval)), model.Plural(max(now.Threads, 1), "thread"), durationText(last.ranForNS))
	case all.claims >= l.FrozenTicks && v.weight > drift(l, all) && (f.EndsKnown() || all.claimedNS < all.ranForNS):
		what = fmt.Sprintf("/proc/%d/stat grew by %s in %s, and the scheduler ran it for %s",
			now.PID, durationText(all.claimedNS), durationText(float64(all.interval)), durationText(all.ranForNS))
	default:
		return v
	}
	v.bad, v.calm = true, false
	v.finding = Finding{
		Severity: Warn,
		Subject:  fmt.Sprintf("process %d (%s)", now.PID, processName(now)),
		Evidence: what,
		Cause:    frozenCause(f),
		Remedy:   fmt.Sprintf("do not trust top, ps or pidstat here: the true run time of its live threads in ns is %s; and update the kernel", runTime(now)),
		Verify:   "utime + stime grows by that, to within 30 ms",
		Values: map[string]float64{
			"claimed_seconds": all.claimedNS / 1e9,
			"run_seconds":     all.ranForNS / 1e9,
			"still_seconds":   frozen.interval.Seconds(),
		},
	}
	return v
}

// runTime is a command that prints for how long the live threads of a process
// have run: what is in /proc/PID/schedstat is of its main thread alone. (As a
// number awk would print no more than six digits of it.)
func runTime(p *model.Process) string {
	return fmt.Sprintf(`awk '{n += $1} END {printf "%%.0f\n", n}' /proc/%d/task/*/schedstat`, p.PID)
}

// drift is how far apart the two figures of t may be.
func drift(l *Limits, t *tick) float64 {
	most := max(t.claimedNS, t.ranForNS)
	return l.DriftNS + l.DriftSkewNS*math.Ceil(t.share(t.ranForNS)) + l.DriftShare*most
}

// claimedFor sums up the last ticks in which both figures were known: each time
// that they are looked up anew, they may be off by what a look is.
func claimedFor(past *window) *tick {
	var sum tick
	for i := len(past.recent) - 1; i >= 0 && past.recent[i].claims > 0; i-- {
		sum.add(&past.recent[i])
	}
	return &sum
}

// still sums up the last ticks in which what is claimed did not move.
func still(past *window) (sum tick, ticks int) {
	for i := len(past.recent) - 1; i >= 0; i-- {
		t := &past.recent[i]
		if t.claims == 0 || t.claimedNS > 0 {
			break
		}
		sum.add(t)
		ticks++
	}
	return sum, ticks
}

func frozenCause(f *model.Frame) string {
	const known = "the kernel scales utime and stime to the run time and keeps each from going back, so that their sum can run ahead, stand still and jump (kernels before 4.3, fixed by 9d7fb0427648)"
	if older, ok := kernelBefore(f, 4, 3); ok && !older {
		return fmt.Sprintf("the kernel's account is wrong; this one (%s) is newer than those that are known for it: %s", model.Printable(f.Header.Kernel), known)
	}
	return known
}
