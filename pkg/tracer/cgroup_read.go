// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// refresh reads the files of the groups with a quota, of the active ones and of
// new ones, and of others as long as there is time.
func (r *cgroupReader) refresh(active []*cgroupState, until time.Time) {
	now, left := r.now(), readAlways
	more := func() bool {
		left--
		return left >= 0 || r.now().Before(until)
	}
	due := slices.Collect(maps.Values(r.limits))
	due = append(append(due, active...), r.fresh...)
	slices.SortFunc(due, func(a, b *cgroupState) int { return cmp.Or(a.looked.Compare(b.looked), cmp.Compare(a.id, b.id)) })
	for _, s := range slices.Compact(due) {
		if !more() {
			break
		}
		r.readGroup(s, now, true)
	}
	r.fresh = slices.DeleteFunc(r.fresh, func(s *cgroupState) bool { return s.gone || !s.looked.IsZero() })
	left = max(left, 0) + readTurn
	for n := len(r.turn); n > 0 && more(); n-- {
		r.turnAt = (r.turnAt + 1) % len(r.turn)
		r.readGroup(r.turn[r.turnAt], now, false)
	}
}

// readGroup reads what is due: the settings, the weight only where it matters, and
// the counters of a group that has a quota, or may get one.
func (r *cgroupReader) readGroup(s *cgroupState, now time.Time, weight bool) {
	s.looked = now
	due := now.Sub(s.read) >= limitsEvery
	if s.gone || !due && s.based && s.quotaUS == 0 {
		return
	}
	d := groupDir{r: r, s: s, fd: -1}
	defer d.close()
	if due {
		s.read = now
		d.readLimits(weight)
	}
	if s.quotaUS > 0 || !s.based {
		d.readCounts()
	}
}

// groupDir is the directory of a group, opened when there is a need.
type groupDir struct {
	r    *cgroupReader
	s    *cgroupState
	fd   int // -1 before
	fail bool
}

func (d *groupDir) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
}

func (d *groupDir) open() bool {
	if d.fd >= 0 || d.fail {
		return !d.fail
	}
	var err error
	if d.fd, err = d.r.openDir(d.s); err != nil {
		d.fail = true
		d.failed(err)
	}
	return !d.fail
}

// failed notes that the directory cannot be opened. That there is none of the
// name may be because it was renamed, or one above it.
func (d *groupDir) failed(err error) {
	switch {
	case err != unix.ENOENT:
		d.r.unreadable++
	case d.r.link != "":
		d.r.lose(d.s)
	default:
		d.r.wanted = true
	}
}

// read returns nil where there is no such file in a group that lives, and is not
// ok where there is no such group, or the file cannot be read.
func (d *groupDir) read(name string) (b []byte, ok bool) {
	if !d.open() {
		return nil, false
	}
	b, err := readFileAt(d.fd, name, d.r.buf[:])
	return d.check(b, err)
}

func (d *groupDir) check(b []byte, err error) ([]byte, bool) {
	switch err {
	case nil:
		return b, true
	case unix.ENOENT, unix.ENODEV:
		if !d.r.exists(d.s) {
			d.failed(unix.ENOENT)
			return nil, false
		}
		return nil, true
	}
	d.r.unreadable++
	return nil, false
}

// number reads a file of one number; not ok where there is none.
func (d *groupDir) number(name string) (n uint64, ok bool) {
	b, ok := d.read(name)
	if b == nil || !ok {
		return 0, false
	}
	if n, ok = parseNumber(b); !ok {
		d.r.unreadable++
	}
	return n, ok
}

// readLimits leaves what was known where something cannot be read.
func (d *groupDir) readLimits(weight bool) {
	s := d.s
	l, ok := d.quota()
	if !ok {
		return
	}
	l.weight = s.weight
	if weight {
		d.readWeight(&l)
	}
	if s.cgroupLimits = l; l.quotaUS > 0 {
		d.r.limits[s.id] = s
		return
	}
	delete(d.r.limits, s.id)
	d.r.closeFiles(s)
}

// quota finds none in v2's root, and where the controller is not enabled.
func (d *groupDir) quota() (l cgroupLimits, ok bool) {
	name, burst := "cpu.cfs_quota_us", "cpu.cfs_burst_us" // both in us; burst since Linux 5.14
	if d.r.tree.v2 {
		name, burst = "cpu.max", "cpu.max.burst"
	}
	b, ok := d.read(name)
	if b == nil || !ok {
		return l, ok
	}
	if d.r.tree.v2 {
		l.quotaUS, l.periodUS, ok = parseCPUMax(b)
	} else {
		l.quotaUS, ok = parseQuota(b)
	}
	if !ok {
		d.r.unreadable++
		return l, false
	}
	if l.quotaUS == 0 {
		return l, true
	}
	if !d.r.tree.v2 {
		if l.periodUS, ok = d.number("cpu.cfs_period_us"); !ok || l.periodUS == 0 {
			return l, false
		}
	}
	l.burstUS, _ = d.number(burst)
	return l, true
}

func (d *groupDir) readWeight(l *cgroupLimits) {
	if d.r.tree.v2 {
		if n, ok := d.number("cpu.weight"); ok {
			l.weight = clampWeight(n)
		}
		return
	}
	if n, ok := d.number("cpu.shares"); ok {
		l.weight = weightOf(n)
	}
}

// readCounts leaves what was counted before where something cannot be read.
func (d *groupDir) readCounts() {
	s := d.s
	if s.stat < 0 && !d.open() {
		return
	}
	b, err := d.reread(&s.stat, d.fd, "cpu.stat")
	b, ok := d.check(b, err)
	if b == nil || !ok {
		return
	}
	c, ok := parseCPUStat(b)
	if !ok {
		d.r.unreadable++
		return
	}
	if d.r.acct != nil && !d.readUsage(&c) {
		d.r.unreadable++
		return
	}
	if s.used = c.hasUsage; !s.used {
		c.usageNS = s.counts.usageNS
	}
	if s.based || s.young {
		s.total.add(c, s.counts)
		s.usage += less(c.usageNS, s.counts.usageNS)
	}
	s.counts, s.based = c, true
}

// readUsage reads v1's cpuacct.usage (kernel/sched/cpuacct.c: cpuusage_read()) of
// the group of the same name, if there is one: it may be removed and made again,
// and may be set to 0.
func (d *groupDir) readUsage(c *cfsCounts) (ok bool) {
	b, err := d.reread(&d.s.acct, d.r.acct.dir, "."+d.s.path()+"/cpuacct.usage")
	if err == unix.ENOENT || err == unix.ENODEV {
		return true
	}
	if err != nil {
		return false
	}
	if c.usageNS, c.hasUsage = parseNumber(b); c.usageNS < d.s.counts.usageNS {
		d.s.counts.usageNS = 0
	}
	return c.hasUsage
}

// reread reads a file that is kept open while the group has a quota, if there are
// not too many. Where it was removed, it is opened again, if dir is open.
func (d *groupDir) reread(kept *int, dir int, name string) ([]byte, error) {
	if *kept >= 0 {
		b, err := rereadFile(*kept, d.r.buf[:])
		if err == unix.ENODEV {
			d.r.closeFile(kept)
		}
		if err != unix.ENODEV || dir < 0 {
			return b, err
		}
	}
	fd, err := openFileAt(dir, name)
	if err != nil {
		return nil, err
	}
	if d.s.quotaUS > 0 && d.r.fds < cgroupFDs {
		*kept = fd
		d.r.fds++
	} else {
		defer unix.Close(fd)
	}
	return rereadFile(fd, d.r.buf[:])
}
