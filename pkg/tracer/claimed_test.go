// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pidStatLine has a field of the same number for each of the 52.
func pidStatLine(comm, utime, stime, start string) string {
	f := make([]string, 52)
	for i := range f {
		f[i] = fmt.Sprint(i + 1)
	}
	f[0], f[1], f[2], f[13], f[14], f[21] = "42", "("+comm+")", "R", utime, stime, start
	return strings.Join(f, " ") + "\n"
}

func TestParsePIDStat(t *testing.T) {
	want := processTimes{(100 + 23) * nsPerTick, 777}
	for _, comm := range []string{
		"sh", "", ")", ") ", ") R 1 (", "a) S 1 1 1 1 1 1 1 1 1 1 9 9 9 9 9 9 9 9 9 9 9 9", "a\nb", "\x1b[2J", "((((", "kworker/u8:2-ev", "\xff\xfe",
	} {
		if got, ok := parsePIDStat([]byte(pidStatLine(comm, "100", "23", "777")), 42); !ok || got != want {
			t.Errorf("comm %q: %+v %v, want %+v", comm, got, ok, want)
		}
	}
	sound := pidStatLine("sh", "100", "23", "777")
	for n := range strings.Index(sound, " 24 ") {
		if got, ok := parsePIDStat([]byte(sound[:n]), 42); ok {
			t.Errorf("cut off after %q: %+v", sound[:n], got)
		}
	}
	for name, line := range map[string]string{
		"of another process":       strings.Replace(sound, "42", "43", 1),
		"utime is no number":       pidStatLine("sh", "x", "1", "1"),
		"stime is negative":        pidStatLine("sh", "1", "-1", "1"),
		"start beyond 64 bits":     pidStatLine("sh", "1", "1", "18446744073709551616"),
		"the sum beyond 64 bits":   pidStatLine("sh", "18446744073709551615", "1", "1"),
		"the sum in ns beyond it":  pidStatLine("sh", "1844674407371", "0", "1"),
		"no comm":                  "42 1 2 3",
		"garbage":                  "\x00\x00)\x00",
		"a parenthesis at the end": sound + ")",
	} {
		if got, ok := parsePIDStat([]byte(line), 42); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got, ok := parsePIDStat([]byte(pidStatLine("sh", "1844674407370", "0", "1")), 42); !ok || got.usedNS != 1844674407370*nsPerTick {
		t.Errorf("the largest sum: %+v %v", got, ok)
	}
}

func FuzzParsePIDStat(f *testing.F) {
	f.Add([]byte(pidStatLine("a) b", "1", "2", "3")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := parsePIDStat(b, 42); !ok && got != (processTimes{}) {
			t.Errorf("%+v of what is not sound", got)
		}
	})
}

// burn uses CPU time on this thread.
func burn(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for start := threadTime(); threadTime()-start < d; {
	}
}

// startNS is when a process started, to 10 ms.
func (c *claims) startNS(t *testing.T, pid uint32) uint64 {
	t.Helper()
	st, ok := c.read(pid)
	if !ok {
		t.Fatalf("/proc/%d/stat cannot be read", pid)
	}
	return st.start * nsPerTick
}

func TestClaims(t *testing.T) {
	burn(30 * time.Millisecond)
	self := uint32(os.Getpid())
	seeded, late := newClaims(), newClaims()
	seeded.seed([]uint32{self, 0, 1 << 30})
	start := seeded.startNS(t, self)
	burn(100 * time.Millisecond)
	if got := late.of(self, start); got == nil || *got != 0 {
		t.Errorf("at the first look %v, want 0", got)
	}
	burn(100 * time.Millisecond)
	var ru unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &ru)
	for name, tt := range map[string]struct {
		c    *claims
		want time.Duration
	}{"seeded": {seeded, 200 * time.Millisecond}, "looked at late": {late, 100 * time.Millisecond}} {
		got := tt.c.of(self, start+3) // any time within the tick
		if got == nil {
			t.Fatalf("%s: nothing is known", name)
		}
		if most := uint64(ru.Utime.Nano() + ru.Stime.Nano()); *got+2*nsPerTick < uint64(tt.want) || *got > most+10*nsPerTick || *got%nsPerTick != 0 {
			t.Errorf("%s: %v, want at least %v and at most %v", name, time.Duration(*got), tt.want, time.Duration(most))
		}
	}
	if got := seeded.of(self, start+nsPerTick); got != nil {
		t.Errorf("of another process with this number: %d", *got)
	}
	if got := seeded.of(1<<30, start); got != nil {
		t.Errorf("of no process: %d", *got)
	}
}

// TestClaimsOfYoung: all that a process used counts if it started after attach, and
// nothing is kept of it; one that is gone is forgotten.
func TestClaimsOfYoung(t *testing.T) {
	time.Sleep(20 * time.Millisecond) // start times are cut to 10 ms
	c := newClaims()
	time.Sleep(20 * time.Millisecond)
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; read x")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1))
	pid := uint32(cmd.Process.Pid)
	start := c.startNS(t, pid)
	got := c.of(pid, start)
	b, _ := c.read(pid)
	if got == nil || *got != b.usedNS || *got == 0 || len(c.bases) != 0 {
		t.Errorf("claimed %v, want %d; %d are remembered", got, b.usedNS, len(c.bases))
	}
	old := &claims{attachNS: 1 << 63, bases: make(map[claimKey]uint64)}
	old.seed([]uint32{pid})
	in.Close()
	cmd.Wait()
	if got := old.of(pid, start); got != nil || len(old.bases) != 0 {
		t.Errorf("of one that is gone: %v, %d are remembered", got, len(old.bases))
	}
}

func TestClaimsBound(t *testing.T) {
	c := newClaims()
	for i := range uint64(claimsKept) {
		c.base(claimKey{1, i}, i)
	}
	self := uint32(os.Getpid())
	if got := c.of(self, c.startNS(t, self)); got != nil || len(c.bases) != claimsKept {
		t.Errorf("without room: %v, %d are remembered", got, len(c.bases))
	}
}

// BenchmarkClaims measures a look.
func BenchmarkClaims(b *testing.B) {
	c := newClaims()
	self := uint32(os.Getpid())
	b.ReportAllocs()
	for b.Loop() {
		c.read(self)
	}
}
