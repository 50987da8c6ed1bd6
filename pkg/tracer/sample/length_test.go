// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// lengthOf is Length of a recording in memory, and what reading it all says.
func lengthOf(t *testing.T, in []byte) (length, read time.Duration, err error) {
	t.Helper()
	open := func() *Reader {
		r, err := NewReader(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ss, _ := readAll(open())
	if n := len(ss); n > 0 {
		read = time.Duration(ss[n-1].MonoNS - ss[0].MonoNS)
	}
	length, err = open().Length(context.Background())
	return length, read, err
}

func TestLength(t *testing.T) {
	recordings, err := filepath.Glob("../../../testdata/*.jsonl")
	if err != nil || len(recordings) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	recordings = append(recordings, writeFile(t, "a.jsonl.gz"))
	for _, path := range recordings {
		in, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want, err := lengthOf(t, in); got != want || want == 0 || err != nil {
			t.Errorf("%s: %s, error %v, want %s", filepath.Base(path), got, err, want)
		}
	}
}

// TestLengthOfCut: at every byte, the length is that of what can be read.
func TestLengthOfCut(t *testing.T) {
	for _, name := range []string{"a.jsonl", "a.jsonl.gz"} {
		whole, err := os.ReadFile(writeFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			if _, err := NewReader(bytes.NewReader(whole[:n])); err != nil {
				continue
			}
			if got, want, err := lengthOf(t, whole[:n]); got != want || err != nil {
				t.Errorf("%s cut at %d: %s, error %v, want %s", name, n, got, err, want)
			}
		}
	}
}

func TestLengthOfOthersLines(t *testing.T) {
	const head = `{"v":1,"type":"header"}` + "\n"
	for _, tt := range []struct {
		name, lines string
		want        time.Duration
		fails       bool
	}{
		{"none", "", 0, false},
		{"one", `{"type":"sample","mono_ns":7}`, 0, false},
		{"by jq -S", `{"mono_ns":3,"self":{"mono_ns":99},"type":"sample"}` + "\n" + `{ "mono_ns" : 9, "type" : "sample" }` + "\n", 6, false},
		{"unknown type", `{"type":"sample","mono_ns":3}` + "\n" + `{"type":"note","mono_ns":999}` + "\n" + `{"type":"sample","mono_ns":5}` + "\n", 2, false},
		{"no number", `{"type":"sample","mono_ns":3}` + "\n" + `{"type":"sample","mono_ns":5}` + "\n" + `{"type":"sample","mono_ns":"x"}` + "\n", 2, true},
		{"no JSON", `{"type":"sample","mono_ns":3}` + "\n" + `{"type":"sample","mono_ns":5}` + "\nnonsense\n", 2, true},
		{"backwards", `{"type":"sample","mono_ns":3}` + "\n" + `{"type":"sample","mono_ns":5}` + "\n" + `{"type":"sample","mono_ns":4}` + "\n", 2, true},
		{"too long for a Duration", `{"type":"sample","mono_ns":0}` + "\n" + `{"type":"sample","mono_ns":18446744073709551615}` + "\n", 1<<63 - 1, false},
	} {
		r, err := NewReader(bytes.NewReader([]byte(head + tt.lines)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Length(context.Background()); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %d, error %v; want %d, an error: %v", tt.name, got, err, tt.want, tt.fails)
		}
	}
}

// endless is a recording that does not end by itself, and who ends it.
type endless struct {
	head, line []byte
	lines      int
	cancel     func()
}

func (e *endless) Read(b []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(b, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	if e.lines++; e.lines == 100 {
		e.cancel()
	}
	if e.lines > 100_000 {
		return 0, io.ErrNoProgress
	}
	return copy(b, e.line), nil
}

func TestLengthIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, err := NewReader(&endless{head: []byte(`{"v":1,"type":"header"}` + "\n"), line: []byte(`{"type":"sample","mono_ns":1}` + "\n"), cancel: cancel})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Length(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}
