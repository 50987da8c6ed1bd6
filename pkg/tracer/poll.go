// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// pollCollector is the collector of the lowest rung: /proc, cgroupfs and
// sock_diag, as far as they may be read.
type pollCollector struct {
	kern     *kernel
	interval time.Duration
	share    float64       // of the machine that looking may take; 0: all
	accept   *acceptReader // nil: not measured
	netrx    *netrxReader
	sched    *pollSched    // nil: not measured
	cost     time.Duration // CPU time of ours that the last tick took
	skipped  uint64        // ticks
	resting  uint64        // of them, those after the last one
}

// onlyBPF says of the signals that have no other way why that is so.
var onlyBPF = map[string]string{
	SignalAccept: "no file says what accept(2) returned: it takes BPF",
	SignalWake:   "no file says whom a listener woke: it takes BPF",
}

// newPollCollector takes what the kernel has counted by now as the begin.
func newPollCollector(o *Options) (*pollCollector, error) {
	c := &pollCollector{
		kern:     emptyKernel(),
		interval: o.Interval,
		share:    o.Budget / 100,
	}
	c.kern.noBPF = true
	_, cpus := readHost()
	softnet := readSoftnet(numbersOf(cpus))
	born := readNamespaces()
	if err := c.choose(o); err != nil {
		return nil, err
	}
	var err error
	if c.accept, err = newPolledAccept(c.kern, o, born); err != nil {
		c.Close()
		return nil, err
	}
	c.netrx = newPolledNetRX(softnet, func() []uint32 {
		if c.accept == nil {
			return nil
		}
		return c.accept.namespaces()
	})
	if c.sched, err = newPollSched(c.kern, o); err != nil {
		c.kern.withdraw(err, SignalRunq, SignalThrottle, SignalCPUTime)
	}
	if c.sched != nil {
		c.sched.noteHierarchy()
	}
	return c, nil
}

// choose picks a variant for each signal.
func (c *pollCollector) choose(o *Options) error {
	some := false
	for _, name := range signals {
		sig, err := c.kern.attachSignal(name, o.Variants[name])
		if err != nil {
			return err
		}
		if v := o.Variants[name]; v != "" && sig.Accuracy == sample.Unavailable {
			return fmt.Errorf("%w: measure %s=%s without BPF: %s", ErrHost, name, v, sig.Rejected[len(sig.Rejected)-1].Error)
		}
		if why := onlyBPF[name]; why != "" {
			sig.Rejected = append(sig.Rejected, sample.Rejection{Variant: sample.RungProcFS, Error: why})
		}
		some = some || sig.Accuracy != sample.Unavailable
		c.kern.signals = append(c.kern.signals, sig)
	}
	if !some {
		return fmt.Errorf("%w: neither /proc nor sock_diag has anything to show: %s", ErrHost, c.kern.firstRejection())
	}
	return nil
}

// wrongRung says why a forced variant cannot be had.
func wrongRung(v *variant) string {
	if v.alone {
		return "attach " + v.name + ": it is for where there is no BPF (--no-bpf)"
	}
	return "attach " + v.name + ": it takes BPF"
}

// signals implements collector.
func (c *pollCollector) signals() []sample.Signal { return c.kern.signals }

// wait implements collector.
func (c *pollCollector) wait() time.Duration { return checkEvery }

// between implements collector: it looks at the accept queues.
func (c *pollCollector) between(more bool) error {
	if c.accept == nil || !more {
		return nil
	}
	return c.accept.checkQueues()
}

// rest implements collector. A look that costs more than its share of the machine
// in an interval is taken less often: the Samples are further apart, and what
// they say stays true.
func (c *pollCollector) rest() time.Duration {
	c.skipped -= c.resting // it is asked again when the interval changes
	c.resting = 0
	if c.share <= 0 {
		return 0
	}
	rest := time.Duration(float64(c.cost) / c.share / float64(runtime.NumCPU()))
	if rest <= c.interval {
		return 0
	}
	c.resting = uint64(rest/c.interval) - 1
	c.skipped += c.resting
	return rest
}

// setInterval implements collector.
func (c *pollCollector) setInterval(d time.Duration) { c.interval = d }

// collect implements collector.
func (c *pollCollector) collect(final bool) (*sample.Sample, error) {
	began := processTime()
	c.resting = 0
	s := &sample.Sample{Type: "sample", MonoNS: monoNS(), Final: final}
	s.Host, s.CPUs = readHost()
	c.netrx.fill(s)
	c.sched.fill(s)
	if c.accept != nil {
		var err error
		if s.Accept, s.Events, err = c.accept.read(final); err != nil {
			return nil, err
		}
		s.Listen = c.accept.listen.sample(c.accept)
	}
	now := processTime()
	c.cost = now - began
	s.Self = sample.Self{
		UserCPUNS: uint64(now), MemoryBytes: residentBytes(), Lost: make(map[string]uint64), TicksSkipped: c.skipped,
	}
	if c.accept != nil && c.accept.polled.unread > 0 {
		s.Self.Lost["listeners_unread"] = c.accept.polled.unread
	}
	if n := c.netrx.unread; n > 0 {
		s.Self.Lost["netrx_unread"] = n
	}
	if c.sched != nil {
		c.sched.addLost(s.Self.Lost)
	}
	return s, nil
}

// Close implements collector. It may be called again.
func (c *pollCollector) Close() error {
	c.sched.Close()
	if c.accept != nil {
		c.accept.Close()
	}
	return nil
}

// processTime is the CPU time of this process.
func processTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // cannot fail with a valid pointer
	return time.Duration(ts.Nano())
}

func prepareSoftnet(*kernel) error {
	if readSoftnet(nil) == nil {
		return errors.New("/proc/net/softnet_stat cannot be read")
	}
	return nil
}
