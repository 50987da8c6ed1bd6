// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// judgeHidden finds a core that is busy while /proc/stat, and so top, mpstat and
// every idle figure, shows it idle: the kernel samples who runs at the timer
// tick, and what sleeps over each tick is never there.
func judgeHidden(l *Limits, past *window, f *model.Frame, now *model.CPU) verdict {
	if f.Sampled(model.SignalRunq) {
		return verdict{} // an estimate, and /proc/stat another one
	}
	w := past.last(l.HiddenSmooth)
	exact, shown := w.share(w.exactNS), w.share(w.shownNS)
	hidden := exact - shown
	v := verdict{
		calm:   hidden < l.HiddenRatio/2,
		after:  l.HiddenFor,
		weight: hidden,
		outcome: func() string {
			return fmt.Sprintf("it runs threads %s of the time now, and /proc/stat shows %s", percent(exact), percent(shown))
		},
	}
	v.bad = hidden >= l.HiddenRatio && shown <= l.HiddenShown*exact && exact <= 1-l.HiddenIdle &&
		w.switches >= l.HiddenSwitches*w.interval.Seconds()
	if !v.bad {
		return v
	}
	who, remedy := "", "plan with usage_usec in cpu.stat: it is exact"
	if p := mostOn(f, now.CPU.CPU); p != nil {
		who = fmt.Sprintf("; %s (pid %d) runs there most, %s of a core", processName(p), p.PID, percent(p.Run))
		remedy = fmt.Sprintf("plan with usage_usec in cpu.stat, or for the live threads of this process in ns %s: they are exact; or let it not sleep in step with the tick", runTime(p))
	}
	v.finding = Finding{
		Severity: Warn,
		Subject:  fmt.Sprintf("core %d", now.CPU.CPU),
		Evidence: fmt.Sprintf("runs threads %s of the time, and /proc/stat shows it %s busy: %s of a core are hidden from top, mpstat and every idle figure%s", percent(exact), percent(shown), percent(hidden), who),
		Cause:    "the kernel accounts CPU time by who runs at the timer tick, and this work sleeps over it",
		Remedy:   remedy,
		Verify:   fmt.Sprintf("mpstat -P %d 1 shows as much as its busy share here", now.CPU.CPU),
		Values: map[string]float64{
			"busy_ratio":     exact,
			"shown_ratio":    shown,
			"hidden_ratio":   hidden,
			"switches_per_s": w.switches / w.interval.Seconds(),
		},
	}
	return v
}

// mostOn is the process whose threads run most on that core, or else the one
// that runs most anywhere; nil where none is listed.
func mostOn(f *model.Frame, cpu int) *model.Process {
	if f.Sched == nil {
		return nil
	}
	var here, any *model.Process
	most, mostAny := 0.0, 0.0
	for i := range f.Sched.Processes {
		p, run := &f.Sched.Processes[i], 0.0
		for k := range p.Top {
			if t := &p.Top[k]; t.CPU == cpu && t.Run > 0 {
				run += t.Run
			}
		}
		if run > most {
			here, most = p, run
		}
		if p.Run > mostAny {
			any, mostAny = p, p.Run
		}
	}
	if here != nil {
		return here
	}
	return any
}
