// SPDX-License-Identifier: Apache-2.0

package report

import (
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// jsonCPU is one core. Ratios are of the interval, and absent in a summary.
type jsonCPU struct {
	CPU          int      `json:"cpu"`
	BusyRatio    *float64 `json:"busy_ratio,omitempty"`
	IdleRatio    *float64 `json:"idle_ratio,omitempty"`
	SoftIRQRatio *float64 `json:"softirq_ratio,omitempty"`
	*jsonNetRXCore
	*jsonSoftnet
	KsoftirqdSeconds float64 `json:"ksoftirqd_run_seconds_total"` // since it began
	*jsonRunq
}

// jsonNetRXCore is nil where the hooks of the NET_RX softirq do not attach.
type jsonNetRXCore struct {
	Seconds      *float64 `json:"net_rx_softirq_seconds_total,omitempty"` // absent: only their number is known
	SoftIRQs     uint64   `json:"net_rx_softirqs_total"`
	Ratio        *float64 `json:"net_rx_softirq_ratio,omitempty"`
	LatencyP99NS *float64 `json:"net_rx_latency_p99_ns,omitempty"`
}

// jsonSoftnet is nil where /proc/net/softnet_stat cannot be read.
type jsonSoftnet struct {
	Processed    uint64 `json:"softnet_processed_total"`
	Dropped      uint64 `json:"softnet_dropped_total"`
	TimesSqueeze uint64 `json:"softnet_times_squeezed_total"`
	ReceivedRPS  uint64 `json:"softnet_received_rps_total"`
}

type jsonNetRX struct {
	MaxBacklog        uint32            `json:"netdev_max_backlog"`
	ShareRatio        *float64          `json:"share_ratio,omitempty"` // interval: in it; summary: since attach
	TopCPU            *int              `json:"top_cpu,omitempty"`
	Drops             []jsonBacklogDrop `json:"cpu_backlog_drops"` // null: not measured
	DropsUnattributed uint64            `json:"cpu_backlog_drops_unattributed_total"`
	Devices           []jsonDevice      `json:"devices"`
}

type jsonBacklogDrop struct {
	NetNS   uint32 `json:"netns"`
	Device  string `json:"device"`
	IfIndex uint32 `json:"ifindex"`
	FromCPU int    `json:"from_cpu"`
	Dropped uint64 `json:"dropped_total"`
}

type jsonDevice struct {
	NetNS     uint32    `json:"netns"`
	Device    string    `json:"device"`
	IfIndex   uint32    `json:"ifindex"`
	Driver    string    `json:"driver,omitempty"`
	RXPackets uint64    `json:"rx_packets_total"`
	RXQueues  int       `json:"rx_queues"`
	RPSCPUs   [][]int   `json:"rps_cpus"` // by queue; an empty list: RPS is off
	IRQs      []jsonIRQ `json:"irqs"`
}

type jsonIRQ struct {
	IRQ      int    `json:"irq"`
	Name     string `json:"name"`
	Affinity []int  `json:"affinity"`
}

// cpuRecords are the cores'; w is nil but for a summary.
func cpuRecords(f *model.Frame, w *Worst) []jsonCPU {
	var out []jsonCPU // nil where there are no CPUs: not measured
	for i := range f.CPUs {
		c := &f.CPUs[i]
		r := jsonCPU{CPU: c.CPU.CPU, KsoftirqdSeconds: seconds(c.KsoftirqdRunNS), jsonRunq: runqRecord(f, c, w)}
		if s := c.SoftIRQ; s != nil {
			r.jsonNetRXCore = &jsonNetRXCore{SoftIRQs: s.Count}
			if timed(c) {
				r.jsonNetRXCore.Seconds = secondsOf(&s.RunNS)
			}
		}
		if s := c.Softnet; s != nil {
			r.jsonSoftnet = &jsonSoftnet{s.Processed, s.Dropped, s.TimesSqueeze, s.ReceivedRPS}
		}
		if w == nil {
			r.BusyRatio, r.IdleRatio, r.SoftIRQRatio = known(c.BusyRatio), known(c.IdleRatio), known(c.SoftIRQRatio)
			if r.jsonNetRXCore != nil {
				r.Ratio, r.LatencyP99NS = known(c.NetRXRatio), known(c.LatencyP99NS)
			}
		}
		out = append(out, r)
	}
	return out
}

func netRXRecord(f *model.Frame, total bool) *jsonNetRX {
	n := f.NetRX
	if n == nil {
		return nil
	}
	share, top := n.Share, n.Top
	if total {
		share, top = netRXShare(f.CPUs)
	}
	r := &jsonNetRX{
		MaxBacklog: n.MaxBacklog, ShareRatio: known(share), DropsUnattributed: n.DropsUnattributed,
		Devices: make([]jsonDevice, 0, len(n.Devices)),
	}
	if top >= 0 && top < len(f.CPUs) {
		r.TopCPU = &f.CPUs[top].CPU.CPU
	}
	if f.DropDevicesKnown() {
		r.Drops = make([]jsonBacklogDrop, 0, len(n.NetRX.Drops))
		for _, d := range n.NetRX.Drops {
			r.Drops = append(r.Drops, jsonBacklogDrop{d.NetNS, d.Device, d.IfIndex, d.FromCPU, d.Dropped})
		}
	}
	for i := range n.Devices {
		r.Devices = append(r.Devices, deviceRecord(&n.Devices[i].NetDevice))
	}
	return r
}

func deviceRecord(d *sample.NetDevice) jsonDevice {
	r := jsonDevice{
		NetNS: d.NetNS, Device: d.Name, IfIndex: d.IfIndex, Driver: d.Driver, RXPackets: d.RXPackets, RXQueues: len(d.Queues),
		RPSCPUs: make([][]int, 0, len(d.Queues)), IRQs: make([]jsonIRQ, 0, len(d.IRQs)),
	}
	for _, q := range d.Queues {
		r.RPSCPUs = append(r.RPSCPUs, append([]int{}, q.RPS...)) // [], not null
	}
	for _, i := range d.IRQs {
		r.IRQs = append(r.IRQs, jsonIRQ{i.Number, i.Name, append([]int{}, i.Affinity...)})
	}
	return r
}

// timed reports whether the time that c spent in NET_RX is measured.
func timed(c *model.CPU) bool { return c.SoftIRQ != nil && !c.SoftIRQ.CountOnly }

// netRXShare is the busiest core's share of all NET_RX time since attach, of
// packets where the time is not measured, and that core's index in cpus; it is
// unknown, and the index -1, where there was none.
func netRXShare(cpus []model.CPU) (share float64, top int) {
	sum, most, top := 0.0, 0.0, -1
	byTime := false
	for i := range cpus {
		byTime = byTime || timed(&cpus[i])
	}
	for i := range cpus {
		v := 0.0
		switch c := &cpus[i]; {
		case byTime && timed(c):
			v = float64(c.SoftIRQ.RunNS)
		case !byTime && c.Softnet != nil:
			v = float64(c.Softnet.Processed)
		}
		if sum += v; v > most {
			most, top = v, i
		}
	}
	if top < 0 {
		return model.Unknown(), -1
	}
	return most / sum, top
}
