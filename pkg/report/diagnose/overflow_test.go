// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// unfit is what no sentence may hold: a number that is none, a count of nothing,
// a word in the wrong number, what stands for a number.
var unfit = regexp.MustCompile(`NaN|Inf|%!|\bLEN\b|(^|[ (~])0 (client|core|worker|interrupt|RX|SYNs)|(^|[ (~])1 (clients|workers|interrupts|RX queues)|  |, ,|; ;|\(\)`)

// overflow is a server that takes 40 connections a second while 31 are refused.
var overflow = traffic{conns: 40, queue: 129, looks: 10, run: []float64{0.02, 0.02}, wait: []float64{0, 0}}.
	with(queues{atSYN: 20, atACK: 11, full: 0.9, peak: 129})

func TestOverflowIsRaisedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			s.listens("gunicorn", 2, 128).does(overflow)
			f := s.wantWithin2s("accept-queue-overflow")
			wantTexts(t, f)
			if f.Inode != 1 || f.CPU != noCPU {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

func TestOverflowEvidence(t *testing.T) {
	s := newScene(t)
	v := s.listens("gunicorn", 2, 128).does(overflow)
	v.Queues.Clients = sample.RefusedClients{Total: 25, Retries: [4]uint64{13, 9, 2, 1}, Max: 6}
	v.Queues.SeenTotal = 1000
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
	want := "accept queue 129 of 128 (full 90% of the time), 31 refusals a second (20 at the SYN, 11 at the final ACK), of 25 clients so far, " +
		"of whom 12 were refused more than once; a refused SYN costs its client 1 s or more; " +
		"at the final ACK the client believes that it is connected, and runs into its read timeout"
	if f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	want = "the limit is the listen backlog 128 that the application asked for; raising net.core.somaxconn (4096) will not help; " +
		"its 2 workers sleep 98% of the time, and not in the wait for connections: blocked elsewhere, on a backend, a lock, a disk or a timer"
	if f.Cause != want {
		t.Errorf("cause\n%q, want\n%q", f.Cause, want)
	}
	want = "find what they wait for (cat /proc/1000/stack) and bound it with a timeout, or more workers (gunicorn --workers); " +
		"only then a longer queue for bursts (gunicorn --backlog 256), which alone would turn refusals into waiting"
	if f.Remedy != want {
		t.Errorf("remedy\n%q, want\n%q", f.Remedy, want)
	}
	if f.Subject != "listener 0.0.0.0:8080 (gunicorn, 2 workers)" || f.Severity != Crit || f.Verify != "ListenOverflows stops rising (nstat -az TcpExtListenOverflows)" {
		t.Errorf("finding %+v", f)
	}
	wantValues(t, f, map[string]float64{"refusals_per_s": 31, "refused_at_syn_per_s": 20, "refused_at_ack_per_s": 11, "refused_ratio": 31. / 71,
		"accept_queue_peak": 129, "accept_queue_max": 128, "accept_queue_full_ratio": 0.9, "sufficient_backlog": 256, "refused_clients_total": 25,
		"workers": 2, "workers_run_ratio": 0.02, "workers_wait_ratio": 0, "host_idle_cores": 2})
}

// TestOverflowThresholds: what comes once is no finding, what goes on is one.
func TestOverflowThresholds(t *testing.T) {
	tests := []struct {
		name   string
		conns  float64
		perS   float64
		d      time.Duration // how long
		raised bool
		want   Severity
	}{
		{"none", 100, 0, 20 * time.Second, false, 0},
		{"one at the start", 100, 1, time.Second, false, 0},
		{"two at the start", 100, 2, time.Second, false, 0},
		{"four at the start", 100, 4, time.Second, false, 0},
		{"five at the start of a quiet server", 100, 5, time.Second, true, Crit},
		{"five at the start of a busy server", 9000, 5, time.Second, true, Warn},
		{"a trickle", 9000, 1, 20 * time.Second, true, Warn},
		{"a trickle that ends", 9000, 1, 2 * time.Second, false, 0},
		{"less than 1 %", 9000, 9, 4 * time.Second, true, Warn},
		{"10 a second", 9000, 10, 4 * time.Second, true, Crit},
		{"1 % of the attempts", 300, 4, 4 * time.Second, true, Crit},
	}
	for _, tt := range tests {
		for _, step := range steadily {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				v := s.listens("app", 2, 128)
				s.ticks(1)
				v.does(traffic{conns: tt.conns}.with(queues{atSYN: tt.perS, full: 0.01, peak: 129}))
				s.plays(tt.d)
				v.does(traffic{conns: tt.conns})
				s.plays(10 * time.Second)
				all := s.set.All()
				if len(all) > 0 != tt.raised || tt.raised && (all[0].Severity != tt.want || len(all) != 1 || all[0].State != Cleared) {
					t.Errorf("raised %v, want %v %s", sentences(all), tt.raised, tt.want)
				}
			})
		}
	}
}

// TestOverflowAtLongTicks: a moment is no shorter for being looked at rarely.
func TestOverflowAtLongTicks(t *testing.T) {
	s := newScene(t).every(10 * time.Second)
	v := s.listens("app", 2, 128)
	s.ticks(1)
	v.does(traffic{conns: 10}.with(queues{atSYN: 0.2}))
	got := s.ticks(1)
	v.does(traffic{conns: 10})
	if got = append(got, s.ticks(3)...); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
	v.does(traffic{conns: 10}.with(queues{atSYN: 0.2}))
	f := s.wantChange(s.ticks(2), "accept-queue-overflow", Raised)
	if f.Severity != Warn || !strings.Contains(f.Evidence, ", 0.2 refusals a second at the SYN;") {
		t.Errorf("%s %s", f.Severity, f.Evidence)
	}
}

func TestOverflowPlaces(t *testing.T) {
	tests := []struct {
		q     queues
		abort uint32
		want  string
		not   string
	}{
		{queues{atSYN: 30}, 0, "30 refusals a second at the SYN; a refused SYN costs", "read timeout"},
		{queues{atACK: 30}, 0, "30 refusals a second at the final ACK; at the final ACK the client believes", "costs"},
		{queues{atACK: 30}, 1, "at the final ACK the client gets a reset (tcp_abort_on_overflow)", "believes"},
		{queues{atCookie: 30}, 1, "30 refusals a second at a SYN cookie's ACK; at the final ACK the client believes", "reset"},
		{queues{atSYN: 10, atACK: 20, atCookie: 30}, 0, "60 refusals a second (10 at the SYN, 20 at the final ACK, 30 at a SYN cookie's ACK)", "NaN"},
	}
	for _, tt := range tests {
		s := newScene(t)
		v := s.listens("app", 2, 128).does(traffic{conns: 40}.with(tt.q))
		s.netns[0].AbortOnOverflow = tt.abort
		v.NetNS = 9
		s.ticks(1)
		f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
		wantTexts(t, f)
		if !strings.Contains(f.Evidence, tt.want) || strings.Contains(f.Evidence, tt.not) || strings.Contains(f.Evidence, "of the time") {
			t.Errorf("evidence %q, want %q in it and %q not", f.Evidence, tt.want, tt.not)
		}
	}
}

func TestOverflowClients(t *testing.T) {
	tests := []struct {
		c      sample.RefusedClients
		seen   uint64
		approx bool
		want   string
	}{
		{sample.RefusedClients{}, 0, false, "30 refusals a second at the SYN; a"},
		{sample.RefusedClients{Total: 1, Retries: [4]uint64{0, 0, 0, 1}, Max: 9}, 99, false, "at the SYN, of 1 client so far; a"},
		{sample.RefusedClients{Total: 2, Retries: [4]uint64{1, 1}}, 99, false, ", of 2 clients so far, of whom 1 was refused more than once;"},
		{sample.RefusedClients{Total: 20, Retries: [4]uint64{20}}, 99, false, ", of 20 clients so far; a"},
		{sample.RefusedClients{Total: 3, Retries: [4]uint64{1, 1, 1}}, 99, false, ", of 3 clients so far, of whom 2 were refused more than once;"},
		{sample.RefusedClients{Total: 20, Retries: [4]uint64{20}}, 20, false, ", of at least 20 clients so far; a"},
		{sample.RefusedClients{Total: 12345, Estimated: true, Retries: [4]uint64{0, 500}}, 99, true, "~30 refusals a second at the SYN, of ~12k clients so far, of whom 500 were refused more than once;"},
	}
	for _, tt := range tests {
		s := newScene(t)
		v := s.listens("app", 2, 128).does(traffic{conns: 40}.with(queues{atSYN: 30}))
		v.Queues.Clients, v.Queues.SeenTotal, v.Queues.Approximate = tt.c, tt.seen, tt.approx
		s.ticks(1)
		f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
		wantTexts(t, f)
		if !strings.Contains(f.Evidence, tt.want) {
			t.Errorf("evidence %q, want %q in it", f.Evidence, tt.want)
		}
	}
}

// TestOverflowLimit: the cause names the limit that binds, the remedy what
// raises it.
func TestOverflowLimit(t *testing.T) {
	tests := []struct {
		name             string
		max              uint32
		backlog          int32
		somaxconn        uint32 // 0: not known
		program          string
		cause, remedy    string
		need, wantResult float64 // refused at once, backlog that suffices
	}{
		{"asked for", 128, 128, 4096, "gunicorn", "listen backlog 128 that the application asked for; raising net.core.somaxconn (4096) will not help", "gunicorn --backlog 256", 100, 256},
		{"not seen", 128, -1, 4096, "nginx", "listen backlog 128 that", "listen ... backlog=1024 in nginx.conf", 500, 1024},
		{"asked for all there is", 4096, 4096, 4096, "redis-server", "asked for, and net.core.somaxconn (4096) allows no more", "sysctl -w net.core.somaxconn=8192, then tcp-backlog 8192 in redis.conf", 100, 8192},
		{"both", 128, 128, 128, "node", "allows no more", "sysctl -w net.core.somaxconn=256, then server.listen({port, backlog: 256})", 100, 256},
		{"cut", 128, 700, 128, "java", "the application asked for 700 and net.core.somaxconn cut it to 128", "sysctl -w net.core.somaxconn=512, then restart it", 200, 512},
		{"cut, and asked for too little", 128, 200, 128, "php-fpm8.2", "asked for 200 and net.core.somaxconn cut it to 128", "sysctl -w net.core.somaxconn=512, then listen.backlog = 512", 200, 512},
		{"cut and raised since", 128, 4096, 4096, "app", "cut it to 128 at listen(2); it is 4096 by now", "restart it: somaxconn was raised", 100, 256},
		{"may be Go", 4096, -1, 4096, "app", "the limit 4096 is net.core.somaxconn, which cut the listen backlog, unless the application asked for just that, as Go does;",
			"sysctl -w net.core.somaxconn=8192, then restart it, with listen(fd, 8192) unless it is a Go server", 100, 8192},
		{"is not Go", 4096, -1, 4096, "python3.11", "which cut the listen backlog, unless the application asked for just that;", "sysctl -w net.core.somaxconn=8192, then request_queue_size = 8192 (socketserver)", 100, 8192},
		{"somaxconn lowered since", 128, -1, 64, "uwsgi", "where the limit 128 comes from could not be seen", "sysctl -w net.core.somaxconn=256, then uwsgi --listen 256", 100, 256},
		{"settings not known", 128, 128, 0, "httpd", "raising net.core.somaxconn alone will not help", "ListenBacklog 256, as far as net.core.somaxconn allows", 100, 256},
		{"nothing known", 128, -1, 0, "app", "could not be seen", "listen(fd, 256), as far as", 100, 256},
		{"a flood", 128, 128, 4096, "unicorn", "listen backlog 128", "sysctl -w net.core.somaxconn=65536, then listen ..., backlog: 65536", 9e6, 65536},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			v := s.listens(tt.program, 2, 128).does(traffic{conns: 40}.with(queues{atSYN: tt.need, peak: tt.max + 1, full: 0.1}))
			v.AcceptQueueMax, v.Queues.Backlog, s.netns[0].Somaxconn = tt.max, tt.backlog, tt.somaxconn
			if tt.somaxconn == 0 {
				v.NetNS = 1
			}
			s.ticks(1)
			f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
			wantTexts(t, f)
			if !strings.Contains(f.Cause, tt.cause) || !strings.HasSuffix(f.Cause, "; the queue is full in bursts and has room between them") ||
				!strings.HasPrefix(f.Remedy, tt.remedy) || f.Values["sufficient_backlog"] != tt.wantResult {
				t.Errorf("cause %q, want %q; remedy %q, want %q; %v", f.Cause, tt.cause, f.Remedy, tt.remedy, f.Values)
			}
		})
	}
}

// TestOverflowInAContainer: what each namespace has for itself is set there.
func TestOverflowInAContainer(t *testing.T) {
	s := newScene(t)
	s.listens("gunicorn", 2, 5000).does(traffic{conns: 40}.with(queues{atSYN: 9000}))
	s.netns = append(s.netns, sample.NetNS{Inode: 10, Somaxconn: 128})
	s.ticks(1)
	f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
	if !strings.HasPrefix(f.Remedy, "nsenter -t 1000 -n sysctl -w net.core.somaxconn=16384, then gunicorn --backlog 16384") || !strings.Contains(f.Verify, "(nsenter -t 1000 -n nstat -az") {
		t.Errorf("remedy %q, verify %q", f.Remedy, f.Verify)
	}
}

// TestOverflowByClients: refusals count a client each time, a queue holds it once.
func TestOverflowByClients(t *testing.T) {
	for _, tt := range []struct {
		c    sample.RefusedClients
		seen uint64
		want float64
	}{
		{sample.RefusedClients{Total: 20}, 1 << 40, 256}, // 129 + 20
		{sample.RefusedClients{Total: 20}, 299, 256},     // as many
		{sample.RefusedClients{Total: 20}, 30, 512},      // 129 + 200
		{sample.RefusedClients{Total: 20}, 0, 512},       // 129 + 300
		{sample.RefusedClients{Total: 20, Estimated: true}, 1 << 40, 256},
	} {
		s := newScene(t)
		v := s.listens("app", 2, 128).does(traffic{conns: 40}.with(queues{atSYN: 300}))
		v.Queues.Clients, v.Queues.SeenTotal = tt.c, tt.seen
		s.ticks(1)
		f := s.wantChange(s.ticks(1), "accept-queue-overflow", Raised)
		if f.Values["sufficient_backlog"] != tt.want {
			t.Errorf("%+v: %v, want %v", tt.c, f.Values["sufficient_backlog"], tt.want)
		}
	}
}

// TestOverflowSilent: no refusal, no finding, whatever else there is.
func TestOverflowSilent(t *testing.T) {
	for _, step := range steps {
		s := newScene(t).every(step).idles(0)
		s.listens("nginx", 4, 511).does(traffic{conns: 20000, wakes: 1, queue: 300, looks: 10, run: []float64{1, 1, 1, 1}}.with(queues{peak: 511, full: 0}))
		s.listens("go-app", 2, 4096).does(traffic{conns: 8000, wakes: 0.3, eagains: 1, queue: 40, looks: 5})
		s.listens("burst", 1, 128).does(traffic{conns: 500, wakes: 1, queue: 100, looks: 2}.with(queues{peak: 129, synPeak: 100, full: 0.05}))
		if got := s.plays(20 * time.Second); len(got) > 0 {
			t.Errorf("raised %v", sentences(got))
		}
	}
}

func TestOverflowClears(t *testing.T) {
	s := newScene(t)
	v := s.listens("app", 2, 128).does(overflow)
	s.ticks(4)
	s.wantIDs("accept-queue-overflow")
	v.does(traffic{conns: 40, queue: 3})
	c := s.wantChange(s.plays(6*time.Second), "accept-queue-overflow", Cleared)
	if c.Outcome != "accept queue 3 of 128 now, none refused" {
		t.Errorf("outcome %q", c.Outcome)
	}
}

// TestQueuesNotMeasured: without the signal, or with counters that were reset,
// nothing is raised.
func TestQueuesNotMeasured(t *testing.T) {
	s := newScene(t)
	s.header.Signals[2].Accuracy = sample.Unavailable
	s.listens("app", 2, 128).does(overflow)
	unix := newScene(t)
	unix.serves("app", sample.WaitEpoll, 2).does(overflow).Queues = nil
	if got := unix.ticks(10); len(got) > 0 {
		t.Errorf("unix socket: raised %v", sentences(got))
	}
	if got := s.ticks(10); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
	s = newScene(t)
	v := s.listens("app", 2, 128)
	v.sumQueues = queueTotals{atSYN: 1000, atSynQueue: 1000, cookies: 1000, fullNS: 1e12}
	s.ticks(2)
	v.sumQueues = queueTotals{}
	if got := s.ticks(10); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
}
