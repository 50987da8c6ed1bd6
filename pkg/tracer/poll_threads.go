// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
)

// threadScan finds the threads that did something since the last scan, in the
// records that the BPF iterator would write; a thread's number stands for its
// address. A file costs a few microseconds: so of a process of one thread one is
// read, and of one with many its threads' only when /proc/PID/stat has moved.
type threadScan struct {
	dir     int // descriptor of /proc
	groups  *groupFinder
	procs   map[uint32]*scannedProcess
	number  uint64 // of the scan
	total   int    // threads
	gone    []uint64
	active  []bpf.SchedThread
	buf     [16384]byte
	entries [16384]byte
	path    []byte
}

// scannedProcess is a process as it was at the last scan.
type scannedProcess struct {
	scan   uint64 // the last one that found it
	stat   statLine
	leader threadTimes
	tids   map[uint32]threadTimes // nil: one thread
	group  uint64
	known  uint64 // the scan that found out group
}

func newThreadScan(groups *groupFinder) (*threadScan, error) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	return &threadScan{dir: fd, groups: groups, procs: make(map[uint32]*scannedProcess)}, nil
}

// Close may be called again.
func (s *threadScan) Close() {
	if s.dir >= 0 {
		unix.Close(s.dir)
	}
	s.dir = -1
}

// scan fills active and gone. With all, every thread is looked at.
func (s *threadScan) scan(all bool) error {
	s.number++
	s.total, s.active, s.gone = 0, s.active[:0], s.gone[:0]
	s.groups.next()
	pids, err := s.list("", nil)
	if err != nil {
		return fmt.Errorf("list /proc: %w", err)
	}
	for _, pid := range pids {
		s.process(pid, all)
	}
	for pid, p := range s.procs {
		if p.scan != s.number {
			s.end(pid, p)
			delete(s.procs, pid)
		}
	}
	return nil
}

func (s *threadScan) end(pid uint32, p *scannedProcess) {
	if p.tids == nil {
		s.gone = append(s.gone, uint64(pid))
	}
	for tid := range p.tids {
		s.gone = append(s.gone, uint64(tid))
	}
}

// process looks at one, and at its threads where they may have done something.
func (s *threadScan) process(pid uint32, all bool) {
	at := strconv.FormatUint(uint64(pid), 10)
	times, ok := s.times(at)
	if !ok {
		return
	}
	p := s.procs[pid]
	if p != nil && p.stat.threads == 1 && times == p.leader && !all {
		p.scan = s.number
		s.total++
		return
	}
	st, ok := s.stat(at)
	if !ok {
		return
	}
	if p != nil && p.stat.start != st.start { // its number is another's now
		s.end(pid, p)
		p = nil
	}
	fresh := p == nil
	if fresh {
		p = &scannedProcess{}
		s.procs[pid] = p
	}
	moved := fresh || all || times != p.leader || st.usedTicks != p.stat.usedTicks || st.threads != p.stat.threads
	before := p.leader
	p.scan, p.stat, p.leader = s.number, st, times
	s.total += st.threads
	switch {
	case !moved:
	case st.threads == 1 && p.tids == nil:
		if fresh || times != before {
			s.add(pid, pid, p, &st, times, at)
		}
	default:
		s.threads(pid, p, at)
	}
}

// threads looks at those of a process that has, or had, several.
func (s *threadScan) threads(pid uint32, p *scannedProcess, at string) {
	tids, err := s.list(at+"/task", nil)
	if err != nil {
		return
	}
	now := make(map[uint32]threadTimes, len(tids))
	for _, tid := range tids {
		task := at + "/task/" + strconv.FormatUint(uint64(tid), 10)
		times, ok := s.times(task)
		if !ok {
			continue
		}
		before, known := p.tids[tid]
		if known && before == times {
			now[tid] = times
			continue
		}
		if st, ok := s.stat(task); ok {
			now[tid] = times
			s.add(pid, tid, p, &st, times, task)
		}
	}
	for tid := range p.tids {
		if _, ok := now[tid]; !ok {
			s.gone = append(s.gone, uint64(tid))
		}
	}
	p.tids = now
}

// add makes the record of a thread.
func (s *threadScan) add(pid, tid uint32, p *scannedProcess, st *statLine, t threadTimes, at string) {
	if p.known != s.number {
		p.known, p.group = s.number, s.groups.of(s, pid, st.kernel)
	}
	raw := bpf.SchedThread{
		Task: uint64(tid), Tid: tid, Tgid: pid, StartNs: st.start * nsPerTick, LeaderNs: p.stat.start * nsPerTick,
		RunNs: t.runNS, WaitNs: t.waitNS, Arrivals: t.arrivals, CgroupId: p.group,
		Cpu: st.cpu, Policy: st.policy, Nice: st.nice, Kernel: uint32(bit(st.kernel)),
	}
	copy(raw.Comm[:len(raw.Comm)-1], st.comm)
	if b, ok := s.read(at + "/status"); ok {
		raw.Voluntary, raw.Involuntary = parseSwitches(b)
	}
	s.active = append(s.active, raw)
}

func (s *threadScan) times(at string) (threadTimes, bool) {
	b, ok := s.read(at + "/schedstat")
	if !ok {
		return threadTimes{}, false
	}
	return parseThreadTimes(b)
}

func (s *threadScan) stat(at string) (st statLine, ok bool) {
	b, ok := s.read(at + "/stat")
	ok = ok && st.parse(b)
	st.comm = bytes.Clone(st.comm)
	return st, ok
}

// read returns a file below /proc, until the next call.
func (s *threadScan) read(path string) ([]byte, bool) {
	b, err := readFileAt(s.dir, path, s.buf[:])
	return b, err == nil
}

// list appends the numbers in a directory below /proc, "" for /proc itself.
func (s *threadScan) list(path string, out []uint32) ([]uint32, error) {
	fd := s.dir
	if path == "" {
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return nil, err
		}
	} else {
		var err error
		if fd, err = unix.Openat(s.dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
		defer unix.Close(fd)
	}
	for {
		n, err := unix.ReadDirent(fd, s.entries[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return out, err
		}
		out = appendNumbers(out, s.entries[:n])
	}
}

// appendNumbers takes the names that are numbers from struct linux_dirent64.
func appendNumbers(out []uint32, entries []byte) []uint32 {
	for len(entries) >= 20 {
		size := int(binary.NativeEndian.Uint16(entries[16:]))
		if size < 20 || size > len(entries) {
			break
		}
		name, _, _ := bytes.Cut(entries[19:size], []byte{0})
		entries = entries[size:]
		if n, ok := parseInt(name); ok && n > 0 && n < 1<<32 {
			out = append(out, uint32(n))
		}
	}
	return out
}
