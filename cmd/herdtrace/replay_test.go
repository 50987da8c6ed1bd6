// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/report/live"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestReplayOnTerminal: played to its end, and left, a recording leaves behind what
// a replay in lines does.
func TestReplayOnTerminal(t *testing.T) {
	needTmux(t)
	const rec = "../../testdata/herd-cured.jsonl"
	lines, stderr, code := cli(t, nil, "replay", rec, "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	played := filepath.Join(t.TempDir(), "played.ndjson")
	path, err := filepath.Abs(rec)
	if err != nil {
		t.Fatal(err)
	}
	term := newTerminal(t, 100, 30, tool(t, "herdtrace")+" replay "+path+" --from 2 --speed 64 --json="+played)
	term.shows("END", "x64")
	term.tmux("send-keys", ",")
	term.shows("PAUSED")
	term.tmux("send-keys", ".")
	term.shows("END")
	term.tmux("send-keys", "q")
	term.shows("herdtrace: ", "accept-herd", "trace cost", "rc=0")
	got, err := os.ReadFile(played)
	if err != nil || string(got) != lines {
		t.Errorf("the NDJSON has %d bytes, error %v; %d in line mode", len(got), err, len(lines))
	}
}

// TestOpener: a file is opened at its begin again and again, a pipe is not.
func TestOpener(t *testing.T) {
	rec := filepath.Join(t.TempDir(), "rec.jsonl")
	in, err := os.ReadFile("../../testdata/lost.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rec, in, 0o644); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := sample.Open(rec)
	if err != nil {
		t.Fatal(err)
	}
	open := opener(rec, r)
	for n := range 3 {
		got, err := open()
		if err != nil || (got == r) != (n == 0) {
			t.Fatalf("time %d: %v, error %v", n, got, err)
		}
		ticks := 0
		for ; err == nil; ticks++ {
			_, err = got.Next(context.Background())
		}
		if err != io.EOF || ticks != 6 {
			t.Errorf("time %d: %d ticks, error %v", n, ticks-1, err)
		}
		got.Close()
	}
	os.Remove(rec)
	if got, err := open(); got != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is gone: %v, error %v", got, err)
	}
	for _, path := range []string{"-", pipe} {
		open := opener(path, r)
		if got, err := open(); got != r || err != nil {
			t.Errorf("%s: %v, error %v", path, got, err)
		}
		if got, err := open(); got != nil || err != live.ErrOneWay {
			t.Errorf("%s again: %v, error %v", path, got, err)
		}
	}
}
