// SPDX-License-Identifier: Apache-2.0

package live

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// causes are, of the time that threads waited for a core, the shares by cause.
type causes struct{ throttled, contended, masked, stolen float64 }

// littleWait is the mean of waiting threads below which nobody cares why.
const littleWait = 0.01

// causesOf takes a wait of the interval apart; the shares are unknown where it
// was short.
func causesOf(d *sample.RunTimes, interval time.Duration) causes {
	if float64(d.WaitNS) <= littleWait*float64(interval) {
		return causes{model.Unknown(), model.Unknown(), model.Unknown(), model.Unknown()}
	}
	of := func(ns uint64) float64 { return float64(ns) / float64(d.WaitNS) }
	p := report.WaitPartsOf(d)
	return causes{of(p.ThrottledNS), of(p.ContendedNS), of(p.MaskNS), of(p.StolenNS)}
}

// knownBy is s, or "?" where what is in use on this kernel does not see it.
func (v *View) knownBy(known func(*model.Frame) bool, s string) string {
	if v.Frame == nil || !known(v.Frame) {
		return "?"
	}
	return s
}

// waits is form for what waits are counted in.
func (v *View) waits(form func(float64) string) func(float64) string {
	return func(x float64) string { return v.knownBy((*model.Frame).WaitsKnown, form(x)) }
}

// causeColumns are the columns of what a row waited for. keep is that of the
// first; the others go before it, the last one first.
func causeColumns[T any](v *View, keep int, of func(T) *sample.RunTimes) []column[T] {
	one := func(title string, keep int, known func(*model.Frame) bool, part func(causes) float64) column[T] {
		return number(title, keep, 5, func(r T) float64 { return part(causesOf(of(r), v.Frame.Interval)) },
			v.sampled(model.SignalRunq, func(x float64) string { return v.knownBy(known, percent(x)) }))
	}
	return []column[T]{
		one("THR%", keep, (*model.Frame).QuotaWaitsKnown, func(c causes) float64 { return c.throttled }),
		one("CONT%", keep-1, (*model.Frame).QuotaWaitsKnown, func(c causes) float64 { return c.contended }),
		one("MASK%", keep-2, (*model.Frame).CausesKnown, func(c causes) float64 { return c.masked }),
		one("STEAL%", keep-3, (*model.Frame).CausesKnown, func(c causes) float64 { return c.stolen }),
	}
}
