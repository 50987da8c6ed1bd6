// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/tracer"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// trace is herdtrace without a subcommand: attach, and show until stopped.
func trace(o *options) error {
	for _, pid := range o.pids {
		if err := syscall.Kill(int(pid), 0); errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("trace process %d: there is none (pgrep finds it by name)", pid)
		}
	}
	t, err := tracer.Open(tracer.Options{
		Interval: o.interval,
		Version:  versionString(),
		Command:  o.command,
		PIDs:     o.pids,
		Ports:    o.ports,
		Variants: o.variants,
		Budget:   o.budget,
		NoBPF:    o.noBPF,
	})
	if errors.Is(err, tracer.ErrHost) {
		return exitError{exitHost, fmt.Errorf("%w; see herdtrace check", err)}
	}
	if err != nil {
		return err
	}
	defer t.Close()
	warnOfRung(t.Header())
	out, err := newOutputs(o, func(d time.Duration) { t.SetInterval(d) }) // the screen keeps to the bounds
	if err != nil {
		return err
	}
	if o.readyFile != "" {
		if err := os.WriteFile(o.readyFile, []byte("ready\n"), 0o644); err != nil {
			return fmt.Errorf("create ready file: %w", err)
		}
	}
	if len(o.command) > 0 {
		return traceCommand(o, t, out)
	}
	ctx, stop := interrupts(context.Background(), out, nil)
	defer stop()
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	sum, err := pipe(ctx, t, out)
	if endErr := report.End(sum, out.sinks...); err == nil {
		err = endErr
	}
	if err == nil {
		err = out.verdict(sum)
	}
	return err
}

// warnOfRung says, loudly, that the trace is without BPF and what would help. Who
// asked for it knows.
func warnOfRung(h *sample.Header) {
	if h.Rung != sample.RungProcFS {
		return
	}
	complain(fmt.Errorf("NO BPF: %s; from /proc, cgroupfs and sock_diag alone, accepts, wake-ups, refused clients and why threads wait are NOT MEASURED (herdtrace check says what is missing)", h.RungReason))
}

// traceCommand starts the command when everything is attached, traces until it
// ends or the duration is over, and passes its exit code on.
func traceCommand(o *options, t *tracer.Tracer, out *outputs) error {
	// Whoever reads our lines may leave; the command must not be left alone.
	signal.Ignore(syscall.SIGPIPE)
	cmd := exec.Command(o.command[0], o.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	own := !isTerminal(os.Stdin)
	// At a terminal the command shares our process group, and so its signals;
	// elsewhere it gets one of its own, and we pass signals on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: own}
	if err := cmd.Start(); err != nil {
		return exitError{startCode(err), fmt.Errorf("run %s: %w", o.command[0], err)}
	}
	ctx, stop := interrupts(context.Background(), out, func(sig os.Signal) {
		if own {
			syscall.Kill(-cmd.Process.Pid, sig.(syscall.Signal))
		} else if sig != syscall.SIGINT {
			cmd.Process.Signal(sig)
		}
	})
	defer stop()
	ctx, ended := context.WithCancel(ctx)
	code := make(chan int, 1)
	go func() {
		cmd.Wait() // its error is the exit code
		code <- exitCodeOf(cmd.ProcessState)
		ended()
	}()
	tracing := ctx
	if o.duration > 0 {
		var cancel context.CancelFunc
		tracing, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	sum, err := pipe(tracing, t, out)
	rc := <-code
	sum.Command = &report.Command{Args: o.command, ExitCode: rc}
	if endErr := report.End(sum, out.sinks...); err == nil {
		err = endErr
	}
	if err != nil {
		return exitError{exitOwn, err}
	}
	judged := out.verdict(sum)
	if rc != 0 { // the command's own failure comes first
		return exitError{code: rc}
	}
	return judged
}

func startCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return exitNotFound
	}
	return exitCannotRun
}

func exitCodeOf(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// check is the subcommand: what this host offers.
func check(o *options, args []string) error {
	if len(args) > 0 {
		return usagef("herdtrace check takes no arguments")
	}
	if o.json != "" {
		return checkJSON(o)
	}
	checks := tracer.Check(o.variants, o.noBPF)
	good := true
	for _, c := range checks {
		if _, err := fmt.Fprintf(os.Stdout, "%-5s %-14s %s\n", c.State, c.Name, c.Text); err != nil {
			return err
		}
		good = good && c.State != tracer.CheckFail
	}
	if !good {
		return exitError{code: exitHost}
	}
	return nil
}
