// SPDX-License-Identifier: Apache-2.0

// Command herdtrace says, while a load test runs, which listening socket is
// hurting the clients, and why.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Exit codes. A command's own code, or 128 + its signal, is passed on.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitGate         = 3   // what --fail-on says is true
	exitInconclusive = 4   // it could not be measured
	exitHost         = 77  // this host cannot be traced
	exitOwn          = 125 // herdtrace failed while a command ran
	exitCannotRun    = 126
	exitNotFound     = 127
	exitInterrupt    = 130 // left at a second interrupt, while something hung
)

// usageError is a command line that makes no sense, in one sentence.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// exitError carries an exit code and perhaps nothing to say.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

// run is main without the exit.
func run(args []string) int {
	err := dispatch(args)
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		complain(usage)
		return exitUsage
	case errors.As(err, &exit):
		if exit.err != nil {
			complain(exit.err)
		}
		return exit.code
	}
	complain(err)
	return exitFailed
}

func complain(err error) {
	fmt.Fprintf(os.Stderr, "herdtrace: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
}

// commands are what a first word may be.
var commands = map[string]func(o *options, args []string) error{
	"check":   check,
	"diff":    compareTwo,
	"record":  recordTrace,
	"replay":  replay,
	"report":  reportFile,
	"metrics": metrics,
	"version": func(*options, []string) error { return printVersion() },
	"help":    func(o *options, _ []string) error { return printHelp(o) },
}

func dispatch(args []string) error {
	o, err := parse(args)
	replays := err == nil && len(o.words) > 0 && o.words[0] == "replay"
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return printHelp(o)
	case err != nil:
		return err
	case o.replayOnly() != "" && !replays:
		return usagef("--%s is for herdtrace replay", o.replayOnly())
	case o.gate.worse && (len(o.words) == 0 || o.words[0] != "diff"):
		return usagef("--fail-on worse is for herdtrace diff")
	case o.version:
		return printVersion()
	case len(o.words) > 0:
		cmd, ok := commands[o.words[0]]
		if !ok {
			return usagef("%q is no command of herdtrace (to run it: herdtrace -- %s)", o.words[0], strings.Join(o.words, " "))
		}
		if len(o.command) > 0 && o.words[0] != "record" {
			return usagef("herdtrace %s takes no command after --", o.words[0])
		}
		if o.gate.baseline != "" && !slices.Contains([]string{"record", "replay", "report"}, o.words[0]) {
			return usagef("herdtrace %s takes no --baseline", o.words[0])
		}
		if o.gate.judge != nil && !slices.Contains([]string{"record", "replay", "report", "diff"}, o.words[0]) {
			return usagef("herdtrace %s has nothing to fail on (drop --fail-on)", o.words[0])
		}
		return cmd(o, o.words[1:])
	}
	return trace(o)
}
