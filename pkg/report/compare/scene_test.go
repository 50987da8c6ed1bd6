// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// scene makes up a recording: a server on one port, a core that others wait for,
// and a cgroup with a quota. Rates are per second; noise is the relative
// standard deviation of each in each interval, and drift how much of it is kept.
type scene struct {
	ticks    int
	conns    float64
	herd     float64   // wake-ups per connection
	sockets  int       // of a SO_REUSEPORT group; 0: one without
	refuse   []float64 // refusals at each socket
	bursty   bool      // in every third interval only
	grows    bool      // by as much again in each interval
	pile     float64   // share of the time in which a thread waits beside an idle core
	throttle float64   // share of the periods
	noQuota  bool
	idle     int // ticks at the begin and at the end without any load
	noise    float64
	drift    float64
	port     uint16
	group    string
	lost     uint64 // in all
	signals  map[string]string
	seed     uint64
}

var quiet = scene{ticks: 12, conns: 500, herd: 1}

func (s scene) with(change func(s *scene)) scene { change(&s); return s }

func (s scene) header() *sample.Header {
	h := &sample.Header{Version: "0.0.0", Host: "web-3", Kernel: "6.12.0", Arch: "x86_64", CPUs: 4, WallNS: 1_795_291_200e9, MonoNS: 5000e9, IntervalNS: 1e9}
	for _, name := range []string{"accept", "wake", "listen", "netrx", "cpu-backlog", "runq", "throttle", "cputime"} {
		accuracy := sample.Exact
		if a, ok := s.signals[name]; ok {
			accuracy = a
		}
		h.Signals = append(h.Signals, sample.Signal{Name: name, Variant: "made_up", Accuracy: accuracy})
	}
	return h
}

// wobble is what a rate is multiplied by in the next interval.
type wobble struct {
	r            *rand.Rand
	noise, drift float64
	was          map[int]float64
}

func (w *wobble) next(i int) float64 {
	v := w.drift*w.was[i] + math.Sqrt(1-w.drift*w.drift)*w.r.NormFloat64()
	w.was[i] = v
	return max(1+w.noise*v, 0)
}

// write makes the recording.
func (s scene) write(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := sample.NewWriter(&b)
	if err := w.WriteHeader(s.header()); err != nil {
		t.Fatal(err)
	}
	wob := &wobble{rand.New(rand.NewPCG(7, s.seed)), s.noise, s.drift, make(map[int]float64)}
	port, group := s.port, s.group
	if port == 0 {
		port = 8080
	}
	if group == "" {
		group = "/system.slice/api.service"
	}
	at := &sample.Sample{MonoNS: 5000e9, Accept: &sample.Accept{}, Listen: &sample.Listen{}, Host: &sample.Host{}, Sched: &sample.Sched{}}
	for k := range max(s.sockets, 1) {
		at.Accept.Listeners = append(at.Accept.Listeners, sample.Listener{
			Inode: 100 + uint64(k), Proto: "tcp", Addr: "0.0.0.0", Port: port, NetNS: 1, ReusePort: s.sockets > 0, AcceptQueueMax: 128,
			Queues:  &sample.Queues{Backlog: 128, SynQueueMax: 128},
			Workers: []sample.Worker{{PID: 10 + uint32(k), TID: 10 + uint32(k), Comm: "gunicorn", Program: "gunicorn", Wait: sample.WaitSelect}},
		})
	}
	for c := range 4 {
		at.CPUs = append(at.CPUs, sample.CPU{CPU: c, Times: &sample.CPUTimes{}, Runq: &sample.Runq{Wait: make([]uint64, 32)}})
	}
	at.CGroups = []sample.CGroup{{ID: 7, Path: group, CFS: &sample.Bandwidth{QuotaUS: 200_000, PeriodUS: 100_000}}}
	if s.noQuota {
		at.CGroups[0].CFS = nil
	}
	for tick := range s.ticks + 1 {
		switch {
		case tick > s.idle && tick <= s.ticks-s.idle:
			s.advance(at, tick, wob)
		case tick > 0:
			at.MonoNS += uint64(time.Second)
			for c := range at.CPUs {
				at.CPUs[c].Runq.IdleNS, at.CPUs[c].Times.IdleNS = at.CPUs[c].Runq.IdleNS+1e9, at.CPUs[c].Times.IdleNS+1e9
			}
		}
		if err := w.WriteSample(at); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// advance is a second.
func (s scene) advance(at *sample.Sample, tick int, w *wobble) {
	at.MonoNS += uint64(time.Second)
	at.Self.Lost = map[string]uint64{"ring": s.lost * uint64(tick) / uint64(s.ticks)}
	n := len(at.Accept.Listeners)
	conns := s.conns * w.next(0)
	for k := range at.Accept.Listeners {
		l := &at.Accept.Listeners[k]
		mine := uint64(conns / float64(n))
		woken := uint64(float64(mine) * (1 + (s.herd-1)*w.next(1)))
		d := sample.Counters{AcceptsTotal: mine, WakeupsTotal: woken, AcceptEAGAINTotal: (woken - min(mine, woken)) / 3}
		d.WastedWakeupsTotal = d.AcceptEAGAINTotal
		l.Counters.Add(d)
		l.CompletionsTotal += mine
		l.Workers[0].Counters.Add(d)
		l.Workers[0].RunNS += 200e6
		if k < len(s.refuse) && (!s.bursty || tick%3 == 1) {
			refused := uint64(s.refuse[k] * w.next(2))
			if s.grows {
				refused *= uint64(tick)
			}
			l.Queues.Refusals.AcceptQueueSYN += refused
			if refused > 0 {
				l.Queues.AcceptFullNS += 500e6
				l.Queues.AcceptQueuePeak, l.AcceptQueueLen = 129, 129
			}
		}
	}
	for c := range at.CPUs {
		s.core(&at.CPUs[c], c, w)
	}
	g := &at.CGroups[0]
	used := uint64(1.5e9 * w.next(4))
	g.RunNS += used
	if g.CFS != nil {
		throttled := min(uint64(10*s.throttle*w.next(5)+0.5), 10)
		g.CFS.Periods += 10
		g.CFS.Throttled += throttled
		g.CFS.ThrottledNS += throttled * 60e6
		g.WaitNS += throttled * 60e6
		g.ThrottledNS += throttled * 60e6
	}
}

// core is a second of one: others pile up at the first.
func (s scene) core(c *sample.CPU, number int, w *wobble) {
	busy := uint64(min(0.4*w.next(10+number), 1) * 1e9)
	slot := 14 // 16 to 33 us
	if number == 0 && s.pile > 0 {
		busy, slot = 1e9, 24
		c.Runq.UnclaimedNS += uint64(min(s.pile*w.next(20), 1) * 1e9)
		c.Runq.WaitNS += 5e9
		c.Runq.Len, c.Runq.Peak = 7, 7
	}
	c.Runq.Wait[slot] += uint64(1000 * w.next(30+number))
	c.Runq.Waits += 1000
	c.Runq.Switches += 2000
	c.Runq.BusyNS, c.Runq.IdleNS = c.Runq.BusyNS+busy, c.Runq.IdleNS+uint64(1e9)-busy
	c.Times.BusyNS, c.Times.IdleNS = c.Runq.BusyNS, c.Runq.IdleNS
}

// read adds up a recording.
func read(t testing.TB, name string, in []byte) *Side {
	t.Helper()
	r, err := sample.NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	s := NewSide(name)
	if _, err := report.Run(context.Background(), r, diagnose.DefaultLimits(), s); err != nil {
		t.Fatal(err)
	}
	s.Truncated = r.Truncated()
	return s
}

func compareScenes(t testing.TB, a, b scene) *Diff {
	t.Helper()
	return Compare(read(t, "a.jsonl", a.write(t)), read(t, "b.jsonl", b.write(t)))
}

// text is what a person would read.
func text(t testing.TB, d *Diff) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
