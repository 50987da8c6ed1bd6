// SPDX-License-Identifier: Apache-2.0

// Package diagnose turns Frames into Findings: what hurts, who, the evidence,
// the cause, the remedy. One file for each pathology, all thresholds in Limits.
package diagnose

import (
	"time"
)

// The states of a Finding.
const (
	Raised  = "raised"
	Cleared = "cleared"
)

// Severity orders Findings.
type Severity int

// Warn is what should be looked at; Crit is what hurts clients or burns a
// noticeable part of the machine now.
const (
	Warn Severity = iota + 1
	Crit
)

// String is the word that sinks print: "warn" or "crit".
func (s Severity) String() string {
	if s == Crit {
		return "crit"
	}
	return "warn"
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one sentence that a senior engineer would say, in its parts. Its
// numbers are those of the worst moment so far. All
// text is printable (model.Printable) and without a line break.
type Finding struct {
	ID       string // "accept-herd": stable, what gates refer to
	Inode    uint64 // of the listener that it is about, 0: none
	CPU      int    // the core that it is about, -1: none
	CGroupID uint64 // of the cgroup that it is about, 0: none
	PID      uint32 // of the process that it is about, 0: none
	State    string // Raised or Cleared
	Severity Severity
	Subject  string // who: "listener 0.0.0.0:8080 (gunicorn, 34 workers)"
	Evidence string // the numbers, as a clause
	Cause    string // why, as a clause
	Remedy   string // what to do, true for this program and this way of waiting
	Verify   string // what to look at afterwards
	Outcome  string // once cleared: what is seen now
	Values   map[string]float64
	Since    time.Time     // raised
	Until    time.Time     // cleared; zero before
	Elapsed  time.Duration // since the first Sample, when it changed state
}

// Sentence is the Finding without its remedy, in one line.
func (f *Finding) Sentence() string {
	s := f.Subject + ": " + f.Evidence
	if f.Cause != "" {
		s += "; " + f.Cause
	}
	return s
}
