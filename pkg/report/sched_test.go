// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestSecondsKeepNanoseconds: who rounds a time in seconds to ns has the
// kernel's number, also after a way through JSON.
func TestSecondsKeepNanoseconds(t *testing.T) {
	check := func(ns uint64) {
		b, err := json.Marshal(seconds(ns))
		if err != nil {
			t.Fatal(err)
		}
		var v float64
		if err := json.Unmarshal(b, &v); err != nil || uint64(math.Round(v*1e9)) != ns {
			t.Fatalf("%d ns became %s s, error %v", ns, b, err)
		}
	}
	for _, ns := range []uint64{0, 1, 999_999_999, 1e9, 1e15 - 1, 1e15, 1<<51 - 1, 1 << 51} {
		check(ns)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		check(r.Uint64N(1e15))
		check(1<<51 - r.Uint64N(1e12))
	}
}

// queueCore is a core's run queue: busy, mean of those that wait, share of
// the time in which one does so beside an idle core.
func queueCore(number int, busy, waiting, unclaimed float64, peak uint32) model.CPU {
	c := model.CPU{Runq: &model.Runq{Runq: &sample.Runq{Peak: peak}, BusyRatio: busy, Waiting: waiting, UnclaimedRatio: unclaimed, WaitP99NS: 1 << 20}}
	c.CPU.CPU = number
	return c
}

func quota(path string, throttled uint64, ratio float64) *model.CGroup {
	return &model.CGroup{CGroup: sample.CGroup{ID: uint64(len(path)), Path: path, CFS: &sample.Bandwidth{QuotaUS: 200_000, PeriodUS: 100_000, Throttled: throttled}},
		ThrottledPeriods: throttled, ThrottledRatio: ratio}
}

func TestSchedTick(t *testing.T) {
	nan := model.Unknown()
	tests := []struct {
		name, want string
		cpus       []model.CPU
		groups     []*model.CGroup
		sold       float64
	}{
		{"idle", "", []model.CPU{queueCore(0, 0.1, 0, 0, 2)}, nil, 0},
		{"busy and balanced", "", []model.CPU{queueCore(0, 1, 1.2, 0.03, 9), queueCore(1, 1, 1.1, 0.02, 7)}, []*model.CGroup{quota("/a", 0, 0)}, 0.5},
		{"one waits beside an idle core", "", []model.CPU{queueCore(0, 0.3, 0.3, 0.3, 2), queueCore(1, 0, 0, 0, 1)}, nil, 0},
		{"piled", " runq=11(cpu3)", []model.CPU{queueCore(1, 1, 1.5, 0, 20), queueCore(3, 1, 8.2, 0.98, 11), queueCore(4, 0, 0, 0, 1)}, nil, 0},
		{"piled is worse than long", " runq=3(cpu3)", []model.CPU{queueCore(1, 1, 9, 0, 20), queueCore(3, 1, 1.5, 0.98, 3)}, nil, 0},
		{"long everywhere", " runq=17(cpu1)", []model.CPU{queueCore(0, 1, 14, 0, 16), queueCore(1, 1, 15, 0, 17)}, nil, 0},
		{"unknown", "", []model.CPU{queueCore(0, nan, nan, nan, 9), {}}, []*model.CGroup{{}}, nan},
		{"throttled", " thr=2(api.service 41%)", nil, []*model.CGroup{quota("/b", 2, 0.1), quota("/system.slice/api.service", 4, 0.41), quota("/c", 0, 0), {}}, 0},
		{"throttled, its share not known", " thr=1(a -)", nil, []*model.CGroup{quota("/a", 2, nan)}, 0},
		{"long and hostile", " thr=1(?[2Jcri-...9abcdef.scope 7%)", nil,
			[]*model.CGroup{quota("/k/\x1b[2Jcri-containerd-0123456789abcdef0123456789abcdef.scope", 1, 0.07), quota("/x", 1, nan)}[:1], 0},
		{"oversold", " sold=1.67x", []model.CPU{queueCore(0, 0.97, 1, 0, 3), queueCore(1, 0.99, 1, 0, 3)}, nil, 1.667},
		{"oversold, but with room", "", []model.CPU{queueCore(0, 0.97, 1, 0, 3), queueCore(1, 0.2, 0, 0, 3)}, nil, 1.667},
	}
	for _, tt := range tests {
		f := &model.Frame{Header: &sample.Header{}, CPUs: tt.cpus, CGroups: tt.groups, HostIdle: nan, Sold: model.Sold{Ratio: tt.sold}}
		if got := schedTick(f); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestHostBusy(t *testing.T) {
	for want, f := range map[float64]*model.Frame{
		0.75: {CPUs: []model.CPU{queueCore(0, 1, 0, 0, 1), {BusyRatio: 0.5}}},
		0.5:  {Header: &sample.Header{CPUs: 4}, HostIdle: 2},
	} {
		if got := HostBusy(f); got != want {
			t.Errorf("busy %v, want %v", got, want)
		}
	}
	if got := HostBusy(&model.Frame{HostIdle: 2}); model.Known(got) {
		t.Errorf("busy %v", got)
	}
}

// TestSchedSummary: the lines at the end, of what is not healthy.
func TestSchedSummary(t *testing.T) {
	ms := uint64(time.Millisecond)
	api := quota("/system.slice/api.service", 246, 0)
	api.CFS.Periods, api.CFS.ThrottledNS = 600, 18_600*ms
	api.RunTimes = sample.RunTimes{WaitNS: 200_000 * ms, ThrottledNS: 190_000 * ms, MaskNS: 2000 * ms}
	small := quota("/\x1b[2J", 1, 0)
	small.CFS.QuotaUS, small.CFS.Periods, small.CFS.ThrottledNS, small.WorstStallNS = 5000, 9, 2*ms, 4*ms
	small.CFS.PeriodUS = 0
	piled := queueCore(3, 0, 0, 0, 4)
	piled.Runq.Runq = &sample.Runq{UnclaimedNS: 14_200 * ms, WaitNS: 620_000 * ms, ThrottledNS: 500_000 * ms, Peak: 4, Wait: append(make([]uint64, 25), 100)}
	even := queueCore(1, 0, 0, 0, 1)
	even.Runq.Runq = &sample.Runq{UnclaimedNS: 700 * ms, WaitNS: 300_000 * ms}
	busy := queueCore(2, 0, 0, 0, 9) // one of many: some other is idle now and then
	busy.Runq.Runq = &sample.Runq{UnclaimedNS: 40_000 * ms, WaitNS: 50_000 * ms}
	stopped := queueCore(4, 0, 0, 0, 9) // its threads wait for their quota
	stopped.Runq.Runq = &sample.Runq{UnclaimedNS: 40_000 * ms, WaitNS: 400_000 * ms, ThrottledNS: 390_000 * ms}
	process := func(comm, program string, pid uint32, run, claims uint64) model.Process {
		claimed := claims * ms
		return model.Process{Process: sample.Process{PID: pid, Comm: comm, Program: program, RunTimes: sample.RunTimes{RunNS: run * ms}, ClaimedNS: &claimed}}
	}
	unasked := process("x", "", 5, 1000, 0)
	unasked.ClaimedNS = nil
	w := Worst{RunqPeak: map[int]uint32{3: 11}, StallNS: map[uint64]uint64{api.ID: 62 * ms}}
	sold := w
	sold.Oversold, sold.SoldBusy = model.Sold{Cores: 3.34, Ratio: 1.67}, 0.98
	tests := []struct {
		name, want string
		f          model.Frame
		w          *Worst
	}{
		{"healthy", "", model.Frame{CPUs: []model.CPU{even, busy, stopped, {}}, CGroups: []*model.CGroup{{}, quota("/x", 0, 0)}}, &w},
		{"throttled", "  api.service (quota 2.0 cores): throttled in 246 of 600 periods, worst stall 62 ms, stopped 18.6 s in all over its cores\n" +
			"    its threads waited 200.0 s: 95% throttled, 4% contended, 1% mask, 0% stolen\n" +
			"  /?[2J (quota ?): throttled in 1 of 9 periods, worst stall 4.0 ms, stopped 2.0 ms in all over its cores\n",
			model.Frame{CGroups: []*model.CGroup{small, api}}, &w},
		{"oversold", "  quotas sold the host's 2 cores 1.67 times (3.3 cores) while it was 98% busy\n", model.Frame{}, &sold},
		{"piled", "  cpu3: threads waited for it 14.2 s while another core was idle, at most 11 runnable, wait p99 < 67 ms\n",
			model.Frame{CPUs: []model.CPU{even, piled}}, &w},
		{"lies", "  a?b (pid 2): /proc/2/stat claims 9.0 s of CPU time, the scheduler ran it for 1.0 s\n" +
			"  prog (pid 1): /proc/1/stat claims 0 s of CPU time, the scheduler ran it for 1.2 s\n",
			model.Frame{Sched: &model.Sched{Processes: []model.Process{process("x", "prog", 1, 1200, 0), process("a\x1bb", "", 2, 1000, 9000),
				process("close", "", 3, 1000, 910), process("small", "", 4, 90, 0), unasked}}}, &w},
	}
	for _, tt := range tests {
		tt.f.Header, tt.f.Elapsed = &sample.Header{CPUs: 2}, time.Minute
		var out bytes.Buffer
		if tt.f.Sched == nil {
			tt.f.Sched = &model.Sched{}
		}
		if err := (&Line{w: &out}).sched(&tt.f, tt.w); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v\n%swant\n%s", tt.name, err, out.String(), tt.want)
		}
	}
}

// TestSchedSummaryIsBounded, and says what it leaves out.
func TestSchedSummaryIsBounded(t *testing.T) {
	f := &model.Frame{Header: &sample.Header{}, Sched: &model.Sched{}, Elapsed: time.Second}
	for i := range 10 {
		f.CGroups = append(f.CGroups, quota(fmt.Sprintf("/many/%d", i), 1, 0))
		f.CPUs = append(f.CPUs, queueCore(i, 0, 0, 0, 4))
		f.CPUs[i].Runq.UnclaimedNS, f.CPUs[i].Runq.Runq.WaitNS = 5e8, 2e9
		claimed := uint64(1e9)
		f.Sched.Processes = append(f.Sched.Processes, model.Process{Process: sample.Process{PID: uint32(i), ClaimedNS: &claimed}})
	}
	var out bytes.Buffer
	if err := (&Line{w: &out}).sched(f, &Worst{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  and 2 more cgroups throttled\n", "\n  and at 6 more cores\n", "\n  and that of 6 others\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestSpan(t *testing.T) {
	for ns, want := range map[uint64]string{0: "0 s", 20_400: "20 us", 4e6: "4.0 ms", 62e6: "62 ms", 999.6e6: "1.0 s", 18.6e9: "18.6 s"} {
		if got := span(ns); got != want {
			t.Errorf("span(%d) = %s, want %s", ns, got, want)
		}
	}
}

var someSwitches = sample.Switches{Voluntary: 1, Involuntary: 2, Wakes: 3, Migrations: 4}

// schedFrame is a host of n processes and n cgroups.
func schedFrame(n int) *model.Frame {
	f := &model.Frame{Header: &sample.Header{}, Sample: &sample.Sample{}, Interval: time.Second, Elapsed: time.Second,
		CPUs: []model.CPU{queueCore(0, 1, 0, 0, 3)}, Sold: model.Sold{Cores: 3, Ratio: 1.5}}
	s := &sample.Sched{}
	f.Sched = &model.Sched{Sched: s}
	for i := range n {
		run := sample.RunTimes{RunNS: uint64(i), WaitNS: 1000, ThrottledNS: 600, MaskNS: 250, StolenNS: 50}
		p := model.Process{Process: sample.Process{PID: uint32(i + 1), Comm: "c", RunTimes: run}}
		for k := range 20 {
			p.Top = append(p.Top, model.Thread{Thread: sample.Thread{TID: uint32(k), Allowed: []int{0}, RunTimes: run, Switches: someSwitches}})
		}
		f.Sched.Processes = append(f.Sched.Processes, p)
		f.CGroups = append(f.CGroups, &model.CGroup{CGroup: sample.CGroup{ID: uint64(i + 1), Path: "/g", RunTimes: run, Switches: someSwitches}, Demand: model.Unknown()})
	}
	for i := range min(n, 1) * (sample.MaxRivals + 1) {
		f.CGroups[0].ContendedBy = append(f.CGroups[0].ContendedBy, sample.Rival{PID: uint32(i), Comm: "r", WaitNS: 1e9})
	}
	for i := range 12 {
		s.Contended = append(s.Contended, sample.Contention{PID: 1, Holder: uint32(i), HolderComm: "h", WaitNS: uint64(i)})
	}
	return f
}

// TestSchedRecordsAreBounded in an interval; a summary has them all, by their totals.
func TestSchedRecordsAreBounded(t *testing.T) {
	f := schedFrame(100)
	now, total := processRecords(f, false), processRecords(f, true)
	if len(now) != 64 || len(total) != 100 || len(now[0].TopThreads) != 16 || len(total[0].TopThreads) != 20 {
		t.Errorf("%d processes, in the summary %d", len(now), len(total))
	}
	if now[0].PID != 1 || total[0].PID != 100 || f.Sched.Processes[0].PID != 1 {
		t.Errorf("first %d, in the summary %d", now[0].PID, total[0].PID)
	}
	if by := now[0].ContendedBy; len(by) != 8 || by[0].PID != 11 || len(total[99].ContendedBy) != 12 || now[1].ContendedBy != nil {
		t.Errorf("contended by %+v", by)
	}
	groups, all := cgroupRecords(f, false), cgroupRecords(f, true)
	if len(groups) != 64 || len(all) != 100 || groups[0].CGroupID != 1 || all[0].CGroupID != 100 {
		t.Errorf("%d cgroups, in the summary %d", len(groups), len(all))
	}
	if by := groups[0].ContendedBy; len(by) != sample.MaxRivals || by[1] != (jsonContender{1, "r", 1}) || groups[1].ContendedBy != nil {
		t.Errorf("a cgroup's: %+v", by)
	}
	for _, s := range []*jsonSwitches{groups[1].jsonSwitches, &now[0].TopThreads[0].jsonSwitches} {
		if s == nil || (sample.Switches{Voluntary: s.Voluntary, Involuntary: s.Involuntary, Wakes: s.Wakes, Migrations: *s.Migrations}) != someSwitches {
			t.Errorf("switches %+v", s)
		}
	}
	for _, w := range []*jsonWaits{now[0].jsonWaits, groups[0].jsonWaits, now[0].TopThreads[0].jsonWaits} {
		if w.Wait != 1e-6 || *w.Throttled != 600e-9 || *w.Contended != 100e-9 || *w.Mask != 250e-9 || *w.Stolen != 50e-9 {
			t.Errorf("waits %+v", w)
		}
	}
}

// TestWaitPartsNeverExceedTheWhole, though they are not read at one instant.
func TestWaitPartsNeverExceedTheWhole(t *testing.T) {
	for _, tt := range []struct {
		t    sample.RunTimes
		want WaitParts
	}{
		{sample.RunTimes{WaitNS: 100, ThrottledNS: 60, MaskNS: 20, StolenNS: 5}, WaitParts{60, 15, 20, 5}},
		{sample.RunTimes{WaitNS: 100, ThrottledNS: 90, MaskNS: 20, StolenNS: 5}, WaitParts{90, 0, 10, 0}},
		{sample.RunTimes{StolenNS: 5}, WaitParts{}},
	} {
		if got := WaitPartsOf(&tt.t); got != tt.want || got.ContendedNS != model.ContendedNS(tt.t) {
			t.Errorf("%+v: %+v, want %+v", tt.t, got, tt.want)
		}
	}
}

// TestSchedIsAbsent where it is not measured, and is no 0.
func TestSchedIsAbsent(t *testing.T) {
	f := schedFrame(2)
	f.Sched, f.CPUs[0].Runq = nil, nil
	f.CGroups[1].CFS = &sample.Bandwidth{}
	b, err := json.Marshal([]any{processRecords(f, false), cgroupRecords(f, false), runqRecord(f, &f.CPUs[0], nil)})
	if err != nil || strings.Contains(string(b), "seconds_total\":0.000") || strings.Contains(string(b), "wait_") ||
		strings.Contains(string(b), "demand") || strings.Contains(string(b), "switches") || strings.Count(string(b), "cpu_quota_us") != 1 || !strings.HasPrefix(string(b), "[null,[{") {
		t.Errorf("%s, %v", b, err)
	}
	f.Header.Signals = []sample.Signal{{Name: model.SignalThrottle, Accuracy: sample.Unavailable}}
	if r := soldRecord(f, nil); r != nil {
		t.Errorf("sold %+v", r)
	}
	f.CGroups = nil
	if r := cgroupRecords(f, true); r != nil {
		t.Errorf("cgroups %+v", r)
	}
}

// TestWhatVariantsDoNotSee is absent, and no 0.
func TestWhatVariantsDoNotSee(t *testing.T) {
	for _, tt := range []struct {
		signal        sample.Signal
		waits, quotas bool
	}{
		{sample.Signal{Name: model.SignalRunq, Variant: "sched_info"}, true, true},
		{sample.Signal{Name: model.SignalRunq, Variant: "wakeups"}, false, false},
		{sample.Signal{Name: model.SignalThrottle, Variant: "pelt_clock"}, true, true},
		{sample.Signal{Name: model.SignalThrottle, Variant: "cpu_stat"}, true, false},
		{sample.Signal{Name: model.SignalThrottle, Accuracy: sample.Unavailable}, true, false},
	} {
		f := schedFrame(1)
		f.Header.Signals = []sample.Signal{tt.signal}
		b, err := json.Marshal([]any{processRecords(f, false), cgroupRecords(f, false), cpuRecords(f, nil)})
		if err != nil {
			t.Fatal(err)
		}
		s := string(b)
		if !strings.Contains(s, `"runq_wait_seconds_total"`) || !strings.Contains(s, `"run_seconds_total"`) ||
			strings.Contains(s, `"wait_mask_seconds_total"`) != tt.waits || strings.Contains(s, `"wait_contended_seconds_total"`) != tt.quotas ||
			strings.Contains(s, `"runq_throttled_seconds_total"`) != tt.quotas {
			t.Errorf("%+v: %s", tt.signal, s)
		}
	}
}

// TestSummaryHasTheWorst: peaks, stalls and what was sold are of an interval
// each in a Frame, and so is a percentile.
func TestSummaryHasTheWorst(t *testing.T) {
	var w Worst
	frame := func(peak uint32, stall uint64, ratio, busy float64) *model.Frame {
		f := schedFrame(1)
		f.CPUs[0] = queueCore(0, busy, 0, 0, peak)
		f.CPUs[0].Runq.Wait = append(make([]uint64, 29), 1)
		f.CGroups[0].WorstStallNS, f.Sold = stall, model.Sold{Cores: 2 * ratio, Ratio: ratio}
		return f
	}
	for _, f := range []*model.Frame{frame(3, 5, model.Unknown(), 1), frame(13, 62, 1.67, 0.97), frame(4, 7, 1.9, 0.2), frame(1, 0, 0.5, 1)} {
		w.add(f)
	}
	if w.RunqPeak[0] != 13 || w.StallNS[1] != 62 || w.Sold.Ratio != 1.9 || w.Oversold.Ratio != 1.67 || w.SoldBusy != 0.97 {
		t.Errorf("%+v", w)
	}
	f := frame(1, 0, 0.5, 1)
	now, total := runqRecord(f, &f.CPUs[0], nil), runqRecord(f, &f.CPUs[0], &w)
	if *now.Peak != 1 || *now.WaitP99NS != 1<<20 || *total.Peak != 13 || *total.WaitP99NS != 1<<30 {
		t.Errorf("%+v, in the summary %+v", now, total)
	}
	if r := soldRecord(f, &w); *r.Ratio != 1.9 || *r.Cores != 3.8 || *soldRecord(f, nil).Ratio != 0.5 {
		t.Errorf("sold %v of %v", *r.Ratio, *r.Cores)
	}
	gone := schedFrame(0)
	gone.CPUs = nil
	if w.add(gone); len(w.RunqPeak) != 0 || w.StallNS[1] != 62 {
		t.Errorf("when all are gone, it is %+v", w)
	}
}

// TestWorstStallsAreBounded: of too many cgroups, those with the longest stalls
// are remembered, and those that never had one take no room.
func TestWorstStallsAreBounded(t *testing.T) {
	var w Worst
	for i := range uint64(100) {
		f := schedFrame(200)
		for k, g := range f.CGroups {
			g.ID = 200*i + uint64(k)
			if k%2 == 0 {
				g.WorstStallNS = 1 + g.ID*7919%10_007
			}
		}
		w.add(f)
	}
	const longest = 10_006
	if n := len(w.StallNS); n > mostStalls || n < mostStalls/2 {
		t.Errorf("%d stalls are remembered", n)
	}
	var found bool
	for id, ns := range w.StallNS {
		if found = found || ns == longest; ns != 1+id*7919%10_007 {
			t.Errorf("cgroup %d: %d", id, ns)
		}
	}
	if !found {
		t.Error("the longest of all is forgotten")
	}
}

// TestThrottleEvent: every part of it is in its record.
func TestThrottleEvent(t *testing.T) {
	e := model.Event{Event: sample.Event{Kind: sample.EventThrottle, CGroup: "/\x1b", CGroupID: 1 << 60, DurationNS: 62, ThrottledNS: 100, Cores: 2, Threads: 34, TIDs: []uint32{7, 8}}}
	b, err := json.Marshal(eventRecord(&e))
	const want = `"kind":"throttle","cpu":0,"cgroup":"/\u001b","cgroup_id":1152921504606846976,"duration_ns":62,"throttled_ns":100,"cores":2,"threads":34,"tids":[7,8]}`
	if err != nil || !strings.HasSuffix(string(b), want) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestPartsSumToTheWhole, in ns, in every record that a recording makes.
func TestPartsSumToTheWhole(t *testing.T) {
	checked := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if whole, ok := v["wait_seconds_total"].(float64); ok && v["wait_mask_seconds_total"] != nil {
				sum := 0.0
				for _, part := range []string{"throttled", "contended", "mask", "stolen"} {
					sum += math.Round(v["wait_"+part+"_seconds_total"].(float64) * 1e9)
				}
				if checked++; sum != math.Round(whole*1e9) {
					t.Errorf("parts %v of %v ns in %v", sum, whole*1e9, v)
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, name := range []string{"runq-pile", "cfs-throttle", "cpu-oversold"} {
		for _, line := range strings.Split(strings.TrimSpace(string(outputs(t, readRecording(t, name))["ndjson"])), "\n") {
			var v any
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			walk(v)
		}
	}
	if checked < 1000 {
		t.Errorf("only %d waits", checked)
	}
}

// TestHealthyIsSilent: neither a tick line nor the summary has a word for cores
// and quotas of a busy host that is well.
func TestHealthyIsSilent(t *testing.T) {
	text := string(outputs(t, readRecording(t, "healthy-sched"))["txt"])
	for _, word := range []string{"runq=", "thr=", "sold", "cpu3", "claims", "throttled"} {
		if strings.Contains(text, word) {
			t.Errorf("%q in\n%s", word, text)
		}
	}
	if !slices.Contains(strings.Split(text, "\n"), "  . no finding") {
		t.Error(text)
	}
}
