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

// readHost returns nil where /proc/stat cannot be read.
func readHost() *sample.Host {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return parseHost(line)
}

// parseHost reads the line "cpu user nice system idle iowait irq softirq steal
// guest guest_nice" (fs/proc/stat.c: show_stat()); guest time is part of user.
func parseHost(line string) *sample.Host {
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return nil
	}
	var ns [9]uint64
	for i := 1; i < 9; i++ {
		n, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return nil
		}
		ns[i] = n * nsPerTick
	}
	return &sample.Host{
		BusyNS:  ns[1] + ns[2] + ns[3] + ns[6] + ns[7],
		IdleNS:  ns[4] + ns[5],
		StealNS: ns[8],
	}
}
