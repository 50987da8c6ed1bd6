// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"os"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// newPolledNetRX reads the receive path where there is no BPF.
func newPolledNetRX(softnet []softnetRow, listeners func() []uint32) *netrxReader {
	r := &netrxReader{devices: newDeviceReader(listeners), irqTime: builtWithIRQTime()}
	if softnet != nil {
		r.softnet = newSoftnetCounters(softnet)
		r.first = readSoftIRQs()
	}
	return r
}

// poll completes s, and n with what softnet_stat and /proc/softirqs say.
func (r *netrxReader) poll(s *sample.Sample, n *sample.NetRX) {
	if r.softnet != nil { // without it, no drops would say that there are none
		n.DropsUnattributed = r.dropped()
		s.NetRX = n
	}
	r.fillCPUs(s.CPUs, n)
	now := readSoftIRQs()
	for i := range s.CPUs {
		c := &s.CPUs[i]
		if count, ok := now[c.CPU]; ok && r.first != nil {
			c.SoftIRQ = &sample.NetRXSoftIRQ{Count: uint64(count - r.first[c.CPU]), CountOnly: true}
		}
	}
	n.Devices = r.devices.read(numbersOf(s.CPUs), nil, false, s.Final)
}

// readSoftIRQs counts NET_RX by core; nil where the file cannot be read.
func readSoftIRQs() map[int]uint32 {
	b, err := os.ReadFile("/proc/softirqs")
	if err != nil {
		return nil
	}
	return parseSoftIRQs(b)
}

// parseSoftIRQs reads a line "CPU0 CPU1 ..." and, of those that follow, "NET_RX:
// count count ..." (fs/proc/softirqs.c: show_softirqs()): numbers of 32 bits,
// which wrap.
func parseSoftIRQs(b []byte) map[int]uint32 {
	var cpus []int
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if cpus == nil {
			for _, name := range f {
				n, ok := parseInt(bytes.TrimPrefix(name, []byte("CPU")))
				if !ok {
					return nil
				}
				cpus = append(cpus, int(n))
			}
			continue
		}
		if string(f[0]) != "NET_RX:" {
			continue
		}
		out := make(map[int]uint32, len(cpus))
		for i, cpu := range cpus {
			if i+1 < len(f) {
				if n, ok := parseInt(f[i+1]); ok {
					out[cpu] = uint32(n)
				}
			}
		}
		return out
	}
	return nil
}
