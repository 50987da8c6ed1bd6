// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	churnCtlFD = 3
	churnPoll  = 10 * time.Millisecond
	// churnAtOnce bounds what a part has under way, however fast it should be.
	churnAtOnce = 64
	churnBurn   = 50 * time.Microsecond
)

// churnPartConfig travels to a part in its argument.
type churnPartConfig struct {
	Part   string     `json:"part"`
	Unix   string     `json:"unix"`
	Group  churnPaths `json:"group"`
	Inside bool       `json:"inside"` // in its namespace already
	Job    string     `json:"job"`
	Seed   int        `json:"seed"`
	churnConfig
}

// churnPart is the process of one part.
type churnPart struct {
	cfg     churnPartConfig
	stopped atomic.Bool
	pending sync.WaitGroup

	mu     sync.Mutex
	counts churnCounts
	fail   error // the first one
}

func churnEnv() []string { return []string{"GOMAXPROCS=4"} }

// runChurnPart sends a line when it is ready, works from the first byte on its
// control pipe to the end of it, and sends what it has done.
func runChurnPart(arg string) error {
	p := &churnPart{}
	if err := decodeConfig(arg, &p.cfg); err != nil {
		return err
	}
	for _, part := range churnParts {
		if part.name != p.cfg.Part {
			continue
		}
		if err := part.run(p); err != nil {
			return err
		}
		p.pending.Wait()
		if p.fail != nil {
			return p.fail
		}
		return send(p.counts)
	}
	return fmt.Errorf("start a part: unknown part %q", p.cfg.Part)
}

// begin says that the part is ready, and waits for its go.
func (p *churnPart) begin() error {
	if err := send(churnCounts{}); err != nil {
		return err
	}
	var b [1]byte
	n, err := unix.Read(churnCtlFD, b[:])
	for err == unix.EINTR || err == unix.EAGAIN {
		_, _ = unix.Poll([]unix.PollFd{{Fd: churnCtlFD, Events: unix.POLLIN}}, -1)
		n, err = unix.Read(churnCtlFD, b[:])
	}
	if err != nil || n == 0 {
		p.stopped.Store(true)
		return nil
	}
	go func() {
		awaitStop(churnCtlFD)
		p.stopped.Store(true)
	}()
	return nil
}

// count changes the counts under their lock.
func (p *churnPart) count(f func(*churnCounts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.counts)
}

func (p *churnPart) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail == nil {
		p.fail = err
	}
	p.stopped.Store(true)
}

// pace calls do with 0, 1, 2, ... at the asked rate until the part is stopped.
// It must be called on the main thread where do starts processes. What is late
// is not made up for: on a busy machine the churn is slower.
func (p *churnPart) pace(rate float64, do func(n int)) {
	begin, skipped := time.Now(), 0
	for n := 0; !p.stopped.Load(); {
		due := int(rate*time.Since(begin).Seconds()) - skipped
		if late := due - n - churnAtOnce; late > 0 {
			skipped += late
			due -= late
		}
		for ; n < due && !p.stopped.Load(); n++ {
			do(n)
		}
		rawNap(-1, int64(churnPoll))
	}
}

// slots bounds what is under way.
type slots chan struct{}

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) free() { <-s }

// threads makes short-lived threads and processes.
func (p *churnPart) threads() error {
	if err := p.begin(); err != nil {
		return err
	}
	threads, processes := make(slots, 4*churnAtOnce), make(slots, churnAtOnce)
	born := 0
	begin := time.Now()
	p.pace(max(p.cfg.Threads, p.cfg.Processes), func(n int) {
		if p.cfg.Threads > 0 && float64(n) < p.cfg.Threads*time.Since(begin).Seconds() && threads.take() {
			p.pending.Add(1)
			go p.thread(n, threads)
		}
		if float64(born) < p.cfg.Processes*time.Since(begin).Seconds() {
			if processes.take() {
				p.process(born, processes)
			}
			born++
		}
	})
	return nil
}

// thread is a thread's life, under two names: the runtime ends a thread whose
// goroutine ends while it is locked to it.
func (p *churnPart) thread(n int, s slots) {
	runtime.LockOSThread()
	defer p.pending.Done()
	defer s.free()
	for i := range 2 {
		name := append([]byte(fmt.Sprintf("churn-%d-%d", i, n)), 0)
		_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0)
		churnSpin(churnBurn)
		rawNap(-1, int64(churnBurn))
	}
	p.count(func(c *churnCounts) { c.Threads++ })
}

func churnSpin(d time.Duration) {
	for end := rawClock(unix.CLOCK_THREAD_CPUTIME_ID) + int64(d); rawClock(unix.CLOCK_THREAD_CPUTIME_ID) < end; {
	}
}

var churnJobs = []string{"plain", "exec", "leader-first"}

// process starts one of several kinds of short-lived processes.
func (p *churnPart) process(n int, s slots) {
	kind := churnJobs[n%len(churnJobs)]
	c, err := startChild(roleChurnPart, churnPartConfig{Part: "job", Job: kind}, churnEnv())
	if err != nil {
		s.free()
		p.count(func(c *churnCounts) { c.StartFailed++ })
		return
	}
	p.pending.Add(1)
	go func() {
		defer p.pending.Done()
		defer s.free()
		var done churnCounts
		if err := c.receive(&done, startLimit); err != nil {
			p.failed(fmt.Errorf("run a %s job: %w", kind, err))
		}
		c.reap(stopLimit)
		p.count(func(c *churnCounts) {
			c.Processes++
			switch kind {
			case "exec":
				c.Execs++
			case "leader-first":
				c.LeadersFirst++
			}
		})
	}()
}

// job is a short-lived process; "burn" lives until its control pipe ends.
func (p *churnPart) job() error {
	switch p.cfg.Job {
	case "burn":
		go churnSpin(time.Hour)
		awaitStop(churnCtlFD)
		return nil
	case "exec":
		return execFromThread()
	case "leader-first":
		go func() {
			runtime.LockOSThread()
			churnAwaitZombie()
			churnSpin(churnBurn)
			_ = send(churnCounts{})
			os.Exit(0)
		}()
		// The thread group lives on without its leader (kernel/exit.c: do_exit()),
		// and its processor is taken from it as from any thread in a system call.
		_, _, errno := unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
		return errno
	}
	churnSpin(churnBurn)
	return nil
}

// churnAwaitZombie waits until the main thread has ended.
func churnAwaitZombie() {
	for range 1000 {
		if threadState("/proc/self/task/"+strconv.Itoa(os.Getpid())) == 'Z' {
			return
		}
		rawNap(-1, int64(time.Millisecond))
	}
}

// execFromThread: the thread that calls exec becomes the main one (fs/exec.c:
// de_thread()), with its number, and keeps its own struct task_struct.
func execFromThread() error {
	arg, err := json.Marshal(churnPartConfig{Part: "job", Job: "plain"})
	if err != nil {
		return err
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		churnSpin(churnBurn)
		failed <- syscall.Exec("/proc/self/exe", []string{"herdlab", roleChurnPart, string(arg)}, os.Environ())
	}()
	return fmt.Errorf("execute herdlab from a thread: %w", <-failed)
}

// drops overflows a CPU's backlog from time to time, by herdlab netrx.
func (p *churnPart) drops() error {
	if err := p.begin(); err != nil {
		return err
	}
	p.pace(p.cfg.Drops, func(int) {
		cmd := exec.Command("/proc/self/exe", "netrx", "--mode", "backlog", "--packets", "20000", "--duration", "2s")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var oracle struct {
			Softnet []struct {
				Dropped int64 `json:"dropped_delta"`
			} `json:"softnet"`
		}
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &oracle)
		}
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = fmt.Errorf("%w: %s", err, exit.Stderr)
			}
			p.failed(fmt.Errorf("overflow a backlog: %w", err))
			return
		}
		p.count(func(c *churnCounts) {
			for _, cpu := range oracle.Softnet {
				c.BacklogDrops += cpu.Dropped
			}
		})
	})
	return nil
}
