// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// softnetRow is one CPU's line of /proc/net/softnet_stat. The kernel's
// counters are unsigned ints that wrap, so differences are taken in uint32.
type softnetRow struct {
	cpu                                       int
	processed, dropped, squeezed, receivedRPS uint32
	backlog                                   uint32 // packets in it now
}

// readSoftnet reads the rows of the CPUs that are online.
func readSoftnet() ([]softnetRow, error) {
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return nil, fmt.Errorf("read the softnet counters: %w", err)
	}
	return parseSoftnet(string(text))
}

// parseSoftnet takes the columns of softnet_seq_show(): the 13th is the CPU's
// number (5.10), without which offline CPUs would shift the rows.
func parseSoftnet(text string) (rows []softnetRow, err error) {
	for line := range strings.Lines(text) {
		columns := strings.Fields(line)
		if len(columns) < 13 {
			return nil, fmt.Errorf("read the softnet counters: %d columns, want 13 or more (Linux 5.10 has them)", len(columns))
		}
		var v [13]uint32
		for i := range v {
			n, err := strconv.ParseUint(columns[i], 16, 32)
			if err != nil {
				return nil, fmt.Errorf("read the softnet counters: column %d: %w", i+1, err)
			}
			v[i] = uint32(n)
		}
		rows = append(rows, softnetRow{cpu: int(v[12]), processed: v[0], dropped: v[1], squeezed: v[2], receivedRPS: v[9], backlog: v[11]})
	}
	return rows, nil
}

// parseSoftirqs returns one line of /proc/softirqs, by CPU.
func parseSoftirqs(text, name string) (map[int]uint32, error) {
	header, rest, _ := strings.Cut(text, "\n")
	cpus := strings.Fields(header)
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) != len(cpus)+1 || fields[0] != name+":" {
			continue
		}
		counts := map[int]uint32{}
		for i, cpu := range cpus {
			number, err := strconv.Atoi(strings.TrimPrefix(cpu, "CPU"))
			if err != nil {
				return nil, fmt.Errorf("read the softirq counters: column %q: %w", cpu, err)
			}
			n, err := strconv.ParseUint(fields[i+1], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("read the softirq counters: %s of %s: %w", name, cpu, err)
			}
			counts[number] = uint32(n)
		}
		return counts, nil
	}
	return nil, fmt.Errorf("read the softirq counters: no line %q with %d columns", name, len(cpus))
}

// cpuTicks are two columns of a CPU's line in /proc/stat, in ticks of USER_HZ.
type cpuTicks struct{ idle, softirq int64 }

const userHZ = 100 // on every architecture that Go knows

// parseCPUTicks returns the lines "cpuN user nice system idle iowait irq softirq ...".
func parseCPUTicks(text string) (map[int]cpuTicks, error) {
	ticks := map[int]cpuTicks{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[0] == "cpu" || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		number, err := strconv.Atoi(fields[0][len("cpu"):])
		if err != nil {
			return nil, fmt.Errorf("read the CPU times: line %q: %w", fields[0], err)
		}
		var v [8]int64
		for i := 1; i < len(v); i++ {
			if v[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
				return nil, fmt.Errorf("read the CPU times of %s: %w", fields[0], err)
			}
		}
		ticks[number] = cpuTicks{idle: v[4], softirq: v[7]}
	}
	return ticks, nil
}

// netrxMeter looks at the counters, always the same ones.
type netrxMeter struct {
	device    string
	ksoftirqd map[int]string // schedstat file by CPU; empty in a PID namespace that has none
}

// netrxLook is one look at all of them.
type netrxLook struct {
	at        time.Time
	softnet   []softnetRow
	netRX     map[int]uint32
	ticks     map[int]cpuTicks
	ksoftirqd map[int]int64 // run time in ns
	received  int64         // by the device
}

func newNetRXMeter(device string) (*netrxMeter, error) {
	m := &netrxMeter{device: device, ksoftirqd: map[int]string{}}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, fmt.Errorf("look for ksoftirqd: %w", err)
	}
	for _, path := range comms {
		comm, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		number, found := strings.CutPrefix(strings.TrimSpace(string(comm)), "ksoftirqd/")
		if cpu, err := strconv.Atoi(number); found && err == nil {
			m.ksoftirqd[cpu] = filepath.Join(filepath.Dir(path), "schedstat")
		}
	}
	return m, nil
}

func (m *netrxMeter) look() (*netrxLook, error) {
	l := &netrxLook{at: time.Now(), ksoftirqd: map[int]int64{}}
	var err error
	if l.softnet, err = readSoftnet(); err != nil {
		return nil, err
	}
	softirqs, err := os.ReadFile("/proc/softirqs")
	if err != nil {
		return nil, fmt.Errorf("read the softirq counters: %w", err)
	}
	if l.netRX, err = parseSoftirqs(string(softirqs), "NET_RX"); err != nil {
		return nil, err
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read the CPU times: %w", err)
	}
	if l.ticks, err = parseCPUTicks(string(stat)); err != nil {
		return nil, err
	}
	for cpu, path := range m.ksoftirqd {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the run time of ksoftirqd/%d: %w", cpu, err)
		}
		run, _, _ := strings.Cut(string(text), " ")
		if l.ksoftirqd[cpu], err = strconv.ParseInt(run, 10, 64); err != nil {
			return nil, fmt.Errorf("read the run time of ksoftirqd/%d: %w", cpu, err)
		}
	}
	l.received, err = netrxNumber("/sys/class/net/" + m.device + "/statistics/rx_packets")
	return l, err
}

// settle looks until no backlog holds a packet and nothing was dropped or
// received in three looks in a row: all that was sent is accounted for.
func (m *netrxMeter) settle() (*netrxLook, error) {
	var last int64
	quiet := 0
	for end := time.Now().Add(netrxSettleLimit); ; time.Sleep(pollEvery) {
		l, err := m.look()
		if err != nil {
			return nil, err
		}
		moved, waiting := l.received, uint32(0)
		for _, row := range l.softnet {
			moved += int64(row.dropped)
			waiting += row.backlog
		}
		if quiet++; waiting > 0 || moved != last {
			quiet = 0
		}
		last = moved
		if quiet == 3 {
			return l, nil
		}
		if l.at.After(end) {
			fmt.Fprintf(os.Stderr, "herdlab: %v after the load %d packets still wait in input backlogs; the counts may be low (is the machine busy?)\n",
				netrxSettleLimit, waiting)
			return l, nil
		}
	}
}

// fill puts the difference of two looks into the oracle.
func (m *netrxMeter) fill(o *netrxOracle, before, after *netrxLook) {
	o.Seconds = after.at.Sub(before.at).Seconds()
	o.PacketsReceived = after.received - before.received
	was, last := map[int]softnetRow{}, 0
	for _, row := range before.softnet {
		was[row.cpu] = row
	}
	for _, row := range after.softnet {
		old := was[row.cpu]
		o.Softnet = append(o.Softnet, softnetDelta{
			CPU: row.cpu, ProcessedDelta: int64(row.processed - old.processed), DroppedDelta: int64(row.dropped - old.dropped),
			TimesSqueezedDelta: int64(row.squeezed - old.squeezed), ReceivedRPSDelta: int64(row.receivedRPS - old.receivedRPS),
		})
		last = max(last, row.cpu)
	}
	for cpu := range last + 1 {
		o.NetRXSoftirqsDelta = append(o.NetRXSoftirqsDelta, int64(after.netRX[cpu]-before.netRX[cpu]))
		old, now := before.ticks[cpu], after.ticks[cpu]
		o.IdleSecondsDelta = append(o.IdleSecondsDelta, float64(now.idle-old.idle)/userHZ)
		o.SoftirqSecondsDelta = append(o.SoftirqSecondsDelta, float64(now.softirq-old.softirq)/userHZ)
		if len(m.ksoftirqd) > 0 {
			o.KsoftirqdRunSecondsDelta = append(o.KsoftirqdRunSecondsDelta, float64(after.ksoftirqd[cpu]-before.ksoftirqd[cpu])/1e9)
		}
	}
}

// netrxNumber reads a file of one decimal number.
func netrxNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read a counter: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}
