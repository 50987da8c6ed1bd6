// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The fixtures go through the model, so that they are what a trace would give.

const second = uint64(time.Second)

func header() *sample.Header {
	return &sample.Header{
		Version: "0.1.0", Host: "web-3", Kernel: "6.8.0-45-generic", CPUs: 16, IntervalNS: second,
		WallNS: 1_795_291_200 * int64(second), // 2026-11-21T20:00:00Z
		Signals: []sample.Signal{
			{Name: "accept", Variant: "fexit", Accuracy: sample.Exact},
			{Name: "wake", Variant: "fentry", Accuracy: sample.Exact},
		},
	}
}

// server is a listener whose workers each do the same, per second.
type server struct {
	inode                  uint64
	addr                   string
	port                   uint16
	program, wait          string
	workers                int
	accepts, wakes, eagain uint64 // of each worker
	closed, reuseport      bool
}

func (s server) at(seconds uint64) sample.Listener {
	l := sample.Listener{
		Inode: s.inode, Proto: "tcp", Addr: s.addr, Port: s.port, NetNS: 4026531840,
		Closed: s.closed, ReusePort: s.reuseport, AcceptQueueMax: 128,
	}
	if s.port == 0 {
		l.Proto = "unix"
	}
	for i := range s.workers {
		c := sample.Counters{
			AcceptsTotal: s.accepts * seconds, WakeupsTotal: s.wakes * seconds,
			AcceptEAGAINTotal: s.eagain * seconds, WastedWakeupsTotal: s.eagain * seconds / 2,
		}
		if s.wakes > s.accepts {
			c.EmptyWakeupsTotal = (s.wakes - s.accepts) * seconds
			c.EmptyBurstsTotal = seconds
			c.EmptyCPUNS = 2_000 * seconds
		}
		if i == 0 { // not all alike
			c.AcceptsTotal += 7 * s.accepts * seconds
		}
		l.Workers = append(l.Workers, sample.Worker{
			PID: 21873 + uint32(i), TID: 21873 + uint32(i), Comm: s.program, Program: s.program, Wait: s.wait,
			RunNS: uint64(i) * seconds * 1_000_000, WaitNS: seconds * 3_000_000, Counters: c,
		})
		l.Counters.Add(c)
	}
	l.CompletionsTotal = l.AcceptsTotal
	return l
}

// view is the screen after that many seconds of servers.
func view(seconds uint64, servers ...server) View {
	return play(header(), seconds, func(t uint64, s *sample.Sample) {
		for _, srv := range servers {
			s.Accept.Listeners = append(s.Accept.Listeners, srv.at(t))
		}
	})
}

// play is the screen after that many seconds of what at adds to their Samples.
func play(h *sample.Header, seconds uint64, at func(t uint64, s *sample.Sample)) View {
	b := model.NewBuilder(h)
	v := View{Header: h}
	for _, t := range []uint64{0, seconds - 1, seconds} {
		if t == 0 && v.Frame != nil {
			continue
		}
		s := &sample.Sample{
			MonoNS: t * second,
			Self:   sample.Self{UserCPUNS: t * 1_000_000, BPFRunNS: t * 3_000_000},
			Accept: &sample.Accept{},
		}
		at(t, s)
		v.Frame = b.Build(s)
	}
	v.Clock = v.Frame.Elapsed
	return v
}

var (
	gunicorn = server{inode: 1101369, addr: "0.0.0.0", port: 8080, program: "gunicorn", wait: sample.WaitSelect,
		workers: 34, accepts: 29, wakes: 439, eagain: 375}
	nginx = server{inode: 1101370, addr: "0.0.0.0", port: 443, program: "nginx", wait: sample.WaitEpollExclusive,
		workers: 16, accepts: 126, wakes: 156, eagain: 9, reuseport: true}
	node  = server{inode: 1101371, addr: "::", port: 9100, program: "node_exporter", wait: sample.WaitEpollET, workers: 1, accepts: 2, wakes: 15, eagain: 16}
	uwsgi = server{inode: 1101372, addr: "/run/uwsgi/shop.sock", program: "uwsgi", wait: sample.WaitEpoll, workers: 8, accepts: 4, wakes: 51, eagain: 33}
	sshd  = server{inode: 1101373, addr: "0.0.0.0", port: 22}
	old   = server{inode: 1101374, addr: "127.0.0.1", port: 5432, program: "postgres", wait: sample.WaitPoll, workers: 1, closed: true}
)

func healthyView() View {
	return view(42, server{inode: 1, addr: "0.0.0.0", port: 443, program: "nginx", wait: sample.WaitEpollExclusive, workers: 1, accepts: 100, wakes: 800}, sshd,
		server{inode: 3, addr: "::1", port: 6379, program: "redis-server", wait: sample.WaitEpoll, workers: 1, accepts: 1, wakes: 8})
}

func herdView() View {
	v := view(102, gunicorn, nginx, node, uwsgi, sshd, old)
	v.Active = []diagnose.Finding{
		{ID: "accept-herd", Inode: gunicorn.inode, State: diagnose.Raised, Severity: diagnose.Crit,
			Subject:  "listener 0.0.0.0:8080 (gunicorn, 34 workers)",
			Evidence: "12.4 wake-ups per connection, 91 % of accept calls found nothing, 3.1 % of one core spent on it",
			Cause:    "all 34 workers select(2) on one socket, so the kernel wakes them all for each connection",
			Remedy:   "one socket per worker (SO_REUSEPORT), or fewer workers with --threads 8"},
		{ID: "accept-skew", Inode: nginx.inode, State: diagnose.Raised, Severity: diagnose.Warn,
			Subject:  "listener 0.0.0.0:443 (nginx, 16 workers)",
			Evidence: "one worker takes 41 % of the connections (fair: 6 %)",
			Remedy:   "listen 443 reuseport;"},
	}
	wall := time.Date(2026, 11, 21, 20, 1, 40, 120e6, time.UTC)
	for i := range 9 {
		e := model.Event{Wall: wall.Add(time.Duration(i) * 111 * time.Millisecond), Listener: "0.0.0.0:8080", Program: "gunicorn"}
		e.Kind, e.Woken, e.AcceptQueueLen = sample.EventHerdBurst, 34-uint32(i), 1
		v.Events = append(v.Events, e)
	}
	v.Events[8].Kind, v.Events[8].Listener, v.Events[8].Program = sample.EventListenerClosed, "127.0.0.1:5432", "postgres"
	return v
}

func manyView(n int) View {
	var servers []server
	for i := range n {
		servers = append(servers, server{inode: uint64(i + 1), addr: "10.0.0.1", port: uint16(8000 + i), program: fmt.Sprintf("app-%d", i),
			wait: sample.WaitEpoll, workers: 2, accepts: uint64(i), wakes: uint64(i) * 3})
	}
	return view(60, servers...)
}

func hostileView() View {
	v := view(60,
		server{inode: 1, addr: "/run/日本語のとても長い名前のソケットディレクトリ/アプリケーション.sock", program: "アプリ", wait: sample.WaitEpoll, workers: 2, accepts: 50, wakes: 90},
		server{inode: 2, addr: "/tmp/\x1b[2J\x1b]0;owned\a\r\nevil\x00\u202e\u200b.sock", program: "\x1b[31mred\xff\xfe", wait: "\x1b[5m", workers: 1, accepts: 5, wakes: 40},
		server{inode: 3, addr: "@zalgo" + "a" + manyAccents(), program: "👩‍👩‍👧‍👦 fam", wait: sample.WaitPoll, workers: 1, accepts: 4, wakes: 41},
		server{inode: 4, addr: "2001:db8:1111:2222:3333:4444:5555:6666", port: 65535, program: "ﷺ﷽", wait: sample.WaitURing, workers: 1, accepts: 3, wakes: 42},
		server{inode: 5, addr: "\u0301", program: "e\u0301cole", workers: 1, accepts: 3, wakes: 9},
	)
	v.Header.Host = "host\x1b[0m\n名前"
	v.Header.Kernel = "6.8\x1b]0;x\a"
	v.UI.Notice = "end of recording 録画.jsonl.gz"
	v.Active = []diagnose.Finding{{Inode: 1, Severity: diagnose.Warn,
		Subject: "listener unix:/run/日本語のとても長い名前のソケット", Evidence: "1.8 wake-ups per connection\x1b[2J", Remedy: "日本語のとても長い説明文が折り返されるかどうかを確かめるための文章です。日本語のとても長い説明文"}}
	e := model.Event{Wall: time.Date(2026, 11, 21, 20, 1, 40, 0, time.UTC), Listener: "unix:/tmp/\x1b[2J", Program: "\x1bx"}
	e.Kind = "new\x1bkind-of-later"
	v.Events = []model.Event{e}
	return v
}

func manyAccents() string {
	s := ""
	for range 40 {
		s += "\u0301"
	}
	return s
}
