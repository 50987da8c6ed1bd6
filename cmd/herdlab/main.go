// SPDX-License-Identifier: Apache-2.0

// Command herdlab makes one pathology (or its healthy twin) on demand, on this
// machine and for a bounded time, and then prints an oracle: one line of JSON
// that says what a tracer must have seen, and how much of it.
//
// The oracle is counted by the processes that did the work (each accept(2) and
// each EAGAIN is counted where it returns), never by tracing, so that it can
// judge a tracer. For the same reason herdlab imports nothing of pkg/tracer.
//
// stdout is data (the oracle and nothing else), stderr is talk. Exit codes:
// 0 the load ran as asked, 1 failed, 2 usage, 130 interrupted twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// scenario is one pathology that herdlab can make. A new one is a file of its
// own and a row here; if it re-executes herdlab it adds its roles too.
type scenario struct {
	name  string
	brief string
	run   func(args []string, stdout, stderr io.Writer) int
}

// role is what a re-executed herdlab is inside a scenario. Roles are started
// by startChild only and are not shown to users.
type role struct {
	name string
	run  func(config string) error
}

var scenarios = []scenario{
	{"accept", "many workers accepting on one port: herds, lost edges and their healthy twins", runAccept},
	{"listen", "a listener that refuses clients: full accept queue, full SYN queue, cookies, and healthy twins", runListen},
	{"netrx", "packets between a device and a socket: an input backlog that overflows, NET_RX on one core", runNetRX},
	{"sched", "threads that want to run and do not: piling, throttling, overselling; CPU time that hides; healthy twins", runSched},
	{"churn", "threads, processes, listeners, namespaces and cgroups that come and go, at bounded rates", runChurn},
}

var roles = []role{
	{roleAcceptWorker, runAcceptWorker},
	{roleAcceptClient, runAcceptClient},
	{roleListenServer, runListenServer},
	{roleNetRXDoor, runNetRXDoor},
	{roleNetRXRoom, runNetRXRoom},
	{roleSchedWorker, runSchedWorker},
	{roleSchedMake, runSchedMake},
	{roleSchedJob, runSchedJob},
	{roleSchedChurn, runSchedChurn},
	{roleChurnPart, runChurnPart},
}

// init pins the main goroutine to the main thread, for two reasons: a worker
// is then one thread whose tid is its pid, and PR_SET_PDEATHSIG fires when the
// *thread* that forked dies, so children must be forked by the thread that
// lives as long as the process (kernel/exit.c: forget_original_parent()).
func init() { runtime.LockOSThread() }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError is a mistake of the caller; its text includes the cure.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// run dispatches to a role or a scenario and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		return report(stderr, usagef("name a scenario: %s (herdlab -h explains them)", scenarioNames()))
	}
	if len(args) == 2 {
		for _, r := range roles {
			if r.name == args[0] {
				return report(stderr, r.run(args[1]))
			}
		}
	}
	switch args[0] {
	case "-h", "--help", "help":
		printUsage(stdout)
		return exitOK
	}
	for _, s := range scenarios {
		if s.name == args[0] {
			return s.run(args[1:], stdout, stderr)
		}
	}
	return report(stderr, usagef("unknown scenario %q: use one of: %s", args[0], scenarioNames()))
}

// report turns an error into its one line on stderr and its exit code.
func report(stderr io.Writer, err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "herdlab: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "herdlab: %v\n", err)
		return exitFailed
	}
}

// interruptible returns a context that the first SIGINT or SIGTERM ends, after
// first; the second one ends the process, after second, and PR_SET_PDEATHSIG
// its children with it. Both may be nil.
func interruptible(talk io.Writer, first, second func()) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		fmt.Fprintln(talk, "herdlab: stopping; the oracle follows, if it is not above (once more to give up)")
		if first != nil {
			first()
		}
		cancel()
		<-signals
		if second != nil {
			second()
		}
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

func scenarioNames() string {
	names := ""
	for i, s := range scenarios {
		if i > 0 {
			names += ", "
		}
		names += s.name
	}
	return names
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "herdlab makes a known pathology on demand and prints an oracle (one JSON line).\n\n"+
		"usage: herdlab SCENARIO [flags]\n\nscenarios:\n")
	for _, s := range scenarios {
		fmt.Fprintf(w, "  %-8s %s\n", s.name, s.brief)
	}
	fmt.Fprint(w, "\nherdlab SCENARIO -h lists the flags.\n")
}

// parseFlags parses args into fs and words the mistakes the house way. It
// returns pflag.ErrHelp when help was asked for.
func parseFlags(fs *pflag.FlagSet, args []string) error {
	fs.SetInterspersed(true)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.SortFlags = false
	err := fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case err != nil:
		return usagef("%v (herdlab %s -h lists the flags)", err, fs.Name())
	case fs.NArg() > 0:
		return usagef("unexpected argument %q: herdlab %s takes only flags (herdlab %s -h lists them)",
			fs.Arg(0), fs.Name(), fs.Name())
	}
	return nil
}
