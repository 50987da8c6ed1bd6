// SPDX-License-Identifier: Apache-2.0

package live

import "strconv"

// SetDeck says what the screen plays; before Begin.
func (s *Screen) SetDeck(d Deck) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deck = d
}

// Rewind forgets what was seen: the next Step is the first one again.
func (s *Screen) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = View{Header: s.newest.Header}
}

// Hold keeps the picture as it is, whatever Step brings, until Hold(false).
func (s *Screen) Hold(on bool) {
	s.mu.Lock()
	s.held = on
	s.mu.Unlock()
	if !on {
		s.redraw()
	}
}

// words are what the bottom line says of s.
func (s DeckState) words() string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Seeking:
		return "seeking…"
	case s.AtEnd:
		return "end of the recording, q quits"
	case s.Paused:
		return "paused"
	case s.Speed != 1:
		return strconv.FormatFloat(s.Speed, 'g', -1, 64) + "x"
	}
	return ""
}
