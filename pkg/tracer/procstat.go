// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"strconv"
)

// kernelThread is PF_KTHREAD (include/linux/sched.h).
const kernelThread = 0x00200000

// statLine is what /proc/PID/stat, or that of a thread, says.
type statLine struct {
	comm      []byte // of the buffer that was parsed
	state     byte
	kernel    bool
	usedTicks uint64 // utime and stime; of a process, also those of its ended threads
	start     uint64 // ticks since boot
	threads   int
	nice      int32
	cpu       uint32
	policy    uint32
}

// parse reads "pid (comm) state ppid ..." (fs/proc/array.c: do_task_stat()). A
// comm may have anything in it, the rest no parenthesis.
func (st *statLine) parse(b []byte) bool {
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if begin < 0 || end < begin {
		return false
	}
	st.comm = b[begin+1 : end]
	rest := b[end+1:]
	var v [42]int64 // by the number of the field, from 1
	n := 3
	for ; n < len(v); n++ {
		rest = bytes.TrimLeft(rest, " ")
		field, more, found := bytes.Cut(rest, []byte(" "))
		if !found {
			break
		}
		if rest = more; n == 3 {
			if len(field) != 1 {
				return false
			}
			st.state = field[0]
			continue
		}
		x, ok := parseInt(field)
		if !ok {
			return false
		}
		v[n] = x
	}
	if n < len(v) {
		return false // cut off
	}
	st.kernel = v[9]&kernelThread != 0
	st.usedTicks, st.threads, st.start = uint64(v[14])+uint64(v[15]), int(v[20]), uint64(v[22])
	st.nice, st.cpu, st.policy = int32(v[19]), uint32(v[39]), uint32(v[41])
	return true
}

// parseInt reads what fits 64 bits, with a sign or without: the limits and the
// addresses among the fields wrap.
func parseInt(b []byte) (n int64, ok bool) {
	minus := len(b) > 0 && b[0] == '-'
	if minus {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	var u uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if minus {
		return -int64(u), true
	}
	return int64(u), true
}

// threadTimes is what /proc/PID/task/TID/schedstat says (fs/proc/base.c:
// proc_pid_schedstat()): on a core, runnable without one, how often it got one.
type threadTimes struct{ runNS, waitNS, arrivals uint64 }

func parseThreadTimes(b []byte) (t threadTimes, ok bool) {
	f := bytes.Fields(b)
	if len(f) < 3 {
		return t, false
	}
	var n [3]int64
	for i := range n {
		if n[i], ok = parseInt(f[i]); !ok {
			return t, false
		}
	}
	return threadTimes{uint64(n[0]), uint64(n[1]), uint64(n[2])}, true
}

// parseSwitches finds the counts in /proc/PID/task/TID/status (fs/proc/array.c:
// task_context_switch_counts()), which are its last lines.
func parseSwitches(status []byte) (voluntary, involuntary uint64) {
	of := func(name string) uint64 {
		_, rest, _ := bytes.Cut(status, []byte("\n"+name+":"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		n, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
		return n
	}
	return of("voluntary_ctxt_switches"), of("nonvoluntary_ctxt_switches")
}

// coreStat is a core's line of /proc/schedstat.
type coreStat struct{ switches, waitNS, waits uint64 }

// parseSchedstatFile reads lines "cpuN yld_count 0 sched_count sched_goidle
// ttwu_count ttwu_local rq_cpu_time run_delay pcount" (kernel/sched/stats.c:
// show_schedstat()), of version 15 (Linux 2.6.30) and later.
func parseSchedstatFile(b []byte) map[int]coreStat {
	out := make(map[int]coreStat)
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 2 && string(f[0]) == "version" {
			if v, ok := parseInt(f[1]); !ok || v < 15 {
				return nil
			}
		}
		if len(f) < 10 || !bytes.HasPrefix(f[0], []byte("cpu")) {
			continue
		}
		cpu, ok1 := parseInt(f[0][len("cpu"):])
		switches, ok2 := parseInt(f[3])
		wait, ok3 := parseInt(f[8])
		waits, ok4 := parseInt(f[9])
		if ok1 && ok2 && ok3 && ok4 {
			out[int(cpu)] = coreStat{uint64(switches), uint64(wait), uint64(waits)}
		}
	}
	return out
}
