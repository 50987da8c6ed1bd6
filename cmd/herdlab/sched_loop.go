// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The loops of this file are the load itself. They make raw system calls and
// are nosplit, so that the Go runtime has no say in them: it would ask a
// goroutine that has run for 10 ms to yield (sysmon: retake()), which happens
// where a function grows its stack, and costs a thread that is locked two
// switches of its own. So a thread runs, waits and sleeps as written here.

// schedJob is what one thread does over and over, until it is told to stop.
type schedJob struct {
	Burn time.Duration `json:"burn"` // CPU time at a time
	// Then sleep Nap (a client that thinks: it never catches up), or until the
	// next multiple of Every (work that arrives: a burst that took too long
	// swallows the next ones). Neither: never sleep.
	Nap     time.Duration `json:"nap"`
	Every   time.Duration `json:"every"`
	Offset  time.Duration `json:"offset"`   // sleep so long once, before all
	TickGap time.Duration `json:"tick_gap"` // instead of all of this: run between ticks, and be off the CPU so long before each
}

const (
	burnChunk = time.Millisecond // between two looks at the stop pipe
	burnSpins = 4096             // of mix between two looks at the clock: some 10 µs, fewer where that takes
	burnLook  = 50_000           // ns
	tickSpins = 256              // the same where a tick is to be dodged
	rttRounds = 256              // of ping-pong between two looks at the switches

	tickLooks     = 16
	tickTries     = 6
	tickTrial     = 25                     // ticks
	wakeAfterTick = 100 * time.Microsecond // the tick's own interrupt and softirqs are over by then
)

// schedLoop is the state of one thread's loop.
type schedLoop struct {
	job    schedJob
	stopFD int32  // readable (closed at the other end) means stop
	sum    uint64 // what mix computes, so that it must
	spins  int
	tick   schedTick
}

// run does the job until the stop pipe closes.
//
//go:nosplit
func (l *schedLoop) run() {
	if l.job.TickGap > 0 {
		l.dodge(0)
		return
	}
	stop := rawNap(l.stopFD, int64(l.job.Offset))
	start := rawClock(unix.CLOCK_MONOTONIC)
	for !stop {
		if l.burn() {
			return
		}
		nap := int64(l.job.Nap)
		if every := int64(l.job.Every); every > 0 {
			nap = every - (rawClock(unix.CLOCK_MONOTONIC)-start)%every
		}
		stop = rawNap(l.stopFD, nap)
	}
}

// burn uses CPU time, not wall time: a thread that is preempted or throttled
// meanwhile still does all of its work. It reports whether to stop.
//
//go:nosplit
func (l *schedLoop) burn() bool {
	if l.spins == 0 {
		l.spins = burnSpins
	}
	for left := int64(l.job.Burn); left > 0; {
		start := rawClock(unix.CLOCK_THREAD_CPUTIME_ID)
		chunk, used := min(left, int64(burnChunk)), int64(0)
		for used < chunk {
			l.sum = mix(l.sum, l.spins)
			now := rawClock(unix.CLOCK_THREAD_CPUTIME_ID) - start
			switch took := now - used; {
			case took > burnLook && l.spins > 1:
				l.spins /= 2 // an emulated CPU: a burn must not end late
			case took < burnLook/8 && l.spins < burnSpins:
				l.spins *= 2 // it was an interrupt
			}
			used = now
		}
		left -= used
		if left > 0 && rawNap(l.stopFD, 0) {
			return true
		}
	}
	return false
}

// dodge runs from shortly after one timer tick until shortly before the next
// one, and is asleep at each: account_process_tick() never finds it. It ends
// with the ticks given, if that is not 0.
//
//go:nosplit
func (l *schedLoop) dodge(ticks int) {
	tick, gap := int64(l.tick.Length), int64(l.job.TickGap)
	for n := 1; ; n++ {
		now := rawClock(unix.CLOCK_MONOTONIC)
		next := now + tick - (now-int64(l.tick.Phase))%tick
		for now < next-gap {
			l.sum = mix(l.sum, tickSpins)
			now = rawClock(unix.CLOCK_MONOTONIC)
		}
		if rawNap(l.stopFD, next+int64(wakeAfterTick)-now) || n == ticks {
			return
		}
	}
}

// pingPong passes a byte to and fro, and adds the thread's switches to the
// common count. The leader ends it when that reaches the target, or when told
// to stop, by a byte that is not 0; both then return.
//
//go:nosplit
func pingPong(readFD, writeFD, stopFD int32, leader bool, target int64, switches *atomic.Int64) {
	var seen int64
	var b [1]byte
	if !leader && !rawPass(unix.SYS_READ, readFD, &b) {
		return
	}
	for round := 1; ; round++ {
		if leader && round%rttRounds == 0 && (switches.Load() >= target || rawNap(stopFD, 0)) {
			b[0] = 1
		}
		if !rawPass(unix.SYS_WRITE, writeFD, &b) || b[0] != 0 {
			return
		}
		if !rawPass(unix.SYS_READ, readFD, &b) {
			return
		}
		if round%rttRounds == 0 {
			n := rawSwitches()
			switches.Add(n - seen)
			seen = n
		}
		if b[0] != 0 {
			return
		}
	}
}

// mix is work that no compiler can shorten.
//
//go:nosplit
func mix(x uint64, spins int) uint64 {
	x |= 1
	for range spins {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

//go:nosplit
func rawClock(id uintptr) int64 {
	var ts unix.Timespec
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0) // cannot fail for these clocks
	return int64(ts.Sec)*1e9 + int64(ts.Nsec)
}

// rawNap sleeps for ns, or until fd becomes readable, which it reports.
//
//go:nosplit
func rawNap(fd int32, ns int64) bool {
	polled := unix.PollFd{Fd: fd, Events: unix.POLLIN}
	ts := unix.NsecToTimespec(max(ns, 0))
	_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&polled)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	return polled.Revents != 0
}

// rawPass reads or writes one byte, and reports whether it did.
//
//go:nosplit
func rawPass(nr uintptr, fd int32, b *[1]byte) bool {
	for {
		n, _, errno := unix.RawSyscall(nr, uintptr(fd), uintptr(unsafe.Pointer(b)), 1)
		if errno != unix.EINTR {
			return errno == 0 && n == 1
		}
	}
}

// rawSwitches is how often the calling thread left the CPU.
//
//go:nosplit
func rawSwitches() int64 {
	var u unix.Rusage
	_, _, _ = unix.RawSyscall(unix.SYS_GETRUSAGE, unix.RUSAGE_THREAD, uintptr(unsafe.Pointer(&u)), 0)
	return int64(u.Nvcsw) + int64(u.Nivcsw)
}

// schedTick is the timer tick: its length, and where in CLOCK_MONOTONIC the
// ticks lie (all CPUs' alike, unless booted with skew_tick).
type schedTick struct {
	Length time.Duration `json:"length"`
	Phase  time.Duration `json:"phase"`
}

// observeTick watches the coarse clock, which moves with the tick. It moves in
// the interrupt, hence never early: the earliest of some ticks is the phase.
func observeTick() (t schedTick, err error) {
	var ts unix.Timespec
	// posix_get_coarse_res() is the length of a tick.
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return t, fmt.Errorf("read the length of a timer tick: %w", err)
	}
	t.Length = time.Duration(ts.Nano())
	if t.Length < 500*time.Microsecond {
		return t, fmt.Errorf("observe the timer tick: it is %v long: too short to be dodged", t.Length)
	}
	tick := int64(t.Length)
	first, early := int64(0), int64(0)
	for range tickLooks {
		for was := rawClock(unix.CLOCK_MONOTONIC_COARSE); rawClock(unix.CLOCK_MONOTONIC_COARSE) == was; {
		}
		now := rawClock(unix.CLOCK_MONOTONIC)
		if first == 0 {
			first = now
		}
		off := (now - first) % tick
		if off > tick/2 {
			off -= tick
		}
		early = min(early, off)
	}
	t.Phase = time.Duration((first + early) % tick)
	return t, nil
}

// learnTick observes the tick, tries for a moment whether it can be dodged on
// this CPU, and else observes again: a virtual CPU may have been stalled. The
// last one has to do.
func learnTick(cpu int, gap time.Duration) (t schedTick, err error) {
	for range tickTries {
		if t, err = observeTick(); err != nil {
			return t, err
		}
		before, err := readCPUs()
		if err != nil {
			return t, err
		}
		start := rawClock(unix.CLOCK_THREAD_CPUTIME_ID)
		loop := &schedLoop{job: schedJob{TickGap: gap}, stopFD: -1, tick: t}
		loop.dodge(tickTrial)
		run := rawClock(unix.CLOCK_THREAD_CPUTIME_ID) - start
		after, err := readCPUs()
		if err != nil {
			return t, err
		}
		for _, c := range cpuDeltas(before, after) {
			if c.CPU == cpu && c.BusyNS < run/2 {
				return t, nil
			}
		}
	}
	return t, nil
}
