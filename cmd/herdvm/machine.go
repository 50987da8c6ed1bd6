// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// machine is one row of the matrix: a kernel, and how it is booted.
type machine struct {
	name    string // as in the table
	series  string
	arch    string
	cmdline string   // besides what all have
	only    []string // incidents of these signals; none: all
}

// The incidents that a machine is for, where it is not for all.
var (
	acceptOnly = []string{"accept", "wake"}
	armOnly    = []string{"accept", "wake", "runq"}
)

// machines are all of them.
var machines = []machine{
	{name: "5.10", series: "5.10", arch: "amd64"},
	{name: "6.1", series: "6.1", arch: "amd64"},
	{name: "6.12", series: "6.12", arch: "amd64"},
	{name: "6.18", series: "6.18", arch: "amd64"},
	{name: "newest", series: "newest", arch: "amd64"},
	// What may interrupt a program that counts, and then runs itself: not counted.
	{name: "6.12/preempt", series: "6.12", arch: "amd64", cmdline: "preempt=full", only: acceptOnly},
	{name: "newest/preempt", series: "newest", arch: "amd64", cmdline: "preempt=full", only: acceptOnly},
	{name: "6.1/arm64", series: "6.1", arch: "arm64", only: armOnly},
	{name: "6.12/arm64", series: "6.12", arch: "arm64", only: armOnly},
	{name: "newest/arm64", series: "newest", arch: "arm64", only: armOnly},
}

// selectMachines finds them by name; none given: all of the architecture.
func selectMachines(names []string, arch string) ([]machine, error) {
	var out []machine
	for _, m := range machines {
		if len(names) == 0 && m.arch == arch || slices.Contains(names, m.name) {
			out = append(out, m)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(machines, func(m machine) bool { return m.name == n }) {
			return nil, fmt.Errorf("find kernel %s: there is none of that name, but %s", n, machineNames())
		}
	}
	return out, nil
}

func machineNames() string {
	var names []string
	for _, m := range machines {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}

// job is what the guest is told to do.
type job struct {
	Attach  bool     `json:"attach"`  // nothing but the attach matrix
	Only    []string `json:"only"`    // accept, accept=syscall, accept-herd
	Machine []string `json:"machine"` // as Only, for the incidents of this machine
	Log     bool     `json:"log"`     // of each cell, also of those that hold
}

// wants reports whether the job is to judge that signal by that variant in that
// incident. What attaches is told of every machine.
func (j *job) wants(signal, variant, incident string) bool {
	return matches(j.Only, signal, variant, incident) && (incident == incidentAttach || matches(j.Machine, signal, variant, incident))
}

// matches: words of one kind are alternatives, and both kinds must be met.
func matches(only []string, signal, variant, incident string) bool {
	var signals, incidents []bool
	for _, w := range only {
		s, v, _ := strings.Cut(w, "=")
		if isIncident(w) {
			incidents = append(incidents, w == incident)
		} else {
			signals = append(signals, s == signal && (v == "" || v == variant))
		}
	}
	met := func(words []bool) bool { return len(words) == 0 || slices.Contains(words, true) }
	return met(signals) && met(incidents)
}
