// SPDX-License-Identifier: Apache-2.0

package live

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func fullHeader() *sample.Header {
	h := header()
	for _, name := range []string{model.SignalListen, model.SignalNetRX, model.SignalBacklog} {
		h.Signals = append(h.Signals, sample.Signal{Name: name, Variant: "v", Accuracy: sample.Exact})
	}
	return h
}

// queued is s's listener with queues that refuse syn and ack clients per second
// at the full accept queue and drop SYNs at the SYN queue.
func queued(s server, t uint64, length uint32, syn, ack, drop, cookies uint64) sample.Listener {
	l := s.at(t)
	l.AcceptQueueLen = length
	q := &sample.Queues{
		SynQueueLen: 41, SynQueueMax: 128, AcceptQueuePeak: length, SynQueuePeak: 44, SynPeakSampled: true,
		Refusals:            sample.Refusals{AcceptQueueSYN: syn * t, AcceptQueueACK: ack * t, SynQueue: drop * t},
		SyncookiesSentTotal: cookies * t, Backlog: 128,
	}
	q.SeenTotal = q.Refusals.Total()
	if length > l.AcceptQueueMax {
		q.AcceptFullNS = t * second * 38 / 100
	}
	if n := q.Refusals.Total(); n > 0 {
		q.Clients = sample.RefusedClients{Total: n/3 + 1, Retries: [4]uint64{n / 6}, Max: 6,
			Top: []sample.RefusedClient{{Addr: "2001:db8::7", Port: 51234, Refusals: 6}}}
	}
	l.Queues = q
	return l
}

// overflowView is a listener whose accept queue is full, one whose SYN queue is,
// one that sends cookies, and a name that wants to be obeyed.
func overflowView() View {
	evil := server{inode: 1101390, addr: "10.0.0.9", port: 81, program: "\x1b[2J\u202eevil", wait: sample.WaitAccept, workers: 1}
	v := play(fullHeader(), 60, func(t uint64, s *sample.Sample) {
		approximate := queued(evil, t, 3, 0, 0, 1, 0)
		approximate.Queues.Approximate, approximate.Queues.Clients.Estimated, approximate.Queues.PeakSampled = true, true, true
		s.Accept.Listeners = []sample.Listener{
			queued(nginx, t, 0, 0, 0, 0, 250), queued(gunicorn, t, 129, 20, 11, 0, 0), queued(node, t, 1, 0, 0, 7, 0),
			uwsgi.at(t), queued(old, t, 0, 0, 0, 0, 0), approximate,
		}
		s.Listen = &sample.Listen{NetNS: []sample.NetNS{{Inode: 4026531840, Somaxconn: 4096, MaxSynBacklog: 512, Syncookies: 1}}}
	})
	v.UI.Panel = Queues
	v.Active = []diagnose.Finding{
		{ID: "accept-queue-overflow", Inode: gunicorn.inode, CPU: -1, State: diagnose.Raised, Severity: diagnose.Crit,
			Subject:  "listener 0.0.0.0:8080 (gunicorn, 34 workers)",
			Evidence: "the accept queue is full 38 % of the time (129 of 128), 31 clients' packets are refused a second",
			Remedy:   "gunicorn --backlog 2048"},
		{ID: "netdev-backlog-drop", CPU: 1, State: diagnose.Raised, Severity: diagnose.Warn, Subject: "core 1", Evidence: "its CPU backlog is full"},
	}
	wall := time.Date(2026, 11, 21, 20, 1, 40, 120e6, time.UTC)
	for i, place := range []string{sample.PlaceAcceptQueueSYN, sample.PlaceAcceptQueueACK, sample.PlaceSynQueue, "later\x1b"} {
		e := model.Event{Wall: wall.Add(time.Duration(i) * time.Second), Listener: "0.0.0.0:8080", Program: "gunicorn"}
		e.Kind, e.Place, e.Refused, e.AcceptQueueLen, e.SynQueueLen, e.Client = sample.EventRefusal, place, 20, 129, 41, "[2001:db8::7]:51234"
		v.Events = append(v.Events, e)
	}
	drop := model.Event{Wall: wall.Add(9 * time.Second)}
	drop.Kind, drop.Device, drop.Refused, drop.CPU = sample.EventBacklogDrop, "eth0\x1b[2J", 64, 1
	v.Events = append(v.Events, drop)
	return v
}

// noListen is the queue panel where the kernel refused its signal.
func noListen() View {
	v := overflowView()
	v.Header.Signals[2] = sample.Signal{Name: model.SignalListen, Accuracy: sample.Unavailable, Rejected: []sample.Rejection{{Variant: "fexit", Error: "not supported"}}}
	v.Frame.Queues, v.Active, v.Events = nil, nil, nil
	for _, l := range v.Frame.Accept.Listeners {
		l.Queue = nil
	}
	return v
}

// at is a core after that many seconds, of which it spends netrx thousandths in
// NET_RX and takes and drops that many packets in each.
func coreAt(number int, t, netrx, packets, dropped uint64) sample.CPU {
	ms := uint64(time.Millisecond)
	return sample.CPU{
		CPU:   number,
		Times: &sample.CPUTimes{BusyNS: t * (netrx + 50) * ms, IdleNS: t * (950 - netrx) * ms, SoftIRQNS: t * netrx * ms},
		SoftIRQ: &sample.NetRXSoftIRQ{RunNS: t * netrx * ms, Count: t * 1000,
			Latency: []uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, t * 900, 0, 0, 0, 0, 0, 0, 0, t * 100}},
		Softnet:        &sample.Softnet{Processed: t * packets, Dropped: t * dropped, TimesSqueeze: t * dropped / 100},
		KsoftirqdRunNS: t * netrx * ms / 2,
	}
}

// backlogView is a host of which one core does most of NET_RX and drops.
func backlogView() View {
	v := play(fullHeader(), 60, func(t uint64, s *sample.Sample) {
		s.Accept.Listeners = []sample.Listener{queued(nginx, t, 0, 0, 0, 0, 0)}
		s.Listen = &sample.Listen{NetNS: []sample.NetNS{{Inode: 4026531840, Somaxconn: 4096}}}
		for i, c := range [][3]uint64{{120, 150_000, 0}, {870, 118_000, 3100}, {15, 1500, 0}, {0, 0, 0}} {
			s.CPUs = append(s.CPUs, coreAt(i, t, c[0], c[1], c[2]))
		}
		s.NetRX = &sample.NetRX{MaxBacklog: 1000,
			Devices: []sample.NetDevice{{IfIndex: 1, Name: "lo", RXPackets: t}, {IfIndex: 2, Name: "eth\x1b[2J", RXPackets: t * 150_000, Queues: []sample.RXQueue{{RPS: []int{1}}}}},
			Drops:   []sample.BacklogDrop{{IfIndex: 2, Device: "eth\x1b[2J", FromCPU: 0, Dropped: t * 3100}}}
	})
	v.UI.Panel = CPUs
	v.Active = []diagnose.Finding{{ID: "netdev-backlog-drop", CPU: 1, State: diagnose.Raised, Severity: diagnose.Crit,
		Subject: "core 1", Evidence: "its CPU backlog is full and refuses 3.1k packets a second"}}
	return v
}

// noSoftirqHooks is the same where only /proc tells.
func noSoftirqHooks() View {
	v := backlogView()
	v.Header.Signals[3] = sample.Signal{Name: model.SignalNetRX, Accuracy: sample.Unavailable}
	v.Active = nil
	for i := range v.Frame.CPUs {
		c := &v.Frame.CPUs[i]
		c.SoftIRQ, c.NetRXRatio, c.LatencyP99NS = nil, model.Unknown(), model.Unknown()
	}
	v.Frame.CPUs[3].Times, v.Frame.CPUs[3].Softnet = nil, nil
	return v
}
