// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// scene is one kind of thing to look at, in growing numbers.
type scene struct {
	name  string
	what  string // one of them
	sizes []int
	make  func(e *env, n int) (stop func(), err error)
}

var (
	tens      = []int{1, 10, 100, 1000}
	tensOfTen = []int{1, 10, 100, 1000, 10_000}
)

var scenes = []scene{
	{"threads, idle", "thread", tensOfTen, func(e *env, n int) (func(), error) {
		return crowdOf(e, crowdConfig{Threads: n})
	}},
	{"threads, 1 in 10 active", "thread", tensOfTen, func(e *env, n int) (func(), error) {
		return crowdOf(e, crowdConfig{Threads: n, Active: (n + 9) / 10})
	}},
	{"listeners, idle", "listener", tens, func(e *env, n int) (func(), error) {
		return crowdOf(e, crowdConfig{Listeners: n})
	}},
	{"listeners, a connection a second each", "listener", tens, func(e *env, n int) (func(), error) {
		return crowdOf(e, crowdConfig{Listeners: n, Active: n})
	}},
	{"cgroups, a thread active in each", "cgroup", tens, func(e *env, n int) (func(), error) {
		return cgroupCrowd(e, n, false)
	}},
	{"cgroups, the same with a quota", "cgroup", tens, func(e *env, n int) (func(), error) {
		return cgroupCrowd(e, n, true)
	}},
}

func crowdOf(e *env, c crowdConfig) (func(), error) {
	cr, err := startCrowd(e, &c)
	if err != nil {
		return nil, err
	}
	return cr.stop, nil
}

type growthOptions struct {
	ticks  int
	rounds int
	scenes []string
	out    string
}

// runGrowth is herdbench growth.
func runGrowth(ctx context.Context, args []string) error {
	var o growthOptions
	var e env
	fs := pflag.NewFlagSet("growth", pflag.ContinueOnError)
	fs.IntVar(&o.ticks, "ticks", 7, "seconds for each size")
	fs.IntVar(&o.rounds, "rounds", 1, "how often to go through all sizes")
	fs.StringSliceVar(&o.scenes, "scenes", nil, "only scenes whose name begins so: threads, listeners, cgroups")
	outFlags(fs, &e, &o.out, "growth")
	if words, err := parseFlags(fs, "growth [flags]", args); err != nil {
		return err
	} else if len(words) > 0 {
		return usagef("unexpected argument %q: herdbench growth takes only flags", words[0])
	}
	if o.ticks < 3 || o.rounds < 1 {
		return usagef("use --ticks 3 or more and --rounds 1 or more")
	}
	picked := slices.DeleteFunc(slices.Clone(scenes), func(s scene) bool {
		return len(o.scenes) > 0 && !slices.ContainsFunc(o.scenes, func(p string) bool { return strings.HasPrefix(s.name, p) })
	})
	if len(picked) == 0 {
		return usagef("--scenes %v: use threads, listeners or cgroups", o.scenes)
	}
	raw, err := begin(ctx, &e, o.out)
	if err != nil {
		return err
	}
	defer raw.Close()
	for round := 1; round <= o.rounds; round++ {
		cells := cellsOf(picked)
		// In random order: what else the machine does drifts.
		rand.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		for i, c := range cells {
			talk("%d of %d: %s: %d", i+1, len(cells), c.scene.name, c.size)
			if err := c.measure(ctx, &e, raw, round, o.ticks); err != nil {
				return fmt.Errorf("measure %s %d: %w", c.scene.name, c.size, err)
			}
		}
	}
	return tables(os.Stdout, raw.all)
}

// cell is one size of one scene.
type cell struct {
	scene *scene
	size  int
}

func cellsOf(scenes []scene) (cells []cell) {
	for i := range scenes {
		for _, n := range scenes[i].sizes {
			cells = append(cells, cell{&scenes[i], n})
		}
	}
	return cells
}

func (c *cell) measure(ctx context.Context, e *env, raw *rawFile, round, ticks int) error {
	stop, err := c.scene.make(e, c.size)
	if err != nil {
		return err
	}
	rec := record{Kind: kindGrowth, Scene: c.scene.name, Size: c.size, Round: round}
	err = watch(ctx, e, toolUnbound, ticks, &rec)
	stop()
	if err != nil {
		return err
	}
	return raw.add(rec)
}

// watch runs herdtrace for so many seconds and fills rec in. The first second,
// in which it looks at everything once, is not counted.
func watch(ctx context.Context, e *env, name string, ticks int, rec *record) error {
	t := &tools[slices.IndexFunc(tools, func(t tool) bool { return t.name == name })]
	r, err := startTool(ctx, e, t)
	if err != nil {
		return err
	}
	err = watchTicks(ctx, r, ticks, rec)
	if stopErr := r.stop(rec); err == nil {
		err = stopErr
	}
	return err
}

func watchTicks(ctx context.Context, r *running, ticks int, rec *record) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	rec.Tool, rec.LoadAverage = r.tool.name, loadAverage()
	if err := await(ctx, second); err != nil {
		return err
	}
	progs, err := newProgramMeter(r.cmd.Process.Pid)
	if err != nil {
		return err
	}
	defer progs.Close()
	if err := r.mark(); err != nil {
		return err
	}
	start := time.Now()
	if err := rec.eachTick(r.cmd.Process.Pid, r.cpu, ticks, func(int) error { return await(ctx, second) }); err != nil {
		return err
	}
	rec.Programs = progs.take()
	rec.Seconds = time.Since(start).Seconds()
	return r.take(rec)
}

// eachTick notes the CPU time of a process in each of so many ticks, which next
// waits for.
func (rec *record) eachTick(pid int, before uint64, ticks int, next func(n int) error) error {
	for n := range ticks {
		if err := next(n); err != nil {
			return err
		}
		now, err := cpuOf(pid)
		if err != nil {
			return err
		}
		rec.TickCPUNS = append(rec.TickCPUNS, now-before)
		before = now
	}
	return nil
}

func await(ctx context.Context, t *time.Ticker) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Of the busy machine on which herdtrace's own CPU time and memory are judged.
const (
	sceneBusy   = "busy: nginx-conn at saturation and idle threads"
	busyThreads = 500
)

// busy watches herdtrace beside a saturated nginx and a crowd of idle threads.
func (b *bench) busy(ctx context.Context) error {
	talk("herdtrace on a busy machine, %v", b.opts.busy)
	stop, err := crowdOf(b.env, crowdConfig{Threads: busyThreads})
	if err != nil {
		return err
	}
	defer stop()
	once, end, err := nginxLoad(false)(ctx, b.env, b.opts.busy+5*time.Second)
	if err != nil {
		return err
	}
	defer end()
	loaded := make(chan error, 1)
	go func() {
		_, err := once()
		loaded <- err
	}()
	rec := record{Kind: kindGrowth, Scene: sceneBusy, Size: busyThreads, Round: 1}
	err = watch(ctx, b.env, toolHerdtrace, int(b.opts.busy.Seconds()), &rec)
	// Where requests timed out the machine was busy all the same.
	if loadErr := <-loaded; loadErr != nil {
		rec.Error = loadErr.Error()
		talk("%s: %v", sceneBusy, loadErr)
	}
	if err != nil {
		return fmt.Errorf("measure a busy machine: %w", err)
	}
	return b.raw.add(rec)
}
