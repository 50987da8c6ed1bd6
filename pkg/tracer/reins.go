// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"runtime"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// reins measure what tracing costs, ask the budget, and do what it says.
type reins struct {
	t      *Tracer
	budget *budget
	user   time.Duration // at the last judgement
	events uint64        // since then
	unsent uint64        // events, as of then
}

func newReins(t *Tracer) *reins {
	r := &reins{t: t, budget: newBudget(t.opts.Budget, runtime.NumCPU(), time.Now())}
	r.user, _ = userCPU() // where it fails, each tick does
	return r
}

// newPacer lists the signals that can be measured a part of the time.
func (t *Tracer) newPacer() *pacer {
	p := newPacer(t.kern, t.self)
	if t.kern.isAttached(SignalNetRX) {
		p.of[SignalNetRX] = pacedNetRX{t.netrx}
	}
	if t.kern.isAttached(SignalWake) {
		p.of[SignalWake] = pacedWake{t.accept}
	}
	if t.sched != nil && t.kern.isAttached(SignalRunq) {
		p.of[SignalRunq] = pacedRunq{t.sched}
	}
	return p
}

// tick is called at the end of each, and returns what s says of the budget.
func (r *reins) tick(s *sample.Sample) *sample.Budget {
	now := time.Now()
	r.events += uint64(len(s.Events))
	if r.budget.due(now) && !s.Final {
		if user, err := userCPU(); err == nil {
			span := float64(now.Sub(r.budget.judged))
			signals, total := r.t.self.rates(r.t.pace)
			c := &costs{
				total:   total + float64(user-r.user)/span,
				signals: signals,
				threads: r.t.sched.lookCost(r.t.opts.Interval),
				events:  float64(r.events) * float64(eventCost) / span,
			}
			r.user, r.events = user, 0
			if n := r.eventsShed(); n >= r.unsent {
				c.events += float64(n-r.unsent) * float64(eventCost) / span
				r.unsent = n
			}
			if r.budget.judge(c, now) {
				r.apply(now)
			}
		}
	}
	out := r.budget.sample(now)
	if out != nil {
		out.EventsShedTotal, out.LooksShedTotal = r.eventsShed(), r.t.sched.looksShed()
	}
	return out
}

func (r *reins) apply(now time.Time) {
	off := r.budget.taken(sample.ShedEvents, paceFull)
	for _, name := range []string{"events_off", "backlog_events_off", "stalls_off"} {
		r.t.pace.count(r.t.kern.setVariable(name, off))
	}
	r.t.sched.setThreadsShed(r.budget.taken(sample.ShedThreads, paceFull))
	for _, signal := range []string{SignalNetRX, SignalWake, SignalRunq} {
		r.t.pace.set(signal, r.budget.mode(signal), now)
	}
}

func (r *reins) eventsShed() (n uint64) {
	for _, name := range []string{"events_shed", "backlog_events_shed", "stalls_shed"} {
		var one uint64
		r.t.pace.count(r.t.kern.variable(name, &one))
		n += one
	}
	return n
}
