// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopWait is the time after which a process that was not stopped goes on; while it
// is stopped, that passes unseen.
const stopWait = 300 * time.Millisecond

// suspend gives the terminal back and stops, as any program does at ^Z, until the
// shell lets it go on.
func (s *seat) suspend() {
	if err := s.term.Suspend(); err != nil {
		s.ui.Notice = "cannot be stopped here: " + err.Error()
		return
	}
	on := make(chan os.Signal, 1)
	signal.Notify(on, syscall.SIGCONT)
	// All of the process group: a shell waits for its first, which may be sudo.
	err := syscall.Kill(0, syscall.SIGTSTP)
	if err == nil {
		select {
		case <-on:
		case <-time.After(stopWait): // the kernel stops no orphaned process group
		}
	}
	signal.Stop(on)
	if err := s.term.Resume(); err != nil {
		s.leave()
		return
	}
	s.term.Sync()
}
