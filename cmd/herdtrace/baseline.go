// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/compare"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// baseline is the sink that lays the trace beside a recording, and makes what is
// worse or new a condition of the gate's verdict. It stands after the gate, and
// before the sinks that tell the verdict.
type baseline struct {
	*compare.Side
	base *compare.Side
	diff *compare.Diff // nil before the end
}

// newBaseline reads the recording at path.
func newBaseline(path string) (*baseline, error) {
	base, err := addUp(context.Background(), path)
	if err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	return &baseline{Side: compare.NewSide("this trace"), base: base}, nil
}

// End implements report.Sink.
func (b *baseline) End(sum *report.Summary) error {
	if err := b.Side.End(sum); err != nil {
		return err
	}
	b.diff = compare.Compare(b.base, b.Side)
	c := report.Condition{Text: "worse than " + model.Printable(b.base.Name), Outcome: report.Pass, Reason: b.diff.Verdict}
	switch {
	case b.diff.Verdict == compare.Worse:
		c.Outcome, c.Reason = report.Fail, b.worse()
	case !b.diff.Measured():
		c.Outcome, c.Reason = report.Inconclusive, strings.Join(append([]string{"cannot be told"}, b.diff.Doubts...), ": ")
	}
	if sum.Verdict == nil {
		sum.Verdict = &report.Verdict{Outcome: report.Pass}
	}
	v := sum.Verdict
	v.Conditions = append(v.Conditions, c)
	if c.Outcome == report.Fail || c.Outcome == report.Inconclusive && v.Outcome == report.Pass {
		v.Outcome = c.Outcome
	}
	return nil
}

// worse names the findings that are, and those that are new.
func (b *baseline) worse() string {
	var out []string
	for i := range b.diff.Findings {
		f := &b.diff.Findings[i]
		if f.Verdict == compare.Worse || f.Verdict == compare.New || f.Verdict == compare.Moved {
			out = append(out, fmt.Sprintf("%s is %s at %s", f.ID, f.Verdict, model.Printable(f.Subject)))
		}
	}
	return strings.Join(out, ", ")
}
