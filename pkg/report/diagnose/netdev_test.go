// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"
)

func TestBacklogIsRaisedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			s.has(core{idle: 0.9}, core{packets: 9000, dropped: 50, idle: 0.1, netrx: 0.4}, core{idle: 0.9}, core{idle: 0.8})
			s.receives("eth0", "virtio_net", 9000, []int{1}).drops = 50
			f := s.wantWithin2s("netdev-backlog-drop")
			wantTexts(t, f)
			if f.CPU != 1 || f.Inode != 0 || f.Subject != "core 1" || f.Verify == "" {
				t.Errorf("finding %+v", f)
			}
			if !strings.HasSuffix(f.Evidence, " packets a second of eth0 dropped at the CPU backlog, which holds 1000") ||
				!strings.HasPrefix(f.Cause, "it gets them all while 2.6 other cores are idle: packets come faster") ||
				f.Remedy != "spread them: echo d > /sys/class/net/eth0/queues/rx-0/rps_cpus; or for bursts sysctl -w net.core.netdev_max_backlog=2000" {
				t.Errorf("evidence %q, cause %q, remedy %q", f.Evidence, f.Cause, f.Remedy)
			}
		})
	}
}

func TestBacklogThresholds(t *testing.T) {
	tests := []struct {
		name             string
		packets, dropped float64
		d                time.Duration
		want             Severity
	}{
		{"none", 1e6, 0, 9 * time.Second, 0},
		{"nine once", 1000, 9, time.Second, 0},
		{"ten once", 1000, 10, time.Second, Warn},
		{"two a second", 1000, 2, 9 * time.Second, 0},
		{"ten a second", 1000, 10, 9 * time.Second, Warn},
		{"many of very many", 1e6, 200, 9 * time.Second, Warn},
		{"one in a hundred", 9000, 100, 9 * time.Second, Crit},
	}
	for _, tt := range tests {
		for _, step := range steadily {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				c := s.has(core{packets: tt.packets, idle: 0.5}, core{idle: 0.5})
				s.ticks(1)
				c[0].dropped = tt.dropped
				s.plays(tt.d)
				c[0].dropped = 0
				s.plays(6 * time.Second)
				all := s.set.All()
				if len(all) > 0 != (tt.want > 0) || len(all) > 0 && (len(all) != 1 || all[0].Severity != tt.want || all[0].State != Cleared) {
					t.Errorf("raised %v, want %v", sentences(all), tt.want)
				}
			})
		}
	}
}

// TestBacklogWords: who drops, of what, and what may help.
func TestBacklogWords(t *testing.T) {
	const longer = "sysctl -w net.core.netdev_max_backlog=2000"
	const exhausted = "less work for each packet (taps, filters, firewall rules) or more cores, for there is no time left; a longer queue is for bursts only: "
	tests := []struct {
		name                             string
		set                              func(s *scene)
		subject, evidence, cause, remedy string
		cpu                              int
	}{
		{"several cores, no device seen", func(s *scene) {
			s.has(core{dropped: 50, idle: 0.9}, core{dropped: 70, idle: 0.9})
		}, "cores 1, 0", "120 packets a second dropped at the CPU backlog, which holds 1000", "packets come faster", longer, noCPU},
		{"many cores", func(s *scene) {
			s.has(core{dropped: 50}, core{dropped: 70}, core{dropped: 50}, core{dropped: 50}, core{dropped: 50}, core{dropped: 50})
		}, "cores 1, 0, 2, 3 and 2 more", "320 packets", "packets come faster", exhausted + longer, noCPU},
		{"a single core", func(s *scene) {
			s.has(core{dropped: 50})
			s.receives("eth0", "", 1000, nil).drops = 50
		}, "core 0", "50 packets a second of eth0 dropped", "packets come faster", exhausted + longer, 0},
		{"the others are busy", func(s *scene) {
			s.has(core{dropped: 50}, core{idle: 0.3})
			s.receives("eth0", "", 1000, nil).drops = 50
		}, "core 0", "50 packets", "packets come faster", exhausted + longer, 0},
		{"idle is not known", func(s *scene) {
			s.has(core{dropped: 50}, core{})
			s.blind(true, true, false)
			s.receives("eth0", "", 1000, nil).drops = 50
		}, "core 0", "50 packets", "packets come faster", longer, 0},
		{"spread already", func(s *scene) {
			s.has(core{dropped: 50}, core{idle: 0.9})
			s.receives("eth0", "", 1000, []int{0, 1}).drops = 50
		}, "core 0", "50 packets", "it gets them all while 0.9 other cores are idle", longer, 0},
		{"loopback", func(s *scene) {
			s.has(core{dropped: 50}, core{idle: 0.9})
			s.receives("lo", "", 1000, nil).drops = 50
		}, "core 0", "50 packets a second of lo dropped", "it gets", "spread them: echo 2 > /sys/class/net/lo/queues/rx-0/rps_cpus; or for bursts " + longer, 0},
		{"a device with a name of its own", func(s *scene) {
			s.has(core{dropped: 50}, core{idle: 0.9})
			s.receives("a;$(id)\x1b", "", 1000, nil).drops = 50
		}, "core 0", "50 packets a second of a;$(id)? dropped", "it gets", "spread them: echo 2 > /sys/class/net/DEVICE/queues/rx-0/rps_cpus; or", 0},
		{"many devices", func(s *scene) {
			s.has(core{dropped: 50}, core{dropped: 1})
			for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
				s.receives(n, "", 1000).drops = 9
			}
		}, "cores 0, 1", "51 packets a second of a, b, c, d and 2 more dropped", "packets come", exhausted + longer, noCPU},
		{"no limit known", func(s *scene) {
			s.has(core{dropped: 50}, core{})
			s.netrx.MaxBacklog = 0
		}, "core 0", "50 packets a second dropped at the CPU backlog", "packets come", exhausted + "raise net.core.netdev_max_backlog", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			tt.set(s)
			s.ticks(1)
			f := s.wantChange(s.ticks(1), "netdev-backlog-drop", Raised)
			wantTexts(t, f)
			if f.Subject != tt.subject || !strings.HasPrefix(f.Evidence, tt.evidence) || !strings.HasPrefix(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, tt.remedy) || f.CPU != tt.cpu {
				t.Errorf("cpu %d, subject %q, evidence %q, cause %q, remedy %q", f.CPU, f.Subject, f.Evidence, f.Cause, f.Remedy)
			}
		})
	}
}

// TestBacklogMovesWithItsWorst: the core that the finding names is that of the
// worst moment.
func TestBacklogMovesWithItsWorst(t *testing.T) {
	s := newScene(t)
	c := s.has(core{dropped: 50}, core{})
	s.ticks(3)
	c[0].dropped, c[1].dropped = 0, 500
	s.ticks(3)
	if f := s.wantIDs("netdev-backlog-drop")[0]; f.CPU != 1 || f.Subject != "core 1" {
		t.Errorf("finding %+v", f)
	}
	c[1].sum = [8]float64{} // a reset drops nothing, and a tick without the signal clears nothing
	c[1].dropped = 0
	s.ticks(1)
	blind := s.sample()
	blind.CPUs, blind.NetRX = nil, nil
	if got := s.set.Update(s.builder.Build(blind)); len(got) > 0 {
		t.Errorf("changed %v", sentences(got))
	}
	if f := s.wantChange(s.ticks(7), "netdev-backlog-drop", Cleared); f.Outcome != "no packet is dropped at a CPU backlog now" || f.CPU != 1 {
		t.Errorf("finding %+v", f)
	}
}
