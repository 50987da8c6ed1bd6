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
	c        *bpfCollector
	budget   *budget
	interval time.Duration
	user     time.Duration // at the last judgement
	events   uint64        // since then
	unsent   uint64        // events, as of then
}

func newReins(c *bpfCollector, o *Options) *reins {
	return &reins{c: c, budget: newBudget(o.Budget, runtime.NumCPU(), time.Now()), interval: o.Interval, user: processTime()}
}

// newPacer lists the signals that can be measured a part of the time.
func (c *bpfCollector) newPacer() *pacer {
	p := newPacer(c.kern, c.self)
	if c.kern.isAttached(SignalNetRX) {
		p.of[SignalNetRX] = pacedNetRX{c.netrx}
	}
	if c.kern.isAttached(SignalWake) {
		p.of[SignalWake] = pacedWake{c.accept}
	}
	if c.sched != nil && c.kern.isAttached(SignalRunq) {
		p.of[SignalRunq] = pacedRunq{c.sched}
	}
	return p
}

// tick is called at the end of each, and returns what s says of the budget.
func (r *reins) tick(s *sample.Sample) *sample.Budget {
	now := time.Now()
	r.c.pace.apply()
	r.events += uint64(len(s.Events))
	out := r.budget.sample(now) // how s was taken
	if r.budget.due(now) && !s.Final && r.budget.judge(r.costs(now), now) {
		r.apply(now)
	}
	if out != nil {
		r.budget.judgement(out)
		out.EventsShedTotal, out.LooksShedTotal = r.eventsShed(), r.c.sched.looksShed()
	}
	return out
}

// costs are those since the last judgement.
func (r *reins) costs(now time.Time) *costs {
	span := float64(now.Sub(r.budget.judged))
	user, unsent := processTime(), r.eventsShed()
	signals, total := r.c.self.rates(r.c.pace)
	events := r.events + less(unsent, r.unsent)
	k := &costs{
		total:   total + float64(user-r.user)/span,
		bpf:     total,
		signals: signals,
		threads: r.c.sched.lookCost(r.interval),
		events:  float64(events) * float64(eventCost) / span,
	}
	r.user, r.unsent, r.events = user, unsent, 0
	return k
}

func (r *reins) apply(now time.Time) {
	off := r.budget.taken(sample.ShedEvents, paceFull)
	for _, name := range []string{"events_off", "backlog_events_off", "stalls_off"} {
		r.c.pace.count(r.c.kern.setVariable(name, off))
	}
	r.c.sched.setThreadsShed(r.budget.taken(sample.ShedThreads, paceFull))
	for _, signal := range []string{SignalNetRX, SignalWake, SignalRunq} {
		r.c.pace.set(signal, r.budget.mode(signal), now)
	}
	r.c.self.hurry()
}

func (r *reins) eventsShed() (n uint64) {
	for _, name := range []string{"events_shed", "backlog_events_shed", "stalls_shed"} {
		var one uint64
		r.c.pace.count(r.c.kern.variable(name, &one))
		n += one
	}
	return n
}
