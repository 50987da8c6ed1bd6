// SPDX-License-Identifier: Apache-2.0

package diagnose

import "time"

// Limits are all thresholds of all detectors. Where they come from: a
// level-triggered herd of N workers shows N wake-ups per connection; every
// healthy server that was measured under full load at most 1.05.
type Limits struct {
	// Window is what herd and stall are judged over.
	Window time.Duration
	// ClearAfter is how long a cause must be gone before its finding clears.
	ClearAfter time.Duration

	// A herd: at least HerdRatio wake-ups per connection, HerdUselessPerS
	// wake-ups beyond one per connection, HerdMinConns connections in the
	// window. It is calm below HerdCalmRatio or HerdCalmPerS.
	HerdRatio       float64
	HerdUselessPerS float64
	HerdMinConns    uint64
	HerdCalmRatio   float64
	HerdCalmPerS    float64
	// It is critical from HerdCritRatio on, if it burns HerdCritCPU of a core.
	HerdCritRatio float64
	HerdCritCPU   float64

	// A stall: in StallShare of the looks at the queue within the window, and
	// in StallMinLooks, connections waited and all workers slept.
	StallShare    float64
	StallMinLooks uint64

	// A skew that costs something: for SkewFor the busiest worker ran SkewRun
	// of a core, slept at most SkewSleepsPerS times a second (so there was
	// always another client to serve) and took SkewTimesFair of its fair share of connections, while
	// the median of the others wanted at most SkewOthers of a core and
	// SkewHostIdle cores were idle. SkewMinConns is the least number of
	// connections, since attach, to speak of shares at all.
	SkewFor        time.Duration
	SkewRun        float64
	SkewSleepsPerS float64
	SkewTimesFair  float64
	SkewOthers     float64
	SkewHostIdle   float64
	SkewMinConns   uint64
}

// DefaultLimits are the ones herdtrace uses.
func DefaultLimits() Limits {
	return Limits{
		Window:     2 * time.Second,
		ClearAfter: 3 * time.Second,

		HerdRatio:       1.8,
		HerdUselessPerS: 100,
		HerdMinConns:    20,
		HerdCalmRatio:   1.5,
		HerdCalmPerS:    50,
		HerdCritRatio:   4,
		HerdCritCPU:     0.02,

		StallShare:    0.8,
		StallMinLooks: 5,

		SkewFor:        3 * time.Second,
		SkewRun:        0.9,
		SkewSleepsPerS: 20,
		SkewTimesFair:  2,
		SkewOthers:     0.5,
		SkewHostIdle:   0.6,
		SkewMinConns:   200,
	}
}
