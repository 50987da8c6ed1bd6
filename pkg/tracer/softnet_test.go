// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"math"
	"slices"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Lines of real kernels, core 1 of each.
const (
	softnetV54  = "00000a10 00000000 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000011 00000000\n"
	softnetV510 = "00010de6 00004659 00000005 00000000 00000000 00000000 00000000 00000000 00000000 00000012 00000000 00000010 00000001\n"
	softnetV61  = "00010d8a 000046c7 00000005 00000000 00000000 00000000 00000000 00000000 00000000 00000012 00000000 00000000 00000001\n"
	softnetV612 = "00010c11 00004536 00000004 00000000 00000000 00000000 00000000 00000000 00000000 00000012 00000000 00000007 00000001 00000004 00000003\n"
	softnetV618 = "0e9ac5a1 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000\n"
)

func TestParseSoftnet(t *testing.T) {
	const first = "0ee25eae 00000000 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n"
	for name, tt := range map[string]struct {
		text string
		want []softnetRow
	}{
		"5.4 by order": {softnetV54 + softnetV54, []softnetRow{{0, 0xa10, 0, 3, 0x11, 0, 0}, {4, 0xa10, 0, 3, 0x11, 0, 0}}},
		"5.10":         {softnetV510, []softnetRow{{1, 0x10de6, 0x4659, 5, 0x12, 0, 0x10}}},
		"6.1":          {softnetV61, []softnetRow{{1, 0x10d8a, 0x46c7, 5, 0x12, 0, 0}}},
		"6.12":         {softnetV612, []softnetRow{{1, 0x10c11, 0x4536, 4, 0x12, 0, 7}}},
		"6.18":         {first + softnetV618, []softnetRow{{0, 0xee25eae, 0, 2, 0, 0, 0}, {1, 0xe9ac5a1, 0, 1, 0, 0, 0}}},
		"empty":        {"", nil},
		"short":        {"00000001 00000002\n", nil},
		"no number":    {"0000000x 00000000 00000000\n", nil},
		"too large":    {"100000000 00000000 00000000\n", nil},
	} {
		if got := parseSoftnet([]byte(tt.text), []int{0, 4}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

func FuzzParseSoftnet(f *testing.F) {
	f.Add([]byte(softnetV54 + softnetV612))
	f.Fuzz(func(t *testing.T, b []byte) {
		newSoftnetCounters(nil).add(parseSoftnet(b, []int{0}))
	})
}

// TestSoftnetWraps: the kernel's numbers have 32 bits, ours go on.
func TestSoftnetWraps(t *testing.T) {
	c := newSoftnetCounters([]softnetRow{{cpu: 0, processed: math.MaxUint32 - 1, dropped: 7}, {cpu: 1}})
	c.add([]softnetRow{{cpu: 0, processed: math.MaxUint32, dropped: 7}, {cpu: 1, dropped: 2}})
	if n := c.add([]softnetRow{{cpu: 0, processed: 3, dropped: 10, queued: 9}, {cpu: 5, dropped: 100}}); n != 5 {
		t.Errorf("%d drops, want 3 of core 0, 2 of core 1, and none of core 5, which came later", n)
	}
	if want := (sample.Softnet{Processed: 5, Dropped: 3, BacklogLen: 9}); *c.of(0) != want {
		t.Errorf("core 0: %+v, want %+v", *c.of(0), want)
	}
	if c.of(2) != nil {
		t.Errorf("core 2: %+v, want nil", c.of(2))
	}
}
