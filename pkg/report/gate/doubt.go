// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// doubt says why the number of a metric may not be the whole truth; "" where it is.
func (g *Gate) doubt(m *Metric) string {
	f, signals := g.meter.last, m.signals
	if m.either {
		for i, s := range signals {
			if diagnose.Unmeasured(f, s) == "" {
				signals = signals[i : i+1]
				break
			}
		}
	}
	for _, s := range signals {
		if why := diagnose.Unmeasured(f, s); why != "" {
			return why
		}
	}
	switch conns := g.meter.all().conns; {
	case m.always:
		return ""
	case f.Elapsed <= 0:
		return "no time was measured"
	case !g.whole:
		return "it was cut off before its end"
	case m.conns && conns < g.opts.MinConns && f.Accept != nil && f.WithoutBPF():
		return "connections are not counted without BPF"
	case m.conns && conns < g.opts.MinConns:
		return fmt.Sprintf("%s, fewer than %d (--min-conns)", model.Plural(int(conns), "connection"), g.opts.MinConns)
	case g.meter.reset != "":
		return "the counters of " + g.meter.reset + " went back"
	}
	for _, s := range signals {
		if why := g.lost(s); why != "" {
			return why
		}
		if why := g.rough(s); g.opts.Strict && why != "" {
			return why
		}
	}
	return ""
}

// rough says why a signal is not exact, for --strict.
func (g *Gate) rough(signal string) string {
	f := g.meter.last
	for i := range f.Header.Signals {
		if s := &f.Header.Signals[i]; s.Name == signal && s.Accuracy != sample.Exact {
			return fmt.Sprintf("%s is approximate by %s (--strict)", signal, model.Printable(s.Variant))
		}
	}
	if b := f.Sample.Self.Budget; b != nil {
		for _, s := range b.Shed {
			if (s.What == signal || s.What == sample.ShedThreads && signal == model.SignalRunq) && (s.Now || s.ForNS > 0) {
				return fmt.Sprintf("%s was looked at less often to keep the cost down (--strict; --budget off)", signal)
			}
		}
	}
	if signal == model.SignalListen && g.meter.queues != nil && g.meter.queues.Accuracy == sample.Approximate {
		return "how refusals divide among listeners was inferred (--strict)"
	}
	return ""
}

// misses are tolerated up to this share of what was counted.
const missesTolerated = 1e-3

// losers are the signals that the entries of sample.Self.Lost take from; what is
// not listed may take from each. Where events alone are lost, no number is.
var losers = map[string][]string{
	"listener_map_full": {model.SignalAccept, model.SignalWake, model.SignalListen},
	"worker_map_full":   {model.SignalAccept, model.SignalWake},
	"retired_map_full":  {model.SignalAccept, model.SignalWake, model.SignalListen},
	"socket_gone":       {model.SignalAccept, model.SignalWake, model.SignalListen},
	"listeners_unread":  {model.SignalAccept, model.SignalWake, model.SignalListen},
	"ring_full":         {},

	"accepts_of_unknown_listener": {model.SignalAccept},

	"client_sketch_full":      {model.SignalListen},
	"handshake_entry_missed":  {model.SignalListen},
	"handshake_return_missed": {model.SignalListen},
	"refused_clients_unread":  {model.SignalListen},

	"netrx_unread":          {model.SignalNetRX},
	"cpu_backlog_map_full":  {model.SignalNetRX},
	"cpu_backlog_ring_full": {},

	"sched_unread":              {model.SignalRunq, model.SignalThrottle, model.SignalCPUTime},
	"switches_beyond_512_cores": {model.SignalRunq, model.SignalThrottle, model.SignalCPUTime},
	"thread_table_full":         {model.SignalRunq, model.SignalCPUTime},
	"exit_ring_full":            {model.SignalRunq, model.SignalCPUTime},
	"wait_map_full":             {model.SignalRunq},
	"woken_map_full":            {model.SignalRunq},
	"rival_map_full":            {model.SignalRunq},
	"parked_map_full":           {model.SignalRunq, model.SignalThrottle},
	"stall_ring_full":           {model.SignalThrottle},
	"stall_map_full":            {model.SignalThrottle},
	"stalls_untold":             {model.SignalThrottle},
	"cgroup_table_full":         {model.SignalThrottle},
	"cgroup_unreadable":         {model.SignalThrottle},
}

// lost says what was lost of a signal.
func (g *Gate) lost(signal string) string {
	self := &g.meter.last.Sample.Self
	for _, name := range slices.Sorted(maps.Keys(self.Lost)) {
		from, listed := losers[name]
		if n := self.Lost[name]; n > 0 && (g.opts.Strict || !listed || slices.Contains(from, signal)) {
			return fmt.Sprintf("%d events were lost (%s)", n, model.Printable(name))
		}
	}
	n := self.RecursionMisses
	if by := self.RecursionMissesBy; by != nil && !g.opts.Strict {
		n = 0
		for name, misses := range by {
			if slices.Contains(countsFor(name), signal) {
				n += misses
			}
		}
	}
	if n == 0 || !g.opts.Strict && float64(n) <= missesTolerated*g.counted(signal) {
		return ""
	}
	return fmt.Sprintf("%d events were lost (recursion misses)", n)
}

// countsFor are the signals that a BPF program counts for, by its name.
func countsFor(program string) []string {
	for _, of := range []struct {
		prefixes string
		signals  []string
	}{
		{"sched_switch sched_wakeup", []string{model.SignalRunq, model.SignalThrottle, model.SignalCPUTime}},
		{"net_rx_", []string{model.SignalNetRX}},
		{"sched_waking sk_data_ready readable_ inet_sock_set_state", []string{model.SignalWake}},
		{"do_accept_ sys_exit", []string{model.SignalAccept, model.SignalWake}},
		{"check_req_ conn_request_ cookie_ listen_", []string{model.SignalListen}},
	} {
		for _, prefix := range strings.Fields(of.prefixes) {
			if strings.HasPrefix(program, prefix) {
				return of.signals
			}
		}
	}
	return []string{model.SignalAccept, model.SignalWake, model.SignalListen, model.SignalNetRX, model.SignalRunq, model.SignalThrottle, model.SignalCPUTime}
}

// counted is how often something happened that a signal counts.
func (g *Gate) counted(signal string) float64 {
	n := 0.0
	switch f := g.meter.last; signal {
	case model.SignalAccept, model.SignalListen:
		return float64(g.meter.all().conns)
	case model.SignalWake:
		return float64(g.meter.all().wakeups)
	default:
		for i := range f.CPUs {
			if c := &f.CPUs[i]; signal == model.SignalNetRX && c.SoftIRQ != nil {
				n += float64(c.SoftIRQ.Count)
			} else if signal != model.SignalNetRX && c.Runq != nil && c.Runq.Runq != nil {
				n += float64(c.Runq.Switches)
			}
		}
	}
	return n
}
