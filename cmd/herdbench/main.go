// SPDX-License-Identifier: Apache-2.0

// Command herdbench measures what looking costs: that of herdtrace and its
// nearest peers, in alternation, under the same loads; how herdtrace's own grows
// with what there is to look at; and what the live screen adds. Every run is kept,
// one line of JSON each, and the tables are made from these lines alone.
//
// stdout is the tables, stderr is talk. Exit codes: 0 measured, 1 failed, 2
// usage. Whether a target is met is in the table and no exit code: it takes a
// quiet machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

type command struct {
	name, brief string
	run         func(ctx context.Context, args []string) error
}

var commands = []command{
	{"cost", "throughput, CPU, memory, bytes and lost events of herdtrace and its peers, in alternation", runCost},
	{"growth", "herdtrace's cost with 1 to 10,000 threads, 1 to 1,000 listeners, 1 to 1,000 cgroups", runGrowth},
	{"screen", "the live screen's cost at 1 Hz, with and without it, for a crowded host", runScreen},
	{"table", "the tables again, from the files of raw runs", runTable},
}

// roles are what a re-executed herdbench is; users do not see them.
var roles = []command{
	{roleTracefs, "", runInTracefs},
	{roleCrowd, "", runCrowd},
}

// usageError is a mistake of the caller; its text includes the cure.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// init pins the main goroutine to the main thread: PR_SET_PDEATHSIG fires when
// the thread that forked dies (kernel/exit.c: forget_original_parent()), so what
// must end with herdbench is forked by the thread that lives as long.
func init() { runtime.LockOSThread() }

func main() { os.Exit(run(os.Args[1:])) }

// run dispatches and returns the exit code.
func run(args []string) int {
	if len(args) == 0 {
		return complain(usagef("name a command (herdbench --help lists them)"))
	}
	switch args[0] {
	case "-h", "--help", "help":
		printUsage(os.Stdout)
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	for _, c := range append(commands, roles...) {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:])
		if errors.Is(err, pflag.ErrHelp) {
			return exitOK
		}
		return complain(err)
	}
	return complain(usagef("%q is no command of herdbench (herdbench --help lists them)", args[0]))
}

func complain(err error) int {
	var usage usageError
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(os.Stderr, "herdbench: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "herdbench measures what looking costs.\n\nusage: herdbench COMMAND [flags]\n\ncommands:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.brief)
	}
	fmt.Fprint(w, "\nherdbench COMMAND -h lists the flags.\n")
}

// parseFlags parses args into fs and returns the words. Help goes to stdout.
func parseFlags(fs *pflag.FlagSet, usage string, args []string) ([]string, error) {
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Printf("usage: herdbench %s\n\n%s", usage, fs.FlagUsages())
		return nil, err
	}
	if err != nil {
		return nil, usagef("%v (herdbench %s -h lists the flags)", err, fs.Name())
	}
	return fs.Args(), nil
}

func talk(format string, args ...any) { fmt.Fprintf(os.Stderr, "herdbench: "+format+"\n", args...) }
