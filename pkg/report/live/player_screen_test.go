// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// long writes a recording of n ticks, a second apart: those of a file of testdata,
// over and over.
func long(t testing.TB, name string, n int) []byte {
	t.Helper()
	in, err := os.ReadFile(filepath.Join("../../../testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	head, lines, _ := strings.Cut(strings.TrimSpace(string(in)), "\n")
	h := &sample.Header{}
	if err := json.Unmarshal([]byte(head), h); err != nil {
		t.Fatal(err)
	}
	ticks := strings.Split(lines, "\n")
	var out bytes.Buffer
	w := sample.NewWriter(&out)
	err = w.WriteHeader(h)
	for i := range n {
		s := &sample.Sample{}
		err = errors.Join(err, json.Unmarshal([]byte(ticks[i%len(ticks)]), s))
		s.MonoNS, s.Final = h.MonoNS+uint64(i)*second, false
		err = errors.Join(err, w.WriteSample(s))
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestPlayerOnScreen: keys and ticks at a time, on a terminal.
func TestPlayerOnScreen(t *testing.T) {
	in := long(t, "runq-pile.jsonl", 600)
	s, term := unopened(t, Options{})
	p := NewPlayer(s, PlayerOptions{Limits: diagnose.DefaultLimits(), Speed: MaxSpeed, Open: func() (Recording, error) {
		return sample.NewReader(bytes.NewReader(in))
	}})
	ctx, quit := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if sum, err := p.Run(ctx); err != nil || sum.Last.Elapsed != 599*time.Second {
			t.Errorf("error %v, summary of %s", err, sum.Last.Elapsed)
		}
	}()
	term.await(t, "x64")
	p.Press(SeekTo, time.Hour)
	term.await(t, "END")
	term.await(t, "of 00:09:59")
	for range 6 {
		term.SendRaw([]byte(",.j\x1b[D\x1b[C?")) // step back and on, an arrow to the left and to the right
	}
	term.SendRaw([]byte("t1:40\r")) // after all of these
	term.await(t, "PAUSED")
	term.await(t, "  00:01:40")
	term.SendRaw([]byte("t8:20\r"))
	term.SendRaw([]byte("."))
	term.await(t, "  00:08:21")
	quit()
	wait(t, done)
	if s := p.State(); s.Length != 599*time.Second || s.At != 501*time.Second || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if err := s.End(nil); err != nil {
		t.Error(err)
	}
}

// TestHold: what happens in silence is drawn in the end, and what was before
// Rewind is forgotten.
func TestHold(t *testing.T) {
	s, term := open(t, Options{})
	s.Step(step(herdView()))
	term.await(t, "gunicorn")
	s.Hold(true)
	s.Rewind()
	s.Step(step(healthyView()))
	term.SendRaw([]byte("1"))
	term.await(t, "[1 HERD") // drawn anew, of what was there
	term.await(t, "gunicorn")
	s.Hold(false)
	term.await(t, "redis-server")
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.newest.view(); len(v.Events) != len(healthyView().Frame.Events) || v.Header == nil || v.History.tick != 1 {
		t.Errorf("%d events, header %v, %d ticks", len(v.Events), v.Header, v.History.tick)
	}
}

// BenchmarkRerun: what it takes to go back to the end of 600 ticks.
func BenchmarkRerun(b *testing.B) {
	for _, name := range []string{"herd-cured.jsonl", "runq-pile.jsonl", "cfs-throttle.jsonl"} {
		in := long(b, name, 600)
		b.Run(fmt.Sprintf("%s, %d KiB a tick", strings.TrimSuffix(name, ".jsonl"), len(in)/600/1024), func(b *testing.B) {
			for b.Loop() {
				rec, err := sample.NewReader(bytes.NewReader(in))
				if err != nil {
					b.Fatal(err)
				}
				t := newTrack(rec, diagnose.DefaultLimits())
				s := New(Options{})
				for {
					step, err := t.pipe.Next(context.Background())
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					s.Step(step)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/600ticks")
		})
		b.Run(strings.TrimSuffix(name, ".jsonl")+", its length", func(b *testing.B) {
			for b.Loop() {
				rec, err := sample.NewReader(bytes.NewReader(in))
				if err != nil {
					b.Fatal(err)
				}
				if d, err := rec.Length(context.Background()); err != nil || d != 599*time.Second {
					b.Fatal(d, err)
				}
			}
		})
	}
}
