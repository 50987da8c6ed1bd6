// SPDX-License-Identifier: Apache-2.0

package live

import (
	"unicode/utf8"

	"github.com/gdamore/tcell/v3"
)

// keyboard is a terminal whose input is UTF-8: what is not (a byte of another
// charset, noise on a line) is no key, and is left out. tcell would look at it for
// ever (v3.6.0: tScreen.scanInput(), whose decoder refuses it without taking it),
// and take no key, nor give the terminal back.
type keyboard struct {
	tcell.Tty
	begun []byte // of a character whose end was not read yet
}

// Read implements io.Reader. p must hold a few characters.
func (k *keyboard) Read(p []byte) (int, error) {
	n := copy(p, k.begun)
	m, err := k.Tty.Read(p[n:])
	in, out := p[:n+m], p[:0]
	for len(in) > 0 && utf8.FullRune(in) {
		r, size := utf8.DecodeRune(in)
		if r != utf8.RuneError || size > 1 {
			out = append(out, in[:size]...)
		}
		in = in[size:]
	}
	k.begun = append(k.begun[:0], in...)
	return len(out), err
}
