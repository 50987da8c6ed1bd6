// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// churnOracle is what herdlab churn prints.
type churnOracle struct {
	DurationNS   int64  `json:"duration_ns"`
	Cgroup       string `json:"cgroup"`
	FirstPort    uint16 `json:"first_port"`
	Ports        uint16 `json:"ports"`
	UnixPrefix   string `json:"unix_prefix"`
	RunNS        int64  `json:"run_ns"`
	Threads      int64  `json:"threads"`
	Processes    int64  `json:"processes"`
	Listeners    int64  `json:"listeners"`
	Namespaces   int64  `json:"namespaces"`
	Cgroups      int64  `json:"cgroups"`
	Accepts      int64  `json:"accepts_total"`
	EAGAINs      int64  `json:"accept_eagain_total"`
	Refusals     int64  `json:"refusals_total"`
	SpaceRefused int64  `json:"refusals_in_namespaces"`
	ThrottledNS  int64  `json:"throttled_ns"`
	BacklogDrops int64  `json:"backlog_drops"`
}

// endurance is one herdtrace that records under the churn.
type endurance struct {
	t      *testing.T
	dir    string
	length time.Duration
	trace  *exec.Cmd
	lab    *exec.Cmd
	said   bytes.Buffer // by herdtrace
	watch  watcher
	oracle churnOracle
	rec    *recorded
}

// TestEndurance: whatever comes and goes, herdtrace stays as it is, and counts
// all of it. HERDTRACE_ENDURANCE says for how long (make test-endurance: 1h).
//
// Memory is compared by the least that the second and the last third saw: it does
// not see the peaks of the garbage collector, nor what others did to the machine
// for a while, and what grows without end raises it as surely. What the caches
// take while they fill is in the first third, or in what is allowed.
func TestEndurance(t *testing.T) {
	needRoot(t)
	e := &endurance{t: t, dir: t.TempDir(), length: 30 * time.Second}
	defer e.keep()
	if text := os.Getenv("HERDTRACE_ENDURANCE"); text != "" {
		var err error
		if e.length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("HERDTRACE_ENDURANCE: %v", err)
		}
	}
	e.run()
	e.watch.log(t)
	e.checkFlat()
	e.rec = readRecording(t, e.path("rec.jsonl.gz"))
	e.checkLost()
	e.checkLines()
	e.checkCounts()
	e.checkReplay()
}

// keep leaves the recording of a long run that failed: there will be no other soon.
func (e *endurance) keep() {
	if !e.t.Failed() || e.length < 10*time.Minute {
		return
	}
	kept := filepath.Join(os.TempDir(), fmt.Sprintf("herdtrace-endurance-%d.jsonl.gz", os.Getpid()))
	if err := exec.Command("cp", e.path("rec.jsonl.gz"), kept).Run(); err != nil {
		e.t.Logf("keep the recording: %v", err)
		return
	}
	e.t.Logf("the recording is kept as %s", kept)
}

func (e *endurance) path(name string) string { return filepath.Join(e.dir, name) }

func (e *endurance) there(name string) func() bool {
	return func() bool { _, err := os.Stat(e.path(name)); return err == nil }
}

// run attaches herdtrace while the load waits, lets it go, looks at herdtrace
// until it is over and everything has been forgotten, and stops herdtrace.
func (e *endurance) run() {
	t := e.t
	e.lab = exec.Command(tool(t, "herdlab"), "churn", "--duration", e.length.String(), "--linger", "1h",
		"--port", strconv.Itoa(20000+os.Getpid()%2000*16), "--ready-file", e.path("ready"), "--wait-file", e.path("start"))
	var labErr bytes.Buffer
	e.lab.Stderr = &labErr
	out, err := e.lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.lab.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.lab.Wait()
	defer e.lab.Process.Signal(syscall.SIGINT)
	eventually(t, "the lab is ready: "+labErr.String(), e.there("ready"))
	e.trace = exec.Command(tool(t, "herdtrace"), "-q", unbound, "-o", e.path("rec.jsonl.gz"), "--json="+e.path("out.ndjson"), "--ready-file", e.path("attached"))
	e.trace.Stderr = &e.said
	if err := e.trace.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		e.trace.Process.Signal(syscall.SIGINT)
		e.trace.Wait()
	}
	defer stop()
	eventually(t, "herdtrace is ready: "+e.said.String(), e.there("attached"))
	e.watch.pid = e.trace.Process.Pid
	before := e.watch.take(t)
	if err := os.WriteFile(e.path("start"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- json.NewDecoder(out).Decode(&e.oracle) }()
	every := max(e.length/400, time.Second)
	for over := false; !over; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("herdlab churn said no oracle: %v: %s", err, labErr.String())
			}
			over = true
		case <-time.After(every):
			e.watch.take(t)
		}
	}
	e.awaitForgotten(before)
	stop()
	if code := e.trace.ProcessState.ExitCode(); code != 0 {
		t.Errorf("herdtrace: exit code %d: %s", code, e.said.String())
	}
}

// slowMaps forget by age, which the short form does not wait for: refused clients
// after 130 s, the state of a run queue after a minute. The pairs of who waited
// for whom are kept until their map is three quarters full.
var slowMaps = map[string]bool{"clients": true, "sketches": true, "stall_states": true, "contended": true}

// awaitForgotten polls until nothing is held that was not held before.
func (e *endurance) awaitForgotten(before look) {
	t := e.t
	long := e.length >= 10*time.Minute
	limit := time.Minute
	if long {
		limit = 5 * time.Minute
	}
	var rest []string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Second) {
		w := watcher{pid: e.watch.pid}
		now := w.take(t)
		rest = nil
		if now.fds > before.fds+4 { // a cgroup with a quota has two
			rest = append(rest, diff("fds", now.fds, before.fds))
		}
		for key := range before.held {
			if len(now.held[key]) != len(before.held[key]) {
				rest = append(rest, diff(key+"s", len(now.held[key]), len(before.held[key])))
			}
		}
		for name, m := range now.maps {
			if strings.HasSuffix(name, "(LRU)") || name == "contended" || slowMaps[name] && !long {
				continue
			}
			// Others come and go on this machine, too.
			if was := before.maps[name].entries; m.entries > was+max(16, m.max/64) {
				rest = append(rest, diff(name, m.entries, was))
			}
		}
		if len(rest) == 0 {
			return
		}
	}
	t.Errorf("after the load is over, there still are %s", strings.Join(rest, ", "))
}

// checkFlat: nothing grew from the second third to the last, no map got full.
func (e *endurance) checkFlat() {
	t := e.t
	second, last := e.watch.third(1), e.watch.third(2)
	rss := func(l look) int { return l.rss }
	room := 4096
	if e.length < 10*time.Minute {
		room = 24576 // the closed listeners and the findings that are kept are still getting more
	}
	if was, is := least(second, rss), least(last, rss); is > was+was/10+room {
		t.Errorf("the resident memory grew from %d to %d KiB", was, is)
	}
	for name, of := range map[string]func(look) int{
		"threads": func(l look) int { return l.threads },
		"fds":     func(l look) int { return l.fds },
	} {
		if was, is := median(second, of), median(last, of); is > was+was/10+4 {
			t.Errorf("%s grew from %d to %d", name, was, is)
		}
	}
	for _, l := range e.watch.looks {
		for name, m := range l.maps {
			if !strings.HasSuffix(name, "(LRU)") && m.entries >= m.max {
				t.Errorf("after %v the map %s is full: %d", l.at.Round(time.Second), name, m.entries)
			}
		}
		if n, first := len(l.held["map_id"]), len(e.watch.looks[0].held["map_id"]); n != first {
			t.Errorf("after %v it holds %d maps, at first %d", l.at.Round(time.Second), n, first)
		}
	}
}

// recorded is what the test wants to know of a recording.
type recorded struct {
	samples   int
	last      *sample.Sample
	gap       time.Duration              // the longest between two Samples
	listeners map[uint64]sample.Listener // by inode, as shown last
	netns     map[sample.NetNSID]sample.NetNS
	throttled map[string]uint64 // ns, by path
}

// readRecording reads it to its end, as replay does.
func readRecording(t testing.TB, path string) *recorded {
	t.Helper()
	src, err := sample.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r := &recorded{listeners: make(map[uint64]sample.Listener), netns: make(map[sample.NetNSID]sample.NetNS), throttled: make(map[string]uint64)}
	for {
		s, err := src.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.last != nil {
			r.gap = max(r.gap, time.Duration(s.MonoNS-r.last.MonoNS))
		}
		r.samples, r.last = r.samples+1, s
		if s.Accept != nil {
			for _, l := range s.Accept.Listeners {
				r.listeners[l.Inode] = l
			}
		}
		if s.Listen != nil {
			for _, ns := range s.Listen.NetNS {
				r.netns[ns.ID()] = ns
			}
		}
		for _, ev := range s.Events {
			if ev.Kind == sample.EventThrottle {
				r.throttled[ev.CGroup] += ev.ThrottledNS
			}
		}
	}
	if src.Truncated() || r.last == nil {
		t.Fatalf("the recording of %d samples is cut off", r.samples)
	}
	return r
}

// checkLost: nothing was lost but what a preemptible kernel skips.
func (e *endurance) checkLost() {
	self := &e.rec.last.Self
	if len(self.Lost) > 0 {
		e.t.Errorf("lost: %v", self.Lost)
	}
	if self.RecursionMisses > 0 {
		e.t.Logf("recursion misses: %v", self.RecursionMissesBy)
	}
}

// checkLines: a line of the recording does not grow with what is over.
func (e *endurance) checkLines() {
	t := e.t
	f, err := os.Open(e.path("rec.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []look
	for line := range bytes.Lines(text) {
		sizes = append(sizes, look{rss: len(line)})
	}
	n := len(sizes)
	size := func(l look) int { return l.rss }
	second, last := median(sizes[n/3:2*n/3], size), median(sizes[2*n/3:], size)
	t.Logf("%d lines, %d bytes in all; a tick has %d bytes in the second third, %d in the last", n, len(text), second, last)
	// 256 closed listeners, each with its workers, are shown at most.
	if e.length >= 10*time.Minute && last > second+second/10 || last > 1<<20 {
		t.Errorf("a tick grew from %d to %d bytes", second, last)
	}
}

// checkCounts compares what herdtrace summed with what the lab counted.
func (e *endurance) checkCounts() {
	t, o := e.t, &e.oracle
	t.Logf("in %v: %d threads, %d processes, %d listeners, %d namespaces, %d cgroups; %d accepts, %d EAGAINs, %d refusals (%d in the namespaces), %d backlog drops",
		time.Duration(o.DurationNS).Round(time.Second), o.Threads, o.Processes, o.Listeners, o.Namespaces, o.Cgroups, o.Accepts, o.EAGAINs, o.Refusals, o.SpaceRefused, o.BacklogDrops)
	var sum sample.Counters
	var refusals uint64
	sockets := int64(0)
	ours := make(map[sample.NetNSID]uint64)
	for _, l := range e.rec.listeners {
		if (l.Port < o.FirstPort || l.Port >= o.FirstPort+o.Ports) && !strings.HasPrefix(l.Addr, o.UnixPrefix) {
			continue
		}
		sockets++
		sum.Add(l.Counters)
		if l.Queues != nil {
			refusals += l.Queues.Refusals.Total()
			ours[sample.NetNSID{Inode: l.NetNS, Cookie: l.NetNSCookie}] += l.Queues.Refusals.Total()
		}
	}
	for id, n := range ours {
		ns := e.rec.netns[id]
		refusals += ns.Unattributed.Total() // several listeners may have been the one
		if ns.TCPExt == nil || ns.TCPExt.ListenDrops != n+ns.Unattributed.Total() {
			t.Logf("netns %v: %d refusals, %d of no listener, TcpExt as read last %+v", id, n, ns.Unattributed.Total(), ns.TCPExt)
		}
	}
	if sockets != o.Listeners {
		t.Errorf("%d listeners, the lab made %d", sockets, o.Listeners)
	}
	if int64(sum.AcceptsTotal) != o.Accepts || int64(sum.AcceptEAGAINTotal) != o.EAGAINs {
		t.Errorf("%d accepts and %d EAGAINs, the servers counted %d and %d", sum.AcceptsTotal, sum.AcceptEAGAINTotal, o.Accepts, o.EAGAINs)
		for _, l := range e.rec.listeners {
			if l.AcceptsTotal != l.CompletionsTotal {
				t.Logf("inode %d, %s %s:%d: %d accepts, %d EAGAINs, %d completions, %d and %d workers", l.Inode, l.Proto, l.Addr, l.Port,
					l.AcceptsTotal, l.AcceptEAGAINTotal, l.CompletionsTotal, len(l.Workers), l.GoneWorkers)
			}
		}
	}
	// What a namespace refused is promised where a tick came between that and its
	// end; of what came last there, what was seen. It is a few in a hundred.
	slow := e.rec.gap >= 2500*time.Millisecond
	if missing := o.Refusals - int64(refusals); missing < 0 || missing > o.SpaceRefused || 20*missing > o.SpaceRefused && !slow {
		t.Errorf("%d refusals, TcpExt has %d, of them %d in short-lived namespaces (%v from tick to tick at most)", refusals, o.Refusals, o.SpaceRefused, e.rec.gap)
	}
	e.checkThrottled()
	for _, g := range e.rec.last.CGroups {
		if g.Path != o.Cgroup {
			continue
		}
		t.Logf("run time: %.6f s, by rusage %.6f s", float64(g.RunNS)/1e9, float64(o.RunNS)/1e9)
		// A cgroup that came and went from one tick to the next has no parent that
		// is known, and the time of a thread's very end is in no rusage.
		most := 0.01
		if slow {
			most = 0.05
		}
		if math.Abs(float64(g.RunNS)-float64(o.RunNS)) > most*float64(o.RunNS) {
			t.Errorf("the load ran for %d ns, by rusage for %d", g.RunNS, o.RunNS)
		}
		return
	}
	t.Errorf("the last Sample does not have the cgroup %s", o.Cgroup)
}

// checkThrottled: no stop is told twice. One after which no thread ran in the
// cgroup, as it was moved, is not told; nor has one a path whose cgroup no tick saw.
func (e *endurance) checkThrottled() {
	var told uint64
	for path, ns := range e.rec.throttled {
		if strings.HasPrefix(path, e.oracle.Cgroup+"/") {
			told += ns
		}
	}
	e.t.Logf("throttled: the events have %.3f s (and %.3f s of cgroups without a name), cpu.stat had %.3f s before its cgroups were removed",
		float64(told)/1e9, float64(e.rec.throttled[""])/1e9, float64(e.oracle.ThrottledNS)/1e9)
	// The stop in which a cgroup is removed may have ended after that look.
	if most := e.oracle.ThrottledNS + e.oracle.Cgroups*int64(100*time.Millisecond); int64(told) > most {
		e.t.Errorf("the events have %d ns of throttled time, cpu.stat %d", told, e.oracle.ThrottledNS)
	}
}

// checkReplay: the recording says what was said live.
func (e *endurance) checkReplay() {
	t := e.t
	again := e.path("again.ndjson")
	if out, err := exec.Command(tool(t, "herdtrace"), "replay", "-q", "--json="+again, e.path("rec.jsonl.gz")).CombinedOutput(); err != nil {
		t.Fatalf("herdtrace replay: %v: %s", err, out)
	}
	live, replayed := lastLine(t, e.path("out.ndjson")), lastLine(t, again)
	if !bytes.Contains(live, []byte(`"type":"summary"`)) || !bytes.Equal(live, replayed) {
		at := 0
		for at < min(len(live), len(replayed)) && live[at] == replayed[at] {
			at++
		}
		around := func(b []byte) []byte { return b[max(at-300, 0):min(at+100, len(b))] }
		t.Errorf("the summary of the replay is not the one that was shown: %q, live %q", around(replayed), around(live))
	}
}

func lastLine(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.TrimRight(b, "\n")
	return b[bytes.LastIndexByte(b, '\n')+1:]
}
