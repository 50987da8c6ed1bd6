// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestKindsAreAll: each detector has its Kind, and no other.
func TestKindsAreAll(t *testing.T) {
	var want, got []string
	for _, d := range listenerDetectors {
		want = append(want, d.id)
	}
	for _, d := range coreDetectors {
		want = append(want, d.id)
	}
	for _, d := range cgroupDetectors {
		want = append(want, d.id)
	}
	for _, d := range processDetectors {
		want = append(want, d.id)
	}
	for _, d := range hostDetectors {
		want = append(want, d.id)
	}
	for _, k := range Kinds() {
		got = append(got, k.ID)
		if len(k.Needs) == 0 {
			t.Errorf("%s needs no signal", k.ID)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("kinds %q, detectors %q", got, want)
	}
}

func TestUnseen(t *testing.T) {
	pile := Kinds()[slices.IndexFunc(Kinds(), func(k Kind) bool { return k.ID == "runq-pile" })]
	runq := func(variant, accuracy string) []sample.Signal {
		return []sample.Signal{{Name: model.SignalRunq, Variant: variant, Accuracy: accuracy}}
	}
	off := func(how string, ns uint64) *sample.Budget {
		return &sample.Budget{Limit: 0.01, Shed: []sample.Shed{{What: model.SignalRunq, How: how, ForNS: ns}}}
	}
	for name, tt := range map[string]struct {
		signals []sample.Signal
		budget  *sample.Budget
		want    string
	}{
		"measured":    {runq("sched_info", sample.Exact), nil, ""},
		"unknown":     {nil, nil, "runq was not measured: the recording does not know it"},
		"unavailable": {runq("", sample.Unavailable), nil, "runq was not measured: nothing was tried"},
		"polled":      {runq("schedstat", sample.Approximate), nil, "runq is looked up in /proc, which does not show it"},
		"sampled":     {runq("sched_info", sample.Exact), off(sample.ShedSampled, 3e9), ""},
		"off":         {runq("sched_info", sample.Exact), off(sample.ShedOff, 3e9), "runq was not measured for 3 s, to keep the cost within 1% of the machine"},
		"never off":   {runq("sched_info", sample.Exact), off(sample.ShedOff, 0), ""},
	} {
		s := &sample.Sample{}
		s.Self.Budget = tt.budget
		f := &model.Frame{Header: &sample.Header{Signals: tt.signals}, Sample: s}
		if got := pile.Unseen(f); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
