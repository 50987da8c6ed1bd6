// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// programMeter asks the kernel to time all BPF programs, and reads those of one
// process. Timing costs some 20 to 40 ns for each run, so no throughput is taken
// meanwhile.
type programMeter struct {
	pid    int
	timing io.Closer
	before map[string]fdInfo
}

func newProgramMeter(pid int) (*programMeter, error) {
	timing, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("let the kernel time BPF programs: %w", err)
	}
	m := &programMeter{pid: pid, timing: timing}
	_, m.before = bpfOf(pid)
	return m, nil
}

// take returns the programs that ran since, the costliest first.
func (m *programMeter) take() (ps []program) {
	_, now := bpfOf(m.pid)
	byName := make(map[string]*program)
	for id, i := range now {
		was := m.before[id]
		if i.cnt == was.cnt {
			continue
		}
		name := programName(id)
		if byName[name] == nil {
			byName[name] = &program{Name: name}
		}
		byName[name].Runs += i.cnt - was.cnt
		byName[name].NS += i.runNS - was.runNS
	}
	for _, p := range byName {
		ps = append(ps, *p)
	}
	slices.SortFunc(ps, func(a, b program) int { return cmp.Or(cmp.Compare(b.NS, a.NS), cmp.Compare(a.Name, b.Name)) })
	return ps
}

func (m *programMeter) Close() { m.timing.Close() }

func programName(id string) string {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return "program " + id
	}
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(n))
	if err != nil {
		return "program " + id
	}
	defer p.Close()
	if info, err := p.Info(); err == nil && info.Name != "" {
		return info.Name
	}
	return "program " + id
}

// tracingPrograms counts the programs that trace, of whomever: those of others
// make the baseline dearer, and herdtrace look cheaper.
func tracingPrograms() (n int) {
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); err != nil {
			return n
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it has gone
		}
		switch p.Type() {
		case ebpf.Tracing, ebpf.TracePoint, ebpf.RawTracepoint, ebpf.RawTracepointWritable, ebpf.Kprobe, ebpf.PerfEvent, ebpf.LSM:
			n++
		}
		p.Close()
	}
}
