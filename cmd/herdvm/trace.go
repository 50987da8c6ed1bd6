// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cellLimit ends a run that is stuck; what is killed is off.
const cellLimit = 5 * time.Minute

// Files of a run, in the guest.
const (
	ndjsonPath = "/tmp/out.ndjson"
	goPath     = "/tmp/go"
	readyPath  = "/tmp/ready"
	attachPath = "/tmp/attached"
)

// traced is one load of the lab, and what herdtrace said of it.
type traced struct {
	records []record
	oracle  []byte // a line of JSON
	err     error  // there is nothing to judge
	stderr  bytes.Buffer
}

// log is what the programs said, for a cell that is off.
func (r *traced) log() string {
	b := bytes.TrimSpace(r.stderr.Bytes())
	return string(b[max(0, len(b)-6000):])
}

// summary is the last record; an empty one where there is none.
func (r *traced) summary() *record {
	if i := slices.IndexFunc(r.records, func(x record) bool { return x.Type == "summary" }); i >= 0 {
		return &r.records[i]
	}
	return &record{}
}

// variantOf is by what a signal was measured.
func (r *traced) variantOf(signal string) string {
	for i := range r.records {
		for _, s := range r.records[i].Signals {
			if s.Name == signal {
				return s.Variant
			}
		}
	}
	return ""
}

// lockedBuffer takes what two programs say at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// cleanUp removes what the run before has left.
// unbound: emulated, everything costs more than it may, and nothing must be shed.
const unbound = "--budget=off"

func cleanUp() {
	for _, f := range []string{ndjsonPath, goPath, readyPath, attachPath} {
		os.Remove(f)
	}
}

// runTraced runs the lab as a command of herdtrace.
func runTraced(lab, variants []string) *traced { return runCommand(lab, variants, nil) }

// runFlood lets the flood begin when herdtrace has shown a queue that is half
// full: from then on it sees refused SYNs one by one on every kernel.
func runFlood(lab, variants []string) *traced {
	return runCommand(append(slices.Clone(lab), "--wait-file", goPath), append([]string{"-i", "500ms"}, variants...), queueFills)
}

// runCommand runs herdtrace -- herdlab, and creates goPath when ready says so.
func runCommand(lab, variants []string, ready func() bool) *traced {
	cleanUp()
	r := &traced{}
	args := append([]string{"--json=" + ndjsonPath, "-q", unbound}, variants...)
	args = append(append(args, "--", binPath+"/herdlab"), lab...)
	cmd := exec.Command(binPath+"/herdtrace", args...)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &lockedBuffer{b: &r.stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 2 * time.Second
	fmt.Fprintln(cmd.Stderr, strings.Join(cmd.Args, " "))
	if err := cmd.Start(); err != nil {
		r.err = err
		return r
	}
	kill := time.AfterFunc(cellLimit, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	ended := make(chan struct{})
	if ready != nil {
		go func() {
			for !ready() {
				select {
				case <-ended:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
			os.WriteFile(goPath, nil, 0o600) // the lab complains where it is missing
		}()
	}
	err := cmd.Wait()
	close(ended)
	if !kill.Stop() {
		err = errors.New("it was killed: it took more than " + cellLimit.String())
	}
	if err != nil {
		r.err = fmt.Errorf("run %s under herdtrace: %w", lab[0], err)
	}
	r.oracle = stdout.Bytes()
	r.read()
	return r
}

// queueFills reports whether the last whole line of the output shows a queue that
// is at least half full.
func queueFills() bool {
	b, _ := os.ReadFile(ndjsonPath) // not there yet: not full
	lines := bytes.Split(b, []byte("\n"))
	if len(lines) < 2 {
		return false
	}
	var last record
	if json.Unmarshal(lines[len(lines)-2], &last) != nil {
		return false
	}
	return slices.ContainsFunc(last.Listeners, func(l listenerRecord) bool {
		// Without BPF the SYN queue is not seen, and no SYN either: there is nothing
		// to wait for.
		return l.Port == 8080 && (l.SynQueueLen == nil || l.AcceptQueueMax > 0 && 2*l.AcceptQueuePeak >= l.AcceptQueueMax || l.SynQueueMax > 0 && 2*l.SynQueuePeak >= l.SynQueueMax)
	})
}

// runSched attaches herdtrace while all of the lab's workers sleep, lets the load
// go, and stops herdtrace when they sleep again: both have then counted the same.
func runSched(lab, variants []string) *traced {
	cleanUp()
	r := &traced{}
	talk := &lockedBuffer{b: &r.stderr}
	load := exec.Command(binPath+"/herdlab", append(slices.Clone(lab), "--ready-file", readyPath, "--wait-file", goPath, "--linger", "60s")...)
	load.Stderr = talk
	out, err := load.StdoutPipe()
	if err != nil {
		r.err = err
		return r
	}
	fmt.Fprintln(talk, strings.Join(load.Args, " "))
	if r.err = load.Start(); r.err != nil {
		return r
	}
	stopLoad := ender(load)
	defer stopLoad()
	if r.err = await("the lab is ready", readyPath); r.err != nil {
		return r
	}
	trace := exec.Command(binPath+"/herdtrace", append([]string{"--json=" + ndjsonPath, "-q", unbound, "--ready-file", attachPath}, variants...)...)
	trace.Stdout, trace.Stderr = talk, talk
	fmt.Fprintln(talk, strings.Join(trace.Args, " "))
	if r.err = trace.Start(); r.err != nil {
		return r
	}
	stopTrace := ender(trace)
	defer stopTrace()
	if r.err = await("herdtrace is ready", attachPath); r.err != nil {
		return r
	}
	if r.err = os.WriteFile(goPath, nil, 0o600); r.err != nil {
		return r
	}
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() && !strings.Contains(sc.Text(), `"type":"oracle"`) {
	}
	r.oracle = slices.Clone(sc.Bytes())
	stopTrace()
	r.read()
	return r
}

// ender returns what ends a command, once: with SIGINT, and if that does not help,
// with SIGKILL. One that never ends by itself is killed, too.
func ender(cmd *exec.Cmd) func() {
	late := time.AfterFunc(cellLimit, func() { cmd.Process.Kill() })
	return sync.OnceFunc(func() {
		late.Stop()
		cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(cellLimit, func() { cmd.Process.Kill() })
		cmd.Wait() // how it ended shows in what it wrote
		kill.Stop()
	})
}

func await(what, file string) error {
	for end := time.Now().Add(cellLimit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	return errors.New("it did not happen that " + what)
}

// read parses what herdtrace wrote.
func (r *traced) read() {
	b, err := os.ReadFile(ndjsonPath)
	if err != nil {
		r.err = errors.Join(r.err, err)
		return
	}
	for line := range bytes.Lines(b) {
		rec, err := parseRecord(line)
		if err != nil {
			r.err = errors.Join(r.err, err)
			return
		}
		r.records = append(r.records, *rec)
	}
	if r.err == nil && r.summary().Type == "" {
		r.err = errors.New("herdtrace wrote no summary")
	}
}
