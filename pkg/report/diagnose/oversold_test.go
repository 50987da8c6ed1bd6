// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"
)

// oversoldHost is 10 groups of 8 cores on 48: each gets 4.8.
func oversoldHost(t testing.TB) (*scene, []*group) {
	s := newScene(t).idles(0.5)
	s.queuesOf(equal(48, queue{busy: 0.99, shown: 0.99, waiting: 0.6})...)
	root := s.group("/", nil, 0)
	root.run, root.wait = 47.5, 30
	var gs []*group
	for i := range 10 {
		g := s.group("/app-"+string(rune('a'+i)), root, 8)
		g.run, g.wait = 4.75, 2.9
		gs = append(gs, g)
	}
	s.runs("java", gs[3].ID, th{run: 0.9, wait: 0.1})
	gs[3].wait = 3
	return s, gs
}

func TestOversoldIsNamedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s, gs := oversoldHost(t)
			f := s.every(step).wantWithin2s("cpu-oversold")
			wantTexts(t, f)
			if f.CGroupID != gs[3].ID || f.CPU != noCPU || f.Severity != Warn || f.Subject != "host (48 cores), first of all cgroup app-d (java)" {
				t.Errorf("%+v", f)
			}
			if want := "the group gets 59% of its quota (4.8 of 8.0 cores) and is at its ceiling: quotas sold 1.67 times the host's cores, host 99% busy; its threads wait for others 39% of the time"; f.Evidence != want {
				t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
			}
			if want := "10 cgroups that want to run were promised 80 cores in all; a quota is a limit and no reservation, so their weights share out what there is"; f.Cause != want {
				t.Errorf("cause %q, want %q", f.Cause, want)
			}
			if want := "move groups with 32 cores of quota to other hosts, so that quotas sum to at most 48; until then plan with 4.8 cores for this one, its share by weight"; f.Remedy != want {
				t.Errorf("remedy %q, want %q", f.Remedy, want)
			}
			wantValues(t, f, map[string]float64{"cpu_sold_ratio": 80. / 48, "cpu_sold_cores": 80, "host_busy_ratio": 0.99, "cpu_used_cores": 4.75,
				"cpu_quota_cores": 8, "wait_contended_ratio": 3 / 7.75, "steal_ratio": 0})
		})
	}
}

func TestOversoldSteal(t *testing.T) {
	s, _ := oversoldHost(t)
	for _, q := range s.queues {
		q.steal, q.shown = 0.1, 0.89
	}
	s.ticks(3)
	if f := s.wantIDs("cpu-oversold")[0]; !strings.HasSuffix(f.Cause, "; and the hypervisor takes 10% of it") {
		t.Errorf("cause %q", f.Cause)
	}
}

func TestOversoldSeverity(t *testing.T) {
	s, gs := oversoldHost(t)
	gs[3].wait = 5
	s.ticks(3)
	if f := s.wantIDs("cpu-oversold")[0]; f.Severity != Crit {
		t.Errorf("%s at %v", f.Severity, f.Values)
	}
}

// TestNotOversold: each of what it takes is needed.
func TestNotOversold(t *testing.T) {
	all := func(f func(*group)) func(*scene, []*group) {
		return func(_ *scene, gs []*group) {
			for _, g := range gs {
				f(g)
			}
		}
	}
	tests := map[string]func(*scene, []*group){
		"cores are idle": func(s *scene, _ []*group) {
			for _, q := range s.queues {
				q.busy = 0.91
			}
		},
		"quotas fit":            all(func(g *group) { g.CFS.QuotaUS = 480000 }),
		"the quota is reached":  all(func(g *group) { g.run, g.CFS.QuotaUS = 7.9, 800000 }),
		"they do not wait":      all(func(g *group) { g.wait = 1 }),
		"they are throttled":    all(func(g *group) { g.throttledWait, g.wait, g.throttled, g.stall = 0.1, 3, 0.1, 0 }),
		"they wait for a quota": all(func(g *group) { g.throttledWait = 2.5 }),
		"most are idle": func(_ *scene, gs []*group) {
			for _, g := range gs[4:] {
				g.run, g.wait, g.active = 0, 0, 1e-9
			}
		},
		"others fill the host": all(func(g *group) { g.run, g.wait = 2, 2 }),
		"they want little":     all(func(g *group) { g.run, g.wait = 0.5, 2 }),
		"they want far less":   all(func(g *group) { g.run, g.wait = 3.2, 2.5 }),
		"light ones wait": func(_ *scene, gs []*group) {
			for i, g := range gs {
				g.wait = 1
				if i < 4 {
					g.Weight, g.wait = 20, 4
				}
			}
		},
		"waits are not known": func(s *scene, _ []*group) { s.noSched = true },
		"no quota":            all(func(g *group) { g.CFS = nil }),
	}
	for name, change := range tests {
		s, gs := oversoldHost(t)
		change(s, gs)
		if got := s.ticks(9); len(got) > 0 {
			t.Errorf("%s: %v", name, sentences(got))
		}
	}
}

// TestOversoldWorst: who misses most of its quota, not who waits most.
func TestOversoldWorst(t *testing.T) {
	s, gs := oversoldHost(t)
	gs[5].CFS.QuotaUS, gs[5].run, gs[5].wait = 60000, 0.3, 6
	s.ticks(3)
	if f := s.wantIDs("cpu-oversold")[0]; f.CGroupID != gs[3].ID {
		t.Errorf("%q: %q", f.Subject, f.Evidence)
	}
}

// TestOversoldWindow: what is said is of the window, as what is judged.
func TestOversoldWindow(t *testing.T) {
	s, gs := oversoldHost(t)
	s.every(300 * time.Millisecond).ticks(8)
	for _, g := range gs[4:] {
		g.run, g.wait, g.active = 0, 0, 1e-9
	}
	for range 4 {
		s.ticks(1)
		for _, f := range s.set.All() {
			if strings.Contains(f.Remedy, "with -") || strings.Contains(f.Remedy, "with 0") {
				t.Errorf("%q", f.Remedy)
			}
		}
	}
}

func TestOversoldMoment(t *testing.T) {
	s, _ := oversoldHost(t)
	s.every(100 * time.Millisecond)
	for i := range 40 {
		for _, q := range s.queues {
			if q.busy = 0.6; i%4 == 0 { // for 700 ms
				q.busy = 1
			}
		}
		if got := s.ticks(7); len(got) > 0 {
			t.Fatalf("raised %v", sentences(got))
		}
	}
}

func TestOversoldClears(t *testing.T) {
	s, gs := oversoldHost(t)
	s.ticks(4)
	s.wantIDs("cpu-oversold")
	for _, g := range gs {
		g.run, g.wait = 3, 0.3
	}
	for _, q := range s.queues {
		q.busy = 0.63
	}
	c := s.wantChange(s.plays(5*time.Second), "cpu-oversold", Cleared)
	if c.Outcome != "the host is 37% idle now, and quotas sold its cores 1.67 times" {
		t.Errorf("outcome %q", c.Outcome)
	}
}

// TestOversoldByWeight: a share that depends on what is not known is not named.
func TestOversoldByWeight(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(gs []*group)
		want string
	}{
		"a heavy group":   {func(gs []*group) { gs[0].Weight = 1100 }, "plan with 2.4 cores"},
		"unknown weights": {func(gs []*group) { gs[0].Weight = 0 }, ""},
		"nested":          {func(gs []*group) { gs[3].ParentID = gs[4].ID; gs[4].CFS = nil }, ""},
	} {
		s, gs := oversoldHost(t)
		tt.set(gs)
		s.ticks(3)
		f := s.wantIDs("cpu-oversold")[0]
		if tt.want != "" && !strings.Contains(f.Remedy, tt.want) || tt.want == "" && strings.Contains(f.Remedy, "by weight") {
			t.Errorf("%s: remedy %q", name, f.Remedy)
		}
	}
}
