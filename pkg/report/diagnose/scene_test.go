// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// A scene plays servers at a Set, through literal Samples and the model, as a
// trace or a recording would.
type scene struct {
	t       testing.TB
	header  *sample.Header
	builder *model.Builder
	set     *Set
	step    time.Duration
	mono    uint64
	idle    float64 // cores
	idleNS  float64 // since boot
	servers []*server
	inode   uint64
	netns   []sample.NetNS
	cores   []*core
	netrx   *sample.NetRX
	devices []*device
	schedScene
}

// traffic is what happens at a listener, per second where it is a rate.
type traffic struct {
	conns   float64
	wakes   float64       // per connection
	eagains float64       // per connection
	burst   time.Duration // CPU time of a wake-up for nothing; 0: none could be timed
	unseen  float64       // share of the connections that completed and were not accepted
	queue   uint32        // length of the accept queue
	looks   float64       // at the queue, when connections waited
	stalled float64       // looks at which all workers slept
	shares  []float64     // of the connections, for each worker; even when nil
	run     []float64     // of a core, for each worker
	wait    []float64     // likewise
	queues
}

// server is a listener of a scene, with its state so far.
type server struct {
	sample.Listener
	now traffic
	sum []totals // for each worker

	completions, looks, stalled float64
	sumQueues                   queueTotals
}

// totals are a worker's counters before they are rounded.
type totals struct{ accepts, eagains, wakes, empty, timed, emptyNS, run, wait float64 }

// newScene is a host with a tick a second and 2 cores, all of them idle. The
// zero point is taken by the first tick.
func newScene(t testing.TB) *scene {
	h := &sample.Header{CPUs: 2, IntervalNS: uint64(time.Second), Signals: []sample.Signal{
		{Name: model.SignalAccept, Variant: "fexit", Accuracy: sample.Exact},
		{Name: model.SignalWake, Variant: "fentry", Accuracy: sample.Exact},
		{Name: model.SignalListen, Variant: "fexit", Accuracy: sample.Exact},
	}}
	return &scene{t: t, header: h, builder: model.NewBuilder(h), set: NewSet(DefaultLimits()), step: time.Second, idle: 2}
}

// every sets the tick.
func (s *scene) every(d time.Duration) *scene { s.step = d; return s }

// idles sets how many cores of the host have nothing to do.
func (s *scene) idles(cores float64) *scene { s.idle = cores; return s }

// serves adds a listener at port 8080 with n workers.
func (s *scene) serves(program, wait string, n int) *server {
	s.inode++
	v := &server{
		Listener: sample.Listener{Inode: s.inode, Proto: "tcp", Addr: "0.0.0.0", Port: 8080, AcceptQueueMax: 128,
			Queues: &sample.Queues{SynQueueMax: 128, Backlog: 128}},
		sum: make([]totals, n),
	}
	for i := range n {
		tid := 1000*uint32(s.inode) + uint32(i)
		v.Workers = append(v.Workers, sample.Worker{PID: tid, TID: tid, Comm: program, Program: program, Wait: wait})
	}
	s.servers = append(s.servers, v)
	return v
}

// does sets what happens at v from now on.
func (v *server) does(t traffic) *server { v.now = t; return v }

// vanishes takes v out of the Samples without a last word.
func (s *scene) vanishes(v *server) {
	for i := range s.servers {
		if s.servers[i] == v {
			s.servers = append(s.servers[:i], s.servers[i+1:]...)
			return
		}
	}
}

// ticks plays n ticks and returns what the Set said meanwhile.
func (s *scene) ticks(n int) []Finding {
	var out []Finding
	for range n {
		out = append(out, s.set.Update(s.builder.Build(s.sample()))...)
	}
	return out
}

// plays plays at least d.
func (s *scene) plays(d time.Duration) []Finding { return s.ticks(int((d + s.step - 1) / s.step)) }

// sample moves the scene on by a tick; the first one is the zero point.
func (s *scene) sample() *sample.Sample {
	passed := s.step
	if s.mono == 0 {
		passed = 0
	}
	s.mono += uint64(s.step)
	s.idleNS += s.idle * float64(passed)
	out := &sample.Sample{MonoNS: s.mono, Host: &sample.Host{IdleNS: uint64(s.idleNS + 0.5)}, Accept: &sample.Accept{}}
	for _, v := range s.servers {
		out.Accept.Listeners = append(out.Accept.Listeners, v.after(passed))
	}
	if s.netns != nil {
		out.Listen = &sample.Listen{NetNS: s.netns}
	}
	s.receive(out, passed)
	s.schedule(out, passed)
	return out
}

// after is v's listener when d has passed.
func (v *server) after(d time.Duration) sample.Listener {
	now, seconds := &v.now, d.Seconds()
	conns := now.conns * seconds
	v.completions += conns
	v.looks += now.looks * seconds
	v.stalled += now.stalled * seconds

	l := v.Listener
	l.Counters = sample.Counters{}
	l.Workers = nil
	l.AcceptQueueLen = now.queue
	if l.Closed {
		l.AcceptQueueLen = 0
	}
	l.CompletionsTotal, l.QueuedChecksTotal, l.StalledChecksTotal = count(v.completions), count(v.looks), count(v.stalled)
	v.refuse(&l, seconds)
	for i, w := range v.Workers {
		c, n := &v.sum[i], float64(len(v.Workers))
		share := 1 / n
		if now.shares != nil {
			share = now.shares[i]
		}
		c.accepts += conns * share * (1 - now.unseen)
		c.eagains += conns * now.eagains / n
		c.wakes += conns * now.wakes / n
		empty := conns * max(now.wakes-1, 0) / n
		c.empty += empty
		if now.burst > 0 {
			c.timed += empty
			c.emptyNS += empty * float64(now.burst)
		}
		if now.run != nil {
			c.run += now.run[i] * float64(d)
		}
		if now.wait != nil {
			c.wait += now.wait[i] * float64(d)
		}
		w.RunNS, w.WaitNS = count(c.run), count(c.wait)
		w.Counters = sample.Counters{AcceptsTotal: count(c.accepts), AcceptEAGAINTotal: count(c.eagains),
			WakeupsTotal: count(c.wakes), EmptyWakeupsTotal: count(c.empty),
			EmptyBurstsTotal: count(c.timed), EmptyCPUNS: count(c.emptyNS)}
		l.Counters.Add(w.Counters)
		l.Workers = append(l.Workers, w)
	}
	return l
}

func count(v float64) uint64 { return uint64(v + 1e-6) }

// wantIDs checks which findings are active.
func (s *scene) wantIDs(want ...string) []Finding {
	s.t.Helper()
	active := s.set.Active()
	ok := len(active) == len(want)
	for i := range want {
		ok = ok && active[i].ID == want[i]
	}
	if !ok {
		s.t.Errorf("active: %v, want %q", sentences(active), want)
	}
	return active
}

// wantChange checks that all that was said is one change of a finding.
func (s *scene) wantChange(got []Finding, id, state string) *Finding {
	s.t.Helper()
	if len(got) != 1 || got[0].ID != id || got[0].State != state {
		s.t.Fatalf("got %v, want %s %s", sentences(got), id, state)
	}
	return &got[0]
}

func sentences(fs []Finding) []string {
	out := make([]string, len(fs))
	for i := range fs {
		out[i] = fs[i].ID + " " + fs[i].State + ": " + fs[i].Sentence()
	}
	return out
}
