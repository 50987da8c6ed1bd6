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
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// checkEvery is how often, between ticks, the tracer looks at the accept queues.
const checkEvery = 100 * time.Millisecond

// Options say what to trace. The zero value traces everything once a second.
type Options struct {
	// Interval is the time between two Samples: 1 s when 0. SetInterval changes it.
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
	// NoBPF does without BPF, as Open does by itself where the kernel refuses it.
	NoBPF bool
	// MaxThreads sizes the map of threads whose waits were taken apart: 16384
	// when 0.
	MaxThreads uint32
	// HostRoot is where the files of the traced host are, among them those in which
	// container runtimes keep names: the root of pid 1 when "".
	HostRoot string
}

// Tracer is an attached tracer and a sample.Source. Its methods are for one
// goroutine, but for SetInterval.
type Tracer struct {
	opts          Options
	header        sample.Header
	from          collector
	*bpfCollector                // from, where that is it; else nil
	zero          *sample.Sample // the first one, as of Open, until Next has returned it
	last, next    time.Time      // when the ticks are due
	taken         time.Time      // when the last one was there
	done          bool
	asked         atomic.Int64  // the interval that SetInterval wants
	change        chan struct{} // capacity 1: it wants another one
}

// collector is where the facts of a tick come from: BPF programs, or what the
// kernel shows to everybody.
type collector interface {
	// signals are how each is measured, for the Header.
	signals() []sample.Signal
	// collect reads everything, now.
	collect(final bool) (*sample.Sample, error)
	// between is called ten times a second, and after wait; more: no tick follows
	// at once.
	between(more bool) error
	wait() time.Duration
	// rest is for how long after the last tick there must be none, for what it cost.
	rest() time.Duration
	// setInterval says how far apart the ticks are, from the next one on.
	setInterval(d time.Duration)
	Close() error
}

// Open attaches to the running kernel. Where that refuses BPF, it falls back to
// what /proc, cgroupfs and sock_diag show; where single signals cannot be
// measured, it succeeds all the same: the Header says so. It fails where
// nothing can be measured. The caller owns the Tracer and must Close it.
func Open(o Options) (*Tracer, error) {
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	t := &Tracer{opts: o, change: make(chan struct{}, 1)}
	r, err := t.climb()
	if err != nil {
		return nil, err
	}
	t.fillHeader(r)
	t.begin(time.Now())
	if t.zero, err = t.from.collect(false); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tracer) fillHeader(r Rung) {
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
		Signals:    t.from.signals(),
		Rung:       r.Name,
		RungReason: r.Reason,
	}
}

// Header implements sample.Source.
func (t *Tracer) Header() *sample.Header { return &t.header }

// SetInterval changes the time between two Samples, from sample.MinInterval to
// sample.MaxInterval: the next one comes no later than d from now, unless it must be
// put off for what the last one cost. It may be called from any goroutine.
func (t *Tracer) SetInterval(d time.Duration) error {
	if d < sample.MinInterval || d > sample.MaxInterval {
		return fmt.Errorf("set interval: %s is not from %s to %s", d, sample.MinInterval, sample.MaxInterval)
	}
	t.asked.Store(int64(d))
	select {
	case t.change <- struct{}{}:
	default: // it is on its way
	}
	return nil
}

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
			return t.final()
		case <-t.change:
			t.adopt(time.Duration(t.asked.Load()))
			continue
		case <-time.After(min(wait, checkEvery, t.from.wait())):
		}
		if err := t.from.between(time.Until(t.next) > 0); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return t.final()
	}
	t.begin(t.next)
	s, err := t.collect(false)
	t.taken = time.Now()
	t.putOff()
	return s, err
}

// begin is the tick that is due: the next one follows an interval later.
func (t *Tracer) begin(due time.Time) {
	if now := time.Now(); due.Add(t.opts.Interval).Before(now) {
		due = now // the machine had no time for us: skip the ticks that are past
	}
	t.last, t.next = due, due.Add(t.opts.Interval)
}

// putOff grants the collector its rest, but not from the first look at everything.
func (t *Tracer) putOff() {
	if t.taken.IsZero() {
		return
	}
	if least := t.taken.Add(t.from.rest()); t.next.Before(least) {
		t.next = least
	}
}

// adopt makes d the interval, also of the wait that is under way: it began with the
// last tick.
func (t *Tracer) adopt(d time.Duration) {
	t.opts.Interval = d
	t.from.setInterval(d)
	if t.next = t.last.Add(d); t.next.Before(time.Now()) {
		t.next = time.Now()
	}
	t.putOff()
}

func (t *Tracer) final() (*sample.Sample, error) {
	t.done = true
	return t.collect(true)
}

func (t *Tracer) collect(final bool) (*sample.Sample, error) {
	s, err := t.from.collect(final)
	if d := uint64(t.opts.Interval); err == nil && d != t.header.IntervalNS {
		s.Self.IntervalNS = d
	}
	return s, err
}

// Close detaches everything. It may be called again.
func (t *Tracer) Close() error { return t.from.Close() }

func monoNS() uint64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a valid pointer
	return uint64(ts.Nano())
}
