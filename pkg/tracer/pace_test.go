// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestSampledSignals: what is looked at a tenth of the time comes to about what it
// is, goes on when it is looked at all the time again, and is absent while it is
// off.
func TestSampledSignals(t *testing.T) {
	tr := open(t, Options{Interval: 500 * time.Millisecond})
	quit := make(chan struct{})
	defer close(quit)
	go sendPackets(t, quit)
	next := func() *sample.Sample {
		s, err := tr.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	set := func(mode pacing) {
		for _, signal := range []string{SignalNetRX, SignalWake, SignalRunq} {
			tr.pace.set(signal, mode, time.Now())
		}
	}
	next()
	first := next()
	set(paceSampled)
	soft := softirqs(t)
	before := next()
	var last *sample.Sample
	for range 12 {
		last = next()
	}
	truth := softirqs(t)
	span := last.MonoNS - before.MonoNS
	for i, c := range last.CPUs {
		b := before.CPUs[i]
		if c.Runq == nil || c.SoftIRQ == nil {
			t.Fatalf("core %d: a sampled signal is absent", c.CPU)
		}
		ran := less(c.Runq.BusyNS, b.Runq.BusyNS) + less(c.Runq.IdleNS, b.Runq.IdleNS)
		if float64(ran) < 0.8*float64(span) || float64(ran) > 1.2*float64(span) {
			t.Errorf("core %d was busy or idle for %d ns of %d", c.CPU, ran, span)
		}
		if c.SoftIRQ.RunNS > 1<<60 || c.SoftIRQ.RunNS-b.SoftIRQ.RunNS > span {
			t.Errorf("core %d was in NET_RX for %d ns of %d", c.CPU, c.SoftIRQ.RunNS-b.SoftIRQ.RunNS, span)
		}
	}
	seen, did := uint64(0), uint64(0)
	for i, c := range last.CPUs {
		seen += c.SoftIRQ.Count - first.CPUs[i].SoftIRQ.Count
		did += truth[c.CPU] - soft[c.CPU]
	}
	if float64(seen) < 0.5*float64(did) || float64(seen) > 2*float64(did) {
		t.Errorf("%d NET_RX softirqs are estimated, /proc/softirqs has %d", seen, did)
	}

	set(paceOff)
	off := next()
	if off = next(); off.CPUs[0].Runq != nil || off.CPUs[0].SoftIRQ != nil || off.Sched != nil {
		t.Error("what is off is shown")
	}
	set(paceFull)
	next()
	whole := next()
	for _, s := range []string{SignalNetRX, SignalWake, SignalRunq} {
		if !tr.kern.isAttached(s) {
			t.Errorf("%s is not attached again", s)
		}
	}
	if tr.pace.failed > 0 {
		t.Errorf("%d times hooks could not be had", tr.pace.failed)
	}
	again := next()
	span = again.MonoNS - whole.MonoNS
	for i, c := range again.CPUs {
		ran := less(c.Runq.BusyNS, whole.CPUs[i].Runq.BusyNS) + less(c.Runq.IdleNS, whole.CPUs[i].Runq.IdleNS)
		if c.SoftIRQ.Count < last.CPUs[i].SoftIRQ.Count || float64(ran) > 1.2*float64(span) {
			t.Errorf("core %d, all the time again: NET_RX %d after %d, busy or idle for %d ns of %d",
				c.CPU, c.SoftIRQ.Count, last.CPUs[i].SoftIRQ.Count, ran, span)
		}
	}
}

// sendPackets sends itself a packet each millisecond until quit.
func sendPackets(t *testing.T, quit chan struct{}) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 8)
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
			if _, err := c.WriteTo(buf, c.LocalAddr()); err == nil {
				c.Read(buf)
			}
		}
	}
}
