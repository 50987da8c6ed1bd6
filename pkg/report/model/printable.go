// SPDX-License-Identifier: Apache-2.0

package model

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes a name that somebody else chose (a comm, a socket path) safe
// for a line of text: control bytes, invalid UTF-8 and invisible or
// direction-changing characters become '?'. What is left needs no terminal or
// log to be trusted with it; JSON, XML and HTML sinks escape on top of it.
func Printable(s string) string {
	if plain(s) {
		return s
	}
	clean := func(r rune) bool {
		return r != utf8.RuneError && unicode.IsPrint(r) &&
			!unicode.In(r, unicode.Bidi_Control, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
	}
	ok := true
	for _, r := range s {
		ok = ok && clean(r)
	}
	if ok {
		return s
	}
	return strings.Map(func(r rune) rune {
		if clean(r) {
			return r
		}
		return '?'
	}, s)
}

// plain reports whether s is printable ASCII, as nearly every name is. The live
// screen asks for each cell at each tick.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
