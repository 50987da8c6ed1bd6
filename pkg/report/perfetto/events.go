// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// events writes what happened between two ticks, at the time when it did.
func (t *Trace) events(f *model.Frame) {
	for i := range f.Events {
		switch e := &f.Events[i]; e.Kind {
		case sample.EventThrottle:
			t.throttle(e)
		case sample.EventBacklogDrop:
			parent := t.group(groupNetRX)
			t.instant(&t.budget.details, t.lanesOf(sliceKey{groupNetRX, 0, "CPU backlog drops"}, parent, 0), e.MonoNS, "CPU backlog full",
				some(arg{"device", text(e.Device)}, arg{"dropped", e.Refused}, arg{"cpu", strconv.Itoa(int(e.CPU))})...)
		case sample.EventHerdBurst, sample.EventRefusal, sample.EventListenerOpened, sample.EventListenerClosed:
			t.listenerEvent(e)
		}
	}
}

// throttle writes one stop of a cgroup, from its beginning on, which may be long
// before this tick, or even before the trace.
func (t *Trace) throttle(e *model.Event) {
	l := t.lanesOf(sliceKey{groupCGroups, e.CGroupID, "throttled"}, t.cgroupRow(e.CGroupID, e.Group), rankThrottled)
	t.slice(&t.budget.details, l, e.MonoNS-min(e.MonoNS, e.DurationNS), e.MonoNS, "throttled",
		some(arg{"throttled_ns", e.ThrottledNS}, arg{"cores", uint64(e.Cores)}, arg{"threads", uint64(e.Threads)})...)
}

// listenerEvent writes an instant at a listener.
func (t *Trace) listenerEvent(e *model.Event) {
	name := text(e.Kind)
	switch e.Kind {
	case sample.EventHerdBurst:
		name = strconv.FormatUint(uint64(e.Woken), 10) + " woken for one connection"
	case sample.EventRefusal:
		name = "refusal: " + text(e.Place)
	}
	l := t.lanesOf(sliceKey{groupListeners, e.Inode, "events"}, t.listenerRow(e.Inode, e.Listener, e.Program), rankEvents)
	t.instant(&t.budget.details, l, e.MonoNS, name,
		some(arg{"client", text(e.Client)}, arg{"refused", e.Refused}, arg{"woken", uint64(e.Woken)},
			arg{"accept_queue_len", uint64(e.AcceptQueueLen)}, arg{"syn_queue_len", uint64(e.SynQueueLen)})...)
}
