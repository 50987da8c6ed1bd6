// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// budgetEvery is how often the cost is judged; budgetWarmup is not: attaching
	// and the first look at everything are no measure of what follows.
	budgetEvery  = 900 * time.Millisecond // a tick may come a little early
	budgetWarmup = 3 * time.Second
	// budgetPatience is for how many judgements in a row it must be over before
	// something is shed, unless the BPF programs alone are; and calmPatience under
	// before something is restored.
	budgetPatience = 2
	calmPatience   = 5
	// When something is shed, the cost is to fall to shedTo of the budget; it is
	// restored when that would leave the cost below restoreTo.
	shedTo, restoreTo = 0.8, 0.6
	// A step that would save less than worthwhile of the budget is left out.
	worthwhile = 0.03
	// A signal that is off cannot be measured: it is tried again after retryOff.
	retryOff = time.Minute
	// threadsShedEvery is how often threads are looked at when they were shed.
	threadsShedEvery = 5 * time.Second
	// eventCost is about what an event takes, to send and to tell.
	eventCost = 3 * time.Microsecond
)

// shedStep is one thing to do without.
type shedStep struct {
	what  string
	how   string
	mode  pacing // of a signal
	taken bool
	since time.Time
	times uint64
	spent time.Duration // that it was taken, up to since
	saves float64       // cores; as known when it was taken
}

// newSteps are the things to do without, in this order: what is nice to have, what
// the totals do without, and then the signals by what they cost on a machine
// that has much to do, and tell when it does.
func newSteps() []*shedStep {
	return []*shedStep{
		{what: sample.ShedEvents, how: sample.ShedOff},
		{what: sample.ShedThreads, how: sample.ShedSampled},
		{what: SignalNetRX, how: sample.ShedSampled, mode: paceSampled},
		{what: SignalWake, how: sample.ShedSampled, mode: paceSampled},
		{what: SignalRunq, how: sample.ShedSampled, mode: paceSampled},
		{what: SignalNetRX, how: sample.ShedOff, mode: paceOff},
		{what: SignalWake, how: sample.ShedOff, mode: paceOff},
		{what: SignalRunq, how: sample.ShedOff, mode: paceOff},
	}
}

// budget keeps the cost of tracing within bounds. It only decides: what it
// decides on is measured, and done, by others.
type budget struct {
	limit  float64 // cores; 0: none
	cores  int
	steps  []*shedStep
	begun  time.Time
	judged time.Time
	over   int // judgements in a row
	calm   int
	cost   float64 // cores, as last judged
	stuck  bool    // over, and there is nothing left to shed
}

// costs are what a judgement goes by, in cores.
type costs struct {
	total   float64            // of now, with what is shed
	bpf     float64            // of it, the programs: what attaching cost is not in it
	signals map[string]float64 // what each signal's hooks cost while they are attached
	threads float64            // what looking at threads costs at each tick
	events  float64
}

func newBudget(percent float64, cores int, now time.Time) *budget {
	return &budget{limit: percent / 100 * float64(cores), cores: cores, steps: newSteps(), begun: now, judged: now}
}

// due reports whether it is time for a judgement.
func (b *budget) due(now time.Time) bool {
	return b.limit > 0 && now.Sub(b.judged) >= budgetEvery
}

// saving is what taking the step would save, or what it saves.
func (s *shedStep) saving(c *costs) float64 {
	switch {
	case s.what == sample.ShedEvents:
		return c.events
	case s.what == sample.ShedThreads:
		return c.threads
	case s.mode == paceSampled:
		return c.signals[s.what] * (1 - paceShare)
	}
	return c.signals[s.what] * paceShare
}

// judge takes or undoes steps, and reports whether it did.
func (b *budget) judge(c *costs, now time.Time) bool {
	b.judged, b.cost = now, c.total
	if now.Sub(b.begun) < budgetWarmup && c.bpf <= b.limit {
		return false
	}
	if c.total <= b.limit {
		b.over, b.stuck = 0, false
		return b.restore(c, now)
	}
	b.calm = 0
	if b.over++; b.over < budgetPatience && c.bpf <= b.limit {
		return false
	}
	return b.shed(c, now)
}

func (b *budget) shed(c *costs, now time.Time) bool {
	left, did := c.total, false
	for _, s := range b.steps {
		if left <= shedTo*b.limit {
			break
		}
		saves := s.saving(c)
		if s.taken || saves < worthwhile*b.limit || s.mode == paceOff && !b.sampledBefore(s.what, now) {
			continue
		}
		s.taken, s.since, s.saves = true, now, saves
		s.times++
		left -= saves
		did = true
	}
	b.stuck = !did
	if did {
		b.over = 0
	}
	return did
}

// sampledBefore reports whether the signal was sampled before this judgement: it is
// given up only when that has turned out not to be enough.
func (b *budget) sampledBefore(what string, now time.Time) bool {
	for _, s := range b.steps {
		if s.what == what && s.mode == paceSampled {
			return s.taken && s.since.Before(now)
		}
	}
	return false
}

// taken reports whether the signal is shed to that degree.
func (b *budget) taken(what string, mode pacing) bool {
	for _, s := range b.steps {
		if s.what == what && s.mode == mode {
			return s.taken
		}
	}
	return false
}

// restore undoes the last step that there is room for, one at a time.
func (b *budget) restore(c *costs, now time.Time) bool {
	if b.calm++; b.calm < calmPatience {
		return false
	}
	for i := len(b.steps) - 1; i >= 0; i-- {
		s := b.steps[i]
		if !s.taken || s.mode == paceSampled && b.taken(s.what, paceOff) {
			continue
		}
		saves := s.saving(c)
		if s.mode == paceOff {
			saves = s.saves // its cost of now is not known
			if now.Sub(s.since) >= retryOff {
				saves = 0
			}
		}
		if c.total+saves > restoreTo*b.limit {
			continue
		}
		s.taken, s.spent = false, s.spent+now.Sub(s.since)
		b.calm = 0
		return true
	}
	return false
}

// mode is how much of the time the signal is to be measured.
func (b *budget) mode(signal string) pacing {
	mode := paceFull
	for _, s := range b.steps {
		if s.what == signal && s.taken {
			mode = max(mode, s.mode)
		}
	}
	return mode
}

// sample says what is and was shed; nil where there is no budget.
func (b *budget) sample(now time.Time) *sample.Budget {
	if b.limit <= 0 {
		return nil
	}
	out := &sample.Budget{Limit: b.limit / float64(b.cores)}
	b.judgement(out)
	for _, s := range b.steps {
		if s.times == 0 {
			continue
		}
		spent := s.spent
		if s.taken {
			spent += now.Sub(s.since)
		}
		out.Shed = append(out.Shed, sample.Shed{What: s.what, How: s.how, Now: s.taken, TimesTotal: s.times, ForNS: uint64(spent)})
	}
	return out
}

// judgement fills in what was found out last.
func (b *budget) judgement(out *sample.Budget) {
	out.Cost, out.Exceeded = b.cost/float64(b.cores), b.stuck
}
