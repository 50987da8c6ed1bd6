// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// claiming is a process that runs so much of a core, of which /proc claims so
// much. A frozen or jumping account cannot be had from a sound kernel: these
// streams are made up after a 4.1 kernel's.
func claiming(t testing.TB, run, claims float64) (*scene, *process) {
	s := newScene(t)
	s.header.Kernel = "4.1.0-17"
	s.queuesOf(equal(4, queue{busy: 0.3, shown: 0.3})...)
	p := s.runs("redis-server", 0, th{run: run})
	p.claims = claims
	return s, p
}

func TestFrozen(t *testing.T) {
	s, p := claiming(t, 0.417, 0)
	s.ticks(1)
	if got := s.ticks(2); len(got) > 0 {
		t.Errorf("raised too early: %v", sentences(got))
	}
	f := s.wantChange(s.ticks(1), "cputime-frozen", Raised)
	wantTexts(t, f)
	if f.PID != p.PID || f.CPU != noCPU || f.Subject != "process 100 (redis-server)" || f.Severity != Warn {
		t.Errorf("%+v", f)
	}
	if want := "/proc/100/stat stood still for 3.0 s while the scheduler ran it for 1.3 s (42% of a core)"; f.Evidence != want {
		t.Errorf("evidence %q, want %q", f.Evidence, want)
	}
	if !strings.HasSuffix(f.Cause, "(kernels before 4.3, fixed by 9d7fb0427648)") || strings.Contains(f.Cause, "newer") {
		t.Errorf("cause %q", f.Cause)
	}
	if want := "do not trust top, ps or pidstat here: the true run time of its live threads in ns is awk '{n += $1} END {printf \"%.0f\\n\", n}' /proc/100/task/*/schedstat; and update the kernel"; f.Remedy != want {
		t.Errorf("remedy %q, want %q", f.Remedy, want)
	}
	wantValues(t, f, map[string]float64{"claimed_seconds": 0, "run_seconds": 1.251, "still_seconds": 3})
	p.claims = 0.417
	c := s.wantChange(s.plays(14*time.Second), "cputime-frozen", Cleared)
	if c.Outcome != "/proc/100/stat moves by what the scheduler runs it now" {
		t.Errorf("outcome %q", c.Outcome)
	}
}

func TestFrozenOnNewerKernel(t *testing.T) {
	s, _ := claiming(t, 0.417, 0)
	s.header.Kernel = "6.18.44\x1b"
	s.ticks(4)
	if f := s.wantIDs("cputime-frozen")[0]; !strings.HasPrefix(f.Cause, "the kernel's account is wrong; this one (6.18.44?) is newer") {
		t.Errorf("cause %q", f.Cause)
	}
}

// TestJump: frozen for a while, and then all at once; 300 % as top shows it.
func TestJump(t *testing.T) {
	s, p := claiming(t, 0.4, 0.4)
	s.ticks(5)
	p.claims = 3
	f := s.wantChange(s.ticks(1), "cputime-frozen", Raised)
	wantTexts(t, f)
	if want := "/proc/100/stat jumped by 3.0 s in 1.0 s, more than its 1 thread can use; the scheduler ran it for 400 ms"; f.Evidence != want {
		t.Errorf("evidence %q, want %q", f.Evidence, want)
	}
}

func TestDrift(t *testing.T) {
	for _, claims := range []float64{0.15, 0.9} {
		s, p := claiming(t, 0.5, claims)
		p.threads = append(p.threads, th{})
		p.sum = append(p.sum, [5]float64{})
		s.ticks(4)
		f := s.wantIDs("cputime-frozen")[0]
		wantTexts(t, &f)
		if !strings.Contains(f.Evidence, "/proc/100/stat grew by ") {
			t.Errorf("evidence %q", f.Evidence)
		}
	}
}

// TestSoundAccounts: the grain of 10 ms, figures that are not read at the same
// instant, and what is not looked up.
func TestSoundAccounts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, step := range steps {
		for _, run := range []float64{0.001, 0.004, 0.03, 0.2, 0.7, 1} {
			s, p := claiming(t, run, run)
			s.every(step)
			for i := range 100 {
				// Up to 12 ms early or late.
				p.claimed = max(p.sum[0][0]+(r.Float64()-0.5)*24e6*run, 0)
				if p.claims = run; i%7 == 0 {
					p.claims = -1
				}
				if got := s.ticks(1); len(got) > 0 {
					t.Fatalf("runs %v every %s: %v", run, step, sentences(got))
				}
			}
		}
	}
}

// TestFrozenUnknown: no claim, too little to tell, something lost.
func TestFrozenUnknown(t *testing.T) {
	for name, change := range map[string]func(s *scene, p *process){
		"not looked up": func(_ *scene, p *process) { p.claims = -1 },
		"hardly ran":    func(_ *scene, p *process) { p.threads[0].run = 0.012 },
		"ran not":       func(_ *scene, p *process) { p.threads[0].run = 0 },
	} {
		s, p := claiming(t, 0.4, 0)
		change(s, p)
		if got := s.ticks(4); len(got) > 0 {
			t.Errorf("%s: %v", name, sentences(got))
		}
	}
	s, _ := claiming(t, 0.4, 0)
	for i := range uint64(9) {
		sample := s.sample()
		sample.Self.RecursionMisses = i
		if got := s.set.Update(s.builder.Build(sample)); len(got) > 0 {
			t.Errorf("something was lost: %v", sentences(got))
		}
	}
}

// TestProcessGone: its finding ends with it, and so does what is kept of it.
func TestProcessGone(t *testing.T) {
	s, _ := claiming(t, 0.4, 0)
	s.ticks(4)
	s.wantIDs("cputime-frozen")
	s.procs = nil
	if got := s.ticks(3); len(got) > 0 {
		t.Errorf("it may come back: %v", sentences(got))
	}
	if c := s.wantChange(s.ticks(1), "cputime-frozen", Cleared); c.Outcome != "the process is gone, or idle" {
		t.Errorf("outcome %q", c.Outcome)
	}
	for on := range s.set.watches {
		if on.kind == aProcess {
			t.Errorf("%+v is left", on)
		}
	}
}

// TestIdleByTurns: a process that is not listed in each tick is the same one, and
// what each look at its claims is off by does not add up.
func TestIdleByTurns(t *testing.T) {
	s, p := claiming(t, 0.4, 0)
	s.ticks(4)
	for range 10 {
		s.procs = nil
		s.ticks(2)
		s.procs = []*process{p}
		s.ticks(1)
	}
	if n := len(s.set.All()); n != 1 {
		t.Errorf("%d findings: %v", n, sentences(s.set.All()))
	}
	s, p = claiming(t, 0.4, 0.4)
	for i := range 40 {
		if p.claims = 0.36; i%3 == 2 { // 40 ms short in each tick, in which it is looked up
			p.claims = -1
		}
		if got := s.ticks(1); len(got) > 0 {
			t.Fatalf("tick %d: %v", i, sentences(got))
		}
	}
}

// dodger is a core that is busy for 60 % of each tick and asleep at its end.
func dodger(t testing.TB) *scene {
	s := newScene(t)
	s.queuesOf(queue{busy: 0.1, shown: 0.1, switches: 500}, queue{busy: 0.62, shown: 0.03, switches: 210})
	s.runs("cheat", 0, th{cpu: 1, run: 0.6})
	s.runs("honest", 0, th{cpu: 0, run: 0.7})
	return s
}

func TestHidden(t *testing.T) {
	for _, step := range steadily {
		s := dodger(t).every(step)
		s.ticks(1)
		f := s.wantChange(s.plays(4*time.Second), "cputime-hidden", Raised)
		wantTexts(t, f)
		if f.Elapsed < 3*time.Second || f.CPU != 1 || f.Subject != "core 1" || f.Severity != Warn {
			t.Errorf("%+v", f)
		}
		if want := "runs threads 62% of the time, and /proc/stat shows it 3% busy: 59% of a core are hidden from top, mpstat and every idle figure; cheat (pid 100) runs there most, 60% of a core"; f.Evidence != want {
			t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
		}
		wantValues(t, f, map[string]float64{"busy_ratio": 0.62, "shown_ratio": 0.03, "hidden_ratio": 0.59, "switches_per_s": 210})
	}
}

func TestHiddenClears(t *testing.T) {
	s := dodger(t)
	s.ticks(5)
	s.wantIDs("cputime-hidden")
	s.queues[1].shown = 0.6
	c := s.wantChange(s.plays(5*time.Second), "cputime-hidden", Cleared)
	if c.Outcome != "it runs threads 62% of the time now, and /proc/stat shows 60%" {
		t.Errorf("outcome %q", c.Outcome)
	}
}

// TestNothingHidden: noise of sampling, steal, and a hypervisor that takes time
// and does not say so.
func TestNothingHidden(t *testing.T) {
	tests := map[string]queue{
		"half busy":                   {busy: 0.5, shown: 0.5, switches: 2000},
		"steal":                       {busy: 0.9, shown: 0.5, steal: 0.4, switches: 2000},
		"ticks are lost, and no word": {busy: 1, shown: 0.6, switches: 2000},
		"ticks are lost, partly busy": {busy: 0.6, shown: 0.42, switches: 2000},
		"a spinner without a tick":    {busy: 1, shown: 0},
		"a long run without a switch": {busy: 0.8, shown: 0.1, switches: 3},
		"interrupts, beside the idle": {busy: 0.1, shown: 0.5, switches: 2000},
		"a little":                    {busy: 0.25, shown: 0.12, switches: 2000},
		"most of it is shown":         {busy: 0.9, shown: 0.62, switches: 2000},
		"nothing but the idle thread": {},
	}
	for name, q := range tests {
		for _, step := range steps {
			s := newScene(t).every(step)
			s.queuesOf(q, q)
			s.noise = rand.New(rand.NewPCG(7, 8))
			if got := s.plays(60 * time.Second); len(got) > 0 {
				t.Errorf("%s every %s: %v", name, step, sentences(got))
			}
		}
	}
}

// TestHiddenUnknown: one of the two figures is missing.
func TestHiddenUnknown(t *testing.T) {
	s := dodger(t)
	s.noSched = true
	if got := s.ticks(9); len(got) > 0 {
		t.Errorf("%v", sentences(got))
	}
	s = dodger(t)
	for range 9 {
		sample := s.sample()
		for i := range sample.CPUs {
			sample.CPUs[i].Times = nil
		}
		if got := s.set.Update(s.builder.Build(sample)); len(got) > 0 {
			t.Errorf("%v", sentences(got))
		}
	}
}
