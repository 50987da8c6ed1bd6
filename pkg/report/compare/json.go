// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
)

type jsonDiff struct {
	V        int             `json:"v"`
	Type     string          `json:"type"` // "diff"
	Verdict  string          `json:"verdict"`
	Doubts   []string        `json:"doubts"`
	Notes    []string        `json:"notes"`
	A        jsonSide        `json:"a"`
	B        jsonSide        `json:"b"`
	Method   string          `json:"method"`
	Interval float64         `json:"interval_confidence_ratio"` // of change_low to change_high
	Errors   jsonErrors      `json:"error_ratio"`               // at which a change is real, of each one
	Findings []jsonFinding   `json:"findings"`
	Measures []jsonChangedOf `json:"measures"`
}

type jsonErrors struct {
	Findings float64 `json:"findings"`
	Measures float64 `json:"measures"`
}

type jsonSide struct {
	File        string            `json:"file"`
	Host        string            `json:"host"`
	Kernel      string            `json:"kernel"`
	CPUs        int               `json:"cpus"`
	Command     []string          `json:"command,omitempty"`
	Intervals   int               `json:"intervals"`
	ElapsedNS   int64             `json:"elapsed_ns"`
	Connections float64           `json:"connections_total"`
	Lost        uint64            `json:"lost_total"`
	Truncated   bool              `json:"truncated"`
	Signals     map[string]string `json:"signals"` // exact, approximate or unavailable
}

type jsonFinding struct {
	ID      string       `json:"id"`
	Subject string       `json:"subject"`
	Verdict string       `json:"verdict"`
	Why     string       `json:"why,omitempty"`
	Key     jsonChange   `json:"key"`
	A       *jsonEpisode `json:"a"` // null: not raised
	B       *jsonEpisode `json:"b"`
}

type jsonEpisode struct {
	Severity string             `json:"severity"`
	Active   float64            `json:"active_ratio"`
	Subject  string             `json:"subject"`
	Evidence string             `json:"evidence"`
	Cause    string             `json:"cause"`
	Remedy   string             `json:"remedy"`
	Values   map[string]float64 `json:"values"`
}

type jsonChangedOf struct {
	Subject string `json:"subject"`
	jsonChange
}

// jsonChange has null for what is not known.
type jsonChange struct {
	Name        string   `json:"name"`
	A           *float64 `json:"a"`
	B           *float64 `json:"b"`
	IntervalsA  int      `json:"a_intervals"`
	IntervalsB  int      `json:"b_intervals"`
	Change      *float64 `json:"change"`
	Low         *float64 `json:"change_low"`
	High        *float64 `json:"change_high"`
	Real        bool     `json:"real"` // neither chance nor too small to matter
	Approximate bool     `json:"approximate"`
	NotCompared string   `json:"not_compared,omitempty"`
}

// WriteJSON writes d as one object.
func (d *Diff) WriteJSON(w io.Writer) error {
	out := jsonDiff{
		V: 1, Type: "diff", Verdict: d.Verdict, Doubts: list(d.Doubts), Notes: list(d.Notes), A: d.A.json(), B: d.B.json(), Method: method,
		Interval: 1 - shownLevel, Errors: jsonErrors{d.alphaKey, d.alpha}, Findings: []jsonFinding{}, Measures: []jsonChangedOf{},
	}
	for i := range d.Findings {
		f := &d.Findings[i]
		out.Findings = append(out.Findings, jsonFinding{
			ID: f.ID, Subject: f.Subject, Verdict: f.Verdict, Why: f.Why, Key: f.Key.json(),
			A: jsonEpisodeOf(f.A, f.ActiveA), B: jsonEpisodeOf(f.B, f.ActiveB),
		})
	}
	for i := range d.Measures {
		out.Measures = append(out.Measures, jsonChangedOf{d.Measures[i].Subject, d.Measures[i].json()})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&out); err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	return nil
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (s *Side) json() jsonSide {
	out := jsonSide{
		File: s.Name, Intervals: s.intervals, ElapsedNS: s.elapsed.Nanoseconds(), Connections: s.conns, Lost: s.lost,
		Truncated: s.Truncated, Signals: make(map[string]string),
	}
	if h := s.Header; h != nil {
		out.Host, out.Kernel, out.CPUs, out.Command = h.Host, h.Kernel, h.CPUs, h.Command
	}
	for _, name := range slices.Sorted(maps.Keys(s.signals)) {
		out.Signals[name] = s.accuracy(name)
	}
	return out
}

func jsonEpisodeOf(f *diagnose.Finding, active float64) *jsonEpisode {
	if f == nil {
		return nil
	}
	values := make(map[string]float64, len(f.Values))
	for k, v := range f.Values {
		if finite(v) {
			values[k] = *known(v)
		}
	}
	return &jsonEpisode{f.Severity.String(), *known(active), f.Subject, f.Evidence, f.Cause, f.Remedy, values}
}

func (c *Change) json() jsonChange {
	return jsonChange{
		Name: c.spec.name, A: known(c.a.value), B: known(c.b.value), IntervalsA: c.a.n, IntervalsB: c.b.n,
		Change: known(c.c.diff), Low: known(c.c.low), High: known(c.c.high), Real: c.Real(), Approximate: c.approx, NotCompared: c.missing,
	}
}

// known is nil for what is not, and has nine digits, which are the same on every
// machine.
func known(v float64) *float64 {
	if !finite(v) {
		return nil
	}
	if r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 9, 64), 64); err == nil {
		v = r
	}
	return &v
}
