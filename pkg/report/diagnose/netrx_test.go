// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// hot is a core that NET_RX fills, easy one that has time.
var (
	hot  = core{netrx: 0.8, softirq: 0.82, idle: 0.02, ksoftirqd: 0.3, packets: 90000, squeezed: 40}
	easy = core{netrx: 0.05, softirq: 0.06, idle: 0.85, packets: 5000}
)

func TestImbalanceIsRaisedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s := newScene(t).every(step)
			s.has(easy, hot, easy, easy)
			s.receives("eth0", "virtio_net", 100000, nil)
			f := s.wantWithin2s("netrx-imbalance")
			wantTexts(t, f)
			want := "does 84% of all NET_RX and spends 80% of its time in NET_RX, 2% idle, ksoftirqd 30%, 40 time_squeezes a second, while 2.5 other cores are idle"
			if step == time.Second && f.Evidence != want || f.Subject != "core 1 (eth0)" || f.CPU != 1 || f.Inode != 0 || f.Severity != Warn {
				t.Errorf("finding %+v, want evidence %q", f, want)
			}
			if f.Cause != "eth0 has 1 RX queue, and receive packet steering (RPS) is off" ||
				f.Remedy != "ethtool -L eth0 combined 4, where ethtool -l shows that it has so many; else echo d > /sys/class/net/eth0/queues/rx-0/rps_cpus" {
				t.Errorf("cause %q, remedy %q", f.Cause, f.Remedy)
			}
			if step == time.Second {
				wantValues(t, f, map[string]float64{"netrx_share_ratio": 0.8 / 0.95, "netrx_ratio": 0.8, "others_idle_cores": 2.55, "squeezed_per_s": 40,
					"dropped_per_s": 0, "idle_ratio": 0.02, "ksoftirqd_ratio": 0.3})
			}
		})
	}
}

// TestImbalanceOfAnUnseenDevice: its RPS is seen, its name is not.
func TestImbalanceOfAnUnseenDevice(t *testing.T) {
	for _, step := range steadily {
		for _, tt := range []struct {
			here, elsewhere float64
			want            bool
		}{{200, 0, true}, {200, 20, true}, {200, 100, false}, {9, 0, false}} {
			s := newScene(t).every(step)
			c := s.has(easy, hot)
			c[0].steered, c[1].steered = tt.elsewhere, tt.here
			s.receives("eth0", "virtio_net", 3, nil)
			got := s.plays(3 * time.Second)
			if !tt.want && len(got) > 0 {
				t.Errorf("%+v: raised %v", tt, sentences(got))
			}
			if !tt.want {
				continue
			}
			f := s.wantChange(got, "netrx-imbalance", Raised)
			wantTexts(t, f)
			if f.Subject != "core 1" || !strings.HasPrefix(f.Cause, "receive packet steering (RPS) sends it everything") ||
				f.Remedy != "for q in /sys/class/net/DEVICE/queues/rx-*; do echo 1 > $q/rps_cpus; done (in its network namespace)" {
				t.Errorf("subject %q, cause %q, remedy %q", f.Subject, f.Cause, f.Remedy)
			}
		}
	}
}

// TestImbalanceWithDrops: both are found, of the same core.
func TestImbalanceWithDrops(t *testing.T) {
	s := newScene(t)
	c := hot
	c.dropped = 30
	s.has(c, easy)
	s.receives("eth0", "", 90000, nil).drops = 30
	s.ticks(4)
	for _, f := range s.wantIDs("netdev-backlog-drop", "netrx-imbalance") {
		wantTexts(t, &f)
		if f.CPU != 0 || !strings.Contains(f.Evidence, "30 packets ") {
			t.Errorf("finding %+v", f)
		}
	}
}

// TestImbalanceWithoutHooks: /proc/stat and softnet_stat are enough.
func TestImbalanceWithoutHooks(t *testing.T) {
	s := newScene(t)
	s.has(hot, easy)
	s.blind(true, false, false)
	s.receives("eth0", "", 90000, nil)
	f := s.wantWithin2s("netrx-imbalance")
	wantTexts(t, f)
	if !strings.HasPrefix(f.Evidence, "does 95% of all NET_RX and spends 82% of its time in softirqs, 2% idle") {
		t.Errorf("evidence %q", f.Evidence)
	}
}

func TestImbalanceHealthy(t *testing.T) {
	with := func(c core, set func(c *core)) core { set(&c); return c }
	tests := []struct {
		name string
		set  func(s *scene)
	}{
		{"loopback, 95 % on one core", func(s *scene) { s.has(hot, easy) }},
		{"loopback, which is listed", func(s *scene) { s.has(hot, easy); s.receives("lo", "", 95000, nil) }},
		{"loopback, and a trickle of eth0", func(s *scene) { s.has(hot, easy); s.receives("eth0", "virtio_net", 100, nil) }},
		{"low share of the time", func(s *scene) {
			s.has(core{netrx: 0.2, idle: 0.05, packets: 95000}, core{netrx: 0.01, idle: 0.9})
			s.receives("eth0", "virtio_net", 95000, nil)
		}},
		{"balanced, all busy", func(s *scene) { s.has(hot, hot, hot, hot); s.receives("eth0", "virtio_net", 400000, nil) }},
		{"balanced, all could take more", func(s *scene) {
			c := with(hot, func(c *core) { c.idle = 0.4 })
			s.has(c, c, c, c)
			s.receives("eth0", "virtio_net", 400000, nil)
		}},
		{"no cost", func(s *scene) {
			s.has(core{netrx: 0.6, idle: 0.3, packets: 95000}, easy)
			s.receives("eth0", "virtio_net", 95000, nil)
		}},
		{"the others are busy", func(s *scene) {
			s.has(hot, with(easy, func(c *core) { c.idle = 0.3 }))
			s.receives("eth0", "virtio_net", 95000, nil)
		}},
		{"four cores, less than one idle", func(s *scene) {
			c := with(easy, func(c *core) { c.idle = 0.3 })
			s.has(hot, c, c, c)
			s.receives("eth0", "virtio_net", 95000, nil)
		}},
		{"a single core", func(s *scene) { s.has(hot); s.receives("eth0", "virtio_net", 95000, nil) }},
		{"nothing received", func(s *scene) { s.has(core{idle: 1}, core{idle: 1}); s.receives("eth0", "virtio_net", 0, nil) }},
		{"idle not known", func(s *scene) {
			s.has(hot, easy)
			s.blind(false, true, false)
			s.receives("eth0", "virtio_net", 95000, nil)
		}},
		{"nothing known", func(s *scene) {
			s.has(hot, easy)
			s.blind(true, true, true)
			s.receives("eth0", "virtio_net", 95000, nil)
		}},
		{"no receive path", func(s *scene) { s.has(hot, easy); s.receives("eth0", "virtio_net", 95000, nil); s.netrx = nil }},
	}
	for _, tt := range tests {
		for _, step := range steps {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				tt.set(s)
				if got := s.plays(20 * time.Second); len(got) > 0 {
					t.Errorf("raised %v", sentences(got))
				}
			})
		}
	}
}

// TestImbalanceMustLast: a burst of a second is none.
func TestImbalanceMustLast(t *testing.T) {
	for _, step := range steadily {
		s := newScene(t).every(step)
		c := s.has(easy, easy)
		s.receives("eth0", "", 90000, nil)
		var got []Finding
		for range 6 {
			*c[0] = core{netrx: hot.netrx, softirq: hot.softirq, idle: hot.idle, packets: hot.packets, squeezed: 40, sum: c[0].sum}
			got = append(got, s.plays(time.Second)...)
			*c[0] = core{netrx: easy.netrx, softirq: easy.softirq, idle: easy.idle, packets: easy.packets, sum: c[0].sum}
			got = append(got, s.plays(3*time.Second)...)
		}
		if len(got) > 0 {
			t.Errorf("raised %v", sentences(got))
		}
	}
}

// TestImbalanceWhy: the cause, and what there is to paste.
func TestImbalanceWhy(t *testing.T) {
	irq := func(n int, affinity []int, per ...uint64) sample.IRQ {
		return sample.IRQ{Number: n, Affinity: affinity, PerCPU: per}
	}
	all := []int{0, 1, 2, 3}
	tests := []struct {
		name          string
		set           func(s *scene)
		cause, remedy string
	}{
		{"one queue, virtual", func(s *scene) { s.receives("tun0", "", 90000, nil) },
			"tun0 has 1 RX queue, and receive packet steering (RPS) is off", "echo d > /sys/class/net/tun0/queues/rx-0/rps_cpus"},
		{"RPS to it alone", func(s *scene) { s.receives("eth0", "e1000", 90000, []int{1}) },
			"receive packet steering (RPS) of eth0 sends everything to this core", "echo d > /sys/class/net/eth0/queues/rx-0/rps_cpus"},
		{"RPS, few flows", func(s *scene) { s.receives("eth0", "e1000", 90000, all) },
			"eth0 has 1 RX queue and steers packets (RPS) to 4 cores, yet few flows hash to few of them", "more flows (connections, clients)"},
		{"RPS, two cores", func(s *scene) { s.receives("eth0", "e1000", 90000, []int{1, 2}) },
			"steers packets (RPS) to 2 cores", "echo d > /sys/class/net/eth0/queues/rx-0/rps_cpus"},
		{"all interrupts bound to it", func(s *scene) {
			s.receives("eth0", "ixgbe", 90000, nil, nil).IRQs = []sample.IRQ{irq(24, []int{1}), irq(25, []int{1})}
		}, "all 2 interrupts of eth0 go to this core, and receive packet steering (RPS) is off",
			"echo 0 > /proc/irq/24/smp_affinity_list; echo 1 > /proc/irq/25/smp_affinity_list (irqbalance, where it runs, decides anew); or for q in /sys/class/net/eth0/queues/rx-*; do echo d > $q/rps_cpus; done"},
		{"all interrupts taken by it", func(s *scene) {
			s.receives("eth0", "ixgbe", 90000, nil, nil).IRQs = []sample.IRQ{irq(24, all, 1, 99, 0, 0), irq(25, all, 0, 9, 0, 0), irq(26, all)}
		}, "all 3 interrupts of eth0 go to this core", "echo 0 > /proc/irq/24/smp_affinity_list; echo 1 > "},
		{"interrupts spread", func(s *scene) {
			s.receives("eth0", "ixgbe", 90000, nil, nil).IRQs = []sample.IRQ{irq(24, all, 50, 50, 0, 0), irq(25, []int{1})}
		}, "eth0 has 2 RX queues, yet this core serves most: few flows", "for q in /sys/class/net/eth0/queues/rx-*; do echo d > $q/rps_cpus; done"},
		{"interrupts that never came", func(s *scene) {
			s.receives("eth0", "ixgbe", 90000, nil, nil).IRQs = []sample.IRQ{irq(24, all, 0, 0, 0, 0)}
		}, "eth0 has 2 RX queues, yet", "for q in"},
		{"many interrupts", func(s *scene) {
			d := s.receives("eth0", "ixgbe", 90000, nil, nil)
			for i := range 10 {
				d.IRQs = append(d.IRQs, irq(i, []int{1}))
			}
		}, "all 10 interrupts", "echo 0 > /proc/irq/0/smp_affinity_list; echo 1 > /proc/irq/1/smp_affinity_list; echo 2 > /proc/irq/2/smp_affinity_list; echo 3 > /proc/irq/3/smp_affinity_list; echo 0 >"},
		{"queues not seen", func(s *scene) { s.receives("eth0", "", 90000).NetNS = 7 },
			"how eth0 spreads its packets could not be seen", "for q in /sys/class/net/eth0/queues/rx-*; do echo d > $q/rps_cpus; done"},
		{"in another namespace", func(s *scene) {
			s.receives("veth1", "", 90000, nil).NetNS = 7
			s.receives("eth0", "virtio_net", 3, nil)
		}, "veth1 has 1 RX queue", "echo d > /sys/class/net/veth1/queues/rx-0/rps_cpus (in its network namespace)"},
		{"bridge over a real one", func(s *scene) {
			s.receives("br0", "", 90000, nil)
			s.receives("eth0", "virtio_net", 80000, nil)
		}, "eth0 has 1 RX queue", "ethtool -L eth0 combined 4"},
		{"a name of its own", func(s *scene) { s.receives("$(reboot)\n", "", 90000, nil) }, "$(reboot)? has 1 RX queue", "echo d > /sys/class/net/DEVICE/queues/rx-0/rps_cpus"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.has(easy, hot, easy, easy)
			tt.set(s)
			f := s.wantWithin2s("netrx-imbalance")
			wantTexts(t, f)
			if !strings.HasPrefix(f.Cause, tt.cause) && !strings.Contains(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, tt.remedy) {
				t.Errorf("cause %q, want %q; remedy %q, want %q", f.Cause, tt.cause, f.Remedy, tt.remedy)
			}
		})
	}
}

func TestImbalanceSeverityAndClear(t *testing.T) {
	s := newScene(t)
	c := s.has(easy, hot)
	s.receives("eth0", "", 90000, nil)
	s.ticks(4)
	if f := s.wantIDs("netrx-imbalance")[0]; f.Severity != Warn {
		t.Errorf("severity %s", f.Severity)
	}
	c[1].netrx, c[1].idle = 0.95, 0
	s.ticks(2)
	if f := s.wantIDs("netrx-imbalance")[0]; f.Severity != Crit {
		t.Errorf("severity %s", f.Severity)
	}
	c[1].netrx, c[1].idle = 0.3, 0.7
	f := s.wantChange(s.ticks(4), "netrx-imbalance", Cleared)
	if f.Outcome != "it spends 30% of its time in softirqs now" {
		t.Errorf("outcome %q", f.Outcome)
	}
}

// TestCoreGoesOffline: a finding about it is over.
func TestCoreGoesOffline(t *testing.T) {
	s := newScene(t)
	s.has(easy, hot, easy)
	s.receives("eth0", "", 90000, nil)
	s.ticks(4)
	s.wantIDs("netrx-imbalance")
	s.cores = slices.Delete(s.cores, 1, 2) // the scene numbers them anew: 0 and 1
	s.cores = s.cores[:1]
	f := s.wantChange(s.ticks(1), "netrx-imbalance", Cleared)
	if f.Outcome != "the core is offline" || f.CPU != 1 {
		t.Errorf("finding %+v", f)
	}
}

// TestHostileCores: a recording may number its cores as it likes.
func TestHostileCores(t *testing.T) {
	s := newScene(t)
	s.has(easy, hot, easy)
	s.receives("eth0", "", 90000, nil)
	s.listens("app", 2, 128).Inode = 0
	for range 6 {
		out := s.sample()
		out.CPUs[0].CPU, out.CPUs[2].CPU = -1, 1<<40
		for _, f := range s.set.Update(s.builder.Build(out)) {
			wantTexts(t, &f)
		}
	}
	s.wantIDs("netrx-imbalance")
}

func TestCPUMask(t *testing.T) {
	for _, tt := range []struct {
		cores []int
		want  string
	}{
		{nil, "0"}, {[]int{0}, "1"}, {[]int{1, 2, 3}, "e"}, {[]int{0, 31}, "80000001"}, {[]int{32}, "1,00000000"},
		{[]int{0, 33, 64}, "1,00000002,00000001"}, {[]int{-5, 4, 1 << 40}, "10"},
	} {
		if got := cpuMask(tt.cores); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.cores, got, tt.want)
		}
	}
}
