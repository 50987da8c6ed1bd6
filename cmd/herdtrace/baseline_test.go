// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"strings"
	"testing"
)

// TestBaseline: what is worse than a recording fails, what is better or alike passes,
// and what cannot be told is neither.
func TestBaseline(t *testing.T) {
	const real = "../../testdata/real/"
	for _, tt := range []struct {
		base, now string
		more      []string
		code      int
		says      string
	}{
		{"herd", "herd-cured", nil, 0, "verdict PASS: worse than"},
		{"herd", "herd", nil, 0, "no difference"},
		{"herd-cured", "herd", nil, 3, "accept-herd is new at listener 127.0.0.1:18080"},
		{"herd-cured", "herd-cured", []string{"--fail-on", "herd.wakeups_per_accept > 2"}, 0, "verdict PASS"},
		{"herd", "herd", []string{"--fail-on", "herd.wakeups_per_accept > 2"}, 3, "verdict FAIL: herd.wakeups_per_accept > 2"},
		{"hidden", "herd", nil, 4, "verdict INCONCLUSIVE"},
	} {
		t.Run(tt.base+" "+tt.now, func(t *testing.T) {
			args := append([]string{"report", real + tt.now + ".jsonl.gz", "--baseline", real + tt.base + ".jsonl.gz"}, tt.more...)
			out, stderr, code := cli(t, nil, args...)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if last := lines[len(lines)-1]; code != tt.code || !strings.Contains(last, tt.says) || stderr != "" {
				t.Errorf("exit %d, want %d; last line %q does not say %q; stderr %q", code, tt.code, last, tt.says, stderr)
			}
		})
	}
	if _, stderr, code := cli(t, nil, "report", real+"herd.jsonl.gz", "--baseline", "missing"); code != 1 || !strings.Contains(stderr, "read baseline: ") {
		t.Errorf("a baseline that is not there: exit %d, %q", code, stderr)
	}
	if _, stderr, code := cli(t, nil, "check", "--baseline", "x"); code != 2 || !strings.Contains(stderr, "takes no --baseline") {
		t.Errorf("check with a baseline: exit %d, %q", code, stderr)
	}
}
