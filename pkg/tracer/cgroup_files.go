// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// errTruncated is the cause where a file is longer than any sound one.
var errTruncated = errors.New("it is too long")

// readFileAt reads a file of at most len(buf)-1 bytes, into buf, in one call.
func readFileAt(dir int, name string, buf []byte) ([]byte, error) {
	fd, err := openFileAt(dir, name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return rereadFile(fd, buf)
}

func openFileAt(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// rereadFile reads from the beginning, for which the kernel writes the contents
// anew (fs/kernfs/file.c: kernfs_fop_read_iter()).
func rereadFile(fd int, buf []byte) ([]byte, error) {
	for {
		n, err := unix.Pread(fd, buf, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == len(buf):
			return nil, errTruncated
		default:
			return buf[:n], nil
		}
	}
}

// cgroupLimits are a group's settings.
type cgroupLimits struct {
	quotaUS, periodUS, burstUS uint64 // quotaUS is 0 where there is none
	weight                     uint32 // 1 to 10000; 0 where not known
}

// parseCPUMax reads v2's cpu.max, "quota period" or "max period", in us
// (kernel/sched/core.c: cpu_max_show()).
func parseCPUMax(b []byte) (quotaUS, periodUS uint64, ok bool) {
	f := bytes.Fields(b)
	if len(f) != 2 {
		return 0, 0, false
	}
	periodUS, err := strconv.ParseUint(string(f[1]), 10, 64)
	if err != nil || periodUS == 0 {
		return 0, 0, false
	}
	if string(f[0]) == "max" {
		return 0, periodUS, true
	}
	quotaUS, err = strconv.ParseUint(string(f[0]), 10, 64)
	if err != nil || quotaUS == 0 {
		return 0, 0, false
	}
	return quotaUS, periodUS, true
}

// parseQuota reads v1's cpu.cfs_quota_us, negative where there is none
// (kernel/sched/core.c: tg_get_cfs_quota()).
func parseQuota(b []byte) (us uint64, ok bool) {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil || n == 0 {
		return 0, false
	}
	return uint64(max(n, 0)), true
}

// parseNumber reads a file of one number.
func parseNumber(b []byte) (n uint64, ok bool) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// weightOf turns v1's cpu.shares into v2's cpu.weight: 1024 shares are 100
// (kernel/sched/core.c: tg_weight()).
func weightOf(shares uint64) uint32 {
	return clampWeight((min(shares, 1<<32)*100 + 512) / 1024)
}

// clampWeight: a group of cpu.idle has 0 for its weight.
func clampWeight(weight uint64) uint32 { return uint32(min(max(weight, 1), 10000)) }

// cfsCounts are what cpu.stat counts. The periods are numbers of 32 bits, which
// wrap, and may show as negative.
type cfsCounts struct {
	periods, throttled   uint32
	throttledNS, usageNS uint64 // v1 has no usage there
	hasUsage             bool
}

// parseCPUStat reads lines "name value": v1's throttled_time is in ns, v2's
// throttled_usec and usage_usec in us (kernel/sched/core.c: cpu_cfs_stat_show(),
// cpu_extra_stat_show()). What a group without the controller does not list is 0.
func parseCPUStat(b []byte) (c cfsCounts, ok bool) {
	for line := range bytes.Lines(b) {
		name, value, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		if !found {
			return c, false
		}
		var err error
		switch string(name) {
		case "nr_periods":
			c.periods, err = parseInt32(value)
		case "nr_throttled":
			c.throttled, err = parseInt32(value)
		case "throttled_time":
			c.throttledNS, err = strconv.ParseUint(string(value), 10, 64)
		case "throttled_usec":
			c.throttledNS, err = parseMicroseconds(value)
		case "usage_usec":
			c.usageNS, err = parseMicroseconds(value)
			c.hasUsage = true
		}
		if err != nil {
			return c, false
		}
	}
	return c, len(b) > 0
}

func parseInt32(b []byte) (uint32, error) {
	n, err := strconv.ParseInt(string(b), 10, 32)
	return uint32(n), err
}

func parseMicroseconds(b []byte) (ns uint64, err error) {
	us, err := strconv.ParseUint(string(b), 10, 64)
	if us > (1<<64-1)/1000 {
		return 0, strconv.ErrRange
	}
	return us * 1000, err
}

// add adds what was counted between before and now. Where the periods went back,
// the controller was taken from the group and given again: all is new.
func (b *bandwidthTotals) add(now, before cfsCounts) {
	if int32(now.periods-before.periods) < 0 || int32(now.throttled-before.throttled) < 0 {
		before.periods, before.throttled, before.throttledNS = 0, 0, 0
	}
	b.periods += uint64(now.periods - before.periods)
	b.throttled += uint64(now.throttled - before.throttled)
	b.throttledNS += less(now.throttledNS, before.throttledNS)
}

// bandwidthTotals are those of cfsCounts since attach, which do not wrap.
type bandwidthTotals struct{ periods, throttled, throttledNS uint64 }
