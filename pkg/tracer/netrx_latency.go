// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"io"
	"time"
)

// Softirqs are raised as often as they run, or oftener, and a third hook costs
// as much as each of the other two: the time from raise to run is measured for
// latencyFor of each latencyEvery. That is no multiple of measureEvery, so that
// the tracer's own cost is not always measured with it, or never.
const (
	latencyFor   = 100 * time.Millisecond
	latencyEvery = 1100 * time.Millisecond
)

// latencySampler attaches the hook at the raise of a softirq now and then.
type latencySampler struct {
	kern   *kernel
	hook   *hook // nil: there is none
	probe  io.Closer
	turned time.Time // when it was attached or detached last
	paused bool      // so are the hooks that it belongs to
}

// newLatencySampler begins to measure at once.
func newLatencySampler(k *kernel) *latencySampler {
	s := &latencySampler{kern: k}
	if v := k.chosen[SignalNetRX]; v != nil {
		for i := range v.hooks {
			if v.hooks[i].demand {
				s.hook = &v.hooks[i]
			}
		}
	}
	s.begin()
	return s
}

func (s *latencySampler) begin() {
	if s.hook == nil || s.paused || s.probe != nil {
		return
	}
	probe, err := s.kern.attachHook(s.hook)
	if err != nil {
		s.hook = nil // it could be attached before; the rest goes on
		return
	}
	s.probe, s.turned = probe, time.Now()
}

// rotate begins and ends measures; call it often.
func (s *latencySampler) rotate() {
	age := time.Since(s.turned)
	switch {
	case s.probe != nil && age >= latencyFor:
		s.Close()
	case s.probe == nil && age >= latencyEvery-latencyFor:
		s.begin()
	}
}

// pause and resume follow the other hooks of the signal.
func (s *latencySampler) pause() {
	s.Close()
	s.paused = true
}

func (s *latencySampler) resume() {
	s.paused = false
	s.begin()
}

// Close ends a measure.
func (s *latencySampler) Close() {
	if s.probe != nil {
		s.probe.Close()
		s.probe, s.turned = nil, time.Now()
	}
}
