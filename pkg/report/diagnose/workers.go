// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// plight is why workers do not take connections as fast as they come.
type plight int

const (
	noPlight  plight = iota // they do, or it is not known
	released                // stopped by others until a moment ago
	stalled                 // all sleep in their wait for connections
	idleQueue               // nobody accepts at all
	starved                 // runnable, without a core
	saturated               // they run, or nearly, all the time
	blocked                 // asleep, elsewhere than in their wait for connections
)

// work is what a listener's workers did in the window.
type work struct {
	plight
	listener                *model.Listener
	seconds                 float64
	run, runnable, sleeping float64 // shares of the time; unknown where no worker's times are
	idleCores               float64 // of the host; may be unknown
	spare                   bool    // a core could take one more worker
	full                    bool    // no core could
	hunger                          // why they are starved
}

// workOf judges by the workers' times. Asleep is not enough to be blocked: that
// they do not sleep in their wait for connections is what the looks at the queue
// tell, which found connections waiting and not all workers there.
func workOf(l *Limits, w *tick, f *model.Frame, now *model.Listener) *work {
	k := &work{
		listener: now, seconds: w.interval.Seconds(),
		run: model.Unknown(), runnable: model.Unknown(), sleeping: model.Unknown(),
		idleCores: f.HostIdle, spare: f.HostIdle >= l.HostIdle, full: f.HostIdle < l.HostIdle,
	}
	if w.workNS > 0 {
		k.run, k.runnable = w.runNS/w.workNS, w.runnableNS/w.workNS
		k.sleeping = max(1-k.run-k.runnable, 0)
	}
	awake := k.run + k.runnable
	switch {
	case letGo(w, now):
		k.plight = released
	case w.queued >= l.StallMinLooks && float64(w.stalled) >= l.StallShare*float64(w.queued):
		k.plight = stalled
	case w.takenFor >= l.NobodyFor && w.taken == 0:
		k.plight = idleQueue
	case k.runnable >= l.WorkersWait:
		k.plight = starved
		k.hunger = hungerOf(l, f, now)
	case awake >= l.WorkersRun:
		k.plight = saturated
	case awake <= l.WorkersAwake && w.queued > 2*w.stalled:
		k.plight = blocked
	}
	return k
}

// cause is a clause, "" where the workers are not to blame.
func (k *work) cause() string {
	its := func(one, many string) string {
		switch n := liveThreads(k.listener); n {
		case 0:
			return "its workers " + many
		case 1:
			return "its worker " + one
		default:
			return fmt.Sprintf("its %d workers %s", n, many)
		}
	}
	switch k.plight {
	case released:
		return its("was", "were") + " stopped until a moment ago"
	case stalled:
		return "connections wait while " + allSleep(k.listener) + " (see accept-stall)"
	case idleQueue:
		s := fmt.Sprintf("nobody accepted a connection in the last %.1f s", k.seconds)
		if stopped(k.listener) != nil {
			return s + ": " + allSleep(k.listener)
		}
		if k.run >= 0.5 {
			s += fmt.Sprintf(", %s %.0f%% of the time", its("runs", "run"), 100*k.run)
		} else if k.sleeping >= 0.5 {
			s += fmt.Sprintf(", %s %.0f%% of the time", its("sleeps", "sleep"), 100*k.sleeping)
		}
		return s
	case starved:
		s := fmt.Sprintf("%s runnable %.0f%% of the time without a core", its("is", "are"), 100*k.runnable)
		if k.spare {
			s += fmt.Sprintf(" while %.1f cores are idle", k.idleCores)
		}
		switch {
		case k.hunger.cause != "":
			return s + ": " + k.hunger.cause
		case k.spare:
			return s + ": throttled by a CPU quota, or pinned"
		case k.full:
			return s + ": the host has too few"
		}
		return s
	case saturated:
		s := fmt.Sprintf("%s busy %.0f%% of the time", its("is", "are"), 100*(k.run+k.runnable))
		if k.spare {
			s += fmt.Sprintf(" while %.1f cores are idle", k.idleCores)
		} else if k.full {
			s += ", and no core is idle"
		}
		return s
	case blocked:
		return fmt.Sprintf("%s %.0f%% of the time, and not in the wait for connections: blocked elsewhere, on a backend, a lock, a disk or a timer", its("sleeps", "sleep"), 100*k.sleeping)
	}
	return ""
}

// cure is what to do about it, "" where the workers are not to blame.
func (k *work) cure() string {
	l := k.listener
	at := liveThread(l)
	switch k.plight {
	case released:
		return "find out who stops workers (kill -STOP, a debugger, a freezer)"
	case stalled:
		return stallRemedy(l)
	case idleQueue:
		if at == nil {
			return "find out why nobody accepts: is the program still starting, or stopped"
		}
		if pids := stopped(l); pids != nil {
			return goOn(pids)
		}
		return fmt.Sprintf("look where the worker is stuck (cat /proc/%d/stack)", at.TID)
	case starved:
		if k.hunger.cure != "" {
			return k.hunger.cure
		}
		if !k.spare {
			return "fewer runnable threads on this host, or more cores"
		}
		pinned := "taskset"
		if at != nil {
			pinned = fmt.Sprintf("taskset -cp %d shows it", at.TID)
		}
		return fmt.Sprintf("raise its CPU quota (cpu.max, CPUQuota=, --cpus, limits.cpu) or undo its pinning (%s)", pinned)
	case saturated:
		if k.full {
			return "less work for each connection, or more cores"
		}
		return moreWorkers(l)
	case blocked:
		what := "find what they wait for"
		if at != nil {
			what += fmt.Sprintf(" (cat /proc/%d/stack)", at.TID)
		}
		return what + " and bound it with a timeout, or " + moreWorkers(l)
	}
	return ""
}

// values adds what is known to a finding's.
func (k *work) values(v map[string]float64) {
	if model.Known(k.run) {
		v["workers_run_ratio"], v["workers_wait_ratio"] = k.run, k.runnable
	}
	if model.Known(k.idleCores) {
		v["host_idle_cores"] = k.idleCores
	}
	v["workers"] = float64(liveThreads(k.listener))
}

// liveThread is the first live worker, nil where there is none.
func liveThread(l *model.Listener) *model.Worker {
	for i := range l.Threads {
		if w := &l.Threads[i]; !w.Ended {
			return w
		}
	}
	return nil
}
