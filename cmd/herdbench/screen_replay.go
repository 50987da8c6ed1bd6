// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/cmd/internal/pty"
)

// replaying is a herdtrace replay at a terminal of its own. Its recording is a
// named pipe, which yields a tick when it is fed one: that way it has the same
// pace with and without a screen, which would not wait.
type replaying struct {
	cmd    *exec.Cmd
	dir    string
	pipe   *os.File
	lines  chan []byte // to the pipe
	master *os.File
	sent   atomic.Uint64 // bytes that the terminal was sent
	done   chan error

	mu   sync.Mutex
	tail []byte // of them, for what it says when it fails
}

// pipeBytes holds a tick, so that it is not handed over in small change.
const pipeBytes = 1 << 20

func startReplay(e *env, s *showing) (*replaying, error) {
	dir, err := os.MkdirTemp("", "herdbench-")
	if err != nil {
		return nil, fmt.Errorf("make directory for recording: %w", err)
	}
	r := &replaying{dir: dir, lines: make(chan []byte, 8), done: make(chan error, 1)}
	path := filepath.Join(dir, "recording.jsonl")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("make recording: %w", err)
	}
	// Open for both, so that it does not wait for the reader.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("open recording: %w", err)
	}
	unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeBytes) // else it takes more switches
	r.pipe = os.NewFile(uintptr(fd), path)
	master, slave, err := pty.Open(s.columns, s.lines)
	if err != nil {
		r.abandon()
		return nil, err
	}
	defer slave.Close()
	r.master = master
	r.cmd = exec.Command(e.herdtrace, append([]string{"replay", path}, s.flags...)...)
	r.cmd.Env = replayEnvironment()
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = slave, slave, slave
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: unix.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.abandon()
		return nil, fmt.Errorf("start herdtrace: %w", err)
	}
	go r.drain()
	go r.write()
	go func() { r.done <- r.cmd.Wait() }()
	return r, nil
}

// replayEnvironment is a plain colour terminal, whatever herdbench runs in.
func replayEnvironment() (env []string) {
	for _, name := range []string{"PATH", "HOME", "TZ", "GOGC", "GOMAXPROCS"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, "TERM=xterm-256color", "LC_ALL=C.UTF-8")
}

// keepTail is how much of the output is kept for an error.
const keepTail = 2 << 10

func (r *replaying) drain() {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.master.Read(buf)
		r.sent.Add(uint64(n))
		r.mu.Lock()
		r.tail = append(r.tail, buf[:n]...)
		r.tail = bytes.Clone(r.tail[max(len(r.tail)-keepTail, 0):])
		r.mu.Unlock()
		if err != nil {
			return // EIO: nobody has it open any more
		}
	}
}

// said is the end of what the terminal was sent.
func (r *replaying) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.tail)
}

func (r *replaying) write() {
	for line := range r.lines {
		if _, err := r.pipe.Write(line); err != nil {
			return // await tells why
		}
	}
	r.pipe.Close()
}

func (r *replaying) feed(line []byte) { r.lines <- line }

func (r *replaying) press(keys string) { r.master.WriteString(keys) }

// await waits for the next second.
func (r *replaying) await(ctx context.Context, second *time.Ticker) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-r.done:
		r.done <- err
		return fmt.Errorf("run herdtrace: it ended (%v) and said: %q", r.cmd.ProcessState, r.said())
	case <-second.C:
		return nil
	}
}

// quit ends the recording, and the screen, and looks how it went.
func (r *replaying) quit() error {
	close(r.lines)
	r.lines = nil
	limit := time.After(endsWithin)
	for {
		// It is deaf to a key until it reads its terminal.
		r.press("q")
		select {
		case err := <-r.done:
			r.done <- err
			if err != nil {
				return fmt.Errorf("run herdtrace: %w; it said: %q", err, r.said())
			}
			return nil
		case <-limit:
			return fmt.Errorf("stop herdtrace: it still runs %v after the end of its recording and q", endsWithin)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// clear ends what still runs.
func (r *replaying) clear() {
	if r.lines != nil {
		close(r.lines)
	}
	r.cmd.Process.Kill()
	<-r.done
	r.abandon()
}

func (r *replaying) abandon() {
	r.pipe.Close()
	if r.master != nil {
		r.master.Close()
	}
	os.RemoveAll(r.dir)
}
