// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// bpfCollector is the collector of the rungs that have BPF.
type bpfCollector struct {
	kern   *kernel
	accept *acceptReader
	netrx  *netrxReader
	sched  *schedReader // nil: not measured
	self   *selfMeter
	pace   *pacer
	rein   *reins
	events *eventReader
}

// newBPFCollector attaches to the running kernel.
func newBPFCollector(o *Options) (*bpfCollector, error) {
	if err := (hostView{}).preflight(); err != nil {
		return nil, err
	}
	c := &bpfCollector{}
	_, cpus := readHost()
	softnet := readSoftnet(numbersOf(cpus))
	born := readNamespaces()
	var err error
	if c.kern, err = loadKernel(o); err != nil {
		return nil, err
	}
	if err := c.open(o, softnet, born); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// open takes what the kernel had counted before anything was attached: so no
// program has seen what is not in it.
func (c *bpfCollector) open(o *Options, softnet []softnetRow, born map[uint32]*sample.TCPExt) error {
	if c.kern.attached() == 0 {
		return fmt.Errorf("%w: no signal can attach: %s", ErrHost, c.kern.firstRejection())
	}
	var err error
	if c.accept, err = newAcceptReader(c.kern, o, born); err != nil {
		return err
	}
	if c.netrx, err = newNetRXReader(c.kern, softnet, c.accept.namespaces); err != nil {
		return err
	}
	if c.sched, err = newSchedReader(c.kern, o); err != nil {
		c.sched = nil
		c.kern.withdraw(err, SignalRunq, SignalThrottle, SignalCPUTime)
	}
	if c.events, err = newEventReader(c.kern); err != nil {
		return err
	}
	if c.self, err = newSelfMeter(c.kern); err != nil {
		return err
	}
	if c.sched != nil {
		c.sched.noteHierarchy()
	}
	c.pace = c.newPacer()
	c.rein = newReins(c, o)
	return nil
}

// attached counts the signals that have hooks.
func (k *kernel) attached() (n int) {
	for _, s := range k.signals {
		if len(s.Hooks) > 0 {
			n++
		}
	}
	return n
}

func (k *kernel) firstRejection() string {
	for _, s := range k.signals {
		if n := len(s.Rejected); n > 0 {
			return s.Rejected[n-1].Error
		}
	}
	return "none was tried"
}

// signals implements collector.
func (c *bpfCollector) signals() []sample.Signal { return c.kern.signals }

// rest implements collector.
func (c *bpfCollector) rest() time.Duration { return 0 }

// setInterval implements collector. What looks cost is judged by how often they are.
func (c *bpfCollector) setInterval(d time.Duration) { c.rein.interval = d }

// between implements collector: it looks at the accept queues, and sees to it
// that no ring fills up.
func (c *bpfCollector) between(more bool) error {
	if more {
		if err := c.accept.checkQueues(); err != nil {
			return err
		}
	}
	c.pace.rotate(time.Now())
	c.self.rotate(c.pace)
	c.netrx.latency.rotate()
	c.sched.between()
	return nil
}

// wait implements collector.
func (c *bpfCollector) wait() time.Duration { return c.pace.wait(time.Now()) }

// collect implements collector.
func (c *bpfCollector) collect(final bool) (*sample.Sample, error) {
	s := &sample.Sample{Type: "sample", MonoNS: monoNS(), Final: final}
	s.Host, s.CPUs = readHost()
	drops := c.netrx.fill(s)
	stalls := c.sched.fill(s)
	var err error
	if s.Accept, s.Events, err = c.accept.read(final); err != nil {
		return nil, err
	}
	if c.accept.listen != nil {
		s.Listen = c.accept.listen.sample(c.accept)
	}
	bursts, err := c.events.drain()
	if err != nil {
		return nil, err
	}
	if c.accept.listen != nil {
		bursts = c.accept.listen.tell(c.accept, bursts)
	}
	s.Events = append(s.Events, c.accept.selected(bursts)...)
	s.Events = append(append(s.Events, drops...), stalls...)
	if s.Self, err = c.self.read(); err != nil {
		return nil, err
	}
	if l := c.accept.listen; l != nil && l.unread > 0 {
		s.Self.Lost["refused_clients_unread"] = l.unread
	}
	if n := c.accept.orphaned; n > 0 {
		s.Self.Lost["accepts_of_unknown_listener"] = n
	}
	if n := c.netrx.unread; n > 0 {
		s.Self.Lost["netrx_unread"] = n
	}
	c.sched.addLost(s.Self.Lost)
	if c.pace.failed > 0 {
		s.Self.Lost["pacing_failed"] = c.pace.failed
	}
	s.Self.Budget = c.rein.tick(s)
	return s, nil
}

// Close implements collector. It may be called again, and when open failed.
func (c *bpfCollector) Close() error {
	if c.self != nil {
		c.self.Close()
	}
	if c.events != nil {
		c.events.Close()
	}
	if c.netrx != nil {
		c.netrx.Close()
	}
	c.sched.Close()
	if c.accept != nil {
		c.accept.Close()
	}
	return c.kern.Close()
}
