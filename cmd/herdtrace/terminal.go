// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/report/live"
)

// The least terminal that the screen is drawn on.
const (
	leastColumns = 60
	leastLines   = 15
)

// wantsScreen is for a person at a terminal that can be drawn on. Who sits at
// one that cannot is told why there are lines.
func wantsScreen(o *options) bool {
	if o.batch || o.quiet || len(o.command) > 0 || !isTerminal(os.Stdout) {
		return false
	}
	why := whyNoScreen()
	if why != "" && isTerminal(os.Stderr) {
		complain(fmt.Errorf("%s: lines instead", why))
	}
	return why == ""
}

// whyNoScreen says what is in the way of the screen; "" is nothing.
func whyNoScreen() string {
	switch term := os.Getenv("TERM"); {
	case os.Getenv("CI") != "":
		return "CI is set, where nobody looks at a screen"
	case term == "":
		return "TERM is not set, so the terminal is not known"
	case term == "dumb":
		return "TERM is dumb, the screen cannot be drawn"
	}
	// The screen reads and writes this one, wherever standard input comes from.
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Sprintf("no terminal is in control of this session, so the screen would have no keys (%v)", err)
	}
	tty.Close()
	// A terminal that does not know its size says 0.
	w, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err == nil && (w.Col > 0 && w.Col < leastColumns || w.Row > 0 && w.Row < leastLines) {
		return fmt.Sprintf("the terminal is %dx%d, the screen needs %dx%d", w.Col, w.Row, leastColumns, leastLines)
	}
	return ""
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// newScreen is a screen that SIGQUIT closes, before it does what it always does:
// Go writes where each goroutine is and exits with 2.
func newScreen(opts live.Options) *live.Screen {
	s := live.New(opts)
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	go func() {
		<-quit
		s.Close()
		signal.Reset(syscall.SIGQUIT)
		syscall.Kill(os.Getpid(), syscall.SIGQUIT)
	}()
	return s
}
