// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"time"
)

// Deck is what a screen plays: keys that move in time go to it. Its methods are
// called by the screen's goroutine and must not wait.
type Deck interface {
	// Press asks for a, with the time from the first Sample for SeekTo and by how
	// far, which may be negative, for SeekBy; else by is 0.
	Press(a DeckAction, by time.Duration)
	// State is where it is.
	State() DeckState
}

// DeckAction is what a key asks of a Deck.
type DeckAction uint8

// The actions.
const (
	PlayPause   DeckAction = iota
	StepForward            // by one tick, and pause
	StepBack
	Faster // twice
	Slower
	SeekBy // keeps what it did, playing or not
	SeekTo
)

// DeckState is where a Deck is. Times are since the first Sample.
type DeckState struct {
	At      time.Duration // of what is shown
	Length  time.Duration // of the last Sample; 0 while that is not known
	Speed   float64       // 1: as it was recorded
	Paused  bool
	AtEnd   bool // there is no more
	Seeking bool // it is on its way, which takes a while
	Error   string
}

// parts are what the header line says of a replay.
func (d *DeckState) parts() []part {
	text := "replay"
	if d.Length > 0 {
		text += " of " + clock(d.Length)
	}
	if d.Speed != 1 && d.Speed != 0 {
		text += fmt.Sprintf(" x%g", d.Speed)
	}
	parts := []part{{text, 7, Normal}}
	switch {
	case d.Error != "":
		parts = append(parts, part{"ERROR " + clip(safe(d.Error), 60), 10, Crit})
	case d.Seeking:
		parts = append(parts, part{"SEEKING", 10, Warn})
	case d.AtEnd:
		parts = append(parts, part{"END", 10, Warn})
	case d.Paused:
		parts = append(parts, part{"PAUSED", 10, Warn})
	}
	return parts
}
