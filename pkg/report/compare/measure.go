// SPDX-License-Identifier: Apache-2.0

package compare

import "github.com/herdtrace/herdtrace/pkg/report/model"

// metric is one of metrics, by its place.
type metric int

const (
	connsPerS metric = iota
	wakeupsPerConn
	eagainRatio
	emptyCPUPerConn
	refusalsPerAttempt
	refusedAtSYN
	refusedAtACK
	refusedAtCookie
	refusedAtSynQueue
	synCookies
	acceptQueueFull
	acceptQueueWait
	stalledLooks
	workerGap
	busyCores
	runqWaitP99
	runqUnclaimed
	netrxShare
	netrxDrops
	packetsPerS
	soldRatio
	hiddenCPU
	claimedOff
	groupCores
	throttledPeriods
	throttledTime
	processCores
	metricCount
)

// spec is what a metric means.
type spec struct {
	name    string  // in the JSON output
	label   string  // in a line of text
	signal  string  // that it takes
	scale   float64 // from the name's unit to the label's
	unit    string  // of the label, after the number
	least   float64 // a change of less than this is none, however sure
	neutral bool    // more of it is neither better nor worse
	counted bool    // of single things, each of which may come or not
	quiet   bool    // it is not shown where it is 0 on both sides
}

// A change must also be of a certain size: leastShare of the greater of the two values.
const leastShare = 0.2

// metrics are ratios of two sums over the intervals; less is better.
var metrics = [metricCount]spec{
	connsPerS:          {"connections_per_s", "connections", model.SignalAccept, 1, "/s", 1, true, true, false},
	wakeupsPerConn:     {"wakeups_per_connection", "wake-ups per connection", model.SignalWake, 1, "", 0.2, false, false, false},
	eagainRatio:        {"accept_eagain_ratio", "accepts that said EAGAIN", model.SignalAccept, 100, "%", 0.05, false, false, false},
	emptyCPUPerConn:    {"empty_wakeups_cpu_seconds_per_connection", "CPU time for nothing per connection", model.SignalWake, 1e6, " us", 2e-6, false, false, false},
	refusalsPerAttempt: {"refusals_per_attempt", "refusals per attempt to connect", model.SignalListen, 100, "%", 0.001, false, true, false},
	refusedAtSYN:       {"refusals_accept_queue_syn_per_attempt", "  at the SYN", model.SignalListen, 100, "%", 0.001, false, true, true},
	refusedAtACK:       {"refusals_accept_queue_ack_per_attempt", "  at the final ACK", model.SignalListen, 100, "%", 0.001, false, true, true},
	refusedAtCookie:    {"refusals_accept_queue_cookie_per_attempt", "  at the ACK of a SYN cookie", model.SignalListen, 100, "%", 0.001, false, true, true},
	refusedAtSynQueue:  {"refusals_syn_queue_per_attempt", "  at the SYN queue", model.SignalListen, 100, "%", 0.001, false, true, true},
	synCookies:         {"syn_queue_overflows_per_attempt", "SYN cookies and SYNs lost to a full SYN queue, per attempt", model.SignalListen, 100, "%", 0.001, false, true, true},
	acceptQueueFull:    {"accept_queue_full_ratio", "accept queue full, worst socket", model.SignalListen, 100, "% of the time", 0.01, false, false, false},
	acceptQueueWait:    {"accept_queue_wait_seconds", "wait in the accept queue", model.SignalListen, 1e3, " ms", 0.01, false, false, false},
	stalledLooks:       {"stalled_checks_per_s", "looks at a queue that waits while all workers sleep", model.SignalAccept, 1, "/s", 0.5, false, false, true},
	workerGap:          {"busiest_worker_gap_ratio", "busiest worker above the median of the others", model.SignalAccept, 100, "% of a core", 0.2, false, false, false},
	busyCores:          {"busy_cores", "cores in use", model.SignalRunq, 1, "", 0.1, true, false, false},
	runqWaitP99:        {"runq_wait_p99_seconds", "run-queue wait p99, worst core", model.SignalRunq, 1e3, " ms", 0.001, false, false, false},
	runqUnclaimed:      {"runq_unclaimed_ratio", "threads waiting beside an idle core, worst core", model.SignalRunq, 100, "% of the time", 0.05, false, false, false},
	netrxShare:         {"net_rx_share_ratio", "busiest core's share of NET_RX", model.SignalNetRX, 100, "%", 0.1, false, false, false},
	netrxDrops:         {"cpu_backlog_drops_per_packet", "packets dropped at a CPU backlog", model.SignalNetRX, 100, "%", 0.0005, false, true, false},
	packetsPerS:        {"packets_per_s", "packets", model.SignalNetRX, 1, "/s", 10, true, true, false},
	soldRatio:          {"cpu_sold_ratio", "quotas sold, of the host's cores", model.SignalThrottle, 100, "%", 0.05, false, false, true},
	hiddenCPU:          {"cpu_hidden_ratio", "CPU time that /proc/stat does not show, worst core", model.SignalRunq, 100, "% of a core", 0.1, false, false, false},
	claimedOff:         {"claimed_cpu_off_ratio", "CPU time claimed by /proc beside what ran", model.SignalCPUTime, 100, "% off", 0.1, false, false, false},
	groupCores:         {"cores", "cores used", model.SignalRunq, 1, "", 0.05, true, false, false},
	throttledPeriods:   {"throttled_periods_ratio", "periods throttled", model.SignalThrottle, 100, "%", 0.02, false, true, false},
	throttledTime:      {"throttled_seconds_per_s", "throttled time", model.SignalThrottle, 1e3, " ms/s", 0.002, false, false, false},
	processCores:       {"cores", "cores used", model.SignalRunq, 1, "", 0.05, true, false, false},
}

// keyOf is the metric that a finding stands and falls with; a finding without one
// does so with the share of the time in which it is raised.
var keyOf = map[string]metric{
	"accept-herd":              wakeupsPerConn,
	"accept-stall":             stalledLooks,
	"accept-skew":              workerGap,
	"accept-queue-overflow":    refusalsPerAttempt,
	"accept-queue-wait":        acceptQueueWait,
	"syn-queue-overflow":       synCookies,
	"runq-pile":                runqUnclaimed,
	"cfs-throttle":             throttledPeriods,
	"cfs-throttle-below-quota": throttledPeriods,
	"cpu-oversold":             soldRatio,
	"netrx-imbalance":          netrxShare,
	"netdev-backlog-drop":      netrxDrops,
	"cputime-frozen":           claimedOff,
	"cputime-hidden":           hiddenCPU,
}

// loadDriven are the findings that less load makes go away, and more load brings.
var loadDriven = map[string]bool{
	"accept-skew": true, "accept-queue-overflow": true, "accept-queue-wait": true, "syn-queue-overflow": true,
	"runq-pile": true, "cfs-throttle": true, "cfs-throttle-below-quota": true, "cpu-oversold": true,
	"netrx-imbalance": true, "netdev-backlog-drop": true,
}

// loadOf is the metric that says how much a subject had to do.
func loadOf(k kind, id string) metric {
	switch k {
	case aListener:
		return connsPerS
	case aCGroup:
		return groupCores
	case aProcess:
		return processCores
	}
	if id == "netrx-imbalance" || id == "netdev-backlog-drop" {
		return packetsPerS
	}
	return busyCores
}
