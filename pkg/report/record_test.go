// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecorderRoundTrip: what a replay records is what it replays.
func TestRecorderRoundTrip(t *testing.T) {
	for _, name := range recordings(t) {
		for _, ending := range []string{".jsonl", ".jsonl.gz"} {
			path := filepath.Join(t.TempDir(), name+ending)
			rec, err := NewRecorder(path)
			if err != nil {
				t.Fatal(err)
			}
			in := readRecording(t, name)
			var before, after bytes.Buffer
			replay(t, in, rec, NewJSON(&before))
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			replay(t, got, NewJSON(&after))
			if !bytes.Equal(before.Bytes(), after.Bytes()) {
				t.Errorf("%s: the replay of the copy differs", path)
			}
			if strings.HasSuffix(ending, ".gz") {
				got = unzip(t, got)
			}
			if !bytes.Equal(got, rewrite(t, in)) {
				t.Errorf("%s: the copy differs", path)
			}
		}
	}
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRecorderNeedsItsDirectory(t *testing.T) {
	if r, err := NewRecorder(filepath.Join(t.TempDir(), "none", "a.jsonl")); err == nil || r != nil {
		t.Errorf("recorder %v, error %v", r, err)
	}
}
