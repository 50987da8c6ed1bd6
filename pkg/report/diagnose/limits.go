// SPDX-License-Identifier: Apache-2.0

package diagnose

import "time"

// Limits are all thresholds of all detectors. Where they come from: a
// level-triggered herd of N workers shows N wake-ups per connection; every
// healthy server that was measured under full load at most 1.05.
type Limits struct {
	// Window is what rates and counts are judged over.
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

	// Refusals, at either queue. A healthy server has none, and each one costs
	// a client a second or more; but one client may be refused four times in
	// two seconds (at the final ACK its data is repeated after 0.2, 0.6 and
	// 1.4 s), and one or two at a start are over before anyone has looked. So:
	// RefusedMin in the window, or fewer that go on for RefusedTrickle.
	RefusedMin     uint64
	RefusedTrickle time.Duration
	// They are critical at RefusedCritPerS, or where they are RefusedCritRatio
	// of the attempts to connect: then the 99th percentile is a second.
	RefusedCritPerS  float64
	RefusedCritRatio float64

	// A long wait: at every tick of the window at least WaitMinLen connections
	// were in the accept queue, which is more than bursts leave behind, and at
	// the rate at which they are accepted that is WaitSeconds, the time that a
	// refused SYN costs. Three quarters of the window must have been seen: two
	// ticks of a second are rarely two whole seconds.
	WaitMinLen      uint32
	WaitSeconds     float64
	WaitCritSeconds float64

	// What the workers did meanwhile. These name a cause and raise nothing, and
	// leave a gap in which none is named: WorkersWait of the time runnable
	// without a core, WorkersRun running or runnable, at most WorkersAwake so.
	// HostIdle cores are cores that one more worker could use. Where nobody
	// accepted for NobodyFor, the queue is not what is too short. A queue that
	// is full less than FullShare of the time is full in bursts.
	WorkersWait  float64
	WorkersRun   float64
	WorkersAwake float64
	HostIdle     float64
	NobodyFor    time.Duration
	FullShare    float64

	// CookiesPerS SYN cookies: less is a moment's burst, and harms nobody.
	CookiesPerS float64

	// Packets dropped at the CPU backlog: BacklogMin in the window, and more
	// now (netdata warns at more than 10 as the mean of a minute). They are
	// critical at BacklogCritPerS if they are BacklogCritRatio of all packets,
	// a loss at which TCP slows down.
	BacklogMin       uint64
	BacklogCritPerS  float64
	BacklogCritRatio float64

	// A core that NET_RX keeps from its work: NetRXShare of all NET_RX, which
	// takes NetRXLoad of its time, for NetRXFor, as a mean over NetRXSmooth
	// (/proc/stat has 10 ms grains). The first alone is normal and fastest on
	// loopback and veth (measured: 95 %), so there must be a cost as well:
	// ksoftirqd runs NetRXKsoftirqd, or less than NetRXIdle is left, or work
	// was left over (time_squeeze) or lost. And others must have NetRXSpare
	// idle for each of them, one core at the most. NetRXDevice of the packets
	// must be of one device: what comes through a bridge or veth is counted up
	// to three times, and loopback's are of none that could be spread. Of a
	// device in a namespace that nobody looks at only its RPS shows, and that
	// alone where it sends everything to one core: NetRXSteeredPerS interrupts
	// there and next to none elsewhere.
	NetRXShare       float64
	NetRXLoad        float64
	NetRXCritLoad    float64
	NetRXFor         time.Duration
	NetRXSmooth      time.Duration
	NetRXKsoftirqd   float64
	NetRXIdle        float64
	NetRXSpare       float64
	NetRXDevice      float64
	NetRXSteeredPerS float64

	SchedLimits
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

		RefusedMin:       5,
		RefusedTrickle:   5 * time.Second,
		RefusedCritPerS:  10,
		RefusedCritRatio: 0.01,

		WaitMinLen:      8,
		WaitSeconds:     1,
		WaitCritSeconds: 3,

		WorkersWait:  0.3,
		WorkersRun:   0.8,
		WorkersAwake: 0.5,
		HostIdle:     0.6,
		NobodyFor:    400 * time.Millisecond,
		FullShare:    0.5,

		CookiesPerS: 10,

		BacklogMin:       10,
		BacklogCritPerS:  100,
		BacklogCritRatio: 0.01,

		NetRXShare:       0.6,
		NetRXLoad:        0.5,
		NetRXCritLoad:    0.9,
		NetRXFor:         1500 * time.Millisecond,
		NetRXSmooth:      500 * time.Millisecond,
		NetRXKsoftirqd:   0.05,
		NetRXIdle:        0.1,
		NetRXSpare:       0.4,
		NetRXDevice:      0.3,
		NetRXSteeredPerS: 20,

		SchedLimits: defaultSchedLimits(),
	}
}
