// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"slices"
	"strconv"
	"strings"
)

// maxCPUs is the largest NR_CPUS that a kernel can be built for
// (arch/x86/Kconfig); more in a file is garbage.
const maxCPUs = 8192

// parseCPUList reads "0-3,8,10-11" (lib/vsprintf.c: %*pbl). It returns nil for
// the empty list and for anything else.
func parseCPUList(s string) []int {
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 16)
		hi, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || lo > hi || hi >= maxCPUs {
			return nil
		}
		for n := lo; n <= hi; n++ {
			cpus = append(cpus, int(n))
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus)
}

// parseCPUMask reads groups of 32 bits in hexadecimal, the highest cores first:
// "ff,00000003" (lib/vsprintf.c: %*pb). It returns nil for 0 and for garbage.
func parseCPUMask(s string) []int {
	var cpus []int
	groups := strings.Split(strings.TrimSpace(s), ",")
	if len(groups)*32 > maxCPUs {
		return nil
	}
	slices.Reverse(groups)
	for i, g := range groups {
		mask, err := strconv.ParseUint(g, 16, 32)
		if err != nil {
			return nil
		}
		for bit := range 32 {
			if mask>>bit&1 != 0 {
				cpus = append(cpus, i*32+bit)
			}
		}
	}
	return cpus
}
