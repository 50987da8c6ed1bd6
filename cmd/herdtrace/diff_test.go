// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
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
	worse, calm := filepath.Join(dir, "worse.jsonl"), filepath.Join(dir, "calm.jsonl.gz")
	withWakeups(t, herd, worse, 8)
	withWakeups(t, herd, calm, 1)
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
	in, err := os.ReadFile(herd)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut.jsonl")
	writeFile(t, cut, string(in[:len(in)-100]))
	if out, _, code := cli(t, nil, "diff", cut, herd); code != 0 || !strings.Contains(out, "note: A ends in the middle of a line") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// withWakeups writes a recording again with so many wake-ups for each accept.
func withWakeups(t *testing.T, from, to string, perAccept uint64) {
	t.Helper()
	r, err := sample.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := sample.Create(to)
	if err == nil {
		err = w.WriteHeader(r.Header())
	}
	for err == nil {
		var s *sample.Sample
		if s, err = r.Next(context.Background()); err == nil {
			for i := range s.Accept.Listeners {
				l := &s.Accept.Listeners[i]
				l.WakeupsTotal = perAccept * l.AcceptsTotal
			}
			err = w.WriteSample(s)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
