// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// needProtoc skips a test where protoc is not installed, unless everything is to be
// tested: make test installs it.
func needProtoc(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("protoc"); err != nil {
		if os.Getenv("HERDTRACE_ROOT_TESTS") == "1" || os.Getenv("CI") != "" {
			t.Fatal("find protoc: ", err)
		}
		t.Skip("protoc is not installed (protobuf-compiler)")
	}
}

func protoc(t *testing.T, in []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command("protoc", args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("protoc %v: %v\n%s", args, err, stderr.String())
	}
	return out.String()
}

// TestProtocDecodes: protoc reads each trace by the public schema, every packet
// of it, and finds no field that the schema does not have.
func TestProtocDecodes(t *testing.T) {
	needProtoc(t)
	unknown := regexp.MustCompile(`(?m)^ *[0-9]+(:| \{).*`)
	for _, name := range names(t) {
		in, _, _ := traced(t, name)
		s := decode(t, in)
		out := protoc(t, in, "--decode=herdtrace.perfetto.Trace", "testdata/trace.proto")
		if m := unknown.FindString(out); m != "" {
			t.Errorf("%s: a field that the schema does not have: %s", name, m)
		}
		for what, want := range map[string]int{
			"packet {":                s.packets,
			"  track_event {":         s.events,
			"  track_descriptor {":    len(s.inOrder),
			"  timestamp_clock_id: 3": s.events + 1,
			"    primary_trace_clock: BUILTIN_CLOCK_MONOTONIC": 1,
		} {
			if got := strings.Count("\n"+out, "\n"+what+"\n"); got != want {
				t.Errorf("%s: %d times %q, want %d", name, got, what, want)
			}
		}
		for _, tr := range s.inOrder {
			if !strings.Contains(out, fmt.Sprintf("    uuid: %d\n", tr.uuid)) {
				t.Errorf("%s: no track %d", name, tr.uuid)
			}
		}
	}
}

// TestProtocDecodesRaw: the same without any schema, by the bare numbers.
func TestProtocDecodesRaw(t *testing.T) {
	needProtoc(t)
	in, frames, _ := traced(t, "accept-queue-overflow")
	out := protoc(t, in, "--decode_raw")
	for _, want := range []string{
		"\n  6 {\n    1 {\n      1: 3\n", // ClockSnapshot.clocks.clock_id
		fmt.Sprintf("      2: %d\n", frames[0].Header.MonoNS),
		"\n    2: 3\n", // primary_trace_clock
		"\n    2: \"Findings\"\n",
		"\n    2: \"Listeners\"\n",
		"\n    23: \"CRIT listener 0.0.0.0:8000 (gunicorn, 2 workers)\"\n",
		"\n    4 {\n      10: \"remedy\"\n      6: \"",
		"\n    9: 4\n    11: ",
		"\n    30: 129\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("protoc --decode_raw does not show %q", want)
		}
	}
}
