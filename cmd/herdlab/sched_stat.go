// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// schedTask is what the kernel has counted for a thread since it was born.
type schedTask struct {
	Run         int64 `json:"run_ns"`   // on a CPU
	Wait        int64 `json:"wait_ns"`  // runnable, and not on a CPU
	Switches    int64 `json:"switches"` // on to a CPU
	voluntary   int64 // off the CPU
	involuntary int64
}

func (t schedTask) plus(o schedTask) schedTask {
	return schedTask{t.Run + o.Run, t.Wait + o.Wait, t.Switches + o.Switches, t.voluntary + o.voluntary, t.involuntary + o.involuntary}
}

func (t schedTask) minus(o schedTask) schedTask {
	return schedTask{t.Run - o.Run, t.Wait - o.Wait, t.Switches - o.Switches, t.voluntary - o.voluntary, t.involuntary - o.involuntary}
}

// readSchedstat reads /proc/PID/schedstat or that of a thread. The run time of
// a thread that runs is that of its last tick or switch.
func readSchedstat(dir string) (t schedTask, err error) {
	text, err := os.ReadFile(dir + "/schedstat")
	if err != nil {
		return t, fmt.Errorf("read what a thread ran: %w", err)
	}
	if _, err := fmt.Sscanf(string(text), "%d %d %d", &t.Run, &t.Wait, &t.Switches); err != nil {
		return t, fmt.Errorf("read what a thread ran: %s/schedstat is %q: %w", dir, text, err)
	}
	return t, nil
}

// readTasks reads what the living threads of a process have.
func readTasks(pid int) (map[int]schedTask, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the threads of pid %d: %w", pid, err)
	}
	tasks := map[int]schedTask{}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("list the threads of pid %d: %w", pid, err)
		}
		t, err := readSchedstat(dir + e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
			continue // it ended meanwhile
		case err != nil:
			return nil, err
		}
		tasks[tid] = t
	}
	return tasks, nil
}

// readStatus adds what only /proc/PID/status tells, and returns the mask.
func readStatus(dir string, t *schedTask) (cpusAllowed string, err error) {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return "", fmt.Errorf("read the status of a thread: %w", err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Cpus_allowed_list":
			cpusAllowed = value
			found++
		case "voluntary_ctxt_switches":
			t.voluntary, err = strconv.ParseInt(value, 10, 64)
			found++
		case "nonvoluntary_ctxt_switches":
			t.involuntary, err = strconv.ParseInt(value, 10, 64)
			found++
		}
		if err != nil {
			return "", fmt.Errorf("read the status of a thread: %w", err)
		}
	}
	if found != 3 {
		return "", fmt.Errorf("read the status of a thread: %s/status lacks the switches or the CPUs", dir)
	}
	return cpusAllowed, nil
}

// readProcessClock is the CPU time of a process to the nanosecond, its dead
// threads included. Any process's CPU clock can be read: see MAKE_PROCESS_CPUCLOCK
// in the kernel, and clock_getcpuclockid(3).
func readProcessClock(pid int) (int64, error) {
	const cpuclockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &ts); err != nil {
		return 0, fmt.Errorf("read the CPU clock of pid %d: %w", pid, err)
	}
	return ts.Nano(), nil
}

// readClaimed is what /proc/PID/stat claims that a process used, in ticks of
// USER_HZ: utime + stime.
func readClaimed(pid int) (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of pid %d: %w", pid, err)
	}
	// After the last ')' of the name comes the state, field 3 of proc(5).
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the CPU time of pid %d: %d fields", pid, len(fields))
	}
	utime, err1 := strconv.ParseInt(fields[14-3], 10, 64)
	stime, err2 := strconv.ParseInt(fields[15-3], 10, 64)
	return (utime + stime) * int64(time.Second) / userHZ, errors.Join(err1, err2)
}

// schedCPU is a CPU's line of /proc/stat, which has the resolution of a tick.
type schedCPU struct {
	CPU     int   `json:"cpu"`
	BusyNS  int64 `json:"busy_ns"` // user, nice, system, irq and softirq
	IdleNS  int64 `json:"idle_ns"` // and iowait
	StealNS int64 `json:"steal_ns"`
}

func readCPUs() ([]schedCPU, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read the CPU times: %w", err)
	}
	return parseCPUs(string(text))
}

// parseCPUs returns the lines "cpuN user nice system idle iowait irq softirq
// steal ...".
func parseCPUs(text string) (cpus []schedCPU, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] == "cpu" || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		number, err := strconv.Atoi(fields[0][len("cpu"):])
		if err != nil {
			return nil, fmt.Errorf("read the CPU times: line %q: %w", fields[0], err)
		}
		var ns [9]int64
		for i := 1; i < len(ns); i++ {
			ticks, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read the CPU times of %s: %w", fields[0], err)
			}
			ns[i] = ticks * int64(time.Second) / userHZ
		}
		cpus = append(cpus, schedCPU{CPU: number, BusyNS: ns[1] + ns[2] + ns[3] + ns[6] + ns[7], IdleNS: ns[4] + ns[5], StealNS: ns[8]})
	}
	return cpus, nil
}

// schedLook is one look at all of it.
type schedLook struct {
	tasks   map[int]map[int]schedTask // by pid and tid
	masks   map[int]string            // by tid of a worker thread
	nices   map[int]int               // by tid of a worker thread
	clocks  map[int]int64             // by pid
	claimed map[int]int64             // by pid
	groups  []cpuStat
}

// lookAt reads everything that belongs to the workers. They are at rest.
func lookAt(workers []*schedProcess, groups *cpuGroups) (*schedLook, error) {
	l := &schedLook{tasks: map[int]map[int]schedTask{}, masks: map[int]string{}, nices: map[int]int{},
		clocks: map[int]int64{}, claimed: map[int]int64{}}
	for _, w := range workers {
		pid := w.pid()
		tasks, err := readTasks(pid)
		if err != nil {
			return nil, err
		}
		for _, tid := range w.tids {
			t, alive := tasks[tid]
			if !alive {
				return nil, fmt.Errorf("look at the workers: thread %d of pid %d has ended", tid, pid)
			}
			if l.masks[tid], err = readStatus(taskDir(pid, tid), &t); err != nil {
				return nil, err
			}
			// The system call returns 20 - nice: a result must not be negative.
			prio, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
			if err != nil {
				return nil, fmt.Errorf("read the nice value of thread %d: %w", tid, err)
			}
			l.nices[tid] = 20 - prio
			tasks[tid] = t
		}
		l.tasks[pid] = tasks
		if l.clocks[pid], err = readProcessClock(pid); err != nil {
			return nil, err
		}
		if l.claimed[pid], err = readClaimed(pid); err != nil {
			return nil, err
		}
	}
	var err error
	l.groups, err = groups.stats()
	return l, err
}

func taskDir(pid, tid int) string {
	return "/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid)
}
