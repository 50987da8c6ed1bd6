// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
	"time"
)

// TestFewerWorkers: with the number, and hints only where they may apply.
func TestFewerWorkers(t *testing.T) {
	const anyName = "GOMAXPROCS=3 (Go before 1.25), -XX:ActiveProcessorCount=3 (Java)"
	for _, tt := range []struct {
		programs []string
		want     string
	}{
		{nil, anyName}, {[]string{"herdlab"}, anyName}, {[]string{"nginx"}, "worker_processes 3 in nginx.conf"},
		{[]string{"gunicorn3.11", "envoy"}, "gunicorn --workers 3, " + anyName}, {[]string{"a", "b"}, anyName},
		{[]string{"java"}, "-XX:ActiveProcessorCount=3"}, {[]string{"node"}, "3 workers of node:cluster, UV_THREADPOOL_SIZE=3"}, {[]string{"apache", "python"}, ""},
	} {
		if got := fewerWorkers(tt.programs, 3); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.programs, got, tt.want)
		}
	}
}

// TestSystemctl: set-property only where systemd manages the group.
func TestSystemctl(t *testing.T) {
	k := knob{v2: "cpu.max", v2Value: "1", v1: "cpu/x", v1Value: "1", systemd: "CPUQuota=1%"}
	for path, want := range map[string]string{
		"/a.service":                                                "systemctl set-property a.service CPUQuota=1%",
		"/system.slice/a.service":                                   "systemctl set-property a.service CPUQuota=1%",
		"/system.slice/system-x.slice/a.service":                    "systemctl set-property a.service CPUQuota=1%",
		"/user.slice/user-7.slice/user@7.service":                   "systemctl set-property user@7.service CPUQuota=1%",
		"/user.slice/user-7.slice/user@7.service/app.slice/a.scope": "systemctl --user -M 7@ set-property a.scope CPUQuota=1%",
		"/user@x.service/a.scope":                                   "",
		"/system.slice/a.service/b.service":                         "",
		"/docker/b.service":                                         "",
		"/lxc.payload/system.slice/a.service":                       "",
		"/kubepods.slice/kubepods-pod1.slice":                       "",
		"/system.slice":                                             "systemctl set-property system.slice CPUQuota=1%",
	} {
		if got := k.stay(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestThrottleLevels: of quotas that nest, the least one that stops its group is
// named, and each that is in the way of more.
func TestThrottleLevels(t *testing.T) {
	for _, tt := range []struct {
		pod, app           float64
		podStops, appStops float64
		want               string // in whose name
		says, not          string
	}{
		{2, 1, 0.5, 0.5, "app", ", and of pod (2.0 cores): echo '300000 100000' > /sys/fs/cgroup/pod/cpu.max", ""},
		{2, 2, 0.5, 0.5, "pod", ", and of pod/app (2.0 cores): echo ", ""},
		{2, 4, 0.5, 0, "pod", "", "pod/app (4.0"},
		{8, 1, 0, 0.5, "app", "", "and of pod"},
		{2, 1, 0, 0.5, "app", ", and of pod (2.0 cores)", ""},
	} {
		s := newScene(t)
		s.queuesOf(equal(16, queue{busy: 0.5, shown: 0.5})...)
		pod := s.group("/pod", s.group("/", nil, 0), tt.pod)
		app := s.group("/pod/app", pod, tt.app)
		s.runs("envoy", app.ID, many(4, th{run: 0.3, wait: 0.5, throttled: 0.4})...)
		pod.stopped(0.95*min(tt.app, tt.pod), tt.podStops)
		app.stopped(0.95*min(tt.app, tt.pod), tt.appStops)
		pod.stallThreads, app.stallThreads = 3, 3
		s.ticks(4)
		f := s.wantIDs("cfs-throttle")[0]
		wantTexts(t, &f)
		if !strings.HasPrefix(f.Subject, "cgroup "+map[string]string{"pod": "pod ", "app": "pod/app "}[tt.want]) || !strings.Contains(f.Remedy, tt.says) ||
			tt.not != "" && strings.Contains(f.Remedy, tt.not) {
			t.Errorf("%+v: %q: %q", tt, f.Subject, f.Remedy)
		}
	}
}

// TestThrottleOnAFullHost: what it would get more, others would lose.
func TestThrottleOnAFullHost(t *testing.T) {
	s, g := limitedService(t)
	for _, q := range s.queues {
		q.busy, q.shown = 0.99, 0.99
	}
	g.stopped(1.9, 0.4)
	s.ticks(3)
	f := s.wantIDs("cfs-throttle")[0]
	if want := "no more threads at work than the quota has cores: gunicorn --workers 2; a larger quota would only take from others: the host has no idle cores"; f.Remedy != want {
		t.Errorf("remedy %q, want %q", f.Remedy, want)
	}
}

// TestScraper works for 7 periods every 15 seconds, in 5 of which it is stopped:
// one finding, and no critical one.
func TestScraper(t *testing.T) {
	s, g := limitedService(t)
	s.every(100 * time.Millisecond)
	g.stall = 50 * time.Millisecond
	for range 4 {
		g.run, g.wait, g.throttledWait, g.throttled, g.active = 2, 3, 2.5, 1, 1
		s.ticks(5)
		g.throttled = 0
		s.ticks(2)
		g.run, g.wait, g.throttledWait, g.active = 0, 0, 0, 1e-9
		s.ticks(143)
	}
	all := s.set.All()
	if len(all) != 1 || all[0].Severity != Warn || all[0].State != Raised {
		t.Errorf("%v", sentences(all))
	}
}

// TestThrottleLost: a stall now and then costs next to nothing.
func TestThrottleLost(t *testing.T) {
	s, g := limitedService(t)
	g.run, g.wait, g.throttledWait, g.throttled, g.stall, g.active = 0.1, 0.01, 0.005, 0.2, 6*time.Millisecond, 1
	if got := s.ticks(10); len(got) > 0 {
		t.Errorf("raised %v", sentences(got))
	}
}
