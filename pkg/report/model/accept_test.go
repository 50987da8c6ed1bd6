// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const second = uint64(time.Second)

// tick is a Sample at so many seconds with these listeners.
func tick(seconds uint64, ls ...sample.Listener) *sample.Sample {
	return &sample.Sample{MonoNS: seconds * second, Accept: &sample.Accept{Listeners: ls}}
}

// frames builds the Frames of samples, under a header without signals.
func frames(samples ...*sample.Sample) []*Frame { return framesOf(&sample.Header{}, samples...) }

func framesOf(h *sample.Header, samples ...*sample.Sample) []*Frame {
	b := NewBuilder(h)
	var out []*Frame
	for _, s := range samples {
		out = append(out, b.Build(s))
	}
	return out
}

// last is the only listener of the last Frame.
func last(t *testing.T, fs []*Frame) *Listener {
	t.Helper()
	ls := fs[len(fs)-1].Accept.Listeners
	if len(ls) != 1 {
		t.Fatalf("%d listeners, want 1", len(ls))
	}
	return ls[0]
}

// web is a listener with one worker, both with these counters.
func web(c sample.Counters) sample.Listener {
	return sample.Listener{Inode: 7, Proto: "tcp", Addr: "0.0.0.0", Port: 80, CompletionsTotal: c.AcceptsTotal, Counters: c,
		Workers: []sample.Worker{{PID: 1, TID: 1, Program: "app", Wait: sample.WaitEpoll, Counters: c}}}
}

// want checks a value; unknown is a value like another.
func want(t *testing.T, name string, got, want float64) {
	t.Helper()
	if Known(got) != Known(want) || Known(want) && math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}

var before = sample.Counters{AcceptsTotal: 100, AcceptEAGAINTotal: 10, WakeupsTotal: 100, WastedWakeupsTotal: 5,
	EmptyWakeupsTotal: 10, EmptyBurstsTotal: 5, EmptyCPUNS: 5000}

func TestRates(t *testing.T) {
	after := sample.Counters{AcceptsTotal: 300, AcceptEAGAINTotal: 210, WakeupsTotal: 1700, WastedWakeupsTotal: 105,
		EmptyWakeupsTotal: 1410, EmptyBurstsTotal: 705, EmptyCPUNS: 14_005_000}
	fs := frames(tick(10, web(before)), tick(12, web(after)))
	l := last(t, fs)
	want(t, "AcceptsPerS", l.AcceptsPerS, 100)
	want(t, "CompletionsPerS", l.CompletionsPerS, 100)
	want(t, "WakeupsPerS", l.WakeupsPerS, 800)
	want(t, "EAGAINPerS", l.EAGAINPerS, 100)
	want(t, "WastedPerS", l.WastedPerS, 50)
	want(t, "UselessPerS", l.UselessPerS, 700)
	want(t, "WakeupsPerAccept", l.WakeupsPerAccept, 8)
	want(t, "EAGAINRatio", l.EAGAINRatio, 0.5)
	want(t, "EmptyCPU", l.EmptyCPU, 1400*20_000/2e9)
	want(t, "worker's WakeupsPerAccept", l.Threads[0].WakeupsPerAccept, 8)
	want(t, "worker's Share", l.Threads[0].Share, 1)
	want(t, "EmptyCPUSeconds", EmptyCPUSeconds(&l.Listener), 1410*14_005_000/705/1e9)
	want(t, "TotalWakeupsPerAccept", TotalWakeupsPerAccept(&l.Listener), 1700./300)
	a := fs[1].Accept
	want(t, "sum of accepts", a.AcceptsPerS, 100)
	want(t, "sum of wake-ups", a.WakeupsPerS, 800)
	if fs[1].Interval != 2*time.Second || l.Interval != 2*time.Second || l.Program != "app" || l.Wait != sample.WaitEpoll || l.New {
		t.Errorf("listener %+v", l)
	}
}

// TestZeroPoint: the totals of the first Sample cover no known span.
func TestZeroPoint(t *testing.T) {
	fs := frames(tick(10, web(before)))
	l := last(t, fs)
	for name, v := range map[string]float64{"AcceptsPerS": l.AcceptsPerS, "WakeupsPerS": l.WakeupsPerS, "UselessPerS": l.UselessPerS,
		"WakeupsPerAccept": l.WakeupsPerAccept, "EAGAINRatio": l.EAGAINRatio, "EmptyCPU": l.EmptyCPU, "HostIdle": fs[0].HostIdle,
		"RunRatio": l.Threads[0].RunRatio, "worker's WakeupsPerS": l.Threads[0].WakeupsPerS,
		"worker's WakeupsPerAccept": l.Threads[0].WakeupsPerAccept, "UserRatio": fs[0].Cost.UserRatio} {
		want(t, name, v, Unknown())
	}
	if l.Interval != 0 || fs[0].Interval != 0 || fs[0].Elapsed != 0 {
		t.Errorf("intervals %s, %s", l.Interval, fs[0].Interval)
	}
	want(t, "sum of accepts", fs[0].Accept.AcceptsPerS, Unknown())
}

// TestSums are of what is known.
func TestSums(t *testing.T) {
	two := web(sample.Counters{AcceptsTotal: 40, WakeupsTotal: 40})
	two.Inode = 8
	fs := frames(tick(1), tick(2, web(before), two), tick(3, web(sample.Counters{}), two), tick(4))
	for i, w := range []float64{0, 140, 0, 0} {
		want(t, "sum of accepts", fs[i].Accept.AcceptsPerS, w)
	}
	want(t, "sum after a reset", frames(tick(1, web(before)), tick(2, web(sample.Counters{})))[1].Accept.AcceptsPerS, Unknown())
}

// TestCounterReset: a counter that went down has no rate, nor has a ratio that
// it takes part in; the others keep theirs.
func TestCounterReset(t *testing.T) {
	all := sample.Counters{AcceptsTotal: 200, AcceptEAGAINTotal: 30, WakeupsTotal: 400, WastedWakeupsTotal: 9,
		EmptyWakeupsTotal: 20, EmptyBurstsTotal: 10, EmptyCPUNS: 90000}
	tests := []struct {
		name    string
		reset   func(c *sample.Counters)
		unknown string
	}{
		{"none", func(*sample.Counters) {}, ""},
		{"accepts", func(c *sample.Counters) { c.AcceptsTotal = 1 }, "accepts ratio eagainratio useless"},
		{"eagains", func(c *sample.Counters) { c.AcceptEAGAINTotal = 1 }, "eagains eagainratio"},
		{"wakeups", func(c *sample.Counters) { c.WakeupsTotal = 1 }, "wakeups ratio useless"},
		{"wasted", func(c *sample.Counters) { c.WastedWakeupsTotal = 1 }, "wasted"},
		{"empty", func(c *sample.Counters) { c.EmptyWakeupsTotal = 1 }, "cpu"},
		{"bursts", func(c *sample.Counters) { c.EmptyBurstsTotal = 1 }, "cpu"},
		{"cpu", func(c *sample.Counters) { c.EmptyCPUNS = 1 }, "cpu"},
		{"all", func(c *sample.Counters) { *c = sample.Counters{} }, "accepts eagains wakeups wasted ratio eagainratio useless cpu"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := all
			tt.reset(&now)
			l := last(t, frames(tick(1, web(before)), tick(2, web(now))))
			got := ""
			for _, v := range []struct {
				name string
				v    float64
			}{{"accepts", l.AcceptsPerS}, {"eagains", l.EAGAINPerS}, {"wakeups", l.WakeupsPerS}, {"wasted", l.WastedPerS},
				{"ratio", l.WakeupsPerAccept}, {"eagainratio", l.EAGAINRatio}, {"useless", l.UselessPerS}, {"cpu", l.EmptyCPU}} {
				switch {
				case !Known(v.v) && got == "":
					got = v.name
				case !Known(v.v):
					got += " " + v.name
				case v.v < 0:
					t.Errorf("%s = %v", v.name, v.v)
				}
			}
			if got != tt.unknown {
				t.Errorf("unknown: %q, want %q", got, tt.unknown)
			}
			if w := l.Threads[0]; Known(w.WakeupsPerAccept) != Known(l.WakeupsPerAccept) {
				t.Errorf("worker's ratio %v, listener's %v", w.WakeupsPerAccept, l.WakeupsPerAccept)
			}
		})
	}
}

// TestTimeBackwards: not what a Reader lets through, yet nothing is negative.
func TestTimeBackwards(t *testing.T) {
	fs := frames(tick(9, web(before)), tick(3, web(before)))
	if l := last(t, fs); fs[1].Interval != 0 || fs[1].Elapsed != 0 || Known(l.AcceptsPerS) {
		t.Errorf("interval %s, accepts %v", fs[1].Interval, l.AcceptsPerS)
	}
	if far := frames(tick(0), &sample.Sample{MonoNS: math.MaxUint64}); far[1].Interval <= 0 || far[1].Elapsed <= 0 {
		t.Errorf("interval %s", far[1].Interval)
	}
}

func TestIOURingFallsBackToCompletions(t *testing.T) {
	l := last(t, frames(tick(1, web(sample.Counters{})), tick(2, sample.Listener{Inode: 7, CompletionsTotal: 50,
		Counters: sample.Counters{WakeupsTotal: 200}})))
	want(t, "WakeupsPerAccept", l.WakeupsPerAccept, 4)
	want(t, "UselessPerS", l.UselessPerS, 150)
}

// TestUntimedBursts: CPU time of empty wake-ups of which none could be timed.
func TestUntimedBursts(t *testing.T) {
	l := last(t, frames(tick(1, web(sample.Counters{})), tick(2, web(sample.Counters{EmptyWakeupsTotal: 5}))))
	want(t, "EmptyCPU", l.EmptyCPU, Unknown())
	want(t, "EmptyCPUSeconds", EmptyCPUSeconds(&l.Listener), Unknown())
	want(t, "EmptyCPUSeconds of none", EmptyCPUSeconds(&sample.Listener{}), 0)
}

// TestLives: a listener that appears is counted from its opening, one that is
// reopened on its port is another one.
func TestLives(t *testing.T) {
	reopened := web(sample.Counters{AcceptsTotal: 30})
	reopened.Inode = 8
	closed := web(sample.Counters{AcceptsTotal: 150})
	closed.Closed = true
	fs := frames(tick(1), tick(2, web(before)), tick(3, closed), tick(4, closed, reopened), tick(5, reopened))
	for i, want := range [][]struct {
		inode      uint64
		rate       float64
		new, close bool
	}{
		{},
		{{7, 100, true, false}},
		{{7, 50, false, true}},
		{{8, 30, true, false}, {7, 0, false, true}},
		{{8, 0, false, false}},
	} {
		ls := fs[i].Accept.Listeners
		if len(ls) != len(want) {
			t.Fatalf("tick %d: %d listeners", i, len(ls))
		}
		for j, w := range want {
			if l := ls[j]; l.Inode != w.inode || l.AcceptsPerS != w.rate || l.New != w.new || l.Closed != w.close || l.Name != "0.0.0.0:80" {
				t.Errorf("tick %d: listener %d, %v/s, new %v, closed %v; want %+v", i, l.Inode, l.AcceptsPerS, l.New, l.Closed, w)
			}
		}
	}
}

// TestGapIsAZeroPoint: after a tick without the signal, nothing is known to
// have happened in the last interval.
func TestGapIsAZeroPoint(t *testing.T) {
	fs := frames(tick(1, web(before)), &sample.Sample{MonoNS: 2 * second}, tick(3, web(before)))
	if fs[1].Accept != nil {
		t.Errorf("accept %+v in a tick without it", fs[1].Accept)
	}
	if l := last(t, fs); Known(l.AcceptsPerS) || l.Interval != 0 {
		t.Errorf("accepts %v/s over %s", l.AcceptsPerS, l.Interval)
	}
}

func TestNewWorkerHasNoRunRatio(t *testing.T) {
	two := web(before)
	two.Workers[0].RunNS, two.Workers[0].WaitNS = second/2, second/4
	two.Workers = append(two.Workers, sample.Worker{TID: 2, RunNS: 99 * second, Counters: sample.Counters{AcceptsTotal: 50}})
	l := last(t, frames(tick(1, web(before)), tick(2, two)))
	want(t, "RunRatio of the old", l.Threads[0].RunRatio, 0.5)
	want(t, "Busy of the old", l.Threads[0].Busy(), 0.75)
	want(t, "RunRatio of the new", l.Threads[1].RunRatio, Unknown())
	want(t, "AcceptsPerS of the new", l.Threads[1].AcceptsPerS, 50)
	want(t, "Share of the new", l.Threads[1].Share, 0.5)
}

func TestReusePortGroup(t *testing.T) {
	member := func(inode uint64, accepts uint64, netns uint32, reuse bool) sample.Listener {
		l := web(sample.Counters{AcceptsTotal: accepts})
		l.Inode, l.NetNS, l.ReusePort = inode, netns, reuse
		return l
	}
	ended, closed := member(3, 100, 1, true), member(6, 900, 1, true)
	ended.Workers = append(ended.Workers, sample.Worker{TID: 9, Ended: true})
	closed.Closed = true
	fs := frames(tick(1, member(1, 600, 1, true), member(2, 300, 1, true), ended, member(4, 500, 2, true), member(5, 100, 1, false), closed))
	for _, l := range fs[0].Accept.Listeners {
		switch l.Inode {
		case 1, 2, 3:
			if l.Group.Accepts != 1000 {
				t.Errorf("the group accepted %d, want 1000", l.Group.Accepts)
			}
			if l.Sockets != 3 {
				t.Errorf("listener %d: %d sockets, want 3", l.Inode, l.Sockets)
			}
		default:
			if l.Sockets != 1 {
				t.Errorf("listener %d: %d sockets, want 1", l.Inode, l.Sockets)
			}
		}
	}
}

func TestOrder(t *testing.T) {
	at := func(inode, accepts, wakes uint64, addr string) sample.Listener {
		l := web(sample.Counters{AcceptsTotal: accepts, WakeupsTotal: wakes})
		l.Inode, l.Addr = inode, addr
		return l
	}
	fs := frames(tick(1), tick(2, at(1, 0, 0, "b"), at(2, 0, 0, "a"), at(3, 500, 500, "c"), at(4, 10, 90, "d"), at(5, 0, 0, "a")))
	var got []uint64
	for _, l := range fs[1].Accept.Listeners {
		got = append(got, l.Inode)
	}
	for i, w := range []uint64{4, 3, 2, 5, 1} {
		if got[i] != w {
			t.Fatalf("order %v", got)
		}
	}
}

func TestProgramAndWait(t *testing.T) {
	w := func(program, wait string) sample.Worker { return sample.Worker{Program: program, Wait: wait} }
	tests := []struct {
		name          string
		workers       []sample.Worker
		holder        string
		program, wait string
	}{
		{"none", nil, "", "?", sample.WaitUnknown},
		{"none, held", nil, "systemd", "systemd", sample.WaitUnknown},
		{"one", []sample.Worker{w("nginx", sample.WaitEpoll)}, "systemd", "nginx", sample.WaitEpoll},
		{"most", []sample.Worker{w("sh", sample.WaitEpoll), w("app", sample.WaitUnknown), w("app", sample.WaitEpoll)}, "", "app", sample.WaitEpoll},
		{"mixed", []sample.Worker{w("", sample.WaitEpoll), w("", sample.WaitPoll), w("", sample.WaitUnknown)}, "", "?", WaitMixed},
	}
	for _, tt := range tests {
		l := last(t, frames(tick(1, sample.Listener{Workers: tt.workers, HolderProgram: tt.holder})))
		if l.Program != tt.program || l.Wait != tt.wait {
			t.Errorf("%s: %q, %q; want %q, %q", tt.name, l.Program, l.Wait, tt.program, tt.wait)
		}
	}
}

// TestNotMeasured: a counter whose signal could not attach is unknown, not 0.
func TestNotMeasured(t *testing.T) {
	c := sample.Counters{AcceptsTotal: 500, AcceptEAGAINTotal: 20, WakeupsTotal: 500, WastedWakeupsTotal: 9, EmptyWakeupsTotal: 20}
	for _, tt := range []struct {
		signal                  string
		accepts, wakes, perConn bool
	}{{SignalAccept, false, true, true}, {SignalWake, true, false, false}, {"other", true, true, true}} {
		h := &sample.Header{Signals: []sample.Signal{{Name: tt.signal, Accuracy: sample.Unavailable}}}
		fs := framesOf(h, tick(1, web(before)), tick(2, web(c)))
		l, a := last(t, fs), fs[1].Accept
		if Known(l.AcceptsPerS) != tt.accepts || Known(l.EAGAINRatio) != tt.accepts || Known(l.WakeupsPerS) != tt.wakes ||
			Known(l.WakeupsPerAccept) != tt.perConn || Known(l.WastedPerS) != (tt.accepts && tt.wakes) ||
			Known(l.Threads[0].AcceptsPerS) != tt.accepts || Known(l.Threads[0].WakeupsPerS) != tt.wakes ||
			Known(a.AcceptsPerS) != tt.accepts || Known(a.WakeupsPerS) != tt.wakes {
			t.Errorf("without %s: %+v\n%+v", tt.signal, l, a)
		}
	}
}

func TestAccuracy(t *testing.T) {
	h := &sample.Header{Signals: []sample.Signal{{Name: SignalWake, Accuracy: sample.Approximate}}}
	if a := framesOf(h, tick(1))[0].Accept; a.Accuracy != sample.Approximate {
		t.Errorf("accept %+v", a)
	}
}
