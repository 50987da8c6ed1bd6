// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"os"
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// softnetRow is a line of /proc/net/softnet_stat (net/core/net-procfs.c:
// softnet_seq_show()): numbers of 32 bits, which wrap.
type softnetRow struct {
	cpu                                                int
	processed, dropped, squeezed, rps, limited, queued uint32
}

// readSoftnet returns nil where the file cannot be read. It is the same in all
// network namespaces.
func readSoftnet(cpus []int) []softnetRow {
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return nil
	}
	return parseSoftnet(b, cpus)
}

// parseSoftnet takes the core's number from the 13th column, which came with
// v5.10 (7d58e6555870), or else from the order of the lines: that of cpus, the
// cores that are online. What a kernel has no column for is 0.
func parseSoftnet(b []byte, cpus []int) []softnetRow {
	var rows []softnetRow
	for line := range bytes.Lines(b) {
		var v [13]uint32
		f := bytes.Fields(line)
		for i := range min(len(f), len(v)) {
			n, err := strconv.ParseUint(string(f[i]), 16, 32)
			if err != nil {
				return nil
			}
			v[i] = uint32(n)
		}
		cpu := len(rows)
		switch {
		case len(f) >= len(v):
			cpu = int(v[12])
		case len(f) < 3:
			return nil
		case cpu < len(cpus):
			cpu = cpus[cpu]
		}
		rows = append(rows, softnetRow{cpu, v[0], v[1], v[2], v[9], v[10], v[11]})
	}
	return rows
}

// softnetCounters turns the rows into counters since attach, which do not wrap.
type softnetCounters struct {
	last  map[int]softnetRow
	total map[int]*sample.Softnet
}

// newSoftnetCounters begins at first.
func newSoftnetCounters(first []softnetRow) *softnetCounters {
	c := &softnetCounters{last: make(map[int]softnetRow), total: make(map[int]*sample.Softnet)}
	for _, row := range first {
		c.last[row.cpu] = row
	}
	return c
}

// add takes in rows and returns how many packets all cores have dropped. A core
// that comes online later begins there.
func (c *softnetCounters) add(rows []softnetRow) (dropped uint64) {
	for _, row := range rows {
		last, ok := c.last[row.cpu]
		if !ok {
			last = row
		}
		c.last[row.cpu] = row
		t := c.total[row.cpu]
		if t == nil {
			t = &sample.Softnet{}
			c.total[row.cpu] = t
		}
		t.Processed += uint64(row.processed - last.processed)
		t.Dropped += uint64(row.dropped - last.dropped)
		t.TimesSqueeze += uint64(row.squeezed - last.squeezed)
		t.ReceivedRPS += uint64(row.rps - last.rps)
		t.FlowLimit += uint64(row.limited - last.limited)
		t.BacklogLen = row.queued
	}
	for _, t := range c.total {
		dropped += t.Dropped
	}
	return dropped
}

// of returns a copy of a core's counters, nil where there are none.
func (c *softnetCounters) of(cpu int) *sample.Softnet {
	t := c.total[cpu]
	if t == nil {
		return nil
	}
	out := *t
	return &out
}
