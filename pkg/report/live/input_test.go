// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/gdamore/tcell/v3"
)

// typed is a terminal on which in was typed.
type typed struct {
	tcell.Tty
	in io.Reader
}

func (t *typed) Read(p []byte) (int, error) { return t.in.Read(p) }

func TestKeyboard(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"q\x1b[A":                    "q\x1b[A",
		"\xff\xfeq":                  "q",
		"日本\xe6\x97q":                "日本q", // broken off
		"\xe4":                       "",    // Latin-1, and nothing after it
		"a\xc3\x28b\xf0\x90\x28\xbc": "a(b(",
		"\xef\xbf\xbd":               "\xef\xbf\xbd", // U+FFFD itself
		"\xed\xa0\x80x\xc0\x80":      "x",            // a surrogate, and an overlong zero
		strings.Repeat("é\xe9", 200): strings.Repeat("é", 200),
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
			got, err := io.ReadAll(&keyboard{Tty: &typed{in: r}})
			if err != nil || string(got) != want {
				t.Errorf("%q, %s: %q, %v; want %q", in, name, got, err, want)
			}
		}
	}
}

func FuzzKeyboard(f *testing.F) {
	f.Add([]byte("q\xff日\xe6\x97"), 3)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		k := &keyboard{Tty: &typed{in: bytes.NewReader(in)}}
		buf := make([]byte, utf8.UTFMax+min(max(size, 0), 128))
		var all []byte
		for {
			n, err := k.Read(buf)
			if all = append(all, buf[:n]...); !utf8.Valid(buf[:n]) {
				t.Fatalf("%q of %q", buf[:n], in)
			}
			if err != nil {
				break
			}
		}
		if utf8.Valid(in) && !bytes.Equal(all, in) {
			t.Errorf("%q, want %q", all, in)
		}
	})
}

// TestNoiseIsNoKey: bytes that are no UTF-8 leave the screen alive.
func TestNoiseIsNoKey(t *testing.T) {
	s, term := open(t, Options{})
	term.SendRaw([]byte("\xff\xfe\xe4"))
	term.SendRaw([]byte("?"))
	term.await(t, "─ HELP ─")
	term.SendRaw([]byte("q"))
	wait(t, s.Done())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
