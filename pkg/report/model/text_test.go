// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func TestListenerName(t *testing.T) {
	tests := []struct {
		l    sample.Listener
		want string
	}{
		{sample.Listener{Proto: "tcp", Addr: "127.0.0.1", Port: 80}, "127.0.0.1:80"},
		{sample.Listener{Proto: "tcp", Addr: "0.0.0.0", Port: 65535}, "0.0.0.0:65535"},
		{sample.Listener{Proto: "tcp", Addr: "::1", Port: 80, V6Only: true}, "[::1]:80"},
		{sample.Listener{Proto: "tcp", Addr: "::", Port: 80}, "[::]:80"},
		{sample.Listener{Proto: "mptcp", Addr: "::", Port: 80}, "[::]:80"},
		{sample.Listener{Proto: "tcp", Addr: "::ffff:10.0.0.1", Port: 80}, "[::ffff:10.0.0.1]:80"},
		{sample.Listener{Proto: "unix", Addr: "/run/app.sock"}, "unix:/run/app.sock"},
		{sample.Listener{Proto: "unix", Addr: "@abstract"}, "unix:@abstract"},
		{sample.Listener{Proto: "unix", Addr: "127.0.0.1"}, "unix:127.0.0.1"},
		{sample.Listener{Proto: "unix"}, "unix:"},
		{sample.Listener{Proto: "unix", Addr: "/tmp/\x1b[2J\n\xff"}, "unix:/tmp/\x1b[2J\n\xff"}, // sinks escape it
		{sample.Listener{Proto: "tcp", Addr: "not an address", Port: 1}, "not an address:1"},
	}
	for _, tt := range tests {
		if got := ListenerName(&tt.l); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.l, got, tt.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"gunicorn: master [app]":      "gunicorn: master [app]",
		"工人 café ñ":                   "工人 café ñ",
		"😀":                           "😀",
		"a\tb\nc\rd\x00e\x7f":         "a?b?c?d?e?",
		"\x1b[2J\x1b]0;title\x07":     "?[2J?]0;title?",
		"c1 \u0085 \u009b31m":         "c1 ? ?31m",
		"bidi \u202etxt.exe\u2066":    "bidi ?txt.exe?",
		"\u200f\u061c":                "??",
		"zero\u200bwidth\u200d\ufeff": "zero?width??",
		"hangul filler \u3164":        "hangul filler ?",
		"variation \ufe0f":            "variation ?",
		"line\u2028sep\u2029":         "line?sep?",
		"nbsp\u00a0":                  "nbsp?",
		"tag \U000e0041":              "tag ?",
		"private \ue000":              "private ?",
		"bad \xff\xc3(":               "bad ??(",
		"replaced \ufffd":             "replaced ?",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%+q: %+q, want %+q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"app", "工人", "\x1b[2J", "\u202e\u200b", "\xff\xfe", "a\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := Printable(in)
		if !utf8.ValidString(out) || Printable(out) != out {
			t.Fatalf("%+q: %+q", in, out)
		}
		if n := len([]rune(in)); len([]rune(out)) != n {
			t.Errorf("%+q: %+q is not a rune for each of %d", in, out, n)
		}
		if i := strings.IndexFunc(out, func(r rune) bool {
			return r < ' ' || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Bidi_Control, r)
		}); i >= 0 {
			t.Errorf("%+q: %+q", in, out)
		}
	})
}

func TestNum(t *testing.T) {
	for _, tt := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {math.NaN(), "-"}, {0.04, "0.0"}, {0.05, "0.1"}, {1, "1.0"}, {9.94, "9.9"}, {9.95, "10"}, {10, "10"},
		{999.4, "999"}, {999.5, "1.0k"}, {1049, "1.0k"}, {9949, "9.9k"}, {9950, "10k"}, {12345, "12k"}, {999.4e3, "999k"},
		{999.5e3, "1.0M"}, {1.25e6, "1.2M"}, {12.34e6, "12.3M"},
	} {
		if got := Num(tt.v); got != tt.want {
			t.Errorf("Num(%v) = %q, want %q", tt.v, got, tt.want)
		}
	}
}
