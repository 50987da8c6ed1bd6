// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package tracer attaches herdtrace's BPF programs to the running kernel and
// turns their maps, once a tick, into a sample.Sample. It judges nothing.
package tracer

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// checkEvery is how often, between ticks, the tracer looks at the accept queues.
const checkEvery = 100 * time.Millisecond

// Options say what to trace. The zero value traces everything once a second.
type Options struct {
	// Interval is the time between two Samples: 1 s when 0.
	Interval time.Duration
	// Version is herdtrace's own, for the Header.
	Version string
	// Command is the command that is traced, for the Header.
	Command []string
	// PIDs selects the listeners that one of these processes, or of their
	// descendants, holds. Empty: all.
	PIDs []uint32
	// Ports selects listeners by port. Empty: all.
	Ports []uint16
	// Variants forces, by signal, a variant by name.
	Variants map[string]string
	// MaxListeners and MaxWorkers size the maps: 4096 and 16384 when 0.
	MaxListeners, MaxWorkers uint32
	// MaxDrops sizes the map of backlog drops: 1024 devices and cores when 0.
	MaxDrops uint32
	// Budget is what tracing may cost, in percent of the whole machine; beyond,
	// it does without something (see sample.Budget). 0: it may cost what it costs.
	Budget float64
	// MaxThreads sizes the map of threads whose waits were taken apart: 16384
	// when 0.
	MaxThreads uint32
}

// Tracer is an attached tracer and a sample.Source. Its methods are for one
// goroutine, except Close and Stop.
type Tracer struct {
	opts   Options
	header sample.Header
	kern   *kernel
	accept *acceptReader
	netrx  *netrxReader
	sched  *schedReader // nil: not measured
	self   *selfMeter
	pace   *pacer
	rein   *reins
	events *eventReader
	zero   *sample.Sample // the first one, as of Open, until Next has returned it
	next   time.Time
	done   bool
}

// Open attaches to the running kernel. Where single signals cannot attach, it
// succeeds and the Header says so; it fails where none can. The caller owns the
// Tracer and must Close it.
func Open(o Options) (*Tracer, error) {
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if err := (hostView{}).preflight(); err != nil {
		return nil, err
	}
	t := &Tracer{opts: o}
	_, cpus := readHost()
	softnet := readSoftnet(numbersOf(cpus))
	born := readNamespaces()
	var err error
	if t.kern, err = loadKernel(&o); err != nil {
		return nil, err
	}
	if err := t.open(softnet, born); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// open takes what the kernel had counted before anything was attached: so no
// program has seen what is not in it.
func (t *Tracer) open(softnet []softnetRow, born map[uint32]*sample.TCPExt) error {
	attached := 0
	for _, s := range t.kern.signals {
		if len(s.Hooks) > 0 {
			attached++
		}
	}
	if attached == 0 {
		return fmt.Errorf("%w: no signal can attach: %s", ErrHost, t.kern.firstRejection())
	}
	var err error
	if t.accept, err = newAcceptReader(t.kern, &t.opts, born); err != nil {
		return err
	}
	if t.netrx, err = newNetRXReader(t.kern, softnet, t.accept.namespaces); err != nil {
		return err
	}
	if t.sched, err = newSchedReader(t.kern, &t.opts); err != nil {
		t.sched = nil
		t.kern.withdraw(err, SignalRunq, SignalThrottle, SignalCPUTime)
	}
	if t.events, err = newEventReader(t.kern); err != nil {
		return err
	}
	if t.self, err = newSelfMeter(t.kern); err != nil {
		return err
	}
	t.pace = t.newPacer()
	t.rein = newReins(t)
	t.sched.noteHierarchy()
	t.fillHeader()
	t.next = time.Now().Add(t.opts.Interval)
	t.zero, err = t.collect(false)
	return err
}

func (k *kernel) firstRejection() string {
	for _, s := range k.signals {
		if n := len(s.Rejected); n > 0 {
			return s.Rejected[n-1].Error
		}
	}
	return "none was tried"
}

func (t *Tracer) fillHeader() {
	var u unix.Utsname
	unix.Uname(&u) // cannot fail with a valid pointer
	t.header = sample.Header{
		V:          sample.Version,
		Type:       "header",
		Version:    t.opts.Version,
		Host:       unix.ByteSliceToString(u.Nodename[:]),
		Kernel:     unix.ByteSliceToString(u.Release[:]),
		Arch:       runtime.GOARCH,
		CPUs:       runtime.NumCPU(),
		BootID:     readTrimmed("/proc/sys/kernel/random/boot_id"),
		WallNS:     time.Now().UnixNano(),
		MonoNS:     monoNS(),
		IntervalNS: uint64(t.opts.Interval),
		Command:    t.opts.Command,
		PIDs:       t.opts.PIDs,
		Ports:      t.opts.Ports,
		Signals:    t.kern.signals,
	}
}

// Header implements sample.Source.
func (t *Tracer) Header() *sample.Header { return &t.header }

// Next implements sample.Source: it returns the first Sample, which Open took,
// at once and then one each interval, looking at the accept queues in between.
// When ctx ends it returns one last Sample, which is Final, and then io.EOF.
func (t *Tracer) Next(ctx context.Context) (*sample.Sample, error) {
	if t.done {
		return nil, io.EOF
	}
	if zero := t.zero; zero != nil && ctx.Err() == nil {
		t.zero = nil
		return zero, nil
	}
	for {
		wait := time.Until(t.next)
		if wait <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			t.done = true
			return t.collect(true)
		case <-time.After(min(wait, checkEvery, t.pace.wait(time.Now()))):
		}
		if time.Until(t.next) > 0 {
			if err := t.accept.checkQueues(); err != nil {
				return nil, err
			}
		}
		t.pace.rotate(time.Now())
		t.self.rotate(!t.pace.measurable(time.Now()))
		t.netrx.latency.rotate()
		t.sched.between()
	}
	if ctx.Err() != nil {
		t.done = true
		return t.collect(true)
	}
	t.next = t.next.Add(t.opts.Interval)
	if now := time.Now(); t.next.Before(now) {
		// The machine had no time for us: skip the ticks that are past.
		t.next = now.Add(t.opts.Interval)
	}
	return t.collect(false)
}

// collect reads everything, now.
func (t *Tracer) collect(final bool) (*sample.Sample, error) {
	s := &sample.Sample{Type: "sample", MonoNS: monoNS(), Final: final}
	s.Host, s.CPUs = readHost()
	drops := t.netrx.fill(s)
	stalls := t.sched.fill(s)
	var err error
	if s.Accept, s.Events, err = t.accept.read(final); err != nil {
		return nil, err
	}
	if t.accept.listen != nil {
		s.Listen = t.accept.listen.sample(t.accept)
	}
	bursts, err := t.events.drain()
	if err != nil {
		return nil, err
	}
	if t.accept.listen != nil {
		bursts = t.accept.listen.tell(t.accept, bursts)
	}
	s.Events = append(s.Events, t.accept.selected(bursts)...)
	s.Events = append(append(s.Events, drops...), stalls...)
	if s.Self, err = t.self.read(); err != nil {
		return nil, err
	}
	if l := t.accept.listen; l != nil && l.unread > 0 {
		s.Self.Lost["refused_clients_unread"] = l.unread
	}
	if n := t.netrx.unread; n > 0 {
		s.Self.Lost["netrx_unread"] = n
	}
	t.sched.addLost(s.Self.Lost)
	if t.pace.failed > 0 {
		s.Self.Lost["pacing_failed"] = t.pace.failed
	}
	s.Self.Budget = t.rein.tick(s)
	return s, nil
}

// Close detaches everything. It may be called again, and when Open failed.
func (t *Tracer) Close() error {
	if t.self != nil {
		t.self.Close()
	}
	if t.events != nil {
		t.events.Close()
	}
	if t.netrx != nil {
		t.netrx.Close()
	}
	t.sched.Close()
	if t.accept != nil {
		t.accept.Close()
	}
	return t.kern.Close()
}

func monoNS() uint64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a valid pointer
	return uint64(ts.Nano())
}
