// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"
)

func TestSynRefused(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			v := s.listens("nginx", 4, 4096).does(traffic{conns: 400}.with(queues{atSynQueue: 40, synLen: 90, synPeak: 97}))
			s.netns[0].Syncookies, s.netns[0].MaxSynBacklog = 0, 128
			v.Queues.SynQueueMax = 96
			f := s.wantWithin2s("syn-queue-overflow")
			wantTexts(t, f)
			if f.Severity != Crit || !strings.HasPrefix(f.Evidence, "SYN queue 97 of 96, SYN cookies are off: ") || !strings.HasSuffix(f.Evidence, " SYNs refused a second; "+refusedSYN) {
				t.Errorf("evidence %q", f.Evidence)
			}
			if want := "without cookies three quarters of net.ipv4.tcp_max_syn_backlog (128) are the limit, not the listen backlog (4096)"; f.Cause != want {
				t.Errorf("cause %q, want %q", f.Cause, want)
			}
			if !strings.HasPrefix(f.Remedy, "sysctl -w net.ipv4.tcp_syncookies=1 (they are sent only while the queue is full); or without them sysctl -w net.ipv4.tcp_max_syn_backlog=") {
				t.Errorf("remedy %q", f.Remedy)
			}
		})
	}
}

// TestSynLimit: the cause names the limit that binds, the remedy both where both do.
func TestSynLimit(t *testing.T) {
	tests := []struct {
		name          string
		msb, backlog  uint32
		known         bool
		cause, remedy string
	}{
		{"backlog", 4096, 128, true, "the limit is the listen backlog 128, not net.ipv4.tcp_max_syn_backlog (4096)", "; or without them listen ... backlog=256 in nginx.conf"},
		{"both", 128, 128, true, "three quarters of net.ipv4.tcp_max_syn_backlog (128)", "; or without them sysctl -w net.ipv4.tcp_max_syn_backlog=512 and listen ... backlog=256 in nginx.conf"},
		{"unknown", 0, 128, false, "where the limit comes from could not be seen", "; or without them listen ... backlog=256 in nginx.conf, as far as net.core.somaxconn allows"},
		{"neither", 8192, 4096, true, "listen backlog 4096", "while the queue is full)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			v := s.listens("nginx", 4, tt.backlog).does(traffic{conns: 400}.with(queues{atSynQueue: 100}))
			s.netns[0].Syncookies, s.netns[0].MaxSynBacklog = 0, tt.msb
			v.Queues.SynQueueMax = min(tt.backlog, 100)
			if !tt.known {
				v.NetNS = 1
			}
			s.ticks(1)
			f := s.wantChange(s.ticks(1), "syn-queue-overflow", Raised)
			wantTexts(t, f)
			if !strings.Contains(f.Cause, tt.cause) || !strings.HasSuffix(f.Remedy, tt.remedy) || strings.Contains(f.Evidence, "are off") != tt.known {
				t.Errorf("evidence %q, cause %q, want %q; remedy %q, want %q", f.Evidence, f.Cause, tt.cause, f.Remedy, tt.remedy)
			}
		})
	}
}

func TestCookies(t *testing.T) {
	tests := []struct {
		name          string
		do            traffic
		cause, remedy string
		evidence      string
	}{
		{"real clients", traffic{conns: 300}.with(queues{cookies: 100, synPeak: 129}), "more clients come at once than it holds, and they do connect: no attack", "gunicorn --backlog 512",
			"SYN queue 129 of 128: 100 SYN cookies sent a second, nobody is refused"},
		{"flood", traffic{conns: 3}.with(queues{cookies: 100}), "most of these handshakes are never completed (",
			"nothing at the server, cookies protect it; look where they come from (ss -Htn state syn-recv sport = :8080)", "SYN queue 128 of 128: 100 SYN"},
		{"nothing but flood", traffic{}.with(queues{cookies: 100}), "none of these handshakes is completed: a SYN flood", "nothing at the server", "nobody is refused"},
		{"accept queue full", traffic{conns: 40, queue: 129, looks: 10, run: []float64{0, 0}}.with(queues{cookies: 100, synPeak: 129, full: 1}),
			"the accept queue is full as well (129 of 128), and that is the true cause, no attack", "find what they wait for", "100 SYN cookies"},
		{"accept queue full, workers not known", traffic{conns: 40, queue: 129, run: []float64{0.6, 0.6}}.with(queues{cookies: 100, synPeak: 129, full: 1}),
			"the accept queue is full as well (129 of 128)", "gunicorn --backlog 512", "100 SYN cookies"},
	}
	for _, tt := range tests {
		for _, step := range steadily {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				s.listens("gunicorn", 2, 128).does(tt.do)
				s.ticks(1)
				s.plays(2 * time.Second)
				var f *Finding
				for _, g := range s.set.Active() {
					if g.ID == "syn-queue-overflow" {
						f = &g
					}
				}
				if f == nil {
					t.Fatal("no finding")
				}
				wantTexts(t, f)
				if !strings.HasPrefix(f.Cause, "with cookies the limit is the listen backlog 128: raising net.ipv4.tcp_max_syn_backlog (512) will not help; "+tt.cause) ||
					!strings.HasPrefix(f.Remedy, tt.remedy) || step == time.Second && !strings.Contains(f.Evidence, tt.evidence) || f.Severity != Warn {
					t.Errorf("%s evidence %q, cause %q, want %q; remedy %q, want %q", f.Severity, f.Evidence, f.Cause, tt.cause, f.Remedy, tt.remedy)
				}
			})
		}
	}
}

// TestCookiesBesideRefusals: cookies that come of a full accept queue are not
// said beside its refusals.
func TestCookiesBesideRefusals(t *testing.T) {
	s := newScene(t)
	s.listens("gunicorn", 2, 128).does(overflow.with(queues{cookies: 100, atCookie: 30, full: 1}))
	s.ticks(4)
	s.wantIDs("accept-queue-overflow")
}

func TestSynQueueSilent(t *testing.T) {
	tests := []struct {
		name    string
		cookies uint32
		q       queues
	}{
		{"few cookies", 1, queues{cookies: 9}},
		{"cookies always", 2, queues{cookies: 9000, synPeak: 5}},
		{"two SYNs once in a while", 0, queues{atSynQueue: 0.1}},
		{"dropped for another reason", 1, queues{atSynQueue: 9}},
		{"nearly full", 0, queues{synLen: 128, synPeak: 128}},
	}
	for _, tt := range tests {
		for _, step := range steadily {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				s.listens("app", 2, 128).does(traffic{conns: 1000, wakes: 1}.with(tt.q))
				s.netns[0].Syncookies = tt.cookies
				if got := s.plays(20 * time.Second); len(got) > 0 {
					t.Errorf("raised %v", sentences(got))
				}
			})
		}
	}
}

func TestSynQueueClears(t *testing.T) {
	s := newScene(t)
	v := s.listens("app", 2, 128).does(traffic{conns: 300}.with(queues{cookies: 100, synPeak: 129}))
	s.ticks(4)
	s.wantIDs("syn-queue-overflow")
	v.does(traffic{conns: 300}.with(queues{cookies: 2, synLen: 7}))
	c := s.wantChange(s.plays(7*time.Second), "syn-queue-overflow", Cleared)
	if c.Outcome != "SYN queue 7 of 128 now, no SYN refused and 2.0 cookies a second" {
		t.Errorf("outcome %q", c.Outcome)
	}
}
