// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// namespaces makes network namespaces, each with a process that has listeners.
func (p *churnPart) namespaces() error {
	if err := p.begin(); err != nil {
		return err
	}
	atOnce := make(slots, churnAtOnce)
	p.pace(p.cfg.Namespaces, func(n int) {
		if !atOnce.take() {
			return
		}
		cfg := p.cfg
		cfg.Part, cfg.Seed = "space", n
		c, err := startChild(roleChurnPart, cfg, churnEnv())
		if err != nil {
			atOnce.free()
			p.count(func(c *churnCounts) { c.StartFailed++ })
			return
		}
		p.pending.Add(1)
		go func() {
			defer p.pending.Done()
			defer atOnce.free()
			var done churnCounts
			if err := c.receive(&done, p.cfg.SpaceLife+churnReportLimit); err != nil {
				p.failed(fmt.Errorf("run a namespace: %w", err))
			}
			c.reap(stopLimit)
			p.count(func(c *churnCounts) {
				done.SpaceAccepts, done.SpaceRefused = done.Accepts, done.Refusals
				c.add(&done)
				c.Namespaces++
			})
		}()
	})
	return nil
}

// space is a namespace's life: a listener, one that refuses (both on ports that
// are in use elsewhere), and some time without any.
func (p *churnPart) space() error {
	if err := p.enterSpace(); err != nil {
		return err
	}
	for i := range 2 {
		kind := &churnKinds[(p.cfg.Seed+i)%len(churnKinds)]
		if i == 1 {
			kind = &churnKinds[len(churnKinds)-1]
		}
		if err := p.listener(kind, 2*p.cfg.Seed+i, p.cfg.Port+(p.cfg.Seed+i)%churnPorts); err != nil {
			return err
		}
	}
	awaitStopFor(churnCtlFD, p.cfg.SpaceLife)
	return p.countRefusals()
}

// awaitStopFor waits for the end of the control pipe, or until d is over.
func awaitStopFor(ctlFD int, d time.Duration) {
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(ctlFD), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err == nil && n > 0 {
			return
		}
	}
}
