// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// core is what one core does: shares of its time, and rates per second.
type core struct {
	netrx, softirq, idle, ksoftirqd float64
	packets, dropped, squeezed      float64
	steered                         float64

	sum      [8]float64
	noHooks  bool // of NET_RX
	noTimes  bool // /proc/stat
	noNumber bool // softnet_stat
}

// device is one network device with its rate.
type device struct {
	sample.NetDevice
	packets float64
	drops   float64 // at full CPU backlogs
	sum     [2]float64
}

// has makes a host of cores, with netdev_max_backlog 1000.
func (s *scene) has(cores ...core) []*core {
	s.cores = nil
	for _, c := range cores {
		s.cores = append(s.cores, &c)
	}
	s.header.CPUs, s.netrx = len(cores), &sample.NetRX{MaxBacklog: 1000}
	return s.cores
}

// receives adds a device with RX queues of these RPS cores.
func (s *scene) receives(name, driver string, packets float64, rps ...[]int) *device {
	d := &device{NetDevice: sample.NetDevice{IfIndex: uint32(len(s.devices) + 1), Name: name, Driver: driver}, packets: packets}
	for _, q := range rps {
		d.Queues = append(d.Queues, sample.RXQueue{RPS: q})
	}
	s.devices = append(s.devices, d)
	return d
}

// receive fills in what out has of the receive path.
func (s *scene) receive(out *sample.Sample, d time.Duration) {
	for i, c := range s.cores {
		for j, v := range []float64{c.netrx * 1e9, c.softirq * 1e9, c.idle * 1e9, c.ksoftirqd * 1e9, c.packets, c.dropped, c.squeezed, c.steered} {
			c.sum[j] += v * d.Seconds()
		}
		n := func(j int) uint64 { return count(c.sum[j]) }
		p := sample.CPU{CPU: i, KsoftirqdRunNS: n(3)}
		if !c.noHooks {
			p.SoftIRQ = &sample.NetRXSoftIRQ{RunNS: n(0)}
		}
		if !c.noTimes {
			p.Times = &sample.CPUTimes{SoftIRQNS: n(1), IdleNS: n(2)}
		}
		if !c.noNumber {
			p.Softnet = &sample.Softnet{Processed: n(4), Dropped: n(5), TimesSqueeze: n(6), ReceivedRPS: n(7)}
		}
		out.CPUs = append(out.CPUs, p)
	}
	if s.netrx == nil {
		return
	}
	n := *s.netrx
	for _, v := range s.devices {
		v.sum[0] += v.packets * d.Seconds()
		v.sum[1] += v.drops * d.Seconds()
		v.RXPackets = count(v.sum[0])
		n.Devices = append(n.Devices, v.NetDevice)
		if v.sum[1] > 0 {
			n.Drops = append(n.Drops, sample.BacklogDrop{NetNS: v.NetNS, IfIndex: v.IfIndex, Device: v.Name, Dropped: count(v.sum[1])})
		}
	}
	out.NetRX = &n
}

// blind takes a part of the receive path out of the Samples of all cores.
func (s *scene) blind(hooks, times, number bool) {
	for _, c := range s.cores {
		c.noHooks, c.noTimes, c.noNumber = hooks, times, number
	}
}
