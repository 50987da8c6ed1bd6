// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// Metric is a number of the whole trace, which expressions may refer to.
type Metric struct {
	Name string
	Doc  string
	unit unit
	// signals are those without which it is not known.
	signals []string
	// grows: what was missed could only have made it greater.
	grows bool
	// either: one of the signals is enough.
	either bool
	// conns: it says nothing of a trace with few connections.
	conns bool
	// unseen says why it could not be measured beside that; nil: nothing else is in
	// the way. Partly: it could, in part.
	unseen func(m *meter) string
	partly bool
	// always: it is of the trace itself, and known of any.
	always bool
	of     func(m *meter) value
}

// Unit is what its numbers are in, in a word.
func (m *Metric) Unit() string { return m.unit.name }

// Metrics are all there are, by what they are about.
func Metrics() []Metric { return table }

var table = slices.Concat(acceptMetrics, listenMetrics, runqMetrics, throttleMetrics, netrxMetrics, traceMetrics, findingMetrics())

func metricNamed(name string) *Metric {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}

// similar names the metrics that begin like name.
func similar(name string) string {
	group, _, _ := strings.Cut(name, ".")
	var names []string
	for i := range table {
		if g, _, _ := strings.Cut(table[i].Name, "."); g == group && g != "finding" {
			names = append(names, table[i].Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ", there is " + strings.Join(names, ", ")
}

var (
	needAccept = []string{model.SignalAccept}
	needWake   = []string{model.SignalWake}
	needBoth   = []string{model.SignalAccept, model.SignalWake}
	needListen = []string{model.SignalListen}
)

var acceptMetrics = []Metric{
	{Name: "conns.total", unit: inCount, signals: needBoth, either: true, grows: true, of: (*meter).conns,
		Doc: "connections that were completed, or accepted where that is more, at all listeners"},
	{Name: "accept.accepts_total", unit: inCount, signals: needAccept, grows: true, of: sumOf(func(t *totals) uint64 { return t.accepts }),
		Doc: "connections that accept() returned, at all listeners"},
	{Name: "accept.eagain_ratio", unit: inRatio, signals: needAccept, conns: true, of: (*meter).eagainRatio,
		Doc: "share of all accept calls that found no connection; 50 % is normal for a Go server"},
	{Name: "herd.wakeups_per_accept", unit: inCount, signals: needWake, conns: true, of: (*meter).wakeupsPerAccept,
		Doc: "wake-ups per accepted connection at the address where they are most, of those with at least --min-conns connections; 1 is ideal"},
	{Name: "herd.wakeups_total", unit: inCount, signals: needWake, grows: true, of: sumOf(func(t *totals) uint64 { return t.wakeups }),
		Doc: "wake-ups of threads that connections caused, at all listeners"},
	{Name: "herd.wasted_wakeups_total", unit: inCount, signals: needBoth, grows: true, of: sumOf(func(t *totals) uint64 { return t.wasted }),
		Doc: "those of them that reached user space, where accept() found nothing"},
	{Name: "herd.empty_cpu_seconds", unit: inSeconds, signals: needBoth, grows: true, of: (*meter).emptyCPU,
		Doc: "CPU time of wake-ups for nothing, extrapolated from those that could be timed"},
}

var listenMetrics = []Metric{
	{Name: "listen.refusals_total", unit: inCount, signals: needListen, grows: true, conns: true, of: (*meter).refusals,
		Doc: "SYNs and final ACKs that were not admitted, at all listeners; a client that repeats itself is counted again"},
	{Name: "listen.refusals_per_conn", unit: inRatio, signals: []string{model.SignalListen, model.SignalWake}, conns: true, of: (*meter).refusalsPerConn,
		Doc: "the same per connection"},
	{Name: "listen.accept_queue_refusals_total", unit: inCount, signals: needListen, grows: true, conns: true, of: sumOf(func(t *totals) uint64 { return t.refusals.AcceptQueue() }),
		Doc: "those at a full accept queue, at all known listeners"},
	{Name: "listen.syn_queue_refusals_total", unit: inCount, signals: needListen, grows: true, conns: true, of: sumOf(func(t *totals) uint64 { return t.refusals.SynQueue }),
		Doc: "those at a full SYN queue, at all known listeners"},
	{Name: "listen.refused_clients_total", unit: inCount, signals: needListen, grows: true, conns: true, unseen: noClients, of: sumOf(func(t *totals) uint64 { return t.clients }),
		Doc: "clients (address and port) behind the refusals that were seen"},
	{Name: "listen.syncookies_total", unit: inCount, signals: needListen, grows: true, conns: true, of: sumOf(func(t *totals) uint64 { return t.cookies }),
		Doc: "SYN cookies that were sent, at all listeners"},
	{Name: "listen.accept_queue_full_ratio", unit: inRatio, signals: needListen, conns: true, of: (*meter).queueFull,
		Doc: "share of the time in which an accept queue was full, of the listener where that is most"},
	{Name: "listen.accept_queue_peak_ratio", unit: inRatio, signals: needListen, grows: true, conns: true, of: (*meter).queuePeak,
		Doc: "greatest length of an accept queue by its limit, of the listener where that is most; full is more than 100 %"},
	{Name: "listen.accept_queue_wait_ms", unit: inMS, signals: []string{model.SignalListen, model.SignalAccept}, grows: true, conns: true, of: (*meter).queueWait,
		Doc: "how long a connection waited in an accept queue, at the worst tick and listener: its length by the accepts per second; without end where none is accepted"},
}

func noClients(m *meter) string {
	if m.last.ClientsKnown() {
		return ""
	}
	return "refused clients are not seen by listen=" + model.Printable(m.last.Variant(model.SignalListen))
}

var needRunq = []string{model.SignalRunq}

var runqMetrics = []Metric{
	{Name: "runq.wait_p99_ms", unit: inMS, signals: needRunq, unseen: noWaits, of: (*meter).waitP99,
		Doc: "99th percentile of the waits for a core, on all cores: the upper bound of its power-of-two slot"},
	{Name: "runq.core_wait_p99_ms", unit: inMS, signals: needRunq, unseen: noWaits, of: (*meter).coreWaitP99,
		Doc: "the same of the core where it is greatest, of those with at least 100 waits"},
	{Name: "runq.waiting_threads", unit: inCount, signals: needRunq, of: (*meter).waiting,
		Doc: "threads that waited for a core, as a mean over the time, on all cores; those that waited for a quota are not among them where that is known"},
	{Name: "runq.peak_threads", unit: inCount, signals: needRunq, grows: true, unseen: noQueues, of: (*meter).peak,
		Doc: "most runnable threads on a core, the running one included"},
	{Name: "runq.unclaimed_ratio", unit: inRatio, signals: needRunq, unseen: noQueues, of: (*meter).unclaimed,
		Doc: "share of the time in which a thread waited for a core while another core was idle, of the core where that is most"},
	{Name: "runq.busy_ratio", unit: inRatio, signals: needRunq, of: (*meter).busy,
		Doc: "share of the time in which cores ran threads, as a mean over all cores"},
}

func noQueues(m *meter) string {
	if m.last.RunqPolled() {
		return "runq is looked up in /proc, which does not show it"
	}
	return ""
}

func noWaits(m *meter) string {
	if why := noQueues(m); why != "" {
		return why
	}
	if len(m.waits()) == 0 {
		return "no waits were measured"
	}
	return ""
}

var needThrottle = []string{model.SignalThrottle}

var throttleMetrics = []Metric{
	{Name: "throttle.periods_ratio", unit: inRatio, signals: needThrottle, unseen: noCGroups, of: (*meter).throttledRatio,
		Doc: "share of its periods in which a cgroup had used up its CPU quota, of the one where that is most, of those with at least 10 periods; 0 without a quota"},
	{Name: "throttle.throttled_periods_total", unit: inCount, signals: needThrottle, grows: true, unseen: noCGroups, of: (*meter).throttledPeriods,
		Doc: "such periods of all cgroups"},
	{Name: "throttle.throttled_seconds", unit: inSeconds, signals: needThrottle, grows: true, unseen: noCGroups, of: (*meter).throttledSeconds,
		Doc: "for how long cgroups were stopped, summed over cores and cgroups: cpu.stat's throttled time"},
	{Name: "throttle.worst_stall_ms", unit: inMS, signals: needThrottle, grows: true, unseen: noStalls, of: (*meter).worstStall,
		Doc: "longest single stop of a core of a cgroup"},
	{Name: "throttle.sold_ratio", unit: inRatio, signals: needThrottle, grows: true, unseen: noCGroups, of: (*meter).sold,
		Doc: "greatest sum of the quotas of cgroups that ran, by the host's cores; more than 100 % is oversold"},
}

func noCGroups(m *meter) string {
	if m.sawGroups {
		return ""
	}
	return "no cgroup of the cpu controller was to be seen"
}

func noStalls(m *meter) string {
	if !m.last.StallsKnown() {
		return "single stops are not seen by throttle=" + model.Printable(m.last.Variant(model.SignalThrottle))
	}
	return noCGroups(m)
}

var needNetRX = []string{model.SignalNetRX}

var netrxMetrics = []Metric{
	{Name: "netrx.backlog_drops_total", unit: inCount, signals: needNetRX, grows: true, unseen: noSoftnet, of: (*meter).drops,
		Doc: "packets that a full CPU backlog dropped, on all cores"},
	{Name: "netrx.squeezed_total", unit: inCount, signals: needNetRX, grows: true, unseen: noSoftnet, of: (*meter).squeezed,
		Doc: "NET_RX softirqs that stopped with work left, on all cores"},
	{Name: "netrx.core_ratio", unit: inRatio, signals: needNetRX, unseen: noSoftIRQ, of: (*meter).netRXCore,
		Doc: "share of the time that a core spent in NET_RX, of the core where that is most"},
	{Name: "netrx.latency_p99_us", unit: inUS, signals: needNetRX, unseen: noSoftIRQ, of: (*meter).netRXLatency,
		Doc: "99th percentile from the raise of a NET_RX softirq to its entry, on all cores: the upper bound of its power-of-two slot; 0 where none was timed"},
}

func noSoftnet(m *meter) string {
	for i := range m.last.CPUs {
		if m.last.CPUs[i].Softnet != nil {
			return ""
		}
	}
	return "/proc/net/softnet_stat was not read"
}

func noSoftIRQ(m *meter) string {
	for i := range m.last.CPUs {
		if s := m.last.CPUs[i].SoftIRQ; s != nil && !s.CountOnly {
			return ""
		}
	}
	return "the time of NET_RX softirqs was not measured"
}

var traceMetrics = []Metric{
	{Name: "trace.seconds", unit: inSeconds, always: true, of: func(m *meter) value { return exactly(m.last.Elapsed.Seconds(), "") },
		Doc: "how long the trace took"},
	{Name: "trace.cost_ratio", unit: inRatio, always: true, of: (*meter).cost,
		Doc: "what tracing cost, of one core, as a mean"},
	{Name: "trace.lost_total", unit: inCount, always: true, of: func(m *meter) value { return exactly(float64(m.last.Sample.Self.LostTotal()), "") },
		Doc: "what was lost in any way"},
}

// findingMetrics count findings that were raised, those included that are gone.
func findingMetrics() []Metric {
	var all []string
	for _, k := range diagnose.Kinds() {
		for _, s := range k.Needs {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	anyKind := func(m *meter) string {
		for _, k := range diagnose.Kinds() {
			if why := k.Unseen(m.last); why != "" {
				return k.ID + ": " + why
			}
		}
		return ""
	}
	out := []Metric{
		{Name: "findings.total", unit: inCount, signals: all, grows: true, conns: true, unseen: anyKind, partly: true, of: countOf(0, ""),
			Doc: "findings that were raised, those included that are gone: warn stands for findings.total > 0"},
		{Name: "findings.crit_total", unit: inCount, signals: all, grows: true, conns: true, unseen: anyKind, partly: true, of: countOf(diagnose.Crit, ""),
			Doc: "critical ones of them: crit stands for findings.crit_total > 0"},
	}
	for _, k := range diagnose.Kinds() {
		out = append(out, Metric{Name: "finding." + k.ID, unit: inCount, signals: k.Needs, grows: true, conns: k.Conns,
			unseen: func(m *meter) string { return k.Unseen(m.last) }, partly: true, of: countOf(0, k.ID), Doc: "those with the id " + k.ID})
	}
	return out
}
