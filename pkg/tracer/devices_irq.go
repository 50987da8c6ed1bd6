// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// interrupts is /proc/interrupts.
type interrupts struct {
	cpus []int // by column
	rows []interruptRow
}

type interruptRow struct {
	number int
	name   string // of its handlers: "eth0-TxRx-1", or "eth0, usb1" where they share it
	counts []uint64
}

func readInterrupts() interrupts {
	b, _ := os.ReadFile("/proc/interrupts")
	return parseInterrupts(b)
}

// parseInterrupts takes the lines of devices (kernel/irq/proc.c:
// show_interrupts()): the number, a count for each core that is online, chip and
// trigger, and after two blanks the names of the handlers.
func parseInterrupts(b []byte) (in interrupts) {
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	for _, f := range bytes.Fields(head) {
		n, err := strconv.ParseUint(strings.TrimPrefix(string(f), "CPU"), 10, 16)
		if err != nil {
			return interrupts{}
		}
		in.cpus = append(in.cpus, int(n))
	}
	for line := range bytes.Lines(rest) {
		if row, ok := parseInterrupt(bytes.TrimSuffix(line, []byte("\n")), len(in.cpus)); ok {
			in.rows = append(in.rows, row)
		}
	}
	return in
}

func parseInterrupt(line []byte, cpus int) (row interruptRow, ok bool) {
	number, rest, ok := bytes.Cut(line, []byte(":"))
	n, err := strconv.ParseUint(string(bytes.TrimSpace(number)), 10, 31)
	f := bytes.Fields(rest)
	if !ok || err != nil || len(f) < cpus {
		return row, false // of the architecture, such as NMI
	}
	row.number = int(n)
	for _, s := range f[:cpus] {
		count, err := strconv.ParseUint(string(s), 10, 64)
		if err != nil {
			return row, false
		}
		row.counts = append(row.counts, count)
	}
	if i := bytes.LastIndex(rest, []byte("  ")); i >= 0 {
		row.name = string(rest[i+2:])
	}
	return row, row.name != ""
}

// irqsOf finds a device's lines: by its message-signalled interrupts, or by the
// names that drivers give them, after the device or the one behind it
// (virtio2-input.0).
func irqsOf(d *device, in interrupts, cpus []int) []sample.IRQ {
	if d.bus == "" {
		return nil
	}
	var out []sample.IRQ
	for i := range in.rows {
		row := &in.rows[i]
		if d.msi != nil && !slices.Contains(d.msi, row.number) {
			continue
		}
		if d.msi == nil && !namesWord(row.name, d.Name) && !namesWord(row.name, d.bus) {
			continue
		}
		irq := sample.IRQ{Number: row.number, Name: row.name}
		irq.Affinity = parseCPUList(readTrimmed(fmt.Sprintf("/proc/irq/%d/smp_affinity_list", row.number)))
		for _, cpu := range cpus {
			var n uint64
			if at := slices.Index(in.cpus, cpu); at >= 0 {
				n = row.counts[at]
			}
			irq.PerCPU = append(irq.PerCPU, n)
		}
		if out = append(out, irq); len(out) == irqsKept {
			break
		}
	}
	return out
}

// namesWord reports whether word stands in s, and is not part of a longer one:
// virtio1 is not in virtio10-input.0.
func namesWord(s, word string) bool {
	for at := 0; ; {
		i := strings.Index(s[at:], word)
		if i < 0 || word == "" {
			return false
		}
		at += i + len(word)
		if !isWordByte(s, at-len(word)-1) && !isWordByte(s, at) {
			return true
		}
	}
}

func isWordByte(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i] | 0x20
	return c >= 'a' && c <= 'z' || s[i] >= '0' && s[i] <= '9'
}
