// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The kernel measures the run time of BPF programs only on request, and doubles
// it by doing so: it is asked for a tenth of the time, and the rest extrapolated.
// The first measure begins at once.
const (
	measureFor   = 100 * time.Millisecond
	measureEvery = time.Second
)

// lossNames are the keys of sample.Self.Lost, by enum loss of record.h.
var lossNames = map[bpf.AcceptLoss]string{
	bpf.AcceptLossLOSS_LISTENER_MAP_FULL: "listener_map_full",
	bpf.AcceptLossLOSS_WORKER_MAP_FULL:   "worker_map_full",
	bpf.AcceptLossLOSS_RETIRED_MAP_FULL:  "retired_map_full",
	bpf.AcceptLossLOSS_RING_FULL:         "ring_full",
	bpf.AcceptLossLOSS_SOCKET_GONE:       "socket_gone",
	bpf.AcceptLossLOSS_CLIENT_SKETCH:     "client_sketch_full",
}

// backlogLossNames are those by enum backlog_loss of netrx_record.h.
var backlogLossNames = map[bpf.NetrxBacklogLoss]string{
	bpf.NetrxBacklogLossLOSS_BACKLOG_MAP_FULL:  "cpu_backlog_map_full",
	bpf.NetrxBacklogLossLOSS_BACKLOG_RING_FULL: "cpu_backlog_ring_full",
}

// schedLossNames are those by enum sched_loss of sched_record.h.
var schedLossNames = map[bpf.SchedSchedLoss]string{
	bpf.SchedSchedLossLOSS_EXIT_RING_FULL:  "exit_ring_full",
	bpf.SchedSchedLossLOSS_STALL_RING_FULL: "stall_ring_full",
	bpf.SchedSchedLossLOSS_STALL_MAP_FULL:  "stall_map_full",
	bpf.SchedSchedLossLOSS_WAIT_MAP_FULL:   "wait_map_full",
	bpf.SchedSchedLossLOSS_RIVAL_MAP_FULL:  "rival_map_full",
	bpf.SchedSchedLossLOSS_PARKED_MAP_FULL: "parked_map_full",
	bpf.SchedSchedLossLOSS_WOKEN_MAP_FULL:  "woken_map_full",
	bpf.SchedSchedLossLOSS_NO_CORE:         "switches_beyond_512_cores",
}

// selfMeter measures the tracer itself.
type selfMeter struct {
	kern          *kernel
	losses        *ebpf.Map
	backlogLosses *ebpf.Map
	schedLosses   *ebpf.Map
	maps          uint64 // bytes

	stats     io.Closer // while the kernel measures
	since     time.Time // the present measure, or the pause since the last one, was taken in up to here
	begun     time.Time // the present measure or pause
	before    programTotals
	forbidden bool
	// measured spans and what ran in them; total goes on at their rate in the pauses
	span  time.Duration
	spent programTotals
	total programTotals
}

type programTotals struct {
	run  time.Duration
	runs uint64
}

func newSelfMeter(k *kernel) (*selfMeter, error) {
	m := &selfMeter{kern: k, losses: k.mapOf("losses"), backlogLosses: k.mapOf("backlog_losses"), schedLosses: k.mapOf("sched_losses")}
	for _, o := range k.objects {
		for _, mp := range o.maps.Maps {
			m.maps += mapBytes(mp)
		}
	}
	m.begin()
	return m, nil
}

// mapBytes asks the kernel what a map takes (fdinfo's memlock line).
func mapBytes(m *ebpf.Map) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("memlock:")); ok {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 64)
			return n
		}
	}
	return 0
}

// Close ends a measure.
func (m *selfMeter) Close() {
	if m.stats != nil {
		m.stats.Close()
		m.stats = nil
	}
}

func (m *selfMeter) begin() {
	if m.forbidden {
		return
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		m.forbidden = true // it takes CAP_SYS_ADMIN: the cost is not known
		return
	}
	now := time.Now()
	m.stats, m.begun, m.since, m.before = stats, now, now, m.totals()
}

// rotate begins and ends measures; call it often.
func (m *selfMeter) rotate() {
	age := time.Since(m.begun)
	switch {
	case m.stats != nil && age >= measureFor:
		m.take()
		m.Close()
		m.begun = time.Now()
	case m.stats == nil && age >= measureEvery-measureFor:
		m.take()
		m.begin()
	}
}

// take brings the totals up to now.
func (m *selfMeter) take() {
	at := time.Now()
	passed := at.Sub(m.since)
	m.since = at
	if m.stats == nil {
		if m.span > 0 {
			share := float64(passed) / float64(m.span)
			m.total.run += time.Duration(float64(m.spent.run) * share)
			m.total.runs += uint64(float64(m.spent.runs) * share)
		}
		return
	}
	now := m.totals()
	d := programTotals{now.run - m.before.run, now.runs - m.before.runs}
	m.before = now
	// The rate to go on with is that of the latest measure.
	if at.Sub(m.begun) == passed {
		m.span, m.spent = 0, programTotals{}
	}
	m.span += passed
	m.spent.run += d.run
	m.spent.runs += d.runs
	m.total.run += d.run
	m.total.runs += d.runs
}

func (m *selfMeter) totals() (t programTotals) {
	for _, p := range m.kern.programs {
		if s, err := p.Stats(); err == nil {
			t.run += s.Runtime
			t.runs += s.RunCount
		}
	}
	return t
}

func (m *selfMeter) read() (sample.Self, error) {
	m.take()
	s := sample.Self{MemoryBytes: m.maps + residentBytes(), Lost: make(map[string]uint64)}
	s.BPFRunNS, s.BPFRunTotal = uint64(m.total.run), m.total.runs
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return s, fmt.Errorf("read own CPU time: %w", err)
	}
	s.UserCPUNS = uint64(ru.Utime.Nano() + ru.Stime.Nano())
	for kind, name := range lossNames {
		if err := addLost(s.Lost, name, m.losses, uint32(kind)); err != nil {
			return s, err
		}
	}
	for kind, name := range backlogLossNames {
		if err := addLost(s.Lost, name, m.backlogLosses, uint32(kind)); err != nil {
			return s, err
		}
	}
	for kind, name := range schedLossNames {
		if err := addLost(s.Lost, name, m.schedLosses, uint32(kind)); err != nil {
			return s, err
		}
	}
	m.readMisses(&s)
	return s, nil
}

// addLost adds what all CPUs have lost in one way, if they have.
func addLost(lost map[string]uint64, name string, losses *ebpf.Map, kind uint32) error {
	var perCPU []uint64
	if err := losses.Lookup(kind, &perCPU); err != nil {
		return fmt.Errorf("read loss counters: %w", err)
	}
	for _, n := range perCPU {
		if n > 0 {
			lost[name] += n
		}
	}
	return nil
}

// readMisses leaves out the programs that only close a wake window early: one
// of theirs that is skipped loses no count. So it is with the backlog's: what
// they do not see of the kernel's own count is shown as unattributed.
func (m *selfMeter) readMisses(s *sample.Self) {
	for name, p := range m.kern.programs {
		harmless := name == "netif_receive_skb" || name == "softirq_exit" || (name == "inet_sock_set_state" && !m.kern.hasFlag(SignalWake, flagByState))
		st, err := p.Stats()
		harmless = harmless || strings.HasPrefix(name, "backlog_by_")
		if err != nil || harmless || st.RecursionMisses == 0 {
			continue
		}
		if s.RecursionMissesBy == nil {
			s.RecursionMissesBy = make(map[string]uint64)
		}
		s.RecursionMissesBy[name] = st.RecursionMisses
		s.RecursionMisses += st.RecursionMisses
	}
}

func residentBytes() uint64 {
	f := bytes.Fields([]byte(readTrimmed("/proc/self/statm")))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(f[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}
