// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// JSONVersion is the value of "v" in every record: fields are only added, and
// it is raised when one changes its meaning.
const JSONVersion = 1

// JSON writes one object a line: a header, then for each tick its events, the
// findings that changed and an interval, at the end a summary. A value that is
// not known is absent.
type JSON struct {
	w      io.Writer
	header *sample.Header
}

// NewJSON returns a sink that writes to w, one Write for each line.
func NewJSON(w io.Writer) *JSON { return &JSON{w: w} }

type jsonStamp struct {
	V      int    `json:"v"`
	Type   string `json:"type"`
	TS     string `json:"ts"`
	MonoNS uint64 `json:"mono_ns"`
}

type jsonHeader struct {
	jsonStamp
	Version    string          `json:"version"`
	Host       string          `json:"host"`
	Kernel     string          `json:"kernel"`
	Arch       string          `json:"arch"`
	CPUs       int             `json:"cpus"`
	BootID     string          `json:"boot_id,omitempty"`
	IntervalNS uint64          `json:"interval_ns"`
	Command    []string        `json:"command,omitempty"`
	PIDs       []uint32        `json:"pids,omitempty"`
	Ports      []uint16        `json:"ports,omitempty"`
	Signals    []sample.Signal `json:"signals"`
	Rung       string          `json:"rung,omitempty"` // what the signals are measured with
	RungReason string          `json:"rung_reason,omitempty"`
}

type jsonCost struct {
	UserCPURatio         *float64          `json:"user_cpu_ratio,omitempty"` // of one core
	BPFCPURatio          *float64          `json:"bpf_cpu_ratio,omitempty"`
	MemoryBytes          uint64            `json:"memory_bytes"`
	LostTotal            uint64            `json:"lost_total"`
	Lost                 map[string]uint64 `json:"lost,omitempty"`
	RecursionMissesTotal uint64            `json:"recursion_misses_total"`
	RecursionMissesBy    map[string]uint64 `json:"recursion_misses_by,omitempty"` // program
	TicksSkipped         uint64            `json:"ticks_skipped_total,omitempty"` // that would have cost too much
	Budget               *sample.Budget    `json:"budget,omitempty"`
}

type jsonInterval struct {
	jsonStamp
	ElapsedNS  int64          `json:"elapsed_ns"`
	IntervalNS int64          `json:"interval_ns"`
	AskedNS    uint64         `json:"asked_interval_ns,omitempty"` // where it is not the header's any more
	Cost       jsonCost       `json:"cost"`
	Listeners  []jsonListener `json:"listeners"` // null: not measured; so are the others
	NetNS      []jsonNetNS    `json:"netns"`
	CPUs       []jsonCPU      `json:"cpus"`
	NetRX      *jsonNetRX     `json:"netrx"`
	CGroups    []jsonCGroup   `json:"cgroups"`
	Processes  []jsonProcess  `json:"processes"`
	*jsonSold
}

type jsonListener struct {
	Addr           string   `json:"addr"`
	Port           uint16   `json:"port"`
	Proto          string   `json:"proto"`
	NetNS          uint32   `json:"netns"`
	NetNSCookie    uint64   `json:"netns_cookie,omitempty"` // tells it from another of that number
	Inode          uint64   `json:"inode"`
	Closed         bool     `json:"closed"`
	Program        string   `json:"program"`
	Wait           string   `json:"wait"`
	ReusePort      bool     `json:"reuseport"`
	Sockets        int      `json:"sockets"`
	Processes      int      `json:"processes"`
	Holders        []uint32 `json:"holders,omitempty"` // the first of them by pid
	Workers        int      `json:"workers"`
	AcceptQueueLen uint32   `json:"accept_queue_len"`
	AcceptQueueMax *uint32  `json:"accept_queue_max,omitempty"`
	BurstsUnsent   uint64   `json:"bursts_unsent_total"` // herd-burst events that the rate bound held back
	*jsonQueue
	Completions *uint64 `json:"completions_total,omitempty"`
	jsonCounters
	Empty     *uint64  `json:"empty_wakeups_total,omitempty"`
	EmptyCPU  *float64 `json:"empty_wakeups_cpu_seconds_total,omitempty"` // extrapolated from those that could be timed
	PerAccept *float64 `json:"wakeups_per_accept,omitempty"`              // interval: in it; summary: since attach

	AcceptsPerS     *float64 `json:"accepts_per_s,omitempty"`
	CompletionsPerS *float64 `json:"completions_per_s,omitempty"`
	WakeupsPerS     *float64 `json:"wakeups_per_s,omitempty"`
	EAGAINPerS      *float64 `json:"accept_eagain_per_s,omitempty"`

	Threads []jsonWorker `json:"threads"`
}

// jsonCounters are absent where their signal is not measured.
type jsonCounters struct {
	Accepts *uint64 `json:"accepts_total,omitempty"`
	EAGAINs *uint64 `json:"accept_eagain_total,omitempty"`
	Wakeups *uint64 `json:"wakeups_total,omitempty"`
	Wasted  *uint64 `json:"wasted_wakeups_total,omitempty"`
	Drains  *uint64 `json:"drain_eagain_total,omitempty"`
}

type jsonWorker struct {
	PID     uint32 `json:"pid"`
	TID     uint32 `json:"tid"`
	Comm    string `json:"comm"`
	Wait    string `json:"wait"`
	Ended   bool   `json:"ended"`
	Stopped bool   `json:"stopped,omitempty"`
	jsonCounters
	Share     *float64 `json:"accept_share_ratio,omitempty"` // of the listener's accepts since attach
	RunRatio  *float64 `json:"run_ratio,omitempty"`          // of one core
	WaitRatio *float64 `json:"wait_ratio,omitempty"`
}

type jsonFinding struct {
	jsonStamp
	ID       string             `json:"id"`
	State    string             `json:"state"`
	Severity string             `json:"severity"`
	Subject  string             `json:"subject"`
	Evidence string             `json:"evidence"`
	Cause    string             `json:"cause"`
	Remedy   string             `json:"remedy"`
	Verify   string             `json:"verify"`
	Outcome  string             `json:"outcome,omitempty"`
	Inode    uint64             `json:"inode,omitempty"`
	CPU      *int               `json:"cpu,omitempty"` // a core that it is about
	CGroupID uint64             `json:"cgroup_id,omitempty"`
	PID      uint32             `json:"pid,omitempty"`
	Values   map[string]float64 `json:"values"`
	Since    string             `json:"since"`
	Until    string             `json:"until,omitempty"` // once cleared
}

type jsonEvent struct {
	jsonStamp
	Kind           string `json:"kind"`
	Listener       string `json:"listener,omitempty"`
	Program        string `json:"program,omitempty"`
	Inode          uint64 `json:"inode,omitempty"`
	CPU            uint32 `json:"cpu"`
	Woken          uint32 `json:"woken,omitempty"`
	AcceptQueueLen uint32 `json:"accept_queue_len,omitempty"`
	SynQueueLen    uint32 `json:"syn_queue_len,omitempty"`
	Place          string `json:"place,omitempty"`
	Client         string `json:"client,omitempty"`
	Refused        uint64 `json:"refused,omitempty"`
	Device         string `json:"device,omitempty"`

	CGroup      string   `json:"cgroup,omitempty"`
	CGroupID    uint64   `json:"cgroup_id,omitempty"`
	DurationNS  uint64   `json:"duration_ns,omitempty"`
	ThrottledNS uint64   `json:"throttled_ns,omitempty"`
	Cores       uint32   `json:"cores,omitempty"`
	Threads     uint32   `json:"threads,omitempty"`
	TIDs        []uint32 `json:"tids,omitempty"`
}

type jsonSummary struct {
	jsonStamp
	ElapsedNS int64          `json:"elapsed_ns"`
	Cost      jsonCost       `json:"cost"`
	Listeners []jsonListener `json:"listeners"`
	NetNS     []jsonNetNS    `json:"netns"`
	CPUs      []jsonCPU      `json:"cpus"`
	NetRX     *jsonNetRX     `json:"netrx"`
	CGroups   []jsonCGroup   `json:"cgroups"`
	Processes []jsonProcess  `json:"processes"`
	*jsonSold
	FindingsTotal   int           `json:"findings_total"`
	Findings        []jsonFinding `json:"findings"` // fewer, where they were too many to keep
	Command         []string      `json:"command,omitempty"`
	CommandExitCode *int          `json:"command_exit_code,omitempty"`
	Gate            *jsonGate     `json:"gate,omitempty"`
}

// jsonGate is the verdict on the whole trace: pass, fail or inconclusive.
type jsonGate struct {
	Verdict    string          `json:"verdict"`
	Conditions []jsonCondition `json:"conditions"`
}

type jsonCondition struct {
	Condition string `json:"condition"` // that must not be true
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
}

func (j *JSON) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode JSON record: %w", err)
	}
	if _, err := j.w.Write(append(escapeInvisible(b), '\n')); err != nil {
		return fmt.Errorf("write JSON record: %w", err)
	}
	return nil
}

// escapeInvisible writes as \u escapes what encoding/json leaves as it is and a
// terminal may obey: DEL, the C1 controls, what changes the direction of text.
func escapeInvisible(b []byte) []byte {
	var out []byte
	for i, size := 0, 0; i < len(b); i += size {
		var r rune
		r, size = utf8.DecodeRune(b[i:])
		switch {
		case r < 0x7f || unicode.IsPrint(r) && !unicode.Is(unicode.Bidi_Control, r):
			if out != nil {
				out = append(out, b[i:i+size]...)
			}
			continue
		case out == nil:
			out = append(make([]byte, 0, len(b)+64), b[:i]...)
		}
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	if out == nil {
		return b
	}
	return out
}

func stamp(kind string, wall time.Time, monoNS uint64) jsonStamp {
	return jsonStamp{V: JSONVersion, Type: kind, TS: clock(wall), MonoNS: monoNS}
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Begin implements Sink.
func (j *JSON) Begin(h *sample.Header) error {
	j.header = h
	return j.write(jsonHeader{
		jsonStamp:  stamp("header", time.Unix(0, h.WallNS), h.MonoNS),
		Version:    h.Version,
		Host:       h.Host,
		Kernel:     h.Kernel,
		Arch:       h.Arch,
		CPUs:       h.CPUs,
		BootID:     h.BootID,
		IntervalNS: h.IntervalNS,
		Command:    h.Command,
		PIDs:       h.PIDs,
		Ports:      h.Ports,
		Signals:    h.Signals,
		Rung:       h.Rung,
		RungReason: h.RungReason,
	})
}

// Step implements Sink.
func (j *JSON) Step(s *Step) error {
	f := s.Frame
	for i := range f.Events {
		if err := j.write(eventRecord(&f.Events[i])); err != nil {
			return err
		}
	}
	for i := range s.Changed {
		if err := j.write(findingRecord(&s.Changed[i], f)); err != nil {
			return err
		}
	}
	if f.Interval == 0 {
		return nil // the zero point
	}
	return j.write(jsonInterval{
		jsonStamp:  stamp("interval", f.Wall, f.Sample.MonoNS),
		ElapsedNS:  f.Elapsed.Nanoseconds(),
		IntervalNS: f.Interval.Nanoseconds(),
		AskedNS:    f.Sample.Self.IntervalNS,
		Cost:       costRecord(f, &f.Cost),
		Listeners:  j.listenerRecords(f, false),
		NetNS:      netnsRecords(f),
		CPUs:       cpuRecords(f, nil),
		NetRX:      netRXRecord(f, false),
		CGroups:    cgroupRecords(f, false),
		Processes:  processRecords(f, false),
		jsonSold:   soldRecord(f, nil),
	})
}

func eventRecord(e *model.Event) jsonEvent {
	return jsonEvent{
		jsonStamp: stamp("event", e.Wall, e.MonoNS),
		Kind:      e.Kind, Listener: e.Listener, Program: e.Program, Inode: e.Inode,
		CPU: e.CPU, Woken: e.Woken, AcceptQueueLen: e.AcceptQueueLen, SynQueueLen: e.SynQueueLen,
		Place: e.Place, Client: e.Client, Refused: e.Refused, Device: e.Device,
		CGroup: e.CGroup, CGroupID: e.CGroupID, DurationNS: e.DurationNS, ThrottledNS: e.ThrottledNS,
		Cores: e.Cores, Threads: e.Threads, TIDs: e.TIDs,
	}
}

// End implements Sink.
func (j *JSON) End(s *Summary) error {
	if j.header == nil {
		return nil // never begun: a sink before this one failed
	}
	out := jsonSummary{
		jsonStamp: stamp("summary", time.Unix(0, j.header.WallNS), j.header.MonoNS),
		Findings:  []jsonFinding{},
	}
	if f := s.Last; f != nil {
		out.jsonStamp = stamp("summary", f.Wall, f.Sample.MonoNS)
		out.ElapsedNS = f.Elapsed.Nanoseconds()
		out.Cost = costRecord(f, &f.CostMean)
		out.Listeners = j.listenerRecords(f, true)
		out.NetNS, out.CPUs, out.NetRX = netnsRecords(f), cpuRecords(f, &s.Worst), netRXRecord(f, true)
		out.CGroups, out.Processes, out.jsonSold = cgroupRecords(f, true), processRecords(f, true), soldRecord(f, &s.Worst)
		for i := range s.Findings {
			out.Findings = append(out.Findings, findingRecord(&s.Findings[i], f))
		}
	}
	out.FindingsTotal = len(out.Findings) + s.Dropped
	if s.Command != nil {
		out.Command, out.CommandExitCode = s.Command.Args, &s.Command.ExitCode
	}
	if v := s.Verdict; v != nil {
		out.Gate = &jsonGate{v.Outcome, make([]jsonCondition, 0, len(v.Conditions))}
		for _, c := range v.Conditions {
			out.Gate.Conditions = append(out.Gate.Conditions, jsonCondition{c.Text, c.Outcome, c.Reason})
		}
	}
	return j.write(out)
}

// known turns the model's unknown, and what JSON has no number for, into an
// absent value.
func known(v float64) *float64 {
	if !model.Known(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func costRecord(f *model.Frame, c *model.Cost) jsonCost {
	return jsonCost{
		Budget:               f.Sample.Self.Budget,
		UserCPURatio:         known(c.UserRatio),
		BPFCPURatio:          known(c.BPFRatio),
		MemoryBytes:          c.MemoryBytes,
		LostTotal:            c.LostTotal,
		Lost:                 f.Sample.Self.Lost,
		RecursionMissesTotal: f.Sample.Self.RecursionMisses,
		RecursionMissesBy:    f.Sample.Self.RecursionMissesBy,
		TicksSkipped:         f.Sample.Self.TicksSkipped,
	}
}

func (j *JSON) listenerRecords(f *model.Frame, total bool) []jsonListener {
	if f.Accept == nil {
		return nil
	}
	out := make([]jsonListener, 0, len(f.Accept.Listeners))
	for _, l := range f.Accept.Listeners {
		r := jsonListener{
			Addr: l.Addr, Port: l.Port, Proto: l.Proto, NetNS: l.NetNS, NetNSCookie: l.NetNSCookie, Inode: l.Inode, Closed: l.Closed,
			Program: l.Program, Wait: l.Wait, ReusePort: l.ReusePort, Sockets: l.Sockets,
			Processes: l.Processes, Holders: l.Holders, Workers: len(l.Workers) + l.GoneWorkers,
			AcceptQueueLen: l.AcceptQueueLen, BurstsUnsent: l.BurstsUnsentTotal,
			jsonQueue: queueRecord(f, l, total), jsonCounters: counterRecord(f, l, &l.Counters),
			Threads: workerRecords(f, l, total),
		}
		if !l.NoLimit {
			r.AcceptQueueMax = &l.AcceptQueueMax
		}
		if f.ConnsKnown(l) {
			r.Completions = &l.CompletionsTotal
		}
		if f.MeasuredAt(l, model.SignalAccept) && f.MeasuredAt(l, model.SignalWake) {
			r.Empty, r.EmptyCPU = &l.EmptyWakeupsTotal, known(model.EmptyCPUSeconds(&l.Listener))
		}
		if !total {
			r.PerAccept = known(l.WakeupsPerAccept)
		} else if f.MeasuredAt(l, model.SignalWake) {
			r.PerAccept = known(model.TotalWakeupsPerAccept(&l.Listener))
		}
		if !total {
			r.AcceptsPerS, r.CompletionsPerS = known(l.AcceptsPerS), known(l.CompletionsPerS)
			r.WakeupsPerS, r.EAGAINPerS = known(l.WakeupsPerS), known(l.EAGAINPerS)
		}
		out = append(out, r)
	}
	return out
}

func counterRecord(f *model.Frame, l *model.Listener, c *sample.Counters) (r jsonCounters) {
	accept, wake := f.MeasuredAt(l, model.SignalAccept), f.MeasuredAt(l, model.SignalWake)
	if accept {
		r.Accepts, r.EAGAINs, r.Drains = &c.AcceptsTotal, &c.AcceptEAGAINTotal, &c.DrainEAGAINTotal
	}
	if wake {
		r.Wakeups = &c.WakeupsTotal
	}
	if accept && wake {
		r.Wasted = &c.WastedWakeupsTotal
	}
	return r
}

func workerRecords(f *model.Frame, l *model.Listener, total bool) []jsonWorker {
	out := make([]jsonWorker, 0, len(l.Threads))
	for i := range l.Threads {
		w := &l.Threads[i]
		r := jsonWorker{
			PID: w.PID, TID: w.TID, Comm: w.Comm, Wait: w.Wait, Ended: w.Ended, Stopped: w.Stopped,
			jsonCounters: counterRecord(f, l, &w.Counters), Share: known(w.Share),
		}
		if !total {
			r.RunRatio, r.WaitRatio = known(w.RunRatio), known(w.WaitRatio)
		}
		out = append(out, r)
	}
	return out
}

func findingRecord(f *diagnose.Finding, at *model.Frame) jsonFinding {
	r := jsonFinding{
		jsonStamp: stamp("finding", at.Wall, at.Sample.MonoNS),
		ID:        f.ID, State: f.State, Severity: f.Severity.String(),
		Subject: f.Subject, Evidence: f.Evidence, Cause: f.Cause, Remedy: f.Remedy, Verify: f.Verify, Outcome: f.Outcome,
		Inode: f.Inode, CGroupID: f.CGroupID, PID: f.PID, Values: maps.Clone(f.Values), Since: clock(f.Since),
	}
	maps.DeleteFunc(r.Values, func(_ string, v float64) bool { return known(v) == nil })
	if f.CPU >= 0 {
		r.CPU = &f.CPU
	}
	if f.State == diagnose.Cleared {
		r.Until = clock(f.Until)
	}
	return r
}
