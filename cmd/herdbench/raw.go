// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Kinds of raw lines.
const (
	kindHeader = "header"
	kindRun    = "run"    // one load with one tool
	kindBPF    = "bpf"    // the same while the kernel timed BPF programs: no throughput
	kindAbsent = "absent" // a tool that cannot run here, and why
	kindGrowth = "growth" // one size of one scene
	kindScreen = "screen" // one replay, at one size of the screen or without one
)

// record is a line of a raw file. What is not known is absent.
type record struct {
	Kind   string    `json:"kind"`
	Time   time.Time `json:"time"`
	Load   string    `json:"load,omitempty"`
	Tool   string    `json:"tool,omitempty"`
	Round  int       `json:"round,omitempty"` // from 1
	Place  int       `json:"place,omitempty"` // in the round's order, from 1
	Error  string    `json:"error,omitempty"`
	Header *header   `json:"header,omitempty"`

	Scene string `json:"scene,omitempty"` // of growth, and of screen
	Size  int    `json:"size,omitempty"`

	Ops         float64 `json:"ops,omitempty"`
	Seconds     float64 `json:"seconds,omitempty"`
	LoadCPUNS   uint64  `json:"load_cpu_ns,omitempty"` // of the load's processes, kernel time included
	MachineNS   uint64  `json:"machine_busy_ns,omitempty"`
	StealNS     uint64  `json:"steal_ns,omitempty"`
	LoadAverage float64 `json:"load_average,omitempty"`
	Foreign     int     `json:"foreign_programs,omitempty"` // BPF programs of others that trace, at a baseline

	ToolCPUNS   uint64    `json:"tool_cpu_ns,omitempty"`  // of its process, during the load
	TickCPUNS   []uint64  `json:"tick_cpu_ns,omitempty"`  // the same, second by second
	RSSBytes    uint64    `json:"rss_bytes,omitempty"`    // the most it was
	KernelBytes uint64    `json:"kernel_bytes,omitempty"` // BPF maps and programs, perf buffers
	Written     uint64    `json:"written_bytes,omitempty"`
	Lost        *uint64   `json:"lost_events,omitempty"`
	Programs    []program `json:"programs,omitempty"`
}

// header is the first line of a raw file.
type header struct {
	Args     []string          `json:"args"`
	Kernel   string            `json:"kernel"`
	CPUs     int               `json:"cpus"`
	Versions map[string]string `json:"versions"`
}

// program is what the kernel's statistics say of a BPF program, during the load.
type program struct {
	Name string `json:"name"`
	Runs uint64 `json:"runs"`
	NS   uint64 `json:"ns"`
}

// opsPerSecond is the throughput.
func (r *record) opsPerSecond() float64 { return r.Ops / r.Seconds }

// totals sums the programs up.
func (r *record) totals() (runs, ns uint64) {
	for _, p := range r.Programs {
		runs, ns = runs+p.Runs, ns+p.NS
	}
	return runs, ns
}

// rawFile keeps the runs: each is in the file before the next one begins.
type rawFile struct {
	f   *os.File
	enc *json.Encoder
	all []record
}

// createRaw makes the file, and its directory where it is bin/.
func createRaw(path string, h header) (*rawFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create directory of raw runs: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create file of raw runs: %w", err)
	}
	r := &rawFile{f: f, enc: json.NewEncoder(f)}
	return r, r.add(record{Kind: kindHeader, Header: &h})
}

func (r *rawFile) add(rec record) error {
	rec.Time = time.Now().UTC().Truncate(time.Millisecond)
	r.all = append(r.all, rec)
	if err := r.enc.Encode(&rec); err != nil {
		return fmt.Errorf("write raw run: %w", err)
	}
	return nil
}

func (r *rawFile) Close() error { return r.f.Close() }

// readRaw reads what rawFile wrote. A last line that was cut off is ignored.
func readRaw(r io.Reader) ([]record, error) {
	var all []record
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read raw runs: %w", err)
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, fmt.Errorf("read raw runs, line %d: %w", n, err)
		}
		all = append(all, rec)
	}
}

// defaultOut is bin/bench-WHAT-DATE.jsonl; bin/ is no part of the repository.
func defaultOut(what string) string {
	return filepath.Join("bin", "bench-"+what+"-"+time.Now().Format("20060102-150405")+".jsonl")
}
