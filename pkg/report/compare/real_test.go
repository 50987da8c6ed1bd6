// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// real reads a recording of testdata/real: herdtrace on a 2-core machine beside
// the lab's incident, or beside its cure.
func real(t *testing.T, name string) *Side {
	t.Helper()
	r, err := sample.Open("../../../testdata/real/" + name + ".jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := NewSide(name)
	if _, err := report.Run(context.Background(), r, diagnose.DefaultLimits(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRealIncidents: beside its cure each is fixed, and beside itself nothing is.
func TestRealIncidents(t *testing.T) {
	for name, id := range map[string]string{
		"herd": "accept-herd", "overflow": "accept-queue-overflow", "pile": "runq-pile", "throttle": "cfs-throttle",
		"backlog": "netdev-backlog-drop", "hidden": "cputime-hidden",
	} {
		t.Run(name, func(t *testing.T) {
			a, b := real(t, name), real(t, name+"-cured")
			fixed := false
			d := Compare(a, b)
			for _, c := range d.Findings {
				fixed = fixed || c.ID == id && c.Verdict == Fixed
				if c.Verdict == Worse || c.Verdict == New {
					t.Errorf("%s is %s", c.ID, c.Verdict)
				}
			}
			if !fixed {
				t.Errorf("%s is not fixed:\n%s", id, text(t, d))
			}
			for _, s := range []string{name, name + "-cured"} {
				d := Compare(real(t, s), real(t, s))
				for _, c := range d.Findings {
					if c.Verdict != Unchanged && c.Verdict != Inconclusive {
						t.Errorf("%s beside itself: %s is %s", s, c.ID, c.Verdict)
					}
				}
			}
		})
	}
}

// TestRealMoved: with a socket for each of four workers, one of them stopped, the
// refusals of one queue have moved into another one, and its worker is named.
func TestRealMoved(t *testing.T) {
	verdicts := func(a, b string) (d *Diff, of map[string]string) {
		d, of = Compare(real(t, a), real(t, b)), make(map[string]string)
		for _, c := range d.Findings {
			of[c.ID] = c.Verdict
		}
		return d, of
	}
	if d, of := verdicts("overflow", "overflow-moved"); of["accept-queue-overflow"] != Moved || of["accept-stall"] != New {
		t.Errorf("accept-queue-overflow is %s, accept-stall %s:\n%s", of["accept-queue-overflow"], of["accept-stall"], text(t, d))
	}
	_, of := verdicts("overflow-moved", "overflow-moved")
	for id, v := range of {
		if v != Unchanged && v != Inconclusive {
			t.Errorf("beside itself %s is %s", id, v)
		}
	}
}
