// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

// showing is a way in which a recording is replayed, once a second.
type showing struct {
	name           string
	columns, lines uint16
	flags          []string
}

// showNothing is the baseline: all but the pixels.
const showNothing = "no screen"

var showings = []showing{
	{showNothing, 160, 50, []string{"--batch", "--quiet"}},
	{"160x50", 160, 50, nil},
	{"80x24", 80, 24, nil},
}

type screenOptions struct {
	load   sampletest.Load
	ticks  int
	rounds int
	keys   string
	out    string
}

// screenLead are ticks that are not measured: what shows first is new in every
// cell, and findings take some seconds until they are raised.
const screenLead = 5

// runScreen is herdbench screen.
func runScreen(ctx context.Context, args []string) error {
	o := screenOptions{load: sampletest.Crowded()}
	var e env
	fs := pflag.NewFlagSet("screen", pflag.ContinueOnError)
	fs.IntVar(&o.ticks, "ticks", 30, "seconds that are measured of each run")
	fs.IntVar(&o.rounds, "rounds", 6, "rounds: each has every size of the screen, and none, once, in random order")
	fs.StringVar(&o.keys, "keys", "", "press these at the beginning, e.g. 3 for the cgroups")
	fs.IntVar(&o.load.Listeners, "listeners", o.load.Listeners, "listening sockets")
	fs.IntVar(&o.load.Workers, "workers", o.load.Workers, "workers of each of them")
	fs.IntVar(&o.load.Cores, "cores", o.load.Cores, "cores")
	fs.IntVar(&o.load.CGroups, "cgroups", o.load.CGroups, "cgroups with a quota")
	fs.IntVar(&o.load.Processes, "processes", o.load.Processes, "processes that ran")
	outFlags(fs, &e, &o.out, "screen")
	if words, err := parseFlags(fs, "screen [flags]", args); err != nil {
		return err
	} else if len(words) > 0 {
		return usagef("unexpected argument %q: herdbench screen takes only flags", words[0])
	}
	if err := o.check(); err != nil {
		return err
	}
	raw, err := openRaw(ctx, &e, o.out, map[string][]string{"herdtrace": {e.herdtrace, "--version"}})
	if err != nil {
		return err
	}
	defer raw.Close()
	var recording bytes.Buffer
	if err := o.load.Write(&recording, screenLead+o.ticks+1); err != nil {
		return fmt.Errorf("make recording up: %w", err)
	}
	lines := bytes.SplitAfter(bytes.TrimSpace(recording.Bytes()), []byte("\n"))
	for round := 1; round <= o.rounds; round++ {
		for place, i := range rand.Perm(len(showings)) {
			s := &showings[i]
			talk("round %d of %d: %s", round, o.rounds, s.name)
			rec := record{Kind: kindScreen, Tool: s.name, Round: round, Place: place + 1, Scene: o.scene()}
			if err := s.measure(ctx, &e, &o, lines, &rec); err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
			if err := raw.add(rec); err != nil {
				return err
			}
		}
	}
	return tables(os.Stdout, raw.all)
}

func (o *screenOptions) check() error {
	l := &o.load
	switch {
	case o.ticks < 3 || o.rounds < 1:
		return usagef("use --ticks 3 or more and --rounds 1 or more")
	case l.Cores < 1 || l.Listeners < 0 || l.Workers < 0 || l.CGroups < 0 || l.Processes < 0:
		return usagef("use --cores 1 or more, and of the rest 0 or more")
	case l.CGroups > sample.MaxCGroups || l.Processes > sample.MaxProcesses:
		return usagef("a tick lists at most %d processes and %d cgroups", sample.MaxProcesses, sample.MaxCGroups)
	}
	return nil
}

// scene says what is shown.
func (o *screenOptions) scene() string {
	l := &o.load
	s := fmt.Sprintf("%d listeners with %d workers each, %d cores, %d cgroups, %d processes", l.Listeners, l.Workers, l.Cores, l.CGroups, l.Processes)
	if o.keys != "" {
		s += fmt.Sprintf("; keys %q", o.keys)
	}
	return s
}

// measure runs one replay and fills rec in, tick by tick.
func (s *showing) measure(ctx context.Context, e *env, o *screenOptions, lines [][]byte, rec *record) error {
	r, err := startReplay(e, s)
	if err != nil {
		return err
	}
	defer r.clear()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	rec.LoadAverage = loadAverage()
	r.feed(lines[0]) // the header
	for n, line := range lines[1 : 1+screenLead] {
		r.feed(line)
		if err := r.await(ctx, second); err != nil {
			return err
		}
		if n == 0 {
			r.press(o.keys) // by now it reads them
		}
	}
	start, sent := time.Now(), r.sent.Load()
	before, err := cpuOf(r.cmd.Process.Pid)
	if err != nil {
		return err
	}
	err = rec.eachTick(r.cmd.Process.Pid, before, o.ticks, func(n int) error {
		r.feed(lines[1+screenLead+n])
		return r.await(ctx, second)
	})
	if err != nil {
		return err
	}
	rec.Seconds, rec.Written = time.Since(start).Seconds(), r.sent.Load()-sent
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		return fmt.Errorf("read memory of herdtrace: %w", err)
	}
	rec.RSSBytes = statusBytes(status, "VmHWM")
	return r.quit()
}
