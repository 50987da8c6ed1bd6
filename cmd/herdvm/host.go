// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// outcome is what one machine gave.
type outcome struct {
	machine
	job     job
	release string
	seconds float64
	cpu     time.Duration // of the emulator: what else the host does is not in it
	err     error
}

// host runs the machines and collects their cells.
type host struct {
	o     *options
	dir   string // temporary
	cache string

	mu    sync.Mutex // cells, and lines on stderr
	cells []cell
}

// selectable names what --only may be.
func selectable() string {
	words := slices.Sorted(maps.Keys(judged))
	for _, in := range incidents {
		words = append(words, in.name)
	}
	return strings.Join(words, ", ")
}

// runHost is herdvm outside of a machine.
func runHost(o *options) error {
	ms, err := selectMachines(o.kernels, o.arch)
	if err != nil {
		return err
	}
	h := &host{o: o, dir: o.keep}
	if h.dir == "" {
		if h.dir, err = os.MkdirTemp("", "herdvm-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		defer os.RemoveAll(h.dir)
	}
	if h.cache, err = cacheDir(); err != nil {
		return err
	}
	required, err := readRequired(requiredTable)
	if err != nil && !(o.update && errors.Is(err, os.ErrNotExist)) {
		return err
	}
	kernels, err := h.prepare(ms)
	if err != nil {
		return err
	}
	outcomes := h.bootAll(ms, kernels)
	return h.conclude(outcomes, required)
}

// prepare fetches the kernels and builds the tools, before anything is booted.
func (h *host) prepare(ms []machine) (map[string]*bootable, error) {
	if err := os.MkdirAll(h.cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	kernels := make(map[string]*bootable)
	built := make(map[string]bool)
	for _, m := range ms {
		key := m.arch + "-" + m.series
		if kernels[key] == nil {
			s, err := seriesOf(m.series)
			if err != nil {
				return nil, err
			}
			if kernels[key], err = kernelOf(h.cache, s, m.arch, h.o.refresh); err != nil {
				return nil, err
			}
		}
		if !built[m.arch] {
			if err := buildTools(filepath.Join(h.dir, "tools-"+m.arch)+"/", m.arch); err != nil {
				return nil, err
			}
			built[m.arch] = true
		}
	}
	return kernels, nil
}

// bootAll runs some machines at a time. One that dies does not stop the others.
func (h *host) bootAll(ms []machine, kernels map[string]*bootable) []outcome {
	out := make([]outcome, len(ms))
	slots := make(chan struct{}, h.o.jobs)
	var all sync.WaitGroup
	for i, m := range ms {
		slots <- struct{}{}
		all.Go(func() {
			begun := time.Now()
			out[i] = outcome{machine: m, job: job{Attach: h.o.attach, Only: h.o.only, Machine: m.only, Log: h.o.verbose}}
			out[i].release, out[i].cpu, out[i].err = h.bootOne(&m, &out[i].job, kernels[m.arch+"-"+m.series])
			out[i].seconds = time.Since(begun).Seconds()
			h.say("%s: %.0f s, CPU time %.0f s", m.name, out[i].seconds, out[i].cpu.Seconds())
			<-slots
		})
	}
	all.Wait()
	return out
}

func (h *host) bootOne(m *machine, j *job, b *bootable) (string, time.Duration, error) {
	dir := filepath.Join(h.dir, strings.ReplaceAll(m.name, "/", "-"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", 0, fmt.Errorf("boot %s: %w", m.name, err)
	}
	initrd := filepath.Join(dir, "initrd")
	if err := writeImage(initrd, filepath.Join(h.dir, "tools-"+m.arch), b, j); err != nil {
		return "", 0, err
	}
	defer os.Remove(initrd) // 30 MB, and all it holds is elsewhere
	return boot(m, dir, b.image(), initrd, func(c *cell) {
		c.Machine = m.name
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cells = append(h.cells, *c)
		if c.Incident != incidentAttach || c.Verdict == verdictBug {
			fmt.Fprintf(os.Stderr, "%-15s %-20s %-11s %-12s %-11s %3.0fs %s\n", m.name, c.Incident, c.Signal, c.Variant, c.Verdict, c.Seconds, c.Note)
		}
		for line := range strings.Lines(c.Log) {
			fmt.Fprint(os.Stderr, "    | ", strings.TrimRight(line, "\n"), "\n")
		}
	})
}

func (h *host) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// conclude prints the table and says what is wrong.
func (h *host) conclude(outcomes []outcome, required []row) error {
	rows := makeRows(h.cells)
	out := bufio.NewWriter(os.Stdout)
	printTables(out, outcomes, rows)
	var faults []string
	for i := range outcomes {
		o := &outcomes[i]
		if o.err != nil {
			faults = append(faults, o.err.Error())
		}
		lost, gained := compare(requiredOf(required, o), rows, o)
		faults = append(faults, lost...)
		for _, g := range gained {
			fmt.Fprintln(out, "gained:", g, "(herdvm --update writes it down)")
		}
	}
	for _, c := range h.cells {
		if c.Verdict == verdictOff || c.Verdict == verdictBug {
			faults = append(faults, fmt.Sprintf("%s %s=%s %s is %s: %s", c.Machine, c.Signal, c.Variant, c.Incident, c.Verdict, c.Note))
		}
	}
	for _, f := range faults {
		fmt.Fprintln(out, "FAIL:", f)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if h.o.update {
		if err := writeRequired(requiredTable, required, rows, outcomes); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d faults (to see one again: herdvm --kernel NAME --only INCIDENT,SIGNAL=VARIANT -v)", len(faults))
	}
	if len(h.cells) == 0 {
		return errors.New("no cell was run")
	}
	return nil
}
