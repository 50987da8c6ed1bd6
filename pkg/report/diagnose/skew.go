// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// judgeSkew finds a worker that takes so large a share of the connections that
// it costs something: it has no CPU time left while its siblings sleep and cores
// are idle. An uneven share alone is no fault: at low load EPOLLEXCLUSIVE gives
// everything to one worker, by design and at no cost.
func judgeSkew(l *Limits, _ *window, f *model.Frame, now *model.Listener) verdict {
	if !model.Known(f.HostIdle) {
		return verdict{}
	}
	v := verdict{calm: true, outcome: func() string { return "its busiest worker has no siblings now, or sits at another socket" }}
	g := now.Group
	if g == nil || g.TopAt != now || len(g.Others) == 0 {
		return v
	}
	top, others, share := g.Top, g.Others, float64(g.Top.AcceptsTotal)/float64(max(g.Accepts, 1))
	median := others[len(others)/2]
	fair := 1 / float64(len(others)+1)
	v.calm = top.RunRatio < l.SkewRun-0.1 || median > l.SkewOthers+0.1 || f.HostIdle < l.SkewHostIdle/2
	v.weight = top.RunRatio
	v.outcome = func() string {
		return fmt.Sprintf("the busiest worker runs %.0f%% of a core now, the median of its siblings %.0f%%", 100*top.RunRatio, 100*median)
	}
	v.bad = top.RunRatio >= l.SkewRun && top.SleepsPerS <= l.SkewSleepsPerS && median <= l.SkewOthers && f.HostIdle >= l.SkewHostIdle &&
		now.AcceptsTotal >= l.SkewMinConns && share >= l.SkewTimesFair*fair
	if !v.bad {
		return v
	}
	v.calm, v.after = false, l.SkewFor
	v.finding = Finding{
		Severity: Warn,
		Subject:  subject(now),
		Evidence: fmt.Sprintf("worker %d took %.0f%% of the connections since attach (fair %.0f%%) and runs %.0f%% of a core, the median of its %d siblings %.0f%%, while %.1f cores are idle: its clients wait for it alone",
			top.TID, 100*share, 100*fair, 100*top.RunRatio, len(others), 100*median, f.HostIdle),
		Cause:  skewCause(now),
		Remedy: skewRemedy(now),
		Verify: "the SHARE and RUN columns of the workers even out",
		Values: map[string]float64{
			"top_tid":             float64(top.TID),
			"top_share_ratio":     share,
			"fair_share_ratio":    fair,
			"top_run_ratio":       top.RunRatio,
			"siblings_busy_ratio": median,
			"host_idle_cores":     f.HostIdle,
		},
	}
	return v
}

func skewCause(l *model.Listener) string {
	if l.Sockets > 1 {
		return fmt.Sprintf("the kernel spreads connections over the %d sockets by a hash of their addresses and ports, and few or long-lived ones fall unevenly", l.Sockets)
	}
	switch l.Wait {
	case sample.WaitEpoll, sample.WaitEpollET, sample.WaitEpollExclusive:
		return "epoll wakes the worker that went to sleep last first, so the one that is quickest back gets most connections and keeps them"
	}
	return "nothing evens out which worker takes a connection"
}

func skewRemedy(l *model.Listener) string {
	if l.Sockets > 1 {
		return "shorter keep-alives, so that connections are spread anew; or more client connections; or one shared socket with EPOLLEXCLUSIVE, from which an idle worker takes"
	}
	if l.Program == "nginx" {
		return "listen ... reuseport, so that the kernel spreads connections by hash; or shorter keep-alives (keepalive_requests), so that they are spread anew"
	}
	return "a socket per worker with SO_REUSEPORT, so that the kernel spreads connections by hash; or shorter keep-alives, so that they are spread anew"
}
