// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// judgeStall finds connections that wait in the accept queue while every worker
// sleeps in its wait for connections. No healthy server shows that: a worker
// that is busy with a client sleeps elsewhere, or runs.
func judgeStall(l *Limits, past *window, f *model.Frame, now *model.Listener) verdict {
	w := &past.sum
	if letGo(w, now) {
		return verdict{} // that they slept is not their doing
	}
	counted, accepts := f.MeasuredAt(now, model.SignalAccept), ""
	if counted {
		accepts = fmt.Sprintf(", %s accepts a second", model.Num(float64(w.accepts)/w.interval.Seconds()))
	}
	v := verdict{
		bad: now.AcceptQueueLen > 0 && w.stalled >= l.StallMinLooks &&
			float64(w.stalled) >= l.StallShare*float64(w.queued),
		calm: w.stalled == 0,

		weight: float64(now.AcceptQueueLen),
		outcome: func() string {
			return "no connection waits for a sleeping worker now" + accepts
		},
	}
	if !v.bad {
		return v
	}
	v.finding = Finding{
		Severity: Crit,
		Subject:  subject(now),
		Evidence: fmt.Sprintf("%s in the accept queue while %s; so at %d of the last %d looks at the queue",
			wait(now.AcceptQueueLen), allSleep(now), w.stalled, w.queued),
		Cause:  stallCause(now),
		Remedy: stallRemedy(now),
		Verify: "the accept queue (Recv-Q in ss -lnt) returns to 0 between connections",
		Values: map[string]float64{
			"accept_queue_len": float64(now.AcceptQueueLen),
			"stalled_looks":    float64(w.stalled),
			"queued_looks":     float64(w.queued),
			"workers":          float64(liveThreads(now)),
		},
	}
	if counted {
		v.finding.Evidence += accepts + " meanwhile"
		v.finding.Values["accepts_per_s"] = float64(w.accepts) / w.interval.Seconds()
	}
	return v
}

func wait(n uint32) string {
	if n == 1 {
		return "1 connection waits"
	}
	return fmt.Sprintf("%d connections wait", n)
}

// stopped are the workers' processes, where a signal, a debugger or a freezer holds
// all of them.
func stopped(l *model.Listener) (pids []uint32) {
	for i := range l.Threads {
		switch w := &l.Threads[i]; {
		case w.Ended:
		case !w.Stopped:
			return nil
		case !slices.Contains(pids, w.PID):
			pids = append(pids, w.PID)
		}
	}
	slices.Sort(pids)
	return pids
}

// mostPIDs bounds how many a remedy lists.
const mostPIDs = 16

// letGo reports whether the workers were stopped a moment ago, and are not now.
func letGo(w *tick, now *model.Listener) bool { return w.held > 0 && stopped(now) == nil }

// goOn is the remedy where pids are stopped.
func goOn(pids []uint32) string {
	var list strings.Builder
	for _, pid := range pids[:min(len(pids), mostPIDs)] {
		fmt.Fprintf(&list, " %d", pid)
	}
	if more := len(pids) - mostPIDs; more > 0 {
		fmt.Fprintf(&list, " (and %d more)", more)
	}
	return fmt.Sprintf("kill -CONT%s, detach the debugger, or thaw the cgroup (docker unpause)", &list)
}

func allSleep(l *model.Listener) string {
	if stopped(l) != nil {
		if n := liveThreads(l); n > 1 {
			return fmt.Sprintf("all %d workers are stopped", n)
		}
		return "the worker is stopped"
	}
	in := map[string]string{
		sample.WaitAccept: " in accept()",
		sample.WaitPoll:   " in poll()",
		sample.WaitSelect: " in select()",
		sample.WaitEpoll:  " in epoll_wait()", sample.WaitEpollET: " in epoll_wait()", sample.WaitEpollExclusive: " in epoll_wait()",
	}[l.Wait]
	if n := liveThreads(l); n > 1 {
		return fmt.Sprintf("all %d workers sleep%s", n, in)
	}
	return "the worker sleeps" + in
}

func stallCause(l *model.Listener) string {
	if pids := stopped(l); pids != nil {
		whom := "it"
		if len(pids) > 1 {
			whom = "them"
		}
		return "a signal (SIGSTOP, SIGTSTP), a debugger or the freezer of a cgroup (docker pause) holds " + whom
	}
	switch l.Wait {
	case sample.WaitEpollET:
		return "the listener is watched edge-triggered (EPOLLET) and not accepted from until EAGAIN: one edge may announce several connections, and the rest wait for the next"
	case sample.WaitEpoll, sample.WaitEpollExclusive:
		return "the readiness of the listener was reported and not acted on (EPOLLONESHOT that was not re-armed, or an event loop that drops it)"
	}
	return "the workers were woken for these connections and did not take them"
}

func stallRemedy(l *model.Listener) string {
	if pids := stopped(l); pids != nil {
		return goOn(pids)
	}
	if l.Wait == sample.WaitEpollET {
		return "call accept4() in a loop until it says EAGAIN, or watch the listener level-triggered (without EPOLLET)"
	}
	return "after each readiness event call accept4() until it says EAGAIN, and re-arm the listener"
}
