// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	roleSchedWorker = "_sched-worker"
	roleSchedMake   = "_sched-make"
	roleSchedJob    = "_sched-job"
	roleSchedChurn  = "_sched-churn"

	schedStartFD = 3 // closed at the other end: begin
	schedStopFD  = 4 // closed at the other end: stop
	schedCtlFD   = 5

	schedOtherComm = "herdlab-other"
	schedJobComm   = "herdlab-job"
)

// schedEnv of a worker that has so many threads: a P for each of them and to
// spare (else they would wait for each other, and under a quota the runtime
// would choose fewer), no preemption signals, no collector.
func schedEnv(threads int) []string {
	return []string{fmt.Sprintf("GOMAXPROCS=%d", threads+2), "GODEBUG=asyncpreemptoff=1", "GOGC=off"}
}

// schedWorkerConfig travels to a worker in its argument.
type schedWorkerConfig struct {
	Comm     string   `json:"comm"`
	Threads  int      `json:"threads"` // the main one included
	CPUs     []int    `json:"cpus"`    // that they may use; nil: all
	Nice     int      `json:"nice"`
	Job      schedJob `json:"job"`
	Reports  bool     `json:"reports"`  // after the load
	Jobs     int      `json:"jobs"`     // make: at a time
	Switches int64    `json:"switches"` // churn: stop after so many
	Churn    float64  `json:"churn"`    // churn: threads per second
}

// schedReady is what a worker says before the load: the threads that do it.
type schedReady struct {
	TIDs []int `json:"tids"`
}

// schedReport is what a worker says after the load, if it has anything to say.
type schedReport struct {
	Tick  schedTick  `json:"tick"`
	Ended schedEnded `json:"ended"`
}

// schedWorker is a process of the load. Each of its threads is locked to its
// goroutine, waits at the start, does its work, and waits for the end: asleep
// in a system call, so that whoever looks at it then finds it at rest.
type schedWorker struct {
	cfg    schedWorkerConfig
	tick   schedTick
	report schedReport
	done   sync.WaitGroup // the threads that work
}

// threadReady is how a thread tells the main one that it is prepared.
type threadReady struct {
	tid int
	err error
}

// runSchedWorker is the worker process that does one job on each thread.
func runSchedWorker(arg string) error {
	w := &schedWorker{}
	if err := decodeConfig(arg, &w.cfg); err != nil {
		return err
	}
	if w.cfg.Reports {
		if err := w.prepare(); err != nil {
			return err
		}
		// hrtimer_nanosleep() and its like add 50 µs of slack by default.
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("ask for exact timers: %w", err)
		}
		var err error
		if gap := w.cfg.Job.TickGap; gap > 0 {
			w.tick, err = learnTick(w.cfg.CPUs[0], gap)
		} else {
			w.tick, err = observeTick()
		}
		if err != nil {
			return err
		}
	}
	return w.live(func(int) {
		loop := &schedLoop{job: w.cfg.Job, stopFD: schedStopFD, tick: w.tick}
		loop.run()
	}, func() error {
		w.report.Tick = w.tick
		return nil
	})
}

// live is the life of a worker: prepare the threads, say ready, wait, work on
// all of them, report if there is anything to, and wait for the end.
func (w *schedWorker) live(work func(i int), report func() error) error {
	ready := make(chan threadReady)
	for i := 1; i < w.cfg.Threads; i++ {
		w.done.Add(1)
		go func() {
			runtime.LockOSThread()
			ready <- threadReady{unix.Gettid(), w.prepare()}
			awaitStop(schedStartFD)
			work(i)
			w.done.Done()
			awaitStop(schedCtlFD)
		}()
	}
	if err := w.prepare(); err != nil {
		return err
	}
	tids := []int{unix.Gettid()}
	for i := 1; i < w.cfg.Threads; i++ {
		r := <-ready
		if r.err != nil {
			return r.err
		}
		tids = append(tids, r.tid)
	}
	if err := setComm(w.cfg.Comm); err != nil {
		return err
	}
	if err := send(schedReady{tids}); err != nil {
		return err
	}
	awaitStop(schedStartFD)
	work(0)
	if w.cfg.Reports {
		w.done.Wait()
		if err := report(); err != nil {
			return err
		}
		if err := send(&w.report); err != nil {
			return err
		}
	}
	awaitStop(schedCtlFD)
	return nil
}

// prepare gives the calling thread the CPUs and the nice value of the worker;
// in Linux both belong to threads.
func (w *schedWorker) prepare() error {
	if w.cfg.CPUs != nil {
		var set unix.CPUSet
		for _, cpu := range w.cfg.CPUs {
			set.Set(cpu)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin a worker to CPUs %v: %w", w.cfg.CPUs, err)
		}
	}
	if w.cfg.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, w.cfg.Nice); err != nil {
			return fmt.Errorf("set the nice value of a worker to %d: %w", w.cfg.Nice, err)
		}
	}
	return nil
}
