// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

type costOptions struct {
	rounds   int
	duration time.Duration
	loads    []string
	tools    []string
	programs bool
	lead     bool
	busy     time.Duration
	out      string
}

// runCost is herdbench cost.
func runCost(ctx context.Context, args []string) error {
	var o costOptions
	var e env
	fs := pflag.NewFlagSet("cost", pflag.ContinueOnError)
	fs.IntVar(&o.rounds, "rounds", 6, "rounds: each runs every load beside every tool once, in random order")
	fs.DurationVar(&o.duration, "duration", 2*time.Second, "length of one run")
	fs.StringSliceVar(&o.loads, "loads", nil, "these loads only (default: "+loadNames()+")")
	fs.StringSliceVar(&o.tools, "tools", nil, `these tools only, e.g. "herdtrace,bpftrace runq" (default: all)`)
	fs.BoolVar(&o.programs, "programs", true, "one more run with each tool, in which the kernel times its BPF programs")
	fs.BoolVar(&o.lead, "lead", true, "before each run one that is not measured, in which a tool may settle: herdtrace keeps to its budget from the second second on")
	fs.DurationVar(&o.busy, "busy", 20*time.Second, "then measure herdtrace alone on a busy machine for so long; 0: do not")
	outFlags(fs, &e, &o.out, "cost")
	if words, err := parseFlags(fs, "cost [flags]", args); err != nil {
		return err
	} else if len(words) > 0 {
		return usagef("unexpected argument %q: herdbench cost takes only flags", words[0])
	}
	if o.rounds < 1 || o.duration < time.Second {
		return usagef("use --rounds 1 or more and --duration 1s or more")
	}
	ls, err := pickLoads(o.loads)
	if err != nil {
		return err
	}
	ts, err := pick(o.tools)
	if err != nil {
		return err
	}
	raw, err := begin(ctx, &e, o.out)
	if err != nil {
		return err
	}
	defer raw.Close()
	b := &bench{env: &e, raw: raw, opts: o}
	err = b.all(ctx, ls, ts)
	// What was measured before something failed is of use all the same.
	return errors.Join(err, tables(os.Stdout, raw.all))
}

func (b *bench) all(ctx context.Context, ls []load, ts []tool) error {
	for i := range ls {
		if err := b.load(ctx, &ls[i], ts); err != nil {
			return err
		}
	}
	if b.opts.busy > 0 {
		return b.busy(ctx)
	}
	return nil
}

func loadNames() string {
	var names []string
	for _, l := range loads {
		n := l.name
		if l.extra {
			n += " (not by default)"
		}
		names = append(names, n)
	}
	return strings.Join(names, ", ")
}

// outFlags are what all that measures has in common.
func outFlags(fs *pflag.FlagSet, e *env, out *string, what string) {
	e.self, _ = os.Executable()
	dir := filepath.Dir(e.self)
	fs.StringVar(out, "out", defaultOut(what), "keep the raw runs in this file")
	fs.StringVar(&e.herdtrace, "herdtrace", filepath.Join(dir, "herdtrace"), "the herdtrace to measure")
	fs.StringVar(&e.herdlab, "herdlab", filepath.Join(dir, "herdlab"), "the herdlab that makes loads")
}

// begin checks what is needed and opens the raw file.
func begin(ctx context.Context, e *env, out string) (*rawFile, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("measure: this takes root (sudo)")
	}
	for _, p := range []string{e.herdtrace, e.herdlab} {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("find %s: %w (make build)", filepath.Base(p), err)
		}
	}
	return openRaw(ctx, e, out, map[string][]string{
		"herdtrace": {e.herdtrace, "--version"}, "bpftrace": {"bpftrace", "--version"}, "perf": {"perf", "--version"},
	})
}

// openRaw opens the raw file, with the versions that these commands print.
func openRaw(ctx context.Context, e *env, out string, versions map[string][]string) (*rawFile, error) {
	var u unix.Utsname
	unix.Uname(&u) // cannot fail with a valid pointer
	h := header{Args: os.Args[1:], Kernel: unix.ByteSliceToString(u.Release[:]), CPUs: runtime.NumCPU(), Versions: make(map[string]string)}
	for name, argv := range versions {
		b, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		if err != nil {
			b = []byte(err.Error())
		}
		h.Versions[name] = strings.TrimSpace(string(b))
	}
	raw, err := createRaw(out, h)
	if err == nil {
		talk("the raw runs are kept in %s", out)
	}
	return raw, err
}

// bench is what one herdbench cost has.
type bench struct {
	env    *env
	raw    *rawFile
	opts   costOptions
	absent map[string]bool // tools that cannot run here
}

// warmUps is how often a load is tried that fails: on a machine that others use
// requests may time out.
const warmUps = 3

// load runs all rounds of a load. A first run, which warms caches, is not kept.
func (b *bench) load(ctx context.Context, l *load, ts []tool) error {
	once, stop, err := l.start(ctx, b.env, b.opts.duration)
	if err != nil {
		return fmt.Errorf("prepare load %s: %w", l.name, err)
	}
	defer stop()
	for tries := 1; ; tries++ {
		if _, err = once(); err == nil {
			break
		}
		if tries == warmUps || ctx.Err() != nil {
			return fmt.Errorf("run load %s: %w", l.name, err)
		}
	}
	for round := 1; round <= b.opts.rounds; round++ {
		talk("%s, round %d of %d", l.name, round, b.opts.rounds)
		for place, i := range rand.Perm(len(ts)) {
			rec := record{Kind: kindRun, Load: l.name, Tool: ts[i].name, Round: round, Place: place + 1}
			if err := b.run(ctx, &ts[i], once, rec); err != nil {
				return err
			}
		}
	}
	for i := range ts {
		if !b.opts.programs || !ts[i].usesBPF {
			continue
		}
		if err := b.run(ctx, &ts[i], once, record{Kind: kindBPF, Load: l.name, Tool: ts[i].name}); err != nil {
			return err
		}
	}
	return nil
}

// run measures one load beside one tool, and keeps the record. A peer that
// cannot run here is noted with its error, and left out from then on; a run that
// fails, say because requests timed out, is kept as such; herdtrace must run.
func (b *bench) run(ctx context.Context, t *tool, once func() (result, error), rec record) error {
	if b.absent[t.name] {
		return nil
	}
	var r *running
	if t.argv != nil {
		var err error
		if r, err = startTool(ctx, b.env, t); err != nil {
			if t.isHerdtrace() || ctx.Err() != nil {
				return err
			}
			talk("%v", err)
			if b.absent == nil {
				b.absent = make(map[string]bool)
			}
			b.absent[t.name] = true
			return b.raw.add(record{Kind: kindAbsent, Load: rec.Load, Tool: t.name, Error: err.Error()})
		}
	}
	var err error
	if b.opts.lead {
		_, err = once()
	}
	if err == nil {
		err = measure(r, once, &rec)
	}
	stopErr := r.stop(&rec)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case stopErr != nil && t.isHerdtrace():
		return fmt.Errorf("measure %s: %w", t.name, errors.Join(err, stopErr))
	case err != nil || stopErr != nil:
		rec.Error = errors.Join(err, stopErr).Error()
		talk("%s beside %s: %s", rec.Load, t.name, rec.Error)
	}
	return b.raw.add(rec)
}

// measure runs the load once and fills in all but what only stop can tell.
func measure(r *running, once func() (result, error), rec *record) error {
	rec.LoadAverage = loadAverage()
	if r == nil {
		rec.Foreign = tracingPrograms()
	}
	var progs *programMeter
	if rec.Kind == kindBPF {
		var err error
		if progs, err = newProgramMeter(r.cmd.Process.Pid); err != nil {
			return err
		}
		defer progs.Close()
	}
	before, err := machine()
	if err != nil {
		return err
	}
	if err := r.mark(); err != nil {
		return err
	}
	res, err := once()
	if err != nil {
		return err
	}
	if err := r.take(rec); err != nil {
		return err
	}
	after, err := machine()
	if err != nil {
		return err
	}
	if progs != nil {
		rec.Programs = progs.take()
	}
	rec.Ops, rec.Seconds, rec.LoadCPUNS = res.ops, res.seconds, res.cpuNS
	rec.MachineNS = uint64(after.busy - before.busy)
	rec.StealNS = uint64(after.steal - before.steal)
	return nil
}
