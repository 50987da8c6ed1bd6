// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// schedEnded is what threads and processes had that are dead by the time of
// the oracle. Their waits and switches are those that each read of itself just
// before its end; run_unseen_ns is the CPU time after that, in which a little
// more of both may have come about.
type schedEnded struct {
	Threads     int64 `json:"threads"` // of processes that live on
	Processes   int64 `json:"processes"`
	RunNS       int64 `json:"run_ns"` // exact
	WaitNS      int64 `json:"wait_ns"`
	Switches    int64 `json:"switches"`
	RunUnseenNS int64 `json:"run_unseen_ns"`
}

// endedSums are schedEnded while it is counted by many.
type endedSums struct {
	mu        sync.Mutex
	sum       schedEnded // without the run time of the threads, which the lab adds
	runSeen   int64      // by the threads themselves
	pending   sync.WaitGroup
	firstFail error
}

func (e *endedSums) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.firstFail == nil {
		e.firstFail = err
	}
}

// startJob starts a process that burns CPU time and ends. It must be called
// on the main thread (see init); slot, if any, is told of the end.
func (e *endedSums) startJob(burn time.Duration, slot chan<- struct{}) error {
	c, err := startChild(roleSchedJob, schedWorkerConfig{Comm: schedJobComm, Job: schedJob{Burn: burn}}, schedEnv(1))
	if err != nil {
		return err
	}
	e.pending.Add(1)
	go func() {
		defer e.pending.Done()
		var seen schedTask
		err := c.receive(&seen, startLimit)
		c.reap(stopLimit)
		usage, ok := c.cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if err != nil || !ok {
			e.fail(fmt.Errorf("run a job: %w", err))
		} else {
			// thread_group_cputime_adjusted(): the sum of both is the run time.
			run := usage.Utime.Nano() + usage.Stime.Nano()
			e.mu.Lock()
			e.sum.Processes++
			e.sum.RunNS += run
			e.sum.WaitNS += seen.Wait
			e.sum.Switches += seen.Switches
			e.sum.RunUnseenNS += max(run-seen.Run, 0)
			e.mu.Unlock()
		}
		if slot != nil {
			slot <- struct{}{}
		}
	}()
	return nil
}

// runSchedJob is a process that ends by itself; its report is what it used.
func runSchedJob(arg string) error {
	var cfg schedWorkerConfig
	if err := decodeConfig(arg, &cfg); err != nil {
		return err
	}
	if err := setComm(cfg.Comm); err != nil {
		return err
	}
	loop := &schedLoop{job: cfg.Job, stopFD: -1}
	loop.burn()
	rawClock(unix.CLOCK_THREAD_CPUTIME_ID) // brings the schedstat of this thread up to date
	tasks, err := readTasks(os.Getpid())
	if err != nil {
		return err
	}
	var sum schedTask
	for _, t := range tasks {
		sum = sum.plus(t)
	}
	return send(sum)
}

// runSchedMake is the process that keeps jobs running, like make -j.
func runSchedMake(arg string) error {
	w := &schedWorker{}
	if err := decodeConfig(arg, &w.cfg); err != nil {
		return err
	}
	var ended endedSums
	return w.live(func(int) {
		slots := make(chan struct{}, w.cfg.Jobs)
		for range w.cfg.Jobs {
			slots <- struct{}{}
		}
		for !rawNap(schedStopFD, 0) {
			<-slots
			if err := ended.startJob(w.cfg.Job.Burn, slots); err != nil {
				ended.fail(err)
				break
			}
		}
		ended.pending.Wait()
	}, func() error {
		w.report.Ended = ended.sum
		return ended.firstFail
	})
}

const (
	pairsPoll       = 5 * time.Millisecond   // between two looks whether the pairs have finished
	processPerChurn = 20                     // every so many short-lived threads there is a process instead
	shortLife       = 100 * time.Microsecond // CPU time, twice
)

// schedChurn is a process whose pairs of threads switch, while its main thread
// starts short-lived ones.
type schedChurn struct {
	w        *schedWorker
	pipes    [][2]int // one per thread of a pair, which reads it
	switches atomic.Int64
	working  atomic.Int64 // threads of pairs
	born     map[int]schedTask
	ended    endedSums
}

func runSchedChurn(arg string) error {
	c := &schedChurn{w: &schedWorker{}}
	if err := decodeConfig(arg, &c.w.cfg); err != nil {
		return err
	}
	pairThreads := c.w.cfg.Threads - 1
	c.working.Store(int64(pairThreads))
	for range pairThreads {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("make the pipes of the pairs: %w", err)
		}
		c.pipes = append(c.pipes, p)
	}
	return c.w.live(c.work, func() error {
		c.w.report.Ended = c.ended.sum
		c.w.report.Ended.RunUnseenNS -= c.ended.runSeen // and the lab adds all that there was
		return c.ended.firstFail
	})
}

// work is that of a pair, or on the main thread that of the one who spawns.
func (c *schedChurn) work(i int) {
	if i == 0 {
		c.spawn()
		return
	}
	mine, peers := c.pipes[i-1], c.pipes[(i-1)^1] // the threads 1 and 2 are a pair
	pingPong(int32(mine[0]), int32(peers[1]), schedStopFD, i%2 == 1, c.w.cfg.Switches, &c.switches)
	c.working.Add(-1)
}

// spawn starts threads and processes at the asked rate until the pairs have
// finished, and waits for the last of them.
func (c *schedChurn) spawn() {
	var err error
	if c.born, err = readTasks(os.Getpid()); err != nil {
		c.ended.fail(err)
	}
	start := time.Now()
	for n := 0; c.working.Load() > 0; {
		due := int(c.w.cfg.Churn * time.Since(start).Seconds())
		for ; n < due; n++ {
			if n%processPerChurn != 0 {
				c.ended.pending.Add(1)
				go c.shortLived()
			} else if err := c.ended.startJob(shortLife, nil); err != nil {
				c.ended.fail(err)
			}
		}
		rawNap(-1, int64(pairsPoll))
	}
	c.ended.pending.Wait()
}

// shortLived is a thread's life: the runtime ends a thread whose goroutine
// ends while it is locked to it.
func (c *schedChurn) shortLived() {
	runtime.LockOSThread()
	defer c.ended.pending.Done()
	loop := &schedLoop{job: schedJob{Burn: shortLife}, stopFD: -1}
	loop.burn()
	rawNap(-1, int64(shortLife))
	loop.burn()
	rawClock(unix.CLOCK_THREAD_CPUTIME_ID) // brings the schedstat of this thread up to date
	seen, err := readSchedstat("/proc/thread-self")
	if err != nil {
		c.ended.fail(err)
		return
	}
	// A thread that the runtime had in reserve has a past.
	seen = seen.minus(c.born[unix.Gettid()])
	c.ended.mu.Lock()
	defer c.ended.mu.Unlock()
	c.ended.sum.Threads++
	c.ended.sum.WaitNS += seen.Wait
	c.ended.sum.Switches += seen.Switches
	c.ended.runSeen += seen.Run
}
