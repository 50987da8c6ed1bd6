// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

// The verdicts on a cell, the best first.
const (
	verdictExact       = "exact"       // equal to the oracle
	verdictApproximate = "approximate" // as far as the variant promises
	verdictAttaches    = "attaches"    // no incident was run
	verdictUnavailable = "unavailable" // it does not attach, and says why
	verdictOff         = "off"         // it attached, and counted wrong
	verdictBug         = "bug"         // the verifier refused it
)

// rank orders verdicts: a cell that falls to a greater one is lost.
var rank = map[string]int{verdictExact: 0, verdictApproximate: 1, verdictAttaches: 2, verdictUnavailable: 3, verdictOff: 4, verdictBug: 5}

// incidentAttach is the name of what needs no load: the attaching itself.
const incidentAttach = "attach"

// cell is one line that the guest writes: one signal, by one variant, in one
// incident. The guest begins with a line of type boot and ends with one of type
// done, which have no cell.
type cell struct {
	Type     string  `json:"type"` // boot, cell, done
	Signal   string  `json:"signal,omitempty"`
	Variant  string  `json:"variant,omitempty"`
	Incident string  `json:"incident,omitempty"`
	Verdict  string  `json:"verdict,omitempty"`
	Note     string  `json:"note,omitempty"`
	Best     bool    `json:"best,omitempty"` // herdtrace takes it if nobody forces another
	Seconds  float64 `json:"seconds,omitempty"`
	Log      string  `json:"log,omitempty"` // of one that is off

	Machine string `json:"-"`
}
