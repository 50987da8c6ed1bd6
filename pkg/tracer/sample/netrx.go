// SPDX-License-Identifier: Apache-2.0

package sample

// CPU is one online core.
type CPU struct {
	CPU int `json:"cpu"`
	// Times are /proc/stat's, since boot: nil where it cannot be read. The
	// kernel samples them once a tick, unless it accounts interrupts precisely.
	Times *CPUTimes `json:"times,omitempty"`
	// SoftIRQ is counted by hooks, since attach; nil where they do not attach.
	SoftIRQ *NetRXSoftIRQ `json:"net_rx,omitempty"`
	// Softnet is the core's line of /proc/net/softnet_stat, since attach.
	Softnet *Softnet `json:"softnet,omitempty"`
	// KsoftirqdRunNS is how long ksoftirqd/N ran, since it began; it also
	// serves the other softirqs.
	KsoftirqdRunNS uint64 `json:"ksoftirqd_run_ns"`
	// Runq is counted by the hook at each context switch, since attach; nil
	// where it does not attach.
	Runq *Runq `json:"runq,omitempty"`
}

// CPUTimes are columns of /proc/stat, in nanoseconds since boot.
type CPUTimes struct {
	BusyNS    uint64 `json:"busy_ns"` // all but idle, iowait and steal
	IdleNS    uint64 `json:"idle_ns"` // waiting for I/O included
	IRQNS     uint64 `json:"irq_ns"`
	SoftIRQNS uint64 `json:"softirq_ns"`
	StealNS   uint64 `json:"steal_ns"`
}

// NetRXSoftIRQ is the NET_RX softirq of one core.
type NetRXSoftIRQ struct {
	RunNS uint64 `json:"run_ns"` // from entry to exit
	Count uint64 `json:"count"`
	// CountOnly: it is from /proc/softirqs, and nothing else is known.
	CountOnly bool `json:"count_only,omitempty"`
	// LatencyNS sums the time from the first raise to the entry, over the
	// LatencyCount runs for which it was measured, about a tenth of them;
	// Latency[i] counts those of at least 2^i ns and less than 2^(i+1), the
	// first slot also what was shorter, the last also what was longer.
	LatencyNS    uint64   `json:"latency_ns"`
	LatencyCount uint64   `json:"latency_count"`
	Latency      []uint64 `json:"latency,omitempty"`
}

// Softnet is a core's part of the receive path (net/core/net-procfs.c:
// softnet_seq_show()).
type Softnet struct {
	Processed    uint64 `json:"processed_total"`
	Dropped      uint64 `json:"dropped_total"` // its CPU backlog was full
	TimesSqueeze uint64 `json:"times_squeezed_total"`
	ReceivedRPS  uint64 `json:"received_rps_total"`
	FlowLimit    uint64 `json:"flow_limit_total"`
	BacklogLen   uint32 `json:"backlog_len"` // packets in its CPU backlog, now
}

// NetRX is what the receive path has that belongs to no single core.
type NetRX struct {
	MaxBacklog  uint32 `json:"netdev_max_backlog"` // net.core.netdev_max_backlog: packets in a CPU backlog
	Budget      uint32 `json:"netdev_budget"`
	BudgetUsecs uint32 `json:"netdev_budget_usecs"`
	// IRQTime: the kernel accounts softirq time precisely, not by ticks.
	IRQTime bool        `json:"irq_time,omitempty"`
	Devices []NetDevice `json:"devices,omitempty"`
	// Drops are the CPU-backlog drops by device, since attach.
	Drops []BacklogDrop `json:"drops,omitempty"`
	// DropsUnattributed were dropped and no hook saw of which device, or their
	// device lost its row: another one has its numbers, or too many had drops since.
	DropsUnattributed uint64 `json:"drops_unattributed"`
}

// BacklogDrop counts the packets of one device that a full CPU backlog refused.
// FromCPU is where the packet came from; Softnet.Dropped says which core's
// backlog was full. The count begins anew with a device that has the numbers of
// one that is gone.
type BacklogDrop struct {
	NetNS   uint32 `json:"netns"`
	IfIndex uint32 `json:"ifindex"`
	Device  string `json:"device"`
	FromCPU int    `json:"from_cpu"`
	Dropped uint64 `json:"dropped_total"`
}

// NetDevice is one network device, as sysfs and /proc/interrupts show it.
type NetDevice struct {
	NetNS     uint32    `json:"netns"`
	IfIndex   uint32    `json:"ifindex"`
	Name      string    `json:"name"`
	Driver    string    `json:"driver,omitempty"` // "" for a virtual device
	RXPackets uint64    `json:"rx_packets_total"` // since it was made
	RXDropped uint64    `json:"rx_dropped_total"`
	Queues    []RXQueue `json:"rx_queues,omitempty"`
	IRQs      []IRQ     `json:"irqs,omitempty"`
}

// RXQueue is one receive queue. RPS lists the cores that receive packet
// steering may send its packets to; empty: it is off.
type RXQueue struct {
	RPS        []int  `json:"rps_cpus,omitempty"`
	RPSFlowCnt uint32 `json:"rps_flow_cnt,omitempty"`
}

// IRQ is one interrupt line of a device.
type IRQ struct {
	Number   int      `json:"irq"`
	Name     string   `json:"name"`
	Affinity []int    `json:"affinity,omitempty"`      // the cores that may take it
	PerCPU   []uint64 `json:"per_cpu_total,omitempty"` // how often each did, by the order of Sample.CPUs
}
