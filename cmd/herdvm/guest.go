// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guestWord tells herdvm that it is to run the cells.
const guestWord = "cells"

// guest runs the cells of one machine.
type guest struct {
	job  *job
	out  *json.Encoder
	have []variant
}

// variant is a line of herdtrace check --json.
type variant struct {
	Signal   string `json:"signal"`
	Variant  string `json:"variant"`
	Accuracy string `json:"accuracy"`
	Error    string `json:"error"`
	Verifier bool   `json:"verifier"`
	Best     bool   `json:"best"`
}

// runGuest is the process that init starts.
func runGuest() error {
	j, err := readJob()
	if err != nil {
		return err
	}
	port, err := os.OpenFile(resultPort(runtime.GOARCH), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open the result port: %w", err)
	}
	g := &guest{job: j, out: json.NewEncoder(port)}
	g.out.SetEscapeHTML(false)
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("read the kernel release: %w", err)
	}
	if err := g.out.Encode(cell{Type: "boot", Note: unix.ByteSliceToString(u.Release[:])}); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := g.attach(); err != nil {
		return err
	}
	if !g.job.Attach {
		if err := g.incidents(); err != nil {
			return err
		}
	}
	// The bytes must be out before the machine is.
	if err := g.out.Encode(cell{Type: "done"}); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1)
}

// attach asks herdtrace for each variant whether it attaches.
func (g *guest) attach() error {
	cmd := exec.Command(binPath+"/herdtrace", "check", "--json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var v variant
		if e := json.Unmarshal(sc.Bytes(), &v); e != nil {
			return fmt.Errorf("parse %q: %w", sc.Text(), e)
		}
		g.have = append(g.have, v)
		if !g.job.wants(v.Signal, v.Variant, incidentAttach) && !v.Verifier {
			continue
		}
		c := cell{Type: "cell", Signal: v.Signal, Variant: v.Variant, Incident: incidentAttach, Verdict: verdictAttaches, Note: v.Error, Best: v.Best}
		switch {
		case v.Verifier:
			c.Verdict = verdictBug
		case v.Error != "":
			c.Verdict = verdictUnavailable
		}
		if e := g.out.Encode(c); e != nil {
			return fmt.Errorf("write results: %w", e)
		}
	}
	if len(g.have) == 0 {
		return fmt.Errorf("ask herdtrace what attaches: it named no variant: %v: %s", err, stderr.String())
	}
	return nil
}

// attaching are the variants of a signal that attach and that the incident can judge.
func (g *guest) attaching(signal string) []variant {
	var out []variant
	for _, v := range g.have {
		if v.Signal == signal && v.Error == "" && slices.Contains(judged[signal], v.Variant) {
			out = append(out, v)
		}
	}
	return out
}

// incidents runs each with each variant forced, the best one among them. Signals
// that do not depend on each other are forced at the same time.
func (g *guest) incidents() error {
	v1 := false
	for i := range incidents {
		in := &incidents[i]
		for _, forced := range g.rounds(in) {
			if in.v1 && !v1 {
				if err := mountV1(); err != nil {
					return err
				}
				v1 = true
			}
			if err := g.runRound(in, forced); err != nil {
				return err
			}
		}
	}
	return nil
}

// rounds are the variants to force, by signal, in each run of an incident.
func (g *guest) rounds(in *incident) []map[string]variant {
	var all []map[string]variant
	for _, signal := range in.signals {
		n := 0
		for _, v := range g.attaching(signal) {
			if !g.job.wants(signal, v.Variant, in.name) {
				continue
			}
			if n == len(all) || in.dependent {
				all = append(all, make(map[string]variant))
				n = len(all) - 1
			}
			all[n][signal] = v
			n++
		}
	}
	return all
}

// runRound runs an incident, and writes a cell for each forced signal. A cell that
// is off gets a second chance, since a machine that others starve may break a
// load's own promises; it says so.
func (g *guest) runRound(in *incident, forced map[string]variant) error {
	first, off := g.tryRound(in, forced)
	cells := first
	if off {
		cells, _ = g.tryRound(in, forced)
		for i := range cells {
			if first[i].Verdict == verdictOff {
				cells[i].Note = strings.TrimPrefix(cells[i].Note+"; at the first try: "+first[i].Note, "; ")
			}
		}
	}
	for _, c := range cells {
		if err := g.out.Encode(c); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}

// tryRound runs an incident once.
func (g *guest) tryRound(in *incident, forced map[string]variant) (cells []cell, off bool) {
	begun := time.Now()
	var args []string
	for _, signal := range in.signals {
		if v, ok := forced[signal]; ok {
			args = append(args, "--variant", signal+"="+v.Variant)
		}
	}
	r := in.run(in.args, args)
	for _, signal := range in.signals {
		v, ok := forced[signal]
		if !ok {
			continue
		}
		c := cell{Type: "cell", Signal: signal, Variant: v.Variant, Incident: in.name, Best: v.Best, Seconds: time.Since(begun).Seconds()}
		c.Verdict, c.Note = r.judge(in, signal, v)
		off = off || c.Verdict == verdictOff
		if c.Verdict == verdictOff || g.job.Log {
			c.Log = r.log()
		}
		cells = append(cells, c)
	}
	return cells, off
}

// judge says what a run is worth as to one signal.
func (r *traced) judge(in *incident, signal string, v variant) (verdict, note string) {
	if r.err != nil {
		return verdictOff, r.err.Error()
	}
	if used := r.variantOf(signal); used != v.Variant {
		return verdictOff, fmt.Sprintf("it attached in the check, and ran by %q", used)
	}
	j := &judgement{run: r, exact: v.Accuracy == verdictExact}
	in.judge(j, signal)
	if n := r.summary().Cost.LostTotal - r.summary().Cost.RecursionMisses; n != 0 {
		j.wrong("%d events lost: %v", n, r.summary().Cost.Lost)
	}
	if len(j.faults) > 0 {
		return verdictOff, strings.Join(append(j.faults, j.notes...), "; ")
	}
	return v.Accuracy, strings.Join(j.notes, "; ")
}

// judgement collects what is wrong with a run, and what is remarkable.
type judgement struct {
	run    *traced
	exact  bool // the variant says that it is
	faults []string
	notes  []string
}

func (j *judgement) wrong(format string, args ...any) {
	j.faults = append(j.faults, fmt.Sprintf(format, args...))
}

func (j *judgement) note(format string, args ...any) {
	j.notes = append(j.notes, fmt.Sprintf(format, args...))
}

// equal is for counts of which there is but one truth.
func (j *judgement) equal(what string, got, want int64) {
	if got != want {
		j.wrong("%s %d, want %d", what, got, want)
	}
}
