// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// running is a tool that is attached.
type running struct {
	tool *tool
	cmd  *exec.Cmd
	dir  string // of its own, with its output and its files
	out  *os.File
	done chan error
	cpu  uint64 // at mark
}

const (
	outputFile  = "output"
	readyWithin = time.Minute
	endsWithin  = 2 * time.Minute
	pollEvery   = 5 * time.Millisecond
)

// startTool runs a tool until it says that it is attached.
func startTool(ctx context.Context, e *env, t *tool) (*running, error) {
	dir, err := os.MkdirTemp("", "herdbench-")
	if err != nil {
		return nil, fmt.Errorf("make directory for %s: %w", t.name, err)
	}
	r := &running{tool: t, dir: dir, done: make(chan error, 1)}
	if r.out, err = os.Create(filepath.Join(dir, outputFile)); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("create output of %s: %w", t.name, err)
	}
	// The mount namespace is private, so that a tracefs that the tool needs is
	// mounted where nobody else sees it (Go makes its mounts private, too).
	r.cmd = exec.Command(e.self, append([]string{roleTracefs}, t.argv(e, dir)...)...)
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.clear()
		return nil, fmt.Errorf("start %s: %w", t.name, err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	if err := r.await(ctx); err != nil {
		r.kill()
		r.clear()
		return nil, err
	}
	return r, nil
}

// await returns when the tool is attached.
func (r *running) await(ctx context.Context) error {
	limit := time.After(readyWithin)
	for {
		if r.isReady() {
			return nil
		}
		select {
		case err := <-r.done:
			r.done <- err
			return fmt.Errorf("run %s: it ended (%v) and said: %s", r.tool.name, r.cmd.ProcessState, firstLines(r.output()))
		case <-limit:
			return fmt.Errorf("run %s: not attached after %v; it said: %s", r.tool.name, readyWithin, firstLines(r.output()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func (r *running) isReady() bool {
	if r.tool.ready != "" {
		_, err := os.Stat(filepath.Join(r.dir, r.tool.ready))
		return err == nil
	}
	return strings.Contains(r.output(), r.tool.says)
}

func (r *running) output() string {
	b, _ := os.ReadFile(r.out.Name())
	return string(b)
}

func firstLines(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 400)]
}

// mark begins to count the tool's CPU time.
func (r *running) mark() (err error) {
	if r == nil {
		return nil
	}
	r.cpu, err = cpuOf(r.cmd.Process.Pid)
	return err
}

// take notes in rec what the tool took since mark, and what it holds.
func (r *running) take(rec *record) error {
	if r == nil {
		return nil
	}
	pid := r.cmd.Process.Pid
	now, err := cpuOf(pid)
	if err != nil {
		return fmt.Errorf("%w: %s has ended and said: %s", err, r.tool.name, firstLines(r.output()))
	}
	rec.ToolCPUNS = now - r.cpu
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return fmt.Errorf("read memory of %s: %w", r.tool.name, err)
	}
	rec.RSSBytes = statusBytes(status, "VmHWM")
	maps, _ := bpfOf(pid)
	rec.KernelBytes = maps + perfBuffers(pid)
	return nil
}

// stop ends the tool as Ctrl-C does, and adds to rec what it wrote and lost.
func (r *running) stop(rec *record) error {
	if r == nil {
		return nil
	}
	defer r.clear()
	r.cmd.Process.Signal(unix.SIGINT)
	select {
	case <-r.done:
	case <-time.After(endsWithin):
		r.kill()
		return fmt.Errorf("stop %s: it still ran %v after SIGINT", r.tool.name, endsWithin)
	}
	for _, f := range append([]string{outputFile}, r.tool.files...) {
		fi, err := os.Stat(filepath.Join(r.dir, f))
		if err != nil {
			return fmt.Errorf("count what %s wrote: %w; it said: %s", r.tool.name, err, firstLines(r.output()))
		}
		rec.Written += uint64(fi.Size())
	}
	lost, err := r.tool.lost(r.dir, r.output())
	if err != nil {
		return err
	}
	rec.Lost = &lost
	return nil
}

// kill ends the tool and what it started; it has a process group of its own.
func (r *running) kill() {
	unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL)
	<-r.done
}

func (r *running) clear() {
	r.out.Close()
	os.RemoveAll(r.dir)
}

// roleTracefs is herdbench in its own mount namespace, which becomes the tool.
const roleTracefs = "in-tracefs"

const tracefs = "/sys/kernel/tracing"

// runInTracefs mounts tracefs where there is none, and runs args.
func runInTracefs(_ context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("run a tool: none is named")
	}
	if _, err := os.Stat(filepath.Join(tracefs, "events")); err != nil {
		if err := unix.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil {
			return fmt.Errorf("mount tracefs for %s alone: %w", args[0], err)
		}
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("find %s: %w", args[0], err)
	}
	return fmt.Errorf("run %s: %w", path, unix.Exec(path, args, os.Environ()))
}
