// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// queued is web with queues, of which n of everything was refused.
func queued(accepts, n uint64, length uint32) sample.Listener {
	l := web(sample.Counters{AcceptsTotal: accepts, WakeupsTotal: accepts})
	l.NetNS, l.AcceptQueueLen, l.AcceptQueueMax = 9, length, 128
	l.CompletionsTotal = accepts + uint64(length)
	l.Queues = &sample.Queues{
		SynQueueMax: 128, Backlog: 128, AcceptFullNS: n * second / 100,
		Refusals:            sample.Refusals{AcceptQueueSYN: n, AcceptQueueACK: 2 * n, AcceptQueueCookie: 3 * n, SynQueue: 4 * n},
		SyncookiesSentTotal: 5 * n,
		Clients:             sample.RefusedClients{Total: 6 * n},
	}
	return l
}

// withNetNS adds the listen signal to s.
func withNetNS(s *sample.Sample, unattributed uint64) *sample.Sample {
	s.Listen = &sample.Listen{NetNS: []sample.NetNS{{Inode: 9, Somaxconn: 4096, Unattributed: sample.Refusals{SynQueue: unattributed}}}}
	return s
}

func TestQueue(t *testing.T) {
	fs := frames(withNetNS(tick(10, queued(100, 10, 3)), 0), withNetNS(tick(12, queued(180, 30, 20)), 7))
	q := last(t, fs).Queue
	if q.Delta != (sample.Refusals{AcceptQueueSYN: 20, AcceptQueueACK: 40, AcceptQueueCookie: 60, SynQueue: 80}) || q.Refusals.Total() != 300 ||
		q.ClientsDelta != 120 || q.CookiesDelta != 100 || q.TakenDelta != 80 {
		t.Errorf("queue %+v", q)
	}
	want(t, "RefusalsPerS", q.RefusalsPerS, 100)
	want(t, "SynPerS", q.SynPerS, 40)
	want(t, "CookiesPerS", q.CookiesPerS, 50)
	want(t, "AcceptFull", q.AcceptFull, 0.1)
	want(t, "TakenPerS", q.TakenPerS, 40)
	want(t, "WaitS", q.WaitS, 0.5)
	if q.NetNS != &fs[1].Sample.Listen.NetNS[0] || q.LimitFrom != LimitApplication || q.SynLimitFrom != LimitMaxSynBacklog || q.LimitUncertain {
		t.Errorf("queue %+v", q)
	}
	s := fs[1].Queues
	want(t, "sum of refusals", s.RefusalsPerS, 100)
	want(t, "sum of SYNs", s.SynPerS, 40)
	want(t, "sum of cookies", s.CookiesPerS, 50)
	if s.RefusalsTotal != 307 || s.RefusedTotal != 180 || s.Unattributed != 7 || s.Accuracy != sample.Exact {
		t.Errorf("queues %+v", s)
	}
}

// TestQueueZeroPoint: the totals of the first Sample are of no known span, and
// no others are after a gap, or of a listener whose queues were not known.
func TestQueueZeroPoint(t *testing.T) {
	bare := queued(100, 0, 0)
	bare.Queues = nil
	for name, fs := range map[string][]*Frame{
		"first":      frames(withNetNS(tick(1, queued(100, 10, 3)), 2)),
		"gap":        frames(withNetNS(tick(1), 0), &sample.Sample{MonoNS: 2 * second}, withNetNS(tick(3, queued(100, 10, 3)), 2)),
		"not before": frames(withNetNS(tick(1, bare), 0), withNetNS(tick(2, queued(100, 10, 3)), 2)),
	} {
		f := fs[len(fs)-1]
		q := last(t, fs).Queue
		if q.Delta != (sample.Refusals{}) || q.ClientsDelta != 0 || q.CookiesDelta != 0 || q.TakenDelta != 0 {
			t.Errorf("%s: deltas %+v", name, q)
		}
		for what, v := range map[string]float64{"RefusalsPerS": q.RefusalsPerS, "SynPerS": q.SynPerS, "CookiesPerS": q.CookiesPerS,
			"AcceptFull": q.AcceptFull, "WaitS": q.WaitS, "TakenPerS": q.TakenPerS, "sum": f.Queues.RefusalsPerS} {
			want(t, name+": "+what, v, Unknown())
		}
		if q.LimitFrom == "" || q.NetNS == nil || f.Queues.RefusalsTotal != 102 {
			t.Errorf("%s: %+v, %+v", name, q, f.Queues)
		}
	}
}

// TestNewQueue counts from the listener's opening.
func TestNewQueue(t *testing.T) {
	q := last(t, frames(withNetNS(tick(1), 0), withNetNS(tick(2, queued(100, 1, 10)), 0))).Queue
	if q.Delta.Total() != 10 {
		t.Errorf("delta %+v", q.Delta)
	}
	want(t, "RefusalsPerS", q.RefusalsPerS, 10)
	want(t, "WaitS", q.WaitS, 0.1)
}

func TestQueueReset(t *testing.T) {
	q := last(t, frames(withNetNS(tick(1, queued(100, 10, 3)), 0), withNetNS(tick(2, queued(50, 1, 3)), 0))).Queue
	if q.Delta.Total() != 0 || q.ClientsDelta != 0 || q.CookiesDelta != 0 || q.TakenDelta != 0 {
		t.Errorf("deltas %+v", q)
	}
	for what, v := range map[string]float64{"RefusalsPerS": q.RefusalsPerS, "SynPerS": q.SynPerS, "CookiesPerS": q.CookiesPerS,
		"AcceptFull": q.AcceptFull, "WaitS": q.WaitS, "TakenPerS": q.TakenPerS} {
		want(t, what, v, Unknown())
	}
}

func TestQueueNotMeasured(t *testing.T) {
	h := &sample.Header{Signals: []sample.Signal{{Name: SignalListen, Accuracy: sample.Unavailable}}}
	fs := framesOf(h, withNetNS(tick(1, queued(1, 1, 1)), 0), withNetNS(tick(2, queued(2, 2, 2)), 0))
	if last(t, fs).Queue != nil || fs[1].Queues != nil {
		t.Errorf("queue %+v, queues %+v", last(t, fs).Queue, fs[1].Queues)
	}
	unix := web(sample.Counters{})
	fs = frames(tick(1, unix), tick(2, unix))
	if last(t, fs).Queue != nil || fs[1].Queues != nil {
		t.Errorf("without it: queue %+v, queues %+v", last(t, fs).Queue, fs[1].Queues)
	}
	// Settings are missing, the queues are not.
	fs = frames(tick(1, queued(1, 1, 1)), tick(2, queued(2, 2, 2)))
	if q := last(t, fs).Queue; q == nil || q.NetNS != nil || q.SynLimitFrom != "" || q.LimitFrom != LimitApplication || fs[1].Queues != nil {
		t.Errorf("without settings: %+v, %+v", q, fs[1].Queues)
	}
	// There is no TCP listener: nothing was refused, which is known.
	fs = frames(withNetNS(tick(1, unix), 0), withNetNS(tick(2, unix), 3))
	want(t, "sum of none", fs[1].Queues.RefusalsPerS, 0)
	// And without listeners it is not.
	fs = frames(&sample.Sample{Listen: &sample.Listen{}}, &sample.Sample{MonoNS: second, Listen: &sample.Listen{}})
	want(t, "sum of unknown", fs[1].Queues.RefusalsPerS, Unknown())
}

func TestQueueAccuracy(t *testing.T) {
	h := &sample.Header{Signals: []sample.Signal{{Name: SignalListen, Accuracy: sample.Approximate}}}
	if q := framesOf(h, withNetNS(tick(1, queued(1, 1, 1)), 0))[0].Queues; q.Accuracy != sample.Approximate {
		t.Errorf("queues %+v", q)
	}
	l := queued(1, 1, 1)
	l.Queues.Approximate = true
	if q := frames(withNetNS(tick(1, l), 0))[0].Queues; q.Accuracy != sample.Approximate {
		t.Errorf("queues %+v", q)
	}
}

// TestRefusalsOfTheGone: the totals never fall, whoever comes and goes.
func TestRefusalsOfTheGone(t *testing.T) {
	other := queued(0, 1, 0)
	other.Inode = 8
	closed := queued(0, 3, 0)
	closed.Closed = true
	blind := &sample.Sample{MonoNS: 5 * second, Listen: &sample.Listen{}}
	fs := frames(withNetNS(tick(1, queued(0, 1, 0)), 0), withNetNS(tick(2, queued(0, 2, 0), other), 5), withNetNS(tick(3, closed, other), 5),
		withNetNS(tick(4, other), 5), blind, withNetNS(tick(6, other), 1), withNetNS(tick(7), 2))
	for i, w := range [][3]uint64{{10, 6, 0}, {35, 18, 5}, {45, 24, 5}, {45, 24, 5}, {45, 24, 5}, {46, 24, 6}, {47, 24, 7}} {
		if q := fs[i].Queues; q.RefusalsTotal != w[0] || q.RefusedTotal != w[1] || q.Unattributed != w[2] {
			t.Errorf("tick %d: %d refusals, %d clients, %d unattributed; want %v", i+1, q.RefusalsTotal, q.RefusedTotal, q.Unattributed, w)
		}
	}
}

func TestFullIsAtMostAlways(t *testing.T) {
	fs := frames(withNetNS(tick(1, queued(0, 0, 0)), 0), withNetNS(tick(2, queued(0, 103, 0)), 0))
	want(t, "AcceptFull", last(t, fs).Queue.AcceptFull, 1)
}

// TestWait is by what leaves the queue, seen one way or another.
func TestWait(t *testing.T) {
	signals := func(accept, wake string) *sample.Header {
		return &sample.Header{Signals: []sample.Signal{{Name: SignalAccept, Accuracy: accept}, {Name: SignalWake, Accuracy: wake}}}
	}
	const yes, no = sample.Exact, sample.Unavailable
	all, none := signals(yes, yes), signals(no, no)
	tests := []struct {
		name           string
		h              *sample.Header
		before, now    sample.Listener
		noWakeups      bool
		taken, seconds float64
	}{
		{"accepts", all, queued(100, 0, 5), queued(120, 0, 10), false, 20, 0.5},
		{"nothing waits", all, queued(100, 0, 5), queued(120, 0, 0), false, 20, Unknown()},
		{"none accepted", all, queued(100, 0, 10), queued(100, 0, 10), false, 0, math.Inf(1)},
		{"never one accepted", all, queued(0, 0, 10), queued(0, 0, 30), false, 0, math.Inf(1)},
		{"completions", signals(no, yes), queued(100, 0, 5), queued(120, 0, 10), false, 20, 0.5},
		{"io_uring without its hook", all, ring(100, 5), ring(125, 10), false, 20, 0.5},
		{"io_uring, not seen at all", signals(yes, no), ring(100, 5), ring(125, 10), false, Unknown(), Unknown()},
		{"io_uring, not seen here", all, ring(100, 5), ring(125, 10), true, Unknown(), Unknown()},
		{"neither", none, queued(100, 0, 5), queued(120, 0, 10), false, Unknown(), Unknown()},
	}
	for _, tt := range tests {
		tt.before.NoWakeups, tt.now.NoWakeups = tt.noWakeups, tt.noWakeups
		q := last(t, framesOf(tt.h, tick(1, tt.before), tick(2, tt.now))).Queue
		want(t, tt.name+": TakenPerS", q.TakenPerS, tt.taken)
		if math.IsInf(tt.seconds, 1) {
			if !math.IsInf(q.WaitS, 1) {
				t.Errorf("%s: WaitS = %v, want +Inf", tt.name, q.WaitS)
			}
			continue
		}
		want(t, tt.name+": WaitS", q.WaitS, tt.seconds)
	}
	closed := queued(120, 0, 10)
	closed.Closed = true
	want(t, "WaitS of a closed one", last(t, frames(tick(1, queued(100, 0, 5)), tick(2, closed))).Queue.WaitS, Unknown())
}

// ring is a listener whose accepts are not seen.
func ring(completions uint64, length uint32) sample.Listener {
	l := queued(0, 0, length)
	l.CompletionsTotal = completions
	return l
}

func TestLimitFrom(t *testing.T) {
	tests := []struct {
		name      string
		max       uint32
		backlog   int32
		somaxconn uint32
		want      string
		uncertain bool
	}{
		{"asked for", 128, 128, 4096, LimitApplication, false},
		{"asked for none", 0, 0, 4096, LimitApplication, false},
		{"asked for somaxconn", 4096, 4096, 4096, LimitApplication, false},
		{"cut", 128, 700, 128, LimitSomaxconn, false},
		{"cut, and raised since", 128, 700, 4096, LimitSomaxconn, false},
		{"not seen, below", 128, -1, 4096, LimitApplication, false},
		{"not seen, equal", 4096, -1, 4096, LimitSomaxconn, true},
		{"not seen, lowered since", 4096, -1, 128, "", false},
	}
	for _, tt := range tests {
		l := queued(1, 0, 0)
		l.AcceptQueueMax, l.Queues.Backlog = tt.max, tt.backlog
		s := withNetNS(tick(1, l), 0)
		s.Listen.NetNS[0].Somaxconn = tt.somaxconn
		if q := last(t, frames(s)).Queue; q.LimitFrom != tt.want || q.LimitUncertain != tt.uncertain {
			t.Errorf("%s: %q, uncertain %v; want %q, %v", tt.name, q.LimitFrom, q.LimitUncertain, tt.want, tt.uncertain)
		}
		l.NetNS = 1
		w := ""
		if tt.backlog >= 0 {
			w = tt.want
		}
		if q := last(t, frames(withNetNS(tick(1, l), 0))).Queue; q.LimitFrom != w || q.LimitUncertain {
			t.Errorf("%s, settings not known: %q, want %q", tt.name, q.LimitFrom, w)
		}
	}
}

func TestSynLimitFrom(t *testing.T) {
	for _, tt := range []struct {
		cookies, msb, backlog uint32
		want                  string
	}{
		{0, 128, 128, LimitMaxSynBacklog},
		{0, 128, 97, LimitMaxSynBacklog},
		{0, 128, 96, LimitApplication},
		{1, 8, 128, LimitApplication},
		{2, 8, 128, LimitApplication},
		{0, 4096, 128, LimitApplication},
	} {
		l := queued(1, 0, 0)
		l.AcceptQueueMax = tt.backlog
		s := withNetNS(tick(1, l), 0)
		s.Listen.NetNS[0].Syncookies, s.Listen.NetNS[0].MaxSynBacklog = tt.cookies, tt.msb
		if q := last(t, frames(s)).Queue; q.SynLimitFrom != tt.want {
			t.Errorf("%+v: %q", tt, q.SynLimitFrom)
		}
	}
}

// TestSpent is of the living, as far as known.
func TestSpent(t *testing.T) {
	at := func(run, wait [3]uint64) sample.Listener {
		l := queued(1, 0, 0)
		l.Workers = nil
		for i := range 3 {
			l.Workers = append(l.Workers, sample.Worker{TID: uint32(i + 1), RunNS: run[i] * second / 100, WaitNS: wait[i] * second / 100, Ended: i == 2})
		}
		return l
	}
	l := at([3]uint64{60, 20, 100}, [3]uint64{50, 10, 0})
	l.Workers = append(l.Workers, sample.Worker{TID: 9, RunNS: second})
	fs := frames(tick(1, at([3]uint64{}, [3]uint64{})), tick(2, l))
	s := last(t, fs).Spent
	if s.Workers != 2 {
		t.Errorf("%d workers, want 2", s.Workers)
	}
	want(t, "Run", s.Run, 0.4)
	want(t, "Wait", s.Wait, 0.25) // 0.5 beside 0.6 is more than there was
	want(t, "Sleep", s.Sleep, 0.35)
	s = last(t, fs[:1]).Spent
	want(t, "Run at first", s.Run, Unknown())
	want(t, "Sleep at first", s.Sleep, Unknown())
}

// TestQueueTopForgets: a listener that is gone is not remembered, and one that
// took its inode does not inherit its greatest length.
func TestQueueTopForgets(t *testing.T) {
	at := func(inode uint64, length uint32) sample.Listener {
		return sample.Listener{Inode: inode, Proto: "tcp", Queues: &sample.Queues{AcceptQueuePeak: length, SynQueuePeak: 2 * length}}
	}
	fs := frames(tick(10, at(1, 9)), tick(11, at(1, 3)), tick(12, at(2, 5)), tick(13, at(1, 3)))
	for i, want := range []uint32{9, 9, 5, 3} {
		if q := fs[i].Accept.Listeners[0].Queue; q.AcceptTop != want || q.SynTop != 2*want {
			t.Errorf("frame %d: %d and %d, want %d and %d", i, q.AcceptTop, q.SynTop, want, 2*want)
		}
	}
}
