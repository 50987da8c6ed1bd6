// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"math"
)

// acceptOracle is what herdlab accept prints.
type acceptOracle struct {
	Port         int      `json:"port"`
	Accepts      int64    `json:"accepts_total"`
	EAGAINs      *int64   `json:"accept_eagain_total"`
	PassiveOpens *int64   `json:"passive_opens_delta"`
	WakeExpected *float64 `json:"wakeups_per_accept_expected"`
	Unsettled    int64    `json:"unsettled"`
}

// acceptPrograms are those that count accepts; the others of herdtrace count
// completions and wake-ups.
var acceptPrograms = map[string]bool{"do_accept_exit": true, "sys_exit_accept": true, "sys_exit_accept4": true, "sys_exit": true}

// judgeAccept compares with what the server counted. What the kernel skipped,
// since the program was already running on that core, herdtrace counts and shows:
// with these recursion misses the sum must be right.
func judgeAccept(j *judgement, signal string) {
	var o acceptOracle
	if err := json.Unmarshal(j.run.oracle, &o); err != nil || o.Accepts == 0 {
		j.wrong("the lab said no oracle: %v", err)
		return
	}
	var sum listenerRecord
	for _, l := range j.run.summary().Listeners {
		if l.Port == o.Port {
			sum.Accepts += l.Accepts
			sum.Completions += l.Completions
			sum.EAGAINs += l.EAGAINs
			sum.Wakeups += l.Wakeups
		}
	}
	var misses, wakeMisses int64
	for program, n := range j.run.summary().Cost.RecursionMissesBy {
		if acceptPrograms[program] {
			misses += n
		} else {
			wakeMisses += n
		}
	}
	if signal == "wake" {
		judgeWake(j, &o, &sum, wakeMisses)
		return
	}
	if o.PassiveOpens != nil {
		j.equal("the oracle's accepts", o.Accepts, *o.PassiveOpens)
	}
	j.short("accepts", sum.Accepts, o.Accepts, misses)
	short := o.Accepts - sum.Accepts
	if o.EAGAINs != nil {
		j.short("EAGAINs", sum.EAGAINs, *o.EAGAINs, misses)
		short += *o.EAGAINs - sum.EAGAINs
	}
	if short > misses {
		j.wrong("%d accepts and EAGAINs are missing, %d misses", short, misses)
	}
	if misses > 0 {
		j.note("%d recursion misses: %d of %d accepts", misses, o.Accepts-sum.Accepts, o.Accepts)
	}
}

func judgeWake(j *judgement, o *acceptOracle, sum *listenerRecord, misses int64) {
	j.short("completions", sum.Completions, o.Accepts, misses)
	if misses > 0 {
		j.note("%d recursion misses: %d of %d completions", misses, o.Accepts-sum.Completions, o.Accepts)
	}
	if o.WakeExpected == nil {
		return // at saturation or in a Go server it is not known
	}
	want, per := *o.WakeExpected, float64(o.Accepts)
	got := float64(sum.Wakeups) / per
	within := 0.01
	if !j.exact {
		within = 0.02
	}
	if math.Abs(got-want) > within*want+want*float64(o.Unsettled)/per+float64(misses)/per {
		j.wrong("%.3f wake-ups per accept, want %.0f (%d of %d connections met a worker that was not asleep)", got, want, o.Unsettled, o.Accepts)
	}
}

// short: a count may fall short of the truth by what was skipped, and no more.
func (j *judgement) short(what string, got, want, misses int64) {
	if got > want || want-got > misses {
		j.wrong("%s %d, want %d (%d misses)", what, got, want, misses)
	}
}
