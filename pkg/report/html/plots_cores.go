// SPDX-License-Identifier: Apache-2.0

package html

import (
	"fmt"
	"math"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// runqPlot shows where threads queued for a core.
func (r *Report) runqPlot(sum *ending) *plot {
	p := &plot{ID: "runq", Title: "Run queues", Short: "Run queues"}
	all := r.time.coresByNumber()
	if missing := r.missing(model.SignalRunq, anyCore(all, func(k *coreTrack) bool { return len(k.queue.v) > 0 })); missing != "" {
		p.Missing = missing
		return p
	}
	h := &heatSpec{fair: math.NaN(), bounds: [7]float64{0.05, 0.5, 1.05, 2, 4, 8, 16}, head: "longest", bands: sum.bands("runq-pile", "cputime-hidden")}
	rough := sum.approximate(model.SignalRunq)
	h.rows = rowsOf(all, func(those []*coreTrack) heatRow {
		most := 0.0
		for _, k := range those {
			most = max(most, k.longest)
		}
		return heatRow{
			at:    greatest(those, func(k *coreTrack, from, to int) float64 { return k.queue.at(from, to) }),
			title: fmt.Sprintf("cpu %s: at most %s threads ran or waited, as a mean over an interval", numbers(those), about(num(most), rough)),
			value: about(num(most), rough),
		}
	})
	d := h.draw(r.time)
	p.Note = fmt.Sprintf("Threads that ran or waited at each core: the busiest interval in each %s. Above 1, threads wait; a long queue beside empty ones means that they wait while other cores have nothing to do. Those that a CPU quota stops are not counted.",
		r.time.columns(mostCells/max(len(h.rows), 1)).each())
	p.Label = "heat map of the run queue of each core over time"
	p.Legend = rampLegend(h.gaps, "idle", "up to 0.5", "up to 1", "1 to 2", "2 to 4", "4 to 8", "8 to 16", "16 and more")
	return p.drawn(d)
}

// netrxPlot shows which cores serve the network.
func (r *Report) netrxPlot(sum *ending) *plot {
	p := &plot{ID: "netrx", Title: "NET_RX softirq by core", Short: "NET_RX"}
	all := r.time.coresByNumber()
	timed := anyCore(all, func(k *coreTrack) bool { return len(k.netrx.sum) > 0 })
	counted := anyCore(all, func(k *coreTrack) bool { return len(k.packets.sum) > 0 })
	if !timed && counted {
		// /proc/net/softnet_stat is there whatever the signal is measured with.
	} else if missing := r.missing(model.SignalNetRX, timed); missing != "" {
		p.Missing = missing
		return p
	}
	of := func(k *coreTrack) *means {
		if timed {
			return &k.netrx
		}
		return &k.packets
	}
	rough := timed && sum.approximate(model.SignalNetRX)
	total, most := 0.0, 0.0
	for _, k := range all {
		total += of(k).total(0, r.time.bins)
		for i := range r.time.bins {
			most = max(most, known(of(k).at(i, i+1)))
		}
	}
	h := &heatSpec{fair: 1 / float64(max(len(all), 1)), head: "share of all", bounds: [7]float64{0.005, 0.02, 0.05, 0.15, 0.3, 0.6, 0.85}, bands: sum.bands("netrx-imbalance")}
	form := percent
	if !timed {
		form = func(v float64) string { return num(v) + " packets/s" }
		for i := range h.bounds {
			h.bounds[i] *= max(most, 1)
		}
	}
	h.rows = rowsOf(all, func(those []*coreTrack) heatRow {
		mine, busiest := 0.0, 0.0
		for _, k := range those {
			mine += of(k).total(0, r.time.bins)
			busiest = max(busiest, known(of(k).at(0, r.time.bins)))
		}
		share := mine / total
		if total <= 0 {
			share = 0
		}
		return heatRow{
			at:    greatest(those, func(k *coreTrack, from, to int) float64 { return of(k).at(from, to) }),
			title: fmt.Sprintf("cpu %s: %s of all NET_RX, on average %s", numbers(those), percent(share), form(busiest)),
			bar:   share, value: about(percent(share), rough),
		}
	})
	d := h.draw(r.time)
	p.Label = "heat map of the NET_RX softirq of each core over time"
	b := h.bounds
	if timed {
		p.Note = "Share of each core's time that the NET_RX softirq takes. The bars at the right are the cores' shares of all of it; the line in them is an even share."
	} else {
		p.Note = "Packets per second by core (its time is not measured). The bars at the right are the cores' shares of all; the line in them is an even share."
	}
	p.Legend = rampLegend(h.gaps, "less than "+form(b[0]), "from "+form(b[0]), form(b[1]), form(b[2]), form(b[3]), form(b[4]), form(b[5]), form(b[6])+" and more")
	return p.drawn(d)
}

func anyCore(all []*coreTrack, has func(k *coreTrack) bool) bool {
	for _, k := range all {
		if has(k) {
			return true
		}
	}
	return false
}

// greatest is the greatest value of those cores.
func greatest(those []*coreTrack, of func(k *coreTrack, from, to int) float64) func(from, to int) float64 {
	return func(from, to int) float64 {
		most := math.NaN()
		for _, k := range those {
			if v := of(k, from, to); !(v <= most) && model.Known(v) {
				most = v
			}
		}
		return most
	}
}

func numbers(those []*coreTrack) string {
	first, last := those[0].number, those[len(those)-1].number
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// rampLegend names the levels from 0 on, and the gaps where there are some.
func rampLegend(gaps bool, names ...string) []swatch {
	out := []swatch{{ink: inkBack, Text: names[0]}}
	for i, k := range ramp[1:] {
		out = append(out, swatch{ink: ink{k.Class + "s", k.Stroke, "none", ""}, Text: names[i+1]})
	}
	if gaps {
		out = append(out, swatch{ink: inkUnseen, Text: "not known", Line: true})
	}
	return out
}

// bands are the findings of those ids, as outlines.
func (e *ending) bands(ids ...string) []band {
	var out []band
	for i := range e.findings {
		f := &e.findings[i]
		for _, id := range ids {
			if f.ID == id && f.CPU >= 0 && len(out) < mostFindings {
				from, to := e.raised(f)
				out = append(out, band{f.CPU, from, to, f.Severity, f.ID})
			}
		}
	}
	return out
}

func severityInk(s diagnose.Severity) ink {
	if s == diagnose.Crit {
		return inkCrit
	}
	return inkWarn
}
