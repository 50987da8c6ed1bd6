// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stormSeed repeats a storm that did harm.
const stormSeed = "HERDTRACE_STORM_SEED"

// TestStorm: no keys, mouse or sizes end the screen or leave the terminal broken,
// until q does.
func TestStorm(t *testing.T) {
	seeds := []uint64{1, 2, uint64(time.Now().UnixNano())}
	if v := os.Getenv(stormSeed); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: %v", stormSeed, v, err)
		}
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		recording := []string{"herd-cured", "cfs-throttle", "hostile"}[seed%3]
		t.Run(recording, func(t *testing.T) {
			t.Logf("%s=%d", stormSeed, seed)
			weather(t, recording, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

const stormLength = 200

func weather(t *testing.T, recording string, r *rand.Rand) {
	p := replayAt(t, 80, 24, recording)
	for range stormLength {
		if r.IntN(4) == 0 {
			p.resize(1+r.IntN(220), 1+r.IntN(70))
			continue
		}
		p.press(randomKey(r))
		p.read()
	}
	if !p.alive() {
		t.Error("it ended before q")
	}
	p.resize(100, 30)
	p.leave()
	p.ended(0)
	p.restored()
}

// leave presses q until that is a command: a key may have opened a prompt, which Esc
// closes, or begun a paste, which Esc ends.
func (p *pty) leave() {
	p.t.Helper()
	for end := time.Now().Add(60 * time.Second); p.alive(); {
		if time.Now().After(end) {
			p.t.Fatalf("q does not end it; it wrote %q", tail(p.sent()))
		}
		p.press("\x1b")
		p.read()
		time.Sleep(100 * time.Millisecond) // Esc and a letter at once is another key
		p.press("q")
		// A second q, live.Patience later, would not wait for its end.
		for wait := time.Now().Add(3 * time.Second); p.alive() && time.Now().Before(wait); time.Sleep(10 * time.Millisecond) {
		}
	}
}

// read waits until the program has read all keys.
func (p *pty) read() {
	p.t.Helper()
	eventually(p.t, "the keys are read", func() bool {
		n, err := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCINQ)
		return err != nil || n == 0 || !p.alive()
	})
}

// alive reports whether the program has not ended.
func (p *pty) alive() bool {
	select {
	case rc := <-p.rc:
		p.rc <- rc
		return false
	default:
		return true
	}
}

// stormKeys are those that do not end the program, nor stop it: not q, ^C, F10, ^Z.
var stormKeys = []string{
	"\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~", "\x1b[H", "\x1b[F", "\x1bOA", "\x1bOP", "\x1bOQ", "\x1bOR",
	"\x1b[15~", "\x1b[17~", "\x1b[18~", "\x1b[3~", "\x1b[Z", "\r", "\t", "\x7f", "\x1b", "\x0c", "\x12", "\x01", "\x02", "\x00",
	"\x1b[1;5A", "\x1b[1;2D", "\x1bx", "\x1b[200~pasted\x1b[201~", "\x1b[200~never ended", "\x1b[201~", "\x1b[I", "\x1b[O", "\xff\xfe", "ä", "日", "\x1b]0;title\x07", "\x1bP1$r0m\x1b\\",
	"/api\r", "/port:80\r", "/\x1b", "/comm:x\x7f\x7f", "\x1b[", "\x1b[<", "\x1b[?1;2c",
}

func randomKey(r *rand.Rand) string {
	switch r.IntN(4) {
	case 0:
		return stormKeys[r.IntN(len(stormKeys))]
	case 1: // the mouse: press, release, move, wheel; also out of bounds
		return fmt.Sprintf("\x1b[<%d;%d;%d%c", []int{0, 1, 2, 32, 35, 64, 65}[r.IntN(7)], r.IntN(250), r.IntN(80), "Mm"[r.IntN(2)])
	case 2:
		return string(rune('0' + r.IntN(10)))
	}
	for {
		if c := ' ' + rune(r.IntN('~'-' '+1)); c != 'q' && c != 'Q' {
			return string(c)
		}
	}
}
