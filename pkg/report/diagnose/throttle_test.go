// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// limitedService is a service with 2 cores of quota on 4 cores, and its group.
func limitedService(t testing.TB) (*scene, *group) {
	s := newScene(t)
	s.queuesOf(equal(4, queue{busy: 0.5, shown: 0.5})...)
	root := s.group("/", nil, 0)
	g := s.group("/system.slice/api.service", s.group("/system.slice", root, 0), 2)
	s.runs("gunicorn", g.ID, many(4, th{run: 0.4, wait: 0.5, throttled: 0.4})...)
	return s, g
}

// throttled makes g use so many cores, while it is stopped in a share of its
// periods.
func (g *group) stopped(run, share float64) {
	g.run, g.wait, g.throttledWait, g.throttled = run, 2, 1.8, share
}

func TestThrottleIsNamedWithin2s(t *testing.T) {
	for _, step := range steadily {
		t.Run(step.String(), func(t *testing.T) {
			s, g := limitedService(t)
			g.stopped(1.9, 0.4)
			s.every(step).ticks(1)
			f := s.wantChange(s.plays(2*time.Second), "cfs-throttle", Raised)
			wantTexts(t, f)
			if f.CGroupID != g.ID || f.CPU != noCPU || f.Severity != Warn || f.Subject != "cgroup api.service (gunicorn)" {
				t.Errorf("%+v", f)
			}
			for _, want := range []string{"throttled in ", " periods while it uses 1.9 of 2.0 cores; stopped for up to 30 ms at a time, 4 threads on 2 cores"} {
				if !strings.Contains(f.Evidence, want) {
					t.Errorf("evidence %q does not say %q", f.Evidence, want)
				}
			}
			if want := "its mean use is so near the quota that every burst goes beyond it"; f.Cause != want {
				t.Errorf("cause %q, want %q", f.Cause, want)
			}
		})
	}
}

func TestThrottleEvidence(t *testing.T) {
	s, g := limitedService(t)
	g.stopped(1.5, 0.4)
	s.ticks(2)
	f := s.wantIDs("cfs-throttle")[0]
	wantTexts(t, &f)
	if want := "throttled in 4 of its last 10 periods while it uses 1.5 of 2.0 cores; stopped for up to 30 ms at a time, 4 threads on 2 cores"; f.Evidence != want {
		t.Errorf("evidence\n%q, want\n%q", f.Evidence, want)
	}
	if want := "it works in bursts: the quota is used up early in a period and its threads wait for the next one; the average hides it (75% of its quota)"; f.Cause != want {
		t.Errorf("cause %q, want %q", f.Cause, want)
	}
	if want := "it can use all 4 cores of the host: a quota of that many (echo '400000 100000' > /sys/fs/cgroup/system.slice/api.service/cpu.max" +
		" (cgroup v1: echo 400000 > /sys/fs/cgroup/cpu/system.slice/api.service/cpu.cfs_quota_us); to keep it: systemctl set-property api.service CPUQuota=400%)" +
		" or none; or no more threads at work than the quota has cores: gunicorn --workers 2"; f.Remedy != want {
		t.Errorf("remedy\n%q, want\n%q", f.Remedy, want)
	}
	wantValues(t, &f, map[string]float64{"cfs_throttled_ratio": 0.4, "cpu_quota_cores": 2, "cpu_used_cores": 1.5, "cpu_demand_cores": 4,
		"stopped_ratio": 0.12, "worst_stall_seconds": 0.03, "wait_throttled_threads": 1.8})
}

func TestThrottleSustained(t *testing.T) {
	s, g := limitedService(t)
	g.stopped(1.9, 0.9)
	s.ticks(2)
	if f := s.wantIDs("cfs-throttle")[0]; f.Cause != "it wants more than its quota nearly all the time" {
		t.Errorf("cause %q", f.Cause)
	}
}

// TestThrottleRemedy: the quota that would have sufficed, as whoever manages the
// group sets it.
func TestThrottleRemedy(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		path, variant, want string
	}{
		{"/a", "", "a quota of at most 3.0 cores would have covered 99% of the last 10 periods: echo '300000 100000' > /sys/fs/cgroup/a/cpu.max (cgroup v1: echo 300000 > /sys/fs/cgroup/cpu/a/cpu.cfs_quota_us); or no more"},
		{"/a", "cpu.stat of v2", "periods: echo '300000 100000' > /sys/fs/cgroup/a/cpu.max; or no more"},
		{"/a", "cpu.stat of v1", "periods: echo 300000 > /sys/fs/cgroup/cpu/a/cpu.cfs_quota_us; or no more"},
		{"/docker/" + id, "v2", "; to keep it: docker update --cpus 3.00 0123456789ab; or"},
		{"/system.slice/docker-" + id + ".scope", "v2", "; to keep it: docker update --cpus 3.00 0123456789ab; or"},
		{"/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope", "v2", "; to keep it: limits.cpu: 3000m in the pod's spec; or"},
		{"/kubepods/burstable/pod1/" + id, "v2", "; to keep it: limits.cpu: 3000m in the pod's spec; or"},
		{"/user.slice/a.scope", "v2", "; to keep it: systemctl set-property a.scope CPUQuota=300%; or"},
		{`/system.slice/a\x2db.service`, "v2", `echo '300000 100000' > /sys/fs/cgroup/'system.slice/a\x2db.service'/cpu.max; to keep it: systemctl set-property 'a\x2db.service' CPUQuota=300%; or`},
	}
	for _, tt := range tests {
		s, g := limitedService(t)
		s.header.Signals = append(s.header.Signals, sample.Signal{Name: "throttle", Variant: tt.variant})
		g.Path, g.stallThreads = tt.path, 3
		g.stopped(1.9, 0.4)
		s.ticks(2)
		f := s.wantIDs("cfs-throttle")[0]
		wantTexts(t, &f)
		if !strings.Contains(f.Remedy, tt.want) {
			t.Errorf("%s: remedy %q, want %q", tt.path, f.Remedy, tt.want)
		}
	}
}

// TestHostilePath: whoever may make a cgroup names it, and root pastes the
// command.
func TestHostilePath(t *testing.T) {
	for _, path := range []string{
		"/x'; rm -rf / #/a.service", "/../../etc/cron.d/a.service", "/a/../../b", "/./a", "/a\nb", "/a\x1b[2J", "/$(reboot)", "/a b", "/`id`", "/-o.service", "/a\u202eb", "", "/",
		"/" + strings.Repeat("x", 500),
	} {
		s, g := limitedService(t)
		g.Path = path
		g.stopped(1.9, 0.4)
		s.ticks(2)
		f := s.wantIDs("cfs-throttle")[0]
		wantTexts(t, &f)
		command, _, _ := strings.Cut(f.Remedy[strings.Index(f.Remedy, "echo"):], " (cgroup v1")
		word := strings.TrimSuffix(strings.TrimPrefix(command[strings.Index(command, "> "):], "> /sys/fs/cgroup/"), "cpu.max")
		quoted := strings.HasPrefix(word, "'") && strings.HasSuffix(word, "'/") && strings.Count(word, "'") == 2
		if word != "CGROUP/" && !quoted && !plainPath.MatchString(word) && word != "" || strings.Contains(word, "..") || strings.Contains(f.Remedy, "property -") {
			t.Errorf("path %q: command %q", path, command)
		}
		if len(f.Subject) > 100 {
			t.Errorf("subject %q", f.Subject)
		}
	}
}

func TestCGroupName(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	deep := strings.Repeat("0123456789", 3)
	for _, tt := range []struct{ path, name, want string }{
		{"/", "", "/"},
		{"", "", "/"},
		{"/batch/job", "", "batch/job"},
		{"/system.slice/api.service", "", "api.service"},
		{"/docker/" + id, "", "docker 0123456789ab"},
		{"/docker/" + id, "web-1", "web-1 (docker)"},
		{"/docker/" + id, "a\x1b[2J\nb", "a?[2J?b (docker)"},
		{"/docker/" + id, strings.Repeat("x", 40) + strings.Repeat("y", 40), strings.Repeat("x", 21) + "..." + strings.Repeat("y", 31) + " (docker)"},
		{"/x/" + id + "-1", "", "x/0123456789ab-1"},
		{"/" + deep + "/" + deep + "/a", "", ".../" + deep + "/a"},
		{"/" + strings.Repeat("z", 60), "", ".../" + strings.Repeat("z", 48)},
		{"/a\x1bb", "", "a?b"},
	} {
		g := model.CGroup{CGroup: sample.CGroup{Path: tt.path, Name: tt.name}}
		if got := cgroupName(&g); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.path, tt.name, got, tt.want)
		}
	}
}

// TestThrottleOfContainer: a finding calls a container by its name, and still says
// where its group is.
func TestThrottleOfContainer(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	at := "/sys/fs/cgroup/system.slice/docker-" + id + ".scope/"
	for _, tt := range []struct {
		idle                    float64
		variant, remedy, verify string
	}{
		{1, "v2", "echo '300000 100000' > " + at + "cpu.max; to keep it: docker update --cpus 3.00 0123456789ab; or", at + "cpu.stat"},
		{1, "v1", "docker update --cpus 3.00 0123456789ab; or", strings.Replace(at, "cgroup/", "cgroup/cpu/", 1) + "cpu.stat"},
		{0, "", "no more threads at work than the quota has cores", "its cpu.stat (below /sys/fs/cgroup or /sys/fs/cgroup/cpu: system.slice/docker-" + id + ".scope)"},
	} {
		s, g := limitedService(t)
		if tt.idle == 0 {
			s.queuesOf(queue{busy: 1, shown: 1}, queue{busy: 1, shown: 1}, queue{busy: 1, shown: 1}, queue{busy: 1, shown: 1})
		}
		s.header.Signals = append(s.header.Signals, sample.Signal{Name: "throttle", Variant: tt.variant})
		g.Path, g.Name, g.stallThreads = "/system.slice/docker-"+id+".scope", "web-1", 3
		g.stopped(1.9, 0.4)
		s.ticks(2)
		f := s.wantIDs("cfs-throttle")[0]
		wantTexts(t, &f)
		if f.Subject != "cgroup web-1 (docker: gunicorn)" || !strings.Contains(f.Remedy, tt.remedy) || f.Verify != "nr_throttled in "+tt.verify+" stops rising" {
			t.Errorf("%q: %q; %q", f.Subject, f.Remedy, f.Verify)
		}
	}
}

func TestThrottleSeverity(t *testing.T) {
	tests := []struct {
		share float64
		stall time.Duration
		want  Severity
	}{
		{0.4, 30 * time.Millisecond, Warn}, {0.5, 10 * time.Millisecond, Crit}, {0.4, 80 * time.Millisecond, Crit}, {0.1, 80 * time.Millisecond, Warn},
		{0.05, 80 * time.Millisecond, 0},
	}
	for _, tt := range tests {
		s, g := limitedService(t)
		g.stopped(1.9, tt.share)
		g.stall = tt.stall
		s.ticks(1)
		got := s.ticks(4)
		if (len(got) > 0) != (tt.want > 0) || len(got) > 0 && got[0].Severity != tt.want {
			t.Errorf("%v: %v", tt, sentences(got))
		}
	}
}

// TestThrottleMustCost: a core that ran dry as it went idle stops nobody.
func TestThrottleMustCost(t *testing.T) {
	tests := map[string]struct {
		set  func(s *scene, g *group)
		want string
	}{
		"nobody waited":           {func(_ *scene, g *group) { g.wait, g.throttledWait, g.noEvents = 0.1, 0, true }, ""},
		"short stalls":            {func(_ *scene, g *group) { g.wait, g.throttledWait, g.stall = 0.1, 0.05, 2*time.Millisecond }, ""},
		"many waited":             {func(_ *scene, g *group) { g.noEvents = true }, "cfs-throttle"},
		"a long stall":            {func(_ *scene, g *group) { g.wait, g.throttledWait = 0.1, 0 }, "cfs-throttle"},
		"stalls alone are known":  {func(s *scene, _ *group) { s.noSched = true }, "cfs-throttle"},
		"by cpu.stat alone":       {func(s *scene, g *group) { s.noSched, g.noEvents = true, true }, "cfs-throttle"},
		"by cpu.stat, and little": {func(s *scene, g *group) { s.noSched, g.noEvents, g.stall = true, true, time.Millisecond }, ""},
	}
	for name, tt := range tests {
		s, g := limitedService(t)
		g.stopped(1.9, 0.4)
		tt.set(s, g)
		s.ticks(1)
		got := s.ticks(3)
		if (len(got) > 0) != (tt.want != "") || len(got) > 0 && got[0].ID != tt.want {
			t.Errorf("%s: %v", name, sentences(got))
		}
		for i := range got {
			wantTexts(t, &got[i])
		}
	}
}

// TestThrottleNested: the group that has the quota is named, and who suffers.
func TestThrottleNested(t *testing.T) {
	s := newScene(t)
	s.queuesOf(equal(4, queue{busy: 0.5, shown: 0.5})...)
	root := s.group("/", nil, 0)
	pod := s.group("/pod", root, 2)
	mid := s.group("/pod/mid", pod, 0)
	app := s.group("/pod/mid/app", mid, 0)
	side := s.group("/pod/side", pod, 4) // a quota that never binds
	s.runs("envoy", app.ID, many(4, th{run: 0.4, wait: 0.5, throttled: 0.4})...)
	pod.stopped(1.9, 0.4)
	mid.run, mid.wait, mid.throttledWait = 1.6, 1.7, 1.5
	app.run, app.wait, app.throttledWait = 1.6, 1.7, 1.5
	side.run, side.wait, side.throttledWait = 0.3, 0.3, 0.3
	s.ticks(3)
	f := s.wantIDs("cfs-throttle")[0]
	if f.CGroupID != pod.ID || f.Subject != "cgroup pod (envoy)" || !strings.HasSuffix(f.Cause, "; the quota is this group's, and those that wait are mostly in pod/mid/app below it") {
		t.Errorf("%+v", f)
	}
}

func TestThrottleClears(t *testing.T) {
	s, g := limitedService(t)
	g.stopped(1.9, 0.4)
	s.ticks(4)
	s.wantIDs("cfs-throttle")
	g.stopped(1.9, 0)
	c := s.wantChange(s.plays(22*time.Second), "cfs-throttle", Cleared)
	if c.Outcome != "it is throttled in 0 of its last 20 periods" {
		t.Errorf("outcome %q", c.Outcome)
	}
	g.stopped(1.9, 0.4)
	s.ticks(3)
	s.wantIDs("cfs-throttle")
	g.CFS = nil
	c = s.wantChange(s.ticks(1), "cfs-throttle", Cleared)
	if c.Outcome != "the cgroup is gone, or has no quota now" || len(s.set.Active()) > 0 {
		t.Errorf("outcome %q", c.Outcome)
	}
}

// TestThrottleBegins: while a load begins, its use is below the quota, and that
// is no cause.
func TestThrottleBegins(t *testing.T) {
	for _, part := range []float64{0.1, 0.3, 0.5, 0.58, 0.62, 0.9} {
		for _, step := range steps {
			s, g := limitedService(t)
			s.every(step)
			g.active = 1e-9
			s.ticks(2)
			// For that part of an interval.
			g.run, g.wait, g.throttledWait, g.throttled, g.active = 2*part, 8*part, 8*part, 1, part
			got := s.ticks(1)
			g.run, g.wait, g.throttledWait, g.active = 2, 8, 8, 1
			got = append(got, s.plays(max(step, time.Second))...)
			if len(got) == 0 || got[0].ID != "cfs-throttle" {
				t.Errorf("begins with %v of %s: %v", part, step, sentences(got))
			}
			got = s.plays(10 * time.Second)
			// And ends the same way.
			g.run, g.wait, g.throttledWait, g.active = 2*part, 8*part, 8*part, part
			got = append(got, s.ticks(1)...)
			g.run, g.wait, g.throttledWait, g.active = 0, 0, 0, 1e-9
			got = append(got, s.plays(30*time.Second)...)
			s.wantIDs()
			for _, f := range got {
				if f.ID != "cfs-throttle" || f.State != Cleared && f.Severity != Crit {
					t.Errorf("ends with %v of %s: %v", part, step, sentences([]Finding{f}))
				}
			}
		}
	}
}

func TestBelowQuotaBursts(t *testing.T) {
	for _, step := range steps {
		s, g := limitedService(t)
		s.every(step)
		g.stopped(0.9, 0.3)
		s.ticks(1)
		f := s.wantChange(s.plays(max(2*time.Second, 2*step)), "cfs-throttle-below-quota", Raised)
		wantTexts(t, f)
		if !strings.HasPrefix(f.Cause, "bursts: ") || !strings.Contains(f.Evidence, " while it uses 0.90 of 2.0 cores") || f.CGroupID != g.ID {
			t.Errorf("every %s: %q; %q", step, f.Evidence, f.Cause)
		}
		if got := s.plays(20 * time.Second); len(got) > 0 {
			t.Errorf("every %s: %v", step, sentences(got))
		}
	}
}

// TestBelowQuotaInActivePeriods: bursts with rests between them, in which the
// kernel counts no periods.
func TestBelowQuotaInActivePeriods(t *testing.T) {
	s, g := limitedService(t)
	g.stopped(0.8, 0.6)
	g.active = 0.5 // uses 80 % of the quota of these
	s.ticks(3)
	if f := s.wantIDs("cfs-throttle-below-quota")[0]; !strings.HasPrefix(f.Cause, "bursts: ") {
		t.Errorf("cause %q", f.Cause)
	}
}

// TestBelowQuotaStranded cannot be provoked on a sound kernel: these figures are
// made up, after kernels before 5.4.
func TestBelowQuotaStranded(t *testing.T) {
	tests := []struct{ kernel, cause, remedy string }{
		{"4.18.10-generic", "quota is left over when it is throttled: slices of it stay on cores that need them no more and expire there, as kernels before 5.4 do (fixed by de53fd7aedb1)", "a kernel with de53fd7aedb1 (5.4 and later); or a quota of at most "},
		{"6.18.44", "quota is left over when it is throttled: slices of it stay on cores that need them no more (kernels before 5.4 let them expire there, fixed by de53fd7aedb1; later ones keep up to 1 ms on each)", "smaller slices: sysctl -w kernel.sched_cfs_bandwidth_slice_us=1000; or a quota of at most "},
		{"", "quota is left over", "smaller slices"},
	}
	for _, tt := range tests {
		s, g := limitedService(t)
		s.header.Kernel, s.header.CPUs = tt.kernel, 48
		g.stopped(0.9, 0.8)
		s.ticks(3)
		f := s.wantIDs("cfs-throttle-below-quota")[0]
		wantTexts(t, &f)
		if !strings.HasPrefix(f.Cause, tt.cause) || !strings.HasPrefix(f.Remedy, tt.remedy) {
			t.Errorf("%s: %q; %q", tt.kernel, f.Cause, f.Remedy)
		}
	}
}

// TestOneThrottleFinding at a time, whatever the use does.
func TestOneThrottleFinding(t *testing.T) {
	s, g := limitedService(t)
	for i := range 60 {
		g.stopped([]float64{0.9, 1.9, 1.3, 1.0}[i/3%4], 0.4)
		s.ticks(1)
		if n := len(s.set.Active()); n > 1 {
			t.Fatalf("tick %d: %v", i, sentences(s.set.Active()))
		}
	}
	if n := len(s.set.All()); n > 12 {
		t.Errorf("%d findings", n)
	}
}

// TestThrottleSuperseded: what was below its quota and is no more says so.
func TestThrottleSuperseded(t *testing.T) {
	s, g := limitedService(t)
	g.stopped(0.9, 0.4)
	s.ticks(4)
	s.wantIDs("cfs-throttle-below-quota")
	g.stopped(1.95, 0.9)
	got := s.ticks(2)
	if len(got) != 2 || got[0].ID != "cfs-throttle" || got[1].State != Cleared || got[1].Outcome != "see cfs-throttle" {
		t.Errorf("%v", sentences(got))
	}
	s.wantIDs("cfs-throttle")
}

// TestThrottleLongPeriods of a second: two of them are no statistic.
func TestThrottleLongPeriods(t *testing.T) {
	s, g := limitedService(t)
	g.CFS.PeriodUS, g.CFS.QuotaUS = 1e6, 2e6
	g.stopped(1.9, 1)
	if got := s.ticks(5); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
	s.ticks(5)
	s.wantIDs("cfs-throttle")
}
