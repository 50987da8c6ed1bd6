// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiff: two recordings give text, an object, or both, and with --fail-on an
// exit code; what cannot be told is never a pass.
func TestDiff(t *testing.T) {
	const herd, healthy = "../../testdata/herd-cured.jsonl", "../../testdata/healthy-sched.jsonl"
	dir := t.TempDir()
	object := filepath.Join(dir, "diff.json")
	text, stderr, code := cli(t, nil, "diff", herd, herd, "--json="+object)
	if code != 0 || stderr != "" || !strings.HasPrefix(text, "herdtrace diff: NO DIFFERENCE\n") {
		t.Errorf("exit %d, stderr %q, %s", code, stderr, text)
	}
	file, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	out, _, code := cli(t, nil, "diff", herd, herd, "--json")
	if code != 0 || !bytes.Equal([]byte(out), file) || !json.Valid(file) {
		t.Errorf("exit %d, the object on stdout is not that of the file: %s", code, out)
	}
	worse := filepath.Join(dir, "worse.jsonl")
	in, err := os.ReadFile(herd)
	if err != nil {
		t.Fatal(err)
	}
	// The same, but for what the herd is about: before it is there, and after it.
	lines := strings.SplitAfter(string(in), "\n")
	writeFile(t, worse, strings.Join(lines[:7], ""))
	calm := filepath.Join(dir, "calm.jsonl")
	writeFile(t, calm, lines[0]+strings.Join(lines[6:13], ""))
	for _, tt := range []struct {
		a, b string
		code int
		says string
	}{
		{herd, herd, 0, "NO DIFFERENCE"},
		{worse, calm, 0, "FIXED"},
		{calm, worse, 3, "WORSE"},
		{herd, healthy, 4, "INCONCLUSIVE"},
		{"../../testdata/not-measured.jsonl", "../../testdata/not-measured.jsonl", 4, "NO DIFFERENCE"},
	} {
		out, stderr, code := cli(t, nil, "diff", "--fail-on=worse", tt.a, tt.b)
		if code != tt.code || stderr != "" || !strings.HasPrefix(out, "herdtrace diff: "+tt.says) {
			t.Errorf("%s, %s: exit %d, want %d and %s: %s%s", tt.a, tt.b, code, tt.code, tt.says, stderr, out)
		}
		if _, _, code := cli(t, nil, "diff", tt.a, tt.b); code != 0 {
			t.Errorf("%s, %s: exit %d without --fail-on", tt.a, tt.b, code)
		}
	}
	cut := filepath.Join(dir, "cut.jsonl")
	writeFile(t, cut, string(in[:len(in)-100]))
	if out, _, code := cli(t, nil, "diff", cut, herd); code != 0 || !strings.Contains(out, "note: A ends in the middle of a line") {
		t.Errorf("exit %d: %s", code, out)
	}
}
