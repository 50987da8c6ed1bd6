// SPDX-License-Identifier: Apache-2.0

package sampletest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestWrite: what is written can be read back, and has the size that it claims.
func TestWrite(t *testing.T) {
	l := Crowded()
	const ticks = 3
	var b bytes.Buffer
	if err := l.Write(&b, ticks); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes for a tick", b.Len()/ticks)
	r, err := sample.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		s, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		got := Load{len(s.Accept.Listeners), len(s.Accept.Listeners[0].Workers), len(s.CPUs), len(s.CGroups) - 2, len(s.Sched.Processes)}
		if got != l {
			t.Errorf("tick %d: %+v, want %+v", n, got, l)
		}
	}
	if n != ticks {
		t.Errorf("%d ticks, want %d", n, ticks)
	}
}

// TestGrown: a counter rises by half to one and a half of its rate, and by
// another amount each time.
func TestGrown(t *testing.T) {
	const rate = 1000
	seen := make(map[uint64]bool)
	for at := range uint64(100) {
		d := grown(1, at+1, rate) - grown(1, at, rate)
		if d < rate/2 || d > rate*3/2 {
			t.Errorf("from %d to %d: %d, want %d to %d", at, at+1, d, rate/2, rate*3/2)
		}
		seen[d] = true
	}
	if len(seen) < 30 {
		t.Errorf("%d steps of %d differ", len(seen), 100)
	}
}
