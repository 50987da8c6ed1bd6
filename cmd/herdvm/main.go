// SPDX-License-Identifier: Apache-2.0

// Command herdvm boots distribution kernels in QEMU, under software emulation,
// and proves what herdtrace can do on each: which variants of which signals
// attach, and whether they count what the lab's oracles say. It prints one table,
// and fails where a cell of the required one is lost.
//
// In the machine it is process 1, and the only program besides herdtrace and the
// lab.
//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

const requiredTable = "testdata/vm-matrix.txt"

// options is the command line.
type options struct {
	kernels []string
	arch    string
	attach  bool
	only    []string
	update  bool
	refresh bool
	verbose bool
	jobs    int
	keep    string
}

func main() {
	if os.Getpid() == 1 {
		runInit()
	}
	if len(os.Args) == 2 && os.Args[1] == guestWord {
		exitOn(runGuest())
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	exitOn(err)
	exitOn(runHost(o))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "herdvm:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := pflag.NewFlagSet("herdvm", pflag.ContinueOnError)
	f.SortFlags = false
	f.SetOutput(io.Discard)
	f.StringSliceVar(&o.kernels, "kernel", nil, "only these kernels: "+machineNames())
	f.StringVar(&o.arch, "arch", "amd64", "without --kernel: all kernels of this architecture (amd64, arm64)")
	f.BoolVar(&o.attach, "attach", false, "nothing but what attaches")
	f.StringSliceVar(&o.only, "only", nil, "only these signals, variants or incidents: accept, accept=syscall, accept-herd, ...")
	f.BoolVar(&o.update, "update", false, "write what was measured to "+requiredTable)
	f.BoolVar(&o.refresh, "refresh", false, "look for newer point releases than those in the cache")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "the guest's log of each cell, also of those that hold")
	f.IntVar(&o.jobs, "jobs", 2, "machines at a time")
	f.StringVar(&o.keep, "keep", "", "keep consoles and results in this directory")
	err := f.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Printf("herdvm boots kernels in QEMU and proves what herdtrace can do on each.\n\nusage: herdvm [flags], at the top of the repository\n\n%s", f.FlagUsages())
		return nil, err
	}
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("it takes no arguments, but there is %q", f.Arg(0))
	}
	if err == nil && o.update && (o.attach || len(o.only) > 0) {
		err = errors.New("--update takes a whole run: drop --attach and --only")
	}
	if err == nil && o.jobs < 1 {
		err = errors.New("--jobs must be 1 or more")
	}
	if err != nil {
		return nil, fmt.Errorf("%w (see herdvm --help)", err)
	}
	return o, checkOnly(o.only)
}

// checkOnly: a word that matches nothing would make a run that proves nothing.
func checkOnly(only []string) error {
	for _, w := range only {
		signal, _, _ := strings.Cut(w, "=")
		if _, ok := judged[signal]; !ok && !isIncident(w) {
			return fmt.Errorf("select %s: it is neither a signal nor an incident (%s)", w, selectable())
		}
	}
	return nil
}
