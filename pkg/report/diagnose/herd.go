// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// judgeHerd finds a thundering herd: each connection wakes many workers, one
// gets it. The alarm is wake-ups per connection: most herd wake-ups die inside
// the kernel, so EAGAINs tell little, and a healthy accept-until-EAGAIN loop has
// one EAGAIN for each connection.
func judgeHerd(l *Limits, past *window, f *model.Frame, now *model.Listener) verdict {
	if !f.MeasuredAt(now, model.SignalWake) {
		return verdict{} // it was given up to save its cost, which says nothing of the herd
	}
	w := &past.sum
	seconds := w.interval.Seconds()
	// A burst at a listener that was just seen must not count as a rate.
	useless := float64(w.wakeups-min(w.wakeups, w.conns)) / max(seconds, l.Window.Seconds()/2)
	var ratio float64
	if w.conns > 0 {
		ratio = float64(w.wakeups) / float64(w.conns)
	}
	v := verdict{
		bad:  w.conns >= l.HerdMinConns && ratio >= l.HerdRatio && useless >= l.HerdUselessPerS,
		calm: ratio < l.HerdCalmRatio || useless < l.HerdCalmPerS,
	}
	v.weight = useless
	v.outcome = func() string {
		return fmt.Sprintf("%.1f wake-ups per connection now, %s connections a second", ratio, model.Num(float64(w.conns)/seconds))
	}
	if !v.bad {
		return v
	}
	cpu := w.emptyNS / float64(w.interval)
	eagain, eagains := 0.0, ""
	if w.eagains > 0 {
		eagain = float64(w.eagains) / float64(w.eagains+w.accepts)
	}
	if f.Measured(model.SignalAccept) {
		eagains = fmt.Sprintf("%.0f%% of accepts said EAGAIN, ", 100*eagain)
	}
	v.finding = Finding{
		Severity: Warn,
		Subject:  subject(now),
		Evidence: fmt.Sprintf("%.1f wake-ups per connection (%s wake-ups for %s connections a second), %s%s of one core spent on wake-ups for nothing",
			ratio, model.Num(float64(w.wakeups)/seconds), model.Num(float64(w.conns)/seconds), eagains, estimate(cpu)),
		Cause:  herdCause(now),
		Remedy: herdRemedy(now),
		Verify: "wake-ups per connection (W/C) falls to about 1",
		Values: map[string]float64{
			"wakeups_per_accept":    ratio,
			"wakeups_per_s":         float64(w.wakeups) / seconds,
			"connections_per_s":     float64(w.conns) / seconds,
			"workers":               float64(liveThreads(now)),
			"sockets":               float64(now.Sockets),
			"useless_wakeups_per_s": useless,
		},
	}
	if f.Measured(model.SignalAccept) {
		v.finding.Values["accept_eagain_ratio"] = eagain
	}
	if model.Known(cpu) {
		v.finding.Values["empty_wakeups_cpu_ratio"] = cpu
	}
	if ratio >= l.HerdCritRatio && cpu >= l.HerdCritCPU {
		v.finding.Severity = Crit
	}
	return v
}

func herdCause(l *model.Listener) string {
	who := fmt.Sprintf("%d workers share one socket", liveThreads(l))
	switch l.Wait {
	case sample.WaitEpoll:
		return who + " and each watches it with its own level-triggered epoll, without EPOLLEXCLUSIVE: every connection wakes all that sleep, one gets it"
	case sample.WaitEpollET:
		return who + " and each watches it with its own edge-triggered epoll, without EPOLLEXCLUSIVE: every connection wakes all that sleep, one gets it"
	case sample.WaitSelect, sample.WaitPoll:
		return who + fmt.Sprintf(" and wait in %s(), which wakes all that sleep for every connection; one gets it", l.Wait)
	case sample.WaitURing:
		return who + " and accept through io_uring, which on this kernel wakes all that wait"
	case model.WaitMixed:
		return who + " and wait for it in different ways, not all of them exclusive: every connection wakes several, one gets it"
	}
	return who + "; how they wait could not be seen"
}

// programCures are the cures that a user can apply without touching code; ALL,
// HALF and QUARTER stand for that part of the workers. gunicorn's were tried:
// 20.1 with -w 8 3.6 wake-ups per connection, with --reuse-port 3.8, with
// -k gthread --workers 2 0.7, as several masters with --reuse-port 0.6.
var programCures = map[string]string{
	"gunicorn": "fewer processes with threads: gunicorn -k gthread --workers 2 --threads HALF; or one gunicorn -w 1 --reuse-port for each worker (one master with -w ALL and --reuse-port shares a single socket: no cure)",
	"uwsgi":    "set thunder-lock = true in uwsgi.ini",
	"nginx":    "listen ... reuseport; or nginx 1.11.3 or later, which adds EPOLLEXCLUSIVE by itself",
	"unicorn":  "fewer unicorn workers (worker_processes QUARTER)",
	"apache2":  "set ListenCoresBucketsRatio 8 in the configuration, which gives each bucket of workers a SO_REUSEPORT socket",
	"httpd":    "set ListenCoresBucketsRatio 8 in the configuration, which gives each bucket of workers a SO_REUSEPORT socket",
	"herdlab":  "herdlab accept --mode epoll-exclusive, or --mode reuseport",
}

func herdRemedy(l *model.Listener) string {
	if c, ok := programCures[l.Program]; ok {
		n := max(liveThreads(l), 2)
		return strings.NewReplacer(
			"ALL", strconv.Itoa(n), "HALF", strconv.Itoa((n+1)/2), "QUARTER", strconv.Itoa((n+3)/4),
		).Replace(c)
	}
	const own = "let each worker bind a socket of its own with SO_REUSEPORT after the fork"
	switch l.Wait {
	case sample.WaitEpoll, sample.WaitEpollET:
		return "add the listener to each epoll with EPOLLEXCLUSIVE (epoll_ctl, Linux 4.5), or " + own
	case sample.WaitSelect, sample.WaitPoll:
		return fmt.Sprintf("block in accept() instead of %s(), which is woken one at a time, or use epoll with EPOLLEXCLUSIVE, or %s", l.Wait, own)
	}
	return own + ", or use epoll with EPOLLEXCLUSIVE"
}
