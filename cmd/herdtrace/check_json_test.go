// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestCheckJSON: each variant has a line, also those that herdtrace would not
// take, and each signal has one that it would.
func TestCheckJSON(t *testing.T) {
	needRoot(t)
	for _, args := range [][]string{{"check", "--json"}, {"check", "--json", "--variant", "wake=set_state"}} {
		out, stderr, code := cli(t, nil, args...)
		if code != 0 {
			t.Fatalf("%q: exit %d: %s", args, code, stderr)
		}
		best := make(map[string]string)
		lines := make(map[string]int)
		for line := range strings.Lines(out) {
			var v variantRecord
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			lines[v.Signal]++
			switch {
			case v.V != 1 || v.Type != "variant" || v.Verifier:
				t.Errorf("%q: not a variant, or a bug", line)
			case (v.Accuracy == "unavailable") != (v.Error != ""):
				t.Errorf("%q: unavailable and a reason go together", line)
			case v.Best && best[v.Signal] != "":
				t.Errorf("%s and %s of %s are both the best", best[v.Signal], v.Variant, v.Signal)
			case v.Best:
				best[v.Signal] = v.Variant
			}
		}
		if len(best) != 8 || len(lines) != 8 {
			t.Errorf("%q: best of each signal %v, want one for each of 8", args, best)
		}
		if forced := len(args) > 2; forced && (lines["wake"] != 1 || best["wake"] != "set_state") || !forced && lines["wake"] < 2 {
			t.Errorf("%q: %d variants of wake, the best %q", args, lines["wake"], best["wake"])
		}
	}
}
