// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
)

// The outcomes of a gate and of its conditions. Inconclusive is what could not be
// measured well enough to say that nothing is wrong: it is never a pass.
const (
	Pass         = "pass"
	Fail         = "fail"
	Inconclusive = "inconclusive"
)

// Verdict is what a gate says of a whole trace.
type Verdict struct {
	Outcome    string
	Conditions []Condition
	// FailOn is the mildest severity of a finding that the gate fails on by
	// itself; 0: none.
	FailOn diagnose.Severity
}

// Condition is one thing that must not be true. Its texts are printable.
type Condition struct {
	Text    string // as the user wrote it
	Outcome string
	Reason  string // what was measured, or what was in the way
}

// shownReasons bounds the verdict's line.
const shownReasons = 4

// String is the verdict in one line: the outcome, and the conditions that made it so.
func (v *Verdict) String() string {
	var reasons []string
	for _, c := range v.Conditions {
		if c.Outcome == v.Outcome {
			reasons = append(reasons, c.Text+": "+c.Reason)
		}
	}
	if n := len(reasons) - shownReasons; n > 0 {
		reasons = append(reasons[:shownReasons], fmt.Sprintf("and %d more", n))
	}
	return strings.ToUpper(v.Outcome) + ": " + strings.Join(reasons, "; ")
}
