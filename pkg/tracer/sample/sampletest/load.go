// SPDX-License-Identifier: Apache-2.0

// Package sampletest makes up the Samples of a crowded host, for tests and
// benchmarks: every counter moves at every tick, by another amount each time, so
// that nearly every cell that is drawn of them changes.
package sampletest

import (
	"fmt"
	"io"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	second = uint64(time.Second)
	milli  = uint64(time.Millisecond)
	micro  = uint64(time.Microsecond)
)

// Load is how much there is of what.
type Load struct {
	Listeners int
	Workers   int // of each listener
	Cores     int
	CGroups   int // with a quota; their two ancestors come on top
	Processes int // with two threads each
}

// Crowded is as much as a Sample lists at the most of processes, threads and
// cgroups, on a large machine.
func Crowded() Load {
	return Load{Listeners: 200, Workers: 4, Cores: 64, CGroups: 500, Processes: sample.MaxProcesses}
}

// Header is that of the recording.
func (l Load) Header() *sample.Header {
	h := &sample.Header{
		Version: "0.0.0", Host: "crowded", Kernel: "6.12.0", Arch: "x86_64", CPUs: l.Cores,
		WallNS: 1_795_291_200 * int64(second), MonoNS: boot, IntervalNS: second, Rung: sample.RungFexit,
	}
	for _, name := range []string{"accept", "wake", "listen", "netrx", "cpu-backlog", "runq", "throttle", "cputime"} {
		h.Signals = append(h.Signals, sample.Signal{Name: name, Variant: "made_up", Accuracy: sample.Exact})
	}
	return h
}

// boot is CLOCK_MONOTONIC at tick 0.
const boot = 5000 * second

// At is tick t, a second after the one before.
func (l Load) At(t uint64) *sample.Sample {
	s := &sample.Sample{
		MonoNS: boot + t*second,
		Self: sample.Self{
			UserCPUNS: grown(1, t, 4*milli), BPFRunNS: grown(2, t, 9*milli), BPFRunTotal: grown(3, t, 90_000),
			MemoryBytes: 50<<20 + level(4, t, 1<<20),
		},
		Accept: &sample.Accept{},
	}
	for i := range l.Listeners {
		s.Accept.Listeners = append(s.Accept.Listeners, l.listener(i, t))
	}
	s.Listen = &sample.Listen{NetNS: []sample.NetNS{namespace(t)}}
	s.Host = &sample.Host{}
	for i := range l.Cores {
		c := l.core(i, t)
		s.Host.BusyNS += c.Times.BusyNS
		s.Host.IdleNS += c.Times.IdleNS
		s.CPUs = append(s.CPUs, c)
	}
	s.NetRX = l.netRX(t)
	s.Sched = l.sched(t)
	s.CGroups = l.cgroups(t)
	s.Events = l.events(t)
	return s
}

// Write writes a recording of so many ticks.
func (l Load) Write(w io.Writer, ticks int) error {
	out := sample.NewWriter(w)
	if err := out.WriteHeader(l.Header()); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	for t := range ticks {
		if err := out.WriteSample(l.At(uint64(t))); err != nil {
			return fmt.Errorf("write tick %d: %w", t, err)
		}
	}
	return nil
}

// grown is a counter after t seconds in each of which it rises by half to one
// and a half of perSecond.
func grown(seed, t, perSecond uint64) uint64 {
	return perSecond*t + perSecond*level(seed, t, 50)/100
}

// level is a number from 0 to most that is another one at each t.
func level(seed, t, most uint64) uint64 { return hash(seed<<20^t) % (most + 1) }

// hash is the finalizer of splitmix64.
func hash(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Seeds of grown and level, apart for each kind of thing.
const (
	seedListener = 1 << 20 * (iota + 1)
	seedWorker
	seedCore
	seedProcess
	seedCGroup
	seedEvent
)
