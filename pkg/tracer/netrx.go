// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// netrxReader turns the receive path's maps and files into Sample.CPUs and
// Sample.NetRX.
type netrxReader struct {
	softirqs  *ebpf.Map // nil: the hooks did not attach
	latency   *latencySampler
	first     map[int]uint32   // softirqs by core at attach, where there is no BPF
	softnet   *softnetCounters // nil: /proc/net/softnet_stat cannot be read
	drops     *dropReader      // nil: there is no BPF; the latency is not sampled then
	devices   *deviceReader
	cpus      []int           // that were online at the last tick
	ksoftirqd map[int]uint32  // pid by core
	irqTime   bool            // the kernel was built to account softirq time precisely
	ran       map[int]uint64  // NET_RX time by core at the last tick
	at        uint64          // when that was
	unread    uint64          // how often a map or the ring could not be read
	est       *estimates[int] // by core; nil as long as the hooks were always there
}

// newNetRXReader counts packets from softnet on, which was read before anything
// was attached: so no program has seen a drop that is not in it. Listeners
// returns the network namespaces of the listeners.
func newNetRXReader(k *kernel, softnet []softnetRow, listeners func() []uint32) (*netrxReader, error) {
	r := &netrxReader{devices: newDeviceReader(listeners), irqTime: builtWithIRQTime(), latency: newLatencySampler(k)}
	if softnet != nil {
		r.softnet = newSoftnetCounters(softnet)
	}
	if v := k.chosen[SignalNetRX]; v != nil && len(v.hooks) > 0 {
		r.softirqs = k.mapOf("net_rx_cpus")
	}
	var err error
	r.drops, err = newDropReader(k)
	return r, err
}

// Close unmaps the ring.
func (r *netrxReader) Close() {
	r.latency.Close()
	r.drops.Close()
}

// fill completes s, which has its CPUs' times, and returns the events since the
// last call. What cannot be read is absent from s, and counted.
func (r *netrxReader) fill(s *sample.Sample) []sample.Event {
	if s.CPUs == nil {
		for _, row := range readSoftnet(nil) {
			s.CPUs = append(s.CPUs, sample.CPU{CPU: row.cpu})
		}
	}
	cpus := numbersOf(s.CPUs)
	if !slices.Equal(cpus, r.cpus) {
		r.cpus = cpus
		r.ksoftirqd = findKsoftirqd()
		r.devices.wanted = true
	}
	n := &sample.NetRX{
		MaxBacklog:  readSetting("netdev_max_backlog"),
		Budget:      readSetting("netdev_budget"),
		BudgetUsecs: readSetting("netdev_budget_usecs"),
	}
	if r.drops == nil {
		r.poll(s, n)
		return nil
	}
	var err error
	if n.Drops, n.DropsUnattributed, err = r.drops.read(r.dropped, time.Now()); err == nil {
		s.NetRX = n // without drops it would say that there are none
	} else {
		r.dropped() // for the cores
	}
	r.count(err)
	r.fillCPUs(s.CPUs, n)
	n.Devices = r.devices.read(cpus, n.Drops, r.isBusy(s), s.Final)
	events, err := r.drops.events()
	r.count(err)
	return events
}

// count counts an error: the receive path alone must not end the trace.
func (r *netrxReader) count(err error) {
	if err != nil {
		r.unread++
	}
}

// busyShare is how much of its time a core may spend in NET_RX before it is
// worth finding out which device that is for, in whatever namespace.
const busyShare = 0.3

// isBusy reports whether a core has spent more since the last tick.
func (r *netrxReader) isBusy(s *sample.Sample) bool {
	busy, ran := false, make(map[int]uint64)
	for i := range s.CPUs {
		c := &s.CPUs[i]
		if c.SoftIRQ == nil {
			continue
		}
		ran[c.CPU] = c.SoftIRQ.RunNS
		before, ok := r.ran[c.CPU]
		busy = busy || ok && float64(less(c.SoftIRQ.RunNS, before)) > busyShare*float64(s.MonoNS-r.at)
	}
	r.ran, r.at = ran, s.MonoNS
	return busy
}

// dropped reads how many packets full CPU backlogs have refused by now.
func (r *netrxReader) dropped() uint64 {
	if r.softnet == nil {
		return 0
	}
	return r.softnet.add(readSoftnet(r.cpus))
}

func (r *netrxReader) fillCPUs(cpus []sample.CPU, n *sample.NetRX) {
	var counts []bpf.NetrxNetRx
	if r.softirqs != nil {
		var err error
		counts, err = r.readSoftirqs()
		r.count(err)
	}
	for i := range cpus {
		c := &cpus[i]
		if r.softnet != nil {
			c.Softnet = r.softnet.of(c.CPU)
		}
		if c.CPU < len(counts) && !(r.est != nil && r.est.off) {
			r.estimated(c.CPU, &counts[c.CPU])
			c.SoftIRQ = softIRQOf(&counts[c.CPU])
		}
		if pid, ok := r.ksoftirqd[c.CPU]; ok {
			c.KsoftirqdRunNS = kthreadRunNS(pid)
		}
		// A kernel that samples at its tick never finds hard interrupts: the
		// tick is one itself (kernel/sched/cputime.c: account_system_time()).
		if r.irqTime && c.Times != nil && c.Times.IRQNS > 0 {
			n.IRQTime = true
		}
	}
}

func softIRQOf(raw *bpf.NetrxNetRx) *sample.NetRXSoftIRQ {
	out := &sample.NetRXSoftIRQ{
		RunNS:     raw.RunNs,
		Count:     raw.Count,
		LatencyNS: raw.LatencyNs,
		Latency:   slices.Clone(raw.Latency[:]),
	}
	for _, n := range out.Latency {
		out.LatencyCount += n
	}
	return out
}

func numbersOf(cpus []sample.CPU) []int {
	var out []int
	for i := range cpus {
		out = append(out, cpus[i].CPU)
	}
	return out
}

// readSetting returns 0 where it cannot be read: these are shown in the first
// network namespace only (net/core/sysctl_net_core.c: net_core_table).
func readSetting(name string) uint32 {
	n, _ := strconv.ParseUint(readTrimmed("/proc/sys/net/core/"+name), 10, 32)
	return uint32(n)
}
