// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"os"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// nsPerTick is one USER_HZ tick, 100 a second on every architecture that Linux
// shows to user space (include/asm-generic/param.h).
const nsPerTick = 10_000_000

// readHost returns what /proc/stat says of all CPUs together, nil where it
// cannot be read, and of each CPU that is online.
func readHost() (*sample.Host, []sample.CPU) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, nil
	}
	return parseHost(string(b))
}

// parseHost reads lines "cpu user nice system idle iowait irq softirq steal
// guest guest_nice" and "cpuN ..." (fs/proc/stat.c: show_stat()), which come
// first; guest time is part of user.
func parseHost(stat string) (host *sample.Host, cpus []sample.CPU) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") {
			break
		}
		t := parseTimes(f[1:9])
		if t == nil {
			break
		}
		if f[0] == "cpu" {
			host = &sample.Host{BusyNS: t.BusyNS, IdleNS: t.IdleNS, StealNS: t.StealNS}
			continue
		}
		n, err := strconv.ParseUint(f[0][len("cpu"):], 10, 31)
		if err != nil {
			break
		}
		cpus = append(cpus, sample.CPU{CPU: int(n), Times: t})
	}
	return host, cpus
}

// parseTimes returns nil where one of the eight columns is no number.
func parseTimes(columns []string) *sample.CPUTimes {
	var ns [8]uint64
	for i, s := range columns {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return nil
		}
		ns[i] = n * nsPerTick
	}
	return &sample.CPUTimes{
		BusyNS:    ns[0] + ns[1] + ns[2] + ns[5] + ns[6],
		IdleNS:    ns[3] + ns[4],
		IRQNS:     ns[5],
		SoftIRQNS: ns[6],
		StealNS:   ns[7],
	}
}
