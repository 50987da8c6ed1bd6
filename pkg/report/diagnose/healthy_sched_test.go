// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestHealthySched: full load, and nothing wrong.
func TestHealthySched(t *testing.T) {
	worker := th{run: 0.3, wait: 0.3}
	tests := []struct {
		name string
		set  func(s *scene)
	}{
		{"compile job", func(s *scene) {
			s.queuesOf(equal(4, queue{busy: 0.99, shown: 0.99, waiting: 3, unclaimed: 0.02, switches: 3000, slot: 22})...)
			g := s.group("/user.slice", s.group("/", nil, 0), 0)
			g.run, g.wait = 3.9, 12
			s.runs("cc1", g.ID, many(16, th{run: 0.25, wait: 0.75})...)
		}},
		{"compile job in a container of all cores", func(s *scene) {
			s.queuesOf(equal(4, queue{busy: 0.99, shown: 0.99, waiting: 3, unclaimed: 0.02, switches: 3000})...)
			g := s.group("/docker/x", s.group("/", nil, 0), 4)
			g.run, g.wait, g.throttled, g.throttledWait, g.stall = 3.9, 12, 0.05, 0.1, time.Millisecond
		}},
		{"busy and balanced", func(s *scene) {
			s.queuesOf(equal(8, queue{busy: 0.95, shown: 0.95, waiting: 1.5, unclaimed: 0.05, switches: 9000})...)
			s.runs("nginx", 0, many(8, worker)...)
		}},
		{"bursts on all cores alike", func(s *scene) {
			s.queuesOf(equal(4, queue{busy: 0.5, shown: 0.5, waiting: 3, unclaimed: 0.35, switches: 9000})...)
		}},
		{"a nice'd batch job beside a server", func(s *scene) {
			s.queuesOf(
				queue{busy: 1, shown: 1, waiting: 6, unclaimed: 0, switches: 3000}, queue{busy: 1, shown: 1, waiting: 0.2, switches: 3000},
				queue{busy: 1, shown: 1, waiting: 0.3, switches: 3000}, queue{busy: 1, shown: 1, waiting: 0.1, switches: 3000})
			root := s.group("/", nil, 0)
			web, batch := s.group("/web", root, 0), s.group("/batch", root, 0)
			s.runs("nginx", web.ID, th{cpu: 1, run: 0.9}, th{cpu: 2, run: 0.9}, th{cpu: 3, run: 0.9})
			s.runs("nice", batch.ID, many(7, th{cpu: 0, run: 0.1, wait: 0.8, nice: 19})...)
		}},
		{"a pinned spinner alone on its core", func(s *scene) {
			s.queuesOf(queue{busy: 1, shown: 1, waiting: 5, unclaimed: 0.01, switches: 3000}, queue{busy: 1, shown: 1, waiting: 0.01, switches: 5})
			root := s.group("/", nil, 0)
			web, dpdk := s.group("/web", root, 0), s.group("/dpdk", root, 0)
			s.runs("nginx", web.ID, many(6, th{cpu: 0, run: 0.16, wait: 0.8, allowed: []int{0}})...)
			s.runs("testpmd", dpdk.ID, th{cpu: 1, run: 1, allowed: []int{1}})
		}},
		{"a spinner on an idle host", func(s *scene) {
			s.queuesOf(idleCore, queue{busy: 1, shown: 1}, idleCore)
			s.runs("testpmd", 0, th{cpu: 1, run: 1, allowed: []int{1}})
		}},
		{"quotas sold twice on a quiet host", func(s *scene) {
			s.queuesOf(equal(4, queue{busy: 0.3, shown: 0.3, waiting: 0.1, switches: 2000})...)
			root := s.group("/", nil, 0)
			for _, p := range []string{"/a", "/b", "/c", "/d"} {
				g := s.group(p, root, 2)
				g.run, g.wait, g.throttled, g.stall = 0.3, 0.2, 0.03, 8*time.Millisecond
			}
		}},
		{"quotas sold twice, served well", func(s *scene) {
			s.queuesOf(equal(4, queue{busy: 0.97, shown: 0.97, waiting: 0.2, switches: 2000})...)
			root := s.group("/", nil, 0)
			for _, p := range []string{"/a", "/b", "/c", "/d"} {
				g := s.group(p, root, 2)
				g.run, g.wait = 0.97, 0.2
			}
		}},
		{"a group at its quota, not stopped", func(s *scene) {
			s.queuesOf(equal(4, queue{busy: 0.5, shown: 0.5, switches: 2000})...)
			g := s.group("/a", nil, 1)
			g.run, g.wait = 0.99, 0.05
		}},
	}
	for _, tt := range tests {
		for _, step := range steps {
			t.Run(tt.name+"/"+step.String(), func(t *testing.T) {
				s := newScene(t).every(step)
				tt.set(s)
				s.noise = rand.New(rand.NewPCG(3, 4))
				if got := s.plays(20 * time.Second); len(got) > 0 {
					t.Errorf("raised %v", sentences(got))
				}
			})
		}
	}
}
