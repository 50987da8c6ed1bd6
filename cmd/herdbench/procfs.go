// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf sums the run time of these processes, by the scheduler's own clock and
// with that of threads that have ended. It is the process's CPU-time clock, whose
// number is made of the pid (include/linux/posix-timers_types.h: CPUCLOCK_SCHED).
func cpuOf(pids ...int) (ns uint64, err error) {
	const schedClock = 2
	for _, pid := range pids {
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
			return 0, fmt.Errorf("read run time of process %d: %w", pid, err)
		}
		ns += uint64(ts.Nano())
	}
	return ns, nil
}

// statusBytes returns a "name: N kB" line of /proc/PID/status, in bytes.
func statusBytes(status []byte, name string) uint64 {
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			if f := bytes.Fields(v); len(f) > 0 {
				n, _ := strconv.ParseUint(string(f[0]), 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// fdInfo is what the kernel says of a BPF map or program behind a descriptor.
type fdInfo struct {
	memlock    uint64
	progID     string
	runNS, cnt uint64
}

func parseFDInfo(b []byte) (i fdInfo) {
	for line := range bytes.Lines(b) {
		k, v, _ := strings.Cut(string(line), ":")
		v = strings.TrimSpace(v)
		n, _ := strconv.ParseUint(v, 10, 64)
		switch k {
		case "memlock":
			i.memlock = n
		case "prog_id":
			i.progID = v
		case "run_time_ns":
			i.runNS = n
		case "run_cnt":
			i.cnt = n
		}
	}
	return i
}

// bpfOf reads the descriptors of a process: the memory of its maps and programs,
// and the programs' statistics by id. Links name programs too, and are not them.
func bpfOf(pid int) (memory uint64, stats map[string]fdInfo) {
	stats = make(map[string]fdInfo)
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, _ := os.ReadDir(dir + "fd")
	for _, fd := range fds {
		to, err := os.Readlink(dir + "fd/" + fd.Name())
		if err != nil || (to != "anon_inode:bpf-map" && to != "anon_inode:bpf-prog") {
			continue
		}
		b, err := os.ReadFile(dir + "fdinfo/" + fd.Name())
		if err != nil {
			continue
		}
		i := parseFDInfo(b)
		if to == "anon_inode:bpf-prog" {
			if _, again := stats[i.progID]; again {
				continue
			}
			stats[i.progID] = i
		}
		memory += i.memlock
	}
	return memory, stats
}

// perfBuffers sums the perf ring buffers that a process has mapped.
func perfBuffers(pid int) (n uint64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if !strings.Contains(s.Text(), "[perf_event]") {
			continue
		}
		from, to, _ := strings.Cut(strings.Fields(s.Text())[0], "-")
		a, _ := strconv.ParseUint(from, 16, 64)
		b, _ := strconv.ParseUint(to, 16, 64)
		n += b - a
	}
	return n
}

// machineTimes is the first line of /proc/stat: the kernel samples it at its
// ticks. It tells how much of the machine others had.
type machineTimes struct{ busy, steal time.Duration }

const userHZ = 100

func parseMachine(stat []byte) (m machineTimes, err error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 9 || f[0] != "cpu" {
		return m, fmt.Errorf("read /proc/stat: it begins with %q", line)
	}
	for i, s := range f[1:9] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return m, fmt.Errorf("read /proc/stat: %w", err)
		}
		d := time.Duration(n) * time.Second / userHZ
		switch i {
		case 3, 4: // idle, iowait
		case 7:
			m.steal = d
		default:
			m.busy += d
		}
	}
	return m, nil
}

func machine() (machineTimes, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTimes{}, fmt.Errorf("read CPU times: %w", err)
	}
	return parseMachine(b)
}

func loadAverage() float64 {
	b, _ := os.ReadFile("/proc/loadavg")
	s, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(s, 64)
	return v
}
