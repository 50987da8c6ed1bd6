// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a re-executed herdlab in one role. It lives at most as long as its
// parent: it is killed by PR_SET_PDEATHSIG when the parent dies, and it is told
// to stop by the end of file on its control pipe.
type child struct {
	cmd    *exec.Cmd
	ctl    *os.File // write end of the control pipe; closing it means "stop"
	out    *os.File // read end of the child's stdout
	lines  *bufio.Reader
	reaped bool
}

// startChild re-executes herdlab in the named role, with config as JSON in its
// argument, files as descriptors 3, 4, ... and the control pipe after them.
// The child gets a process group of its own, so that a Ctrl-C on the terminal
// reaches only the parent, which then stops its children in order.
func startChild(name string, config any, env []string, files ...*os.File) (*child, error) {
	arg, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encode the configuration of %s: %w", name, err)
	}
	ctlR, ctlW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the control pipe of %s: %w", name, err)
	}
	defer ctlR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		ctlW.Close()
		return nil, fmt.Errorf("make the report pipe of %s: %w", name, err)
	}
	defer outW.Close()
	cmd := exec.Command("/proc/self/exe", name, string(arg))
	cmd.Args[0] = "herdlab"
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout = outW
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append(append([]*os.File{}, files...), ctlR)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		ctlW.Close()
		outR.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &child{cmd: cmd, ctl: ctlW, out: outR, lines: bufio.NewReader(outR)}, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop asks the child to finish; it may be called more than once.
func (c *child) stop() { c.ctl.Close() }

// receive decodes the child's next line of JSON into v, waiting at most limit.
func (c *child) receive(v any, limit time.Duration) error {
	if err := c.out.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("set a deadline on the report pipe of pid %d: %w", c.pid(), err)
	}
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the report of pid %d: %w (was it killed? its own message, if any, is above)", c.pid(), err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("decode the report of pid %d: %w", c.pid(), err)
	}
	return nil
}

// reap waits for the child to end, and kills it (by its pid; it is ours and
// not yet waited for, so the pid cannot be another's) when it outlives limit.
func (c *child) reap(limit time.Duration) {
	if c.reaped {
		return
	}
	c.reaped = true
	c.stop()
	kill := time.AfterFunc(limit, func() { _ = c.cmd.Process.Kill() })
	_ = c.cmd.Wait() // what matters of its end was in its report
	kill.Stop()
	c.out.Close()
}

// send writes v as the next line for the parent.
func send(v any) error {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return fmt.Errorf("send a report to the parent: %w", err)
	}
	return nil
}

// awaitStop blocks until the parent closes the control pipe (or dies).
func awaitStop(ctlFD int) {
	var b [1]byte
	for {
		n, err := unix.Read(ctlFD, b[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(ctlFD), Events: unix.POLLIN}}, -1)
		case err != nil || n == 0:
			return
		}
	}
}

// setComm names every thread of this process. prctl(PR_SET_NAME) would name
// only the caller, and the Go runtime has started threads already.
func setComm(comm string) error {
	files, err := filepath.Glob("/proc/self/task/*/comm")
	if err != nil {
		return fmt.Errorf("list the threads of this process: %w", err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(comm), 0); err != nil {
			return fmt.Errorf("name a thread %q: %w", comm, err)
		}
	}
	return nil
}
