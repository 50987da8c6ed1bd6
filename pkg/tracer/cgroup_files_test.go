// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"slices"
	"testing"
)

// Of a host with both versions (Debian's hybrid layout), and of containers: one
// without a cgroup namespace, and one that has v2 at a place with a space in it.
const mountsOfCGroups = `24 30 0:22 / /proc rw,nosuid - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 /docker/4f /sys/fs/cgroup/cpuset ro,relatime - cgroup cgroup rw,cpuset
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /mnt/a\040b\134c rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /cpu rw - tmpfs cpu rw,cpu
43 31 0:40 /
`

func TestParseCGroupMounts(t *testing.T) {
	v2 := cgroupMount{"/", `/mnt/a b\c`, true}
	for controller, want := range map[string][]cgroupMount{
		"cpu":     {{"/", "/sys/fs/cgroup/cpu,cpuacct", false}, v2},
		"cpuacct": {{"/", "/sys/fs/cgroup/cpu,cpuacct", false}, v2},
		"cpuset":  {{"/docker/4f", "/sys/fs/cgroup/cpuset", false}, v2},
		"memory":  {v2},
		"":        {v2},
	} {
		if got := parseCGroupMounts(mountsOfCGroups, controller); !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", controller, got, want)
		}
	}
	for s, want := range map[string]string{`a\012b`: "a\nb", `\04`: `\04`, `\0`: `\0`, `\`: `\`, `\999x`: `\999x`, "": ""} {
		if got := unescapeMount(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestV1Controllers(t *testing.T) {
	const procCGroup = "9:name=systemd:/\n4:cpu,cpuacct:/x:cpuset\n3:cpuset:/\n0::/memory\n7\n"
	for controller, want := range map[string][]string{
		"cpu": {"cpu", "cpuacct"}, "cpuset": {"cpuset"}, "memory": nil, "": nil,
	} {
		if got := v1Controllers(procCGroup, controller); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", controller, got, want)
		}
	}
	// v2 alone: nothing may be mounted as v1, which would take the controller away.
	if got := v1Controllers("0::/user.slice\n", "cpu"); got != nil {
		t.Errorf("v2 alone: %v, want none", got)
	}
}

func TestParseCPUMax(t *testing.T) {
	for s, want := range map[string][2]uint64{
		"max 100000\n":                 {0, 100000},
		"50000 100000\n":               {50000, 100000},
		"18446744073709551615 1000000": {1<<64 - 1, 1000000},
		"1000 1000\n":                  {1000, 1000},
		"":                             {},
		"max":                          {},
		"max max":                      {},
		"0 100000":                     {},
		"-1 100000":                    {},
		"50000 0":                      {},
		"50000 100000 1":               {},
		"18446744073709551616 100000":  {},
		"\x00\x00 100000":              {},
	} {
		quota, period, ok := parseCPUMax([]byte(s))
		if quota != want[0] || period != want[1] || ok != (want[1] > 0) {
			t.Errorf("%q: %d %d %v, want %v", s, quota, period, ok, want)
		}
	}
}

func TestParseQuota(t *testing.T) {
	for s, want := range map[string]struct {
		us uint64
		ok bool
	}{
		"-1\n": {0, true}, "50000\n": {50000, true}, "0\n": {}, "": {}, "max": {}, "1 2": {}, "99999999999999999999": {},
	} {
		if us, ok := parseQuota([]byte(s)); us != want.us || ok != want.ok {
			t.Errorf("%q: %d %v, want %v", s, us, ok, want)
		}
	}
}

func TestWeightOf(t *testing.T) {
	for shares, want := range map[uint64]uint32{
		1024: 100, 2: 1, 3: 1, 0: 1, 10: 1, 15: 1, 16: 2, 512: 50, 262144: 10000, 102400: 10000, 102395: 10000, 1<<64 - 1: 10000,
	} {
		if got := weightOf(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
}

func TestParseCPUStat(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want cfsCounts
		ok   bool
	}{
		"v1 of 6.18": {
			"nr_periods 29\nnr_throttled 7\nthrottled_time 2301234567\nnr_bursts 1\nburst_time 5\n",
			cfsCounts{periods: 29, throttled: 7, throttledNS: 2301234567}, true,
		},
		"v1 with sched_schedstats": {
			"nr_periods 1\nnr_throttled 0\nthrottled_time 0\nwait_sum 12345\n", cfsCounts{periods: 1}, true,
		},
		"v2": {
			"usage_usec 1234\nuser_usec 1000\nsystem_usec 234\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 5\nnr_throttled 4\nthrottled_usec 3\nnr_bursts 0\nburst_usec 0\n",
			cfsCounts{5, 4, 3000, 1234000, true}, true,
		},
		"v2 without the controller": {"usage_usec 9\nuser_usec 8\nsystem_usec 1\n", cfsCounts{usageNS: 9000, hasUsage: true}, true},
		"wrapped":                   {"nr_periods -2147483648\nnr_throttled -1\nthrottled_time 0\n", cfsCounts{periods: 1 << 31, throttled: 1<<32 - 1}, true},
		"cut off":                   {"nr_periods 29\nnr_throt", cfsCounts{}, false},
		"empty":                     {"", cfsCounts{}, false},
		"no number":                 {"nr_periods x\n", cfsCounts{}, false},
		"too large":                 {"throttled_usec 18446744073709551615\n", cfsCounts{}, false},
		"too large for an int":      {"nr_periods 2147483648\n", cfsCounts{}, false},
		"garbage":                   {"\x00\xff\n", cfsCounts{}, false},
	} {
		got, ok := parseCPUStat([]byte(tt.text))
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %+v %v, want %+v %v", name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestBandwidthTotals(t *testing.T) {
	var b bandwidthTotals
	counts := []cfsCounts{
		{periods: 1<<32 - 2, throttled: 1<<31 - 1, throttledNS: 5},
		{periods: 3, throttled: 1 << 31, throttledNS: 9}, // both wrapped
		{periods: 2, throttled: 1, throttledNS: 4},       // the controller was taken and given again
		{periods: 2, throttled: 1, throttledNS: 4},
	}
	for i := 1; i < len(counts); i++ {
		b.add(counts[i], counts[i-1])
	}
	if want := (bandwidthTotals{5 + 2, 1 + 1, 4 + 4}); b != want {
		t.Errorf("got %+v, want %+v", b, want)
	}
}

func FuzzCGroupFiles(f *testing.F) {
	f.Add([]byte("nr_periods 29\nnr_throttled 7\nthrottled_time 2301234567\n"))
	f.Add([]byte("50000 100000\n"))
	f.Add([]byte(mountsOfCGroups))
	f.Add([]byte("1:cpu:/\n0::/\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, period, ok := parseCPUMax(b); ok && period == 0 {
			t.Errorf("a period of 0")
		}
		parseCPUStat(b)
		parseQuota(b)
		parseCGroupMounts(string(b), "cpu")
		if list := v1Controllers(string(b), "cpu"); list != nil && !slices.Contains(list, "cpu") {
			t.Errorf("%v does not have it", list)
		}
		for name := range subdirectories(b) {
			if len(name) > len(b) || bytes.IndexByte(name, 0) >= 0 {
				t.Errorf("%q is no name", name)
			}
		}
	})
}
