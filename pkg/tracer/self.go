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
// The first measure begins at once. Where signals are sampled, to save what they
// cost, it is asked less often.
const (
	measureFor     = 100 * time.Millisecond
	measureEvery   = time.Second
	measureSampled = 4 * time.Second
)

// lossNames are the keys of sample.Self.Lost, by enum loss of record.h.
var lossNames = map[bpf.AcceptLoss]string{
	bpf.AcceptLossLOSS_LISTENER_MAP_FULL: "listener_map_full",
	bpf.AcceptLossLOSS_WORKER_MAP_FULL:   "worker_map_full",
	bpf.AcceptLossLOSS_RETIRED_MAP_FULL:  "retired_map_full",
	bpf.AcceptLossLOSS_RING_FULL:         "ring_full",
	bpf.AcceptLossLOSS_SOCKET_GONE:       "socket_gone",
	bpf.AcceptLossLOSS_CLIENT_SKETCH:     "client_sketch_full",
	bpf.AcceptLossLOSS_ENTRY_MISSED:      "handshake_entry_missed",
	bpf.AcceptLossLOSS_RETURN_MISSED:     "handshake_return_missed",
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
	since     time.Time // everything was taken in up to here
	begun     time.Time // the present measure or pause
	forbidden bool
	programs  map[string]*programMeter
	total     programTotals
}

type programTotals struct {
	run  time.Duration
	runs uint64
}

// programMeter is what one program costs while it is attached. In the pauses of
// the measure it is taken to go on at the rate of the last one.
type programMeter struct {
	before   programTotals
	span     time.Duration // of the present measure, that it was attached in
	spent    programTotals
	runRate  float64 // ns per ns
	runsRate float64 // per ns
}

func newSelfMeter(k *kernel) (*selfMeter, error) {
	m := &selfMeter{
		kern: k, losses: k.mapOf("losses"), backlogLosses: k.mapOf("backlog_losses"), schedLosses: k.mapOf("sched_losses"),
		programs: make(map[string]*programMeter),
	}
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
	m.stats, m.begun, m.since = stats, now, now
	for name := range m.kern.programs {
		p := m.of(name)
		p.before, _ = m.totals(name)
		p.span, p.spent = 0, programTotals{}
	}
}

func (m *selfMeter) of(name string) *programMeter {
	p := m.programs[name]
	if p == nil {
		p = &programMeter{}
		m.programs[name] = p
	}
	return p
}

// rotate begins and ends measures; call it often.
func (m *selfMeter) rotate(p *pacer) {
	age, every := time.Since(m.begun), measureEvery
	if p.sampling() {
		every = measureSampled
	}
	// A measure that begins now could miss what is attached a part of the time.
	wait := !p.measurable()
	switch {
	case m.stats != nil && age >= measureFor:
		m.take()
		m.Close()
		m.begun = time.Now()
		for _, p := range m.programs {
			if p.span > 0 {
				p.runRate = float64(p.spent.run) / float64(p.span)
				p.runsRate = float64(p.spent.runs) / float64(p.span)
			}
		}
	case m.stats == nil && age >= every-measureFor && !(wait && age < 2*every):
		m.take()
		m.begin()
	}
}

// hurry makes the next measure begin as soon as it can: the last one is of another
// state of affairs.
func (m *selfMeter) hurry() {
	if m.stats == nil {
		m.begun = time.Now().Add(measureFor - measureSampled)
	}
}

// take brings the totals up to now. It must be called before a hook is attached
// or detached, since it takes the present ones for those of all the time since
// the last call.
func (m *selfMeter) take() {
	at := time.Now()
	passed := at.Sub(m.since)
	m.since = at
	for name := range m.kern.programs {
		p := m.of(name)
		if m.stats == nil {
			if !m.kern.isPaused(name) {
				m.total.run += time.Duration(p.runRate * float64(passed))
				m.total.runs += uint64(p.runsRate * float64(passed))
			}
			continue
		}
		now, ok := m.totals(name)
		if !ok {
			continue
		}
		if now.runs < p.before.runs {
			p.before = programTotals{} // it was loaded anew
		}
		run, runs := now.run-p.before.run, now.runs-p.before.runs
		p.before = now
		m.total.run += run
		m.total.runs += runs
		if !m.kern.isPaused(name) {
			p.span += passed
			p.spent.run += run
			p.spent.runs += runs
		}
	}
}

func (m *selfMeter) totals(program string) (t programTotals, ok bool) {
	s, err := m.kern.programs[program].Stats()
	if err != nil {
		return t, false
	}
	return programTotals{s.Runtime, s.RunCount}, true
}

// rates are what the BPF programs cost, in cores: of each signal while its hooks
// are attached, and of all together as they are now, sampled ones by their share.
func (m *selfMeter) rates(p *pacer) (signals map[string]float64, total float64) {
	signals = make(map[string]float64)
	mine := make(map[string]bool)
	for signal, v := range m.kern.chosen {
		for i := range v.hooks {
			name := v.hooks[i].program
			if !mine[name] && m.programs[name] != nil {
				mine[name] = true
				signals[signal] += m.programs[name].runRate
			}
		}
		switch p.modes[signal] {
		case paceFull:
			total += signals[signal]
		case paceSampled:
			total += signals[signal] * paceShare
		}
	}
	for name, pm := range m.programs {
		if !mine[name] {
			total += pm.runRate // iterators, and what is attached on demand
		}
	}
	return signals, total
}

func (m *selfMeter) read() (sample.Self, error) {
	m.take()
	s := sample.Self{MemoryBytes: m.maps + residentBytes(), Lost: make(map[string]uint64)}
	s.BPFRunNS, s.BPFRunTotal, s.BPFUnmeasured = uint64(m.total.run), m.total.runs, m.forbidden
	s.UserCPUNS = uint64(processTime())
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
