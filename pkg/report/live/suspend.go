// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// stopWait is the time after which a process that was not stopped goes on; while it
// is stopped, that passes unseen.
const stopWait = 300 * time.Millisecond

// jobs are the signals by which a shell, or anybody else, stops a program and lets it
// go on.
type jobs struct {
	stop chan os.Signal // nil: nobody may stop it
	cont chan os.Signal // it may have been stopped by what cannot be caught
}

func (j *jobs) watch() {
	j.cont = make(chan os.Signal, 1)
	signal.Notify(j.cont, syscall.SIGCONT)
	if runtime.GOOS == "linux" && !signal.Ignored(syscall.SIGTSTP) {
		j.stop = make(chan os.Signal, 1)
		signal.Notify(j.stop, syscall.SIGTSTP)
	}
}

func (j *jobs) unwatch() {
	for _, ch := range []chan os.Signal{j.stop, j.cont} {
		if ch != nil {
			signal.Stop(ch)
		}
	}
}

// stopped stops all of the process group, for a shell waits for its first, which may
// be sudo; and returns when it goes on.
func (j *jobs) stopped() {
	if j.stop != nil {
		defer byDefault(syscall.SIGTSTP)()
	}
	select {
	case <-j.cont: // of before
	default:
	}
	if syscall.Kill(0, syscall.SIGTSTP) != nil {
		return
	}
	select {
	case <-j.cont:
	case <-time.After(stopWait): // the kernel stops no orphaned process group
	}
}

// suspend gives the terminal back and stops, as any program does at ^Z, until the
// shell lets it go on.
func (s *seat) suspend() {
	if err := s.term.Suspend(); err != nil {
		s.ui.Notice = "cannot be stopped here: " + err.Error()
		return
	}
	s.jobs.stopped()
	s.resume()
}

// reopen takes the terminal over anew: who was stopped without a chance to give it
// back finds it as the shell left it.
func (s *seat) reopen() {
	if s.term.Suspend() == nil {
		s.resume()
	}
}

func (s *seat) resume() {
	if err := s.term.Resume(); err != nil {
		s.leave()
		return
	}
	s.term.Sync()
}
