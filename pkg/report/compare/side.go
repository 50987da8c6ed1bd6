// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The bounds of what is remembered of a recording.
const (
	maxSubjects = 2048
	maxEpisodes = 512
	maxSockets  = 1024 // of a listener
)

type kind int

const (
	aHost kind = iota
	aListener
	aCGroup
	aProcess
)

// subject is what measures are about: the host, a listener (all sockets on one
// address), a cgroup, a program.
type subject struct {
	kind   kind
	name   string // as key: what it is called in both recordings
	label  string // for a person; printable
	proto  string // of a listener
	port   uint16
	prog   string // of a listener
	series [metricCount]series

	sockets   int               // most at the same time on the address, of a SO_REUSEPORT group
	refusedBy map[uint64]uint64 // refusals of each socket
}

type subjectKey struct {
	kind kind
	name string
}

// episode is all that a finding did at a subject.
type episode struct {
	id      string
	on      subjectKey
	last    diagnose.Finding // in its worst state
	active  series           // share of the time in which it was raised
	sockets map[uint64]bool  // at which it was raised
}

type episodeKey struct {
	id string
	on subjectKey
}

// tally is how a signal was measured, in intervals.
type tally struct{ exact, approximate, missing int }

// Side is one recording, added up. It is a report.Sink.
type Side struct {
	Name      string // of the file
	Header    *sample.Header
	Truncated bool // its recorder was killed

	intervals int
	elapsed   time.Duration
	conns     float64
	refused   float64
	counted   float64 // accepts, EAGAINs, wake-ups and refusals: what could be lost
	lost      uint64
	signals   map[string]*tally
	subjects  map[subjectKey]*subject
	episodes  map[episodeKey]*episode
	forgotten int // subjects and episodes that there were beyond the bounds

	listeners map[uint64]subjectKey // of this Frame and the one before, by inode
	groups    map[uint64]subjectKey // by id
	programs  map[uint32]subjectKey // by pid
}

// NewSide returns a Side that has seen nothing. Name is what messages call it.
func NewSide(name string) *Side {
	return &Side{
		Name: name, signals: make(map[string]*tally), subjects: make(map[subjectKey]*subject), episodes: make(map[episodeKey]*episode),
		listeners: make(map[uint64]subjectKey), groups: make(map[uint64]subjectKey), programs: make(map[uint32]subjectKey),
	}
}

// Begin implements report.Sink.
func (s *Side) Begin(h *sample.Header) error {
	s.Header = h
	return nil
}

// Step implements report.Sink.
func (s *Side) Step(step *report.Step) error {
	f := step.Frame
	if f.Interval > 0 {
		s.intervals++
		s.elapsed += f.Interval
		s.lost += f.Cost.LostDelta
		s.addSignals(f)
	}
	s.addListeners(f)
	s.addGroups(f)
	s.addProcesses(f)
	if f.Interval > 0 {
		s.addHost(f)
	}
	s.addFindings(step)
	return nil
}

// End implements report.Sink.
func (s *Side) End(*report.Summary) error { return nil }

// addSignals keeps count of how each signal is measured, for it may be shed.
func (s *Side) addSignals(f *model.Frame) {
	for i := range f.Header.Signals {
		name := f.Header.Signals[i].Name
		t := s.signals[name]
		if t == nil {
			if len(s.signals) >= maxSubjects {
				continue
			}
			t = &tally{}
			s.signals[name] = t
		}
		switch f.Accuracy(name) {
		case sample.Exact:
			t.exact++
		case sample.Approximate:
			t.approximate++
		default:
			t.missing++
		}
	}
}

// accuracy is how a signal was measured for nine tenths of the time at least, and
// "" where that is not known: in recordings that do not name their signals.
func (s *Side) accuracy(signal string) string {
	t := s.signals[signal]
	switch {
	case t == nil:
		return ""
	case t.exact*10 >= 9*s.intervals:
		return sample.Exact
	case t.missing*10 > s.intervals:
		return sample.Unavailable
	}
	return sample.Approximate
}

// subject finds or makes one; nil where there are too many.
func (s *Side) subject(key subjectKey) *subject {
	u := s.subjects[key]
	if u == nil {
		if len(s.subjects) >= maxSubjects {
			s.forgotten++
			return nil
		}
		u = &subject{kind: key.kind, name: key.name}
		s.subjects[key] = u
	}
	return u
}

// addFindings takes what is raised at this tick.
func (s *Side) addFindings(step *report.Step) {
	dt := step.Frame.Interval.Seconds()
	raised := make(map[episodeKey]bool)
	for _, list := range [][]diagnose.Finding{step.Changed, step.Active} {
		for i := range list {
			f := &list[i]
			key := episodeKey{f.ID, s.about(f)}
			e := s.episodes[key]
			if e == nil {
				if len(s.episodes) >= maxEpisodes {
					s.forgotten++
					continue
				}
				e = &episode{id: f.ID, on: key.on, sockets: make(map[uint64]bool)}
				before := (s.elapsed.Seconds() - dt) / float64(max(s.intervals-1, 1))
				for range s.intervals - 1 {
					e.active.add(0, before)
				}
				s.episodes[key] = e
			}
			if f.Severity >= e.last.Severity {
				e.last = *f
			}
			if f.State == diagnose.Raised {
				raised[key] = true
				if f.Inode != 0 && len(e.sockets) < maxSockets {
					e.sockets[f.Inode] = true
				}
			}
		}
	}
	for key, e := range s.episodes {
		if raised[key] {
			e.active.add(dt, dt)
		} else {
			e.active.add(0, dt)
		}
	}
}

// about is the subject of a finding. Cores are the host's: which one it is may
// differ from run to run.
func (s *Side) about(f *diagnose.Finding) subjectKey {
	key, ok := subjectKey{}, false
	switch {
	case diagnose.OfHost(f.ID):
	case f.Inode != 0:
		key, ok = s.listeners[f.Inode]
	case f.CGroupID != 0:
		key, ok = s.groups[f.CGroupID]
	case f.PID != 0:
		key, ok = s.programs[f.PID]
	}
	if !ok {
		return subjectKey{kind: aHost}
	}
	return key
}
