// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// records are the last interval of an NDJSON output and its summary.
func records(t *testing.T, out []byte) (interval, summary map[string]any) {
	t.Helper()
	for _, line := range bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n")) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch v["type"] {
		case "interval":
			interval = v
		case "summary":
			summary = v
		}
	}
	return interval, summary
}

// listenerOf is the record's listener with that inode.
func listenerOf(t *testing.T, record map[string]any, inode float64) map[string]any {
	t.Helper()
	for _, l := range record["listeners"].([]any) {
		if l := l.(map[string]any); l["inode"] == inode {
			return l
		}
	}
	t.Fatalf("no listener %v in %v", inode, record)
	return nil
}

// TestSummaryHasThePeaks: those of the Samples are of an interval each.
func TestSummaryHasThePeaks(t *testing.T) {
	interval, summary := records(t, outputs(t, readRecording(t, "accept-queue-overflow"))["ndjson"])
	now, total := listenerOf(t, interval, 81001), listenerOf(t, summary, 81001)
	if now["accept_queue_peak"] != 0.0 || total["accept_queue_peak"] != 129.0 || total["syn_queue_peak"] != 11.0 {
		t.Errorf("peaks: interval %v, summary %v, %v", now["accept_queue_peak"], total["accept_queue_peak"], total["syn_queue_peak"])
	}
	for _, key := range []string{"accept_queue_full_ratio", "refusals_per_s", "accept_queue_wait_s"} {
		if _, ok := total[key]; ok {
			t.Errorf("the summary has %s", key)
		}
	}
	unix := listenerOf(t, summary, 81004)
	for key := range unix {
		if strings.Contains(key, "refus") || strings.Contains(key, "syn_queue") {
			t.Errorf("a unix listener has %s", key)
		}
	}
}

// unknownFrame is a Frame of which nothing is known, or all is infinite.
func unknownFrame(v float64) *model.Frame {
	l := &model.Listener{WakeupsPerAccept: v, AcceptsPerS: v, Queue: &model.Queue{RefusalsPerS: v, SynPerS: v, CookiesPerS: v, AcceptFull: v, WaitS: v}}
	l.Queue.Backlog = -1
	c := model.CPU{BusyRatio: v, IdleRatio: v, SoftIRQRatio: v, NetRXRatio: v, NetRXPerS: v, PacketsPerS: v, KsoftirqdRatio: v, LatencyP99NS: v}
	timed := c
	timed.SoftIRQ, timed.Softnet = &sample.NetRXSoftIRQ{}, &sample.Softnet{}
	timed.Runq = &model.Runq{Runq: &sample.Runq{}, BusyRatio: v, Waiting: v, ThrottledWaiting: v, UnclaimedRatio: v, SwitchesPerS: v, WaitP99NS: v}
	g := &model.CGroup{CGroup: sample.CGroup{CFS: &sample.Bandwidth{Throttled: 1}}, Used: v, Waiting: v, Quota: v, ThrottledPeriods: 1, ThrottledRatio: v, Demand: v}
	return &model.Frame{
		Header: &sample.Header{}, Sample: &sample.Sample{Listen: &sample.Listen{NetNS: []sample.NetNS{{}}}}, Interval: 1, Elapsed: 1,
		Accept: &model.Accept{ConnsPerS: v, Listeners: []*model.Listener{l}},
		Queues: &model.Queues{RefusalsPerS: v, SynPerS: v, CookiesPerS: v},
		CPUs:   []model.CPU{c, timed},
		NetRX: &model.NetRX{NetRX: &sample.NetRX{Devices: []sample.NetDevice{{}}}, Share: v, Top: -1, PacketsPerS: v, DroppedPerS: v,
			Devices: []model.Device{{PacketsPerS: v}}},
		Sched:   &model.Sched{Sched: &sample.Sched{}, Processes: []model.Process{{Run: v, Wait: v, Claimed: v}}},
		CGroups: []*model.CGroup{g}, Sold: model.Sold{Cores: v, Ratio: v, Used: v},
	}
}

// TestUnknownIsAbsent: what is not known, or infinite, breaks no record.
func TestUnknownIsAbsent(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		f := unknownFrame(v)
		var line, ndjson bytes.Buffer
		sinks := []Sink{NewLine(&line, LineOptions{}), NewJSON(&ndjson)}
		found := diagnose.Finding{CPU: -1, Values: map[string]float64{"accept_queue_wait_s": v, "workers": 2}}
		for _, k := range sinks {
			if err := k.Begin(f.Header); err != nil {
				t.Fatal(err)
			}
			if err := k.Step(&Step{Frame: f, Changed: []diagnose.Finding{found}}); err != nil {
				t.Fatal(err)
			}
			if err := k.End(&Summary{Last: f}); err != nil {
				t.Fatal(err)
			}
		}
		interval, _ := records(t, ndjson.Bytes())
		l := listenerOf(t, interval, 0)
		for _, key := range []string{"refusals_per_s", "accept_queue_full_ratio", "accept_queue_wait_s", "listen_backlog"} {
			if got, ok := l[key]; ok {
				t.Errorf("%v: %s is %v", v, key, got)
			}
		}
		for _, key := range []string{"cpu_sold_ratio", "cpu_sold_cores"} {
			if got, ok := interval[key]; ok {
				t.Errorf("%v: %s is %v", v, key, got)
			}
		}
		if d, ok := interval["cgroups"].([]any)[0].(map[string]any)["cpu_demand_cores"]; ok {
			t.Errorf("%v: the demand is %v", v, d)
		}
		for _, c := range interval["cpus"].([]any) {
			for key := range c.(map[string]any) {
				if strings.HasSuffix(key, "_ratio") || strings.HasSuffix(key, "_ns") {
					t.Errorf("%v: a core has %s", v, key)
				}
			}
		}
		if math.IsNaN(v) && regexp.MustCompile("refused|cookies|rx|runq=|sold").MatchString(line.String()) || strings.Contains(line.String(), "NaN") {
			t.Errorf("%v:\n%s", v, line.String())
		}
	}
}

// TestNotMeasuredIsNull, for a recording of before there were these signals.
func TestNotMeasuredIsNull(t *testing.T) {
	interval, summary := records(t, outputs(t, readRecording(t, "healthy"))["ndjson"])
	for _, r := range []map[string]any{interval, summary} {
		for _, key := range []string{"netns", "cpus", "netrx", "cgroups", "processes"} {
			if v, ok := r[key]; !ok || v != nil {
				t.Errorf("%s of %s is %v", key, r["type"], v)
			}
		}
		if v, ok := r["cpu_sold_ratio"]; ok {
			t.Errorf("cpu_sold_ratio is %v", v)
		}
	}
}

// TestTickLinesAreShort: they fit on a wide terminal, where the names are no
// longer than usual.
func TestTickLinesAreShort(t *testing.T) {
	tick := regexp.MustCompile(`^\d\d:\d\d:\d\d (conn=|accept: )`)
	for _, name := range recordings(t) {
		if name == "hostile" {
			continue
		}
		for _, l := range strings.Split(string(outputs(t, readRecording(t, name))["txt"]), "\n") {
			if tick.MatchString(l) && len(l) >= 160 {
				t.Errorf("%s: %d columns: %s", name, len(l), l)
			}
		}
	}
}

func queueOf(change func(q *model.Queue)) *model.Listener {
	l := &model.Listener{Queue: &model.Queue{LimitFrom: model.LimitApplication, SynLimitFrom: model.LimitMaxSynBacklog}}
	l.AcceptQueueMax, l.Queue.SynQueueMax = 128, 384
	l.Queue.AcceptTop, l.Queue.SynTop = 129, 385
	change(l.Queue)
	return l
}

func TestQueueText(t *testing.T) {
	tests := []struct {
		name, want string
		change     func(q *model.Queue)
	}{
		{"nothing", "", func(*model.Queue) {}},
		{"one place", "refused 3: 3 at SYN (accept queue 129 of 128, the limit is the listen backlog); 2 clients", func(q *model.Queue) {
			q.Refusals.AcceptQueueSYN, q.SeenTotal, q.Clients.Total = 3, 3, 2
		}},
		{"all places", "refused about 1870: 1203 at SYN, 657 at the final ACK, 7 at the ACK of a SYN cookie (accept queue 129 of 128, the limit is somaxconn), " +
			"3 at the SYN queue (385 of 384, the limit is tcp_max_syn_backlog); 212 clients, 40 of them more than twice", func(q *model.Queue) {
			q.Refusals = sample.Refusals{AcceptQueueSYN: 1203, AcceptQueueACK: 657, AcceptQueueCookie: 7, SynQueue: 3}
			q.SeenTotal, q.LimitFrom, q.Approximate = 1870, model.LimitSomaxconn, true
			q.Clients = sample.RefusedClients{Total: 212, Retries: [4]uint64{100, 72, 30, 10}}
		}},
		{"not all seen", "refused 9: 9 at SYN (accept queue 129 of 128, the limit equals somaxconn); about 70000 clients behind the 8 that were seen", func(q *model.Queue) {
			q.Refusals.AcceptQueueSYN, q.SeenTotal, q.LimitFrom, q.LimitUncertain = 9, 8, model.LimitSomaxconn, true
			q.Clients = sample.RefusedClients{Total: 70000, Estimated: true}
		}},
		{"one client", "refused 4: 4 at the final ACK (accept queue 129 of 128); 1 client, 4 times", func(q *model.Queue) {
			q.Refusals.AcceptQueueACK, q.SeenTotal, q.LimitFrom = 4, 4, ""
			q.Clients = sample.RefusedClients{Total: 1, Max: 4, Retries: [4]uint64{0, 0, 1, 0}}
		}},
		{"cookies", "30 SYN cookies sent, 2 came back false", func(q *model.Queue) { q.SyncookiesSentTotal, q.SyncookiesFailedTotal = 30, 2 }},
	}
	for _, tt := range tests {
		if got := queueText(queueOf(tt.change)); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	if got := queueText(&model.Listener{}); got != "" {
		t.Errorf("not measured: %q", got)
	}
}

func TestCheckSums(t *testing.T) {
	tests := []struct {
		name, want string
		ext        *sample.TCPExt
		refused    uint64 // at SYN
		unknown    uint64
		ports      []uint16
	}{
		{"quiet", "", &sample.TCPExt{}, 0, 0, nil},
		{"equal", "  TcpExt: ListenOverflows 5, ListenDrops 5: equal to the sum\n", &sample.TCPExt{ListenOverflows: 5, ListenDrops: 5}, 5, 0, nil},
		{"gone", "  TcpExt: ListenOverflows 5, ListenDrops 5: equal to the sum, 2 of them at no listener that could be named\n",
			&sample.TCPExt{ListenOverflows: 5, ListenDrops: 5}, 3, 2, nil},
		{"differs", "  TcpExt: ListenOverflows 5, ListenDrops 6, TCPReqQFullDrop 1, SyncookiesSent 9: the sum over the listeners above is 4 and 4, and 0 cookies\n",
			&sample.TCPExt{ListenOverflows: 5, ListenDrops: 6, TCPReqQFullDrop: 1, SyncookiesSent: 9}, 4, 0, nil},
		{"filtered", "  TcpExt: ListenOverflows 5, ListenDrops 5: of all listeners; of those traced 1 and 1\n",
			&sample.TCPExt{ListenOverflows: 5, ListenDrops: 5}, 1, 0, []uint16{80}},
		{"unread", "  TcpExt could not be read: the refusals are not checked against it\n", nil, 1, 0, nil},
	}
	for _, tt := range tests {
		l := queueOf(func(q *model.Queue) { q.Refusals.AcceptQueueSYN = tt.refused })
		f := &model.Frame{Accept: &model.Accept{Listeners: []*model.Listener{l, {}}}, Sample: &sample.Sample{Listen: &sample.Listen{
			NetNS: []sample.NetNS{{TCPExt: tt.ext, Unattributed: sample.Refusals{AcceptQueueSYN: tt.unknown}}}}}}
		var out bytes.Buffer
		line := &Line{w: &out, header: &sample.Header{Ports: tt.ports}}
		if err := line.checkSums(f); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v\n%swant\n%s", tt.name, err, out.String(), tt.want)
		}
	}
}
