// SPDX-License-Identifier: Apache-2.0

package model

import "github.com/herdtrace/herdtrace/pkg/tracer/sample"

// What is not measured is not 0: a variant may see a part of what its signal
// stands for, and the Sample has zeros for the rest.

// Variant is that of a signal which is in use, "" where the Header has none.
func (f *Frame) Variant(signal string) string {
	for i := range f.Header.Signals {
		if s := &f.Header.Signals[i]; s.Name == signal {
			return s.Variant
		}
	}
	return ""
}

// WithoutBPF reports whether the trace was made without any BPF program.
func (f *Frame) WithoutBPF() bool { return f.Header != nil && f.Header.Rung == sample.RungProcFS }

// ConnsKnown reports whether the connections of a listener are counted.
func (f *Frame) ConnsKnown(l *Listener) bool {
	return f.MeasuredAt(l, SignalAccept) || f.MeasuredAt(l, SignalWake)
}

// ClientsKnown reports whether the clients that are turned away are seen.
func (f *Frame) ClientsKnown() bool {
	switch f.Variant(SignalListen) {
	case "tcp_ext", "sock_diag", "proc_net":
		return false
	}
	return f.Measured(SignalListen)
}

// RunqPolled reports whether the scheduler's figures are looked up in /proc: then
// nothing is known of why a thread waited, nor of what it did between the last
// look and its end.
func (f *Frame) RunqPolled() bool { return f.Variant(SignalRunq) == "schedstat" }

// WaitsKnown reports whether the waits of single threads, and with them those of
// processes and cgroups, are measured: the classical variant has only the cores'.
func (f *Frame) WaitsKnown() bool { return f.Sched != nil && f.Variant(SignalRunq) != "wakeups" }

// QuotaWaitsKnown reports whether waits for a CPU quota can be told from those
// for another thread: cpu.stat does not say whose they are.
func (f *Frame) QuotaWaitsKnown() bool {
	return f.WaitsKnown() && f.StallsKnown()
}

// StallsKnown reports whether the single stops of a quota are seen.
func (f *Frame) StallsKnown() bool {
	return f.Measured(SignalThrottle) && f.Variant(SignalThrottle) != "cpu_stat"
}

// CausesKnown reports whether it is known which waits a mask or the hypervisor
// caused.
func (f *Frame) CausesKnown() bool { return f.WaitsKnown() && !f.RunqPolled() }

// DropDevicesKnown reports whether it is known of which device the packets were
// that full CPU backlogs dropped.
func (f *Frame) DropDevicesKnown() bool {
	return f.Measured(SignalBacklog) && f.Variant(SignalBacklog) != "softnet"
}

// Claims reports whether what /proc says of a process's CPU time can be compared
// with what the scheduler ran: threads that ended unseen are in the one alone.
func (f *Frame) Claims(claimedNS, ranNS float64) bool {
	const steps = 50e6 // claims go in steps of 10 ms, two of them
	return f.EndsKnown() || claimedNS <= ranNS+steps
}

// EndsKnown reports whether it is known what threads did up to their end: not
// where they are looked up now and then.
func (f *Frame) EndsKnown() bool { return !f.RunqPolled() && !f.Sampled(SignalRunq) }

// RejectedFor says why a signal is not measured, in the words of the last variant
// that was tried. It is printable.
func RejectedFor(s *sample.Signal) string {
	if n := len(s.Rejected); n > 0 {
		return Printable(s.Rejected[n-1].Error)
	}
	return "nothing was tried"
}
