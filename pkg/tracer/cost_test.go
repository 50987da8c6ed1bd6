// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The price of looking, as `make bench` prints it: each program beside an empty
// one on the same hook, by the kernel's own statistics (bpf-ns/run) and by what
// the system call that runs it takes longer (wall-ns/op).

// costCase is a hook under a load that runs it.
type costCase struct {
	name  string
	hooks []hook
	load  func(b *testing.B, n int)
}

var costCases = []costCase{
	{"accept-EAGAIN/none", nil, acceptEAGAIN},
	{"accept-EAGAIN/empty-tracepoint", []hook{{program: "empty_tracepoint", group: "syscalls", event: "sys_exit_accept4"}}, acceptEAGAIN},
	{"accept-EAGAIN/sys_exit_accept4", []hook{{program: "sys_exit_accept4", group: "syscalls", event: "sys_exit_accept4"}}, acceptEAGAIN},
	{"accept-EAGAIN/empty-sys_exit", []hook{{program: "empty_sys_exit"}}, acceptEAGAIN},
	{"accept-EAGAIN/sys_exit", []hook{{program: "sys_exit"}}, acceptEAGAIN},
	{"unrelated-call/none", nil, getppid},
	{"unrelated-call/sys_exit_accept4", []hook{{program: "sys_exit_accept4", group: "syscalls", event: "sys_exit_accept4"}}, getppid},
	{"unrelated-call/empty-sys_exit", []hook{{program: "empty_sys_exit"}}, getppid},
	{"unrelated-call/sys_exit", []hook{{program: "sys_exit"}}, getppid},
	{"wake-up/none", nil, pingPong},
	{"wake-up/empty-sched_waking", []hook{{program: "empty_sched_waking"}}, pingPong},
	{"wake-up/sched_waking", []hook{{program: "sched_waking"}}, pingPong},
	{"established-packets/none", nil, establishedPackets},
	{"established-packets/listen_kfree_skb", []hook{{program: "listen_kfree_skb"}}, establishedPackets},
	{"established-packets/listen_consume_skb-on-demand", []hook{{program: "listen_consume_skb"}}, establishedPackets},
	{"connection/none", nil, connections},
	{"connection/listen", []hook{{program: "listen_kfree_skb"}, {program: "listen_consume_skb"}}, connections},
	{"connection/all", []hook{
		{program: "sys_exit_accept", group: "syscalls", event: "sys_exit_accept"},
		{program: "sys_exit_accept4", group: "syscalls", event: "sys_exit_accept4"},
		{program: "sk_data_ready"}, {program: "inet_sock_set_state"}, {program: "sched_waking"},
	}, connections},
}

func acceptEAGAIN(b *testing.B, n int) {
	fd, _ := rawListener(b, unix.SOCK_NONBLOCK)
	defer unix.Close(fd)
	for range n {
		unix.Accept4(fd, 0)
	}
}

func getppid(_ *testing.B, n int) {
	for range n {
		unix.Getppid()
	}
}

// pingPong wakes a thread through a pipe, and is woken, n times.
func pingPong(b *testing.B, n int) {
	r1, w1, err1 := os.Pipe()
	r2, w2, err2 := os.Pipe()
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	defer r1.Close()
	defer w2.Close()
	go func() {
		runtime.LockOSThread()
		io.Copy(w2, io.LimitReader(r1, int64(n))) // ends when w1 is closed
		w2.Close()
	}()
	buf := make([]byte, 1)
	for range n {
		unix.Write(int(w1.Fd()), buf)
		unix.Read(int(r2.Fd()), buf)
	}
	w1.Close()
	r2.Close()
}

func connections(b *testing.B, n int) {
	fd, port := rawListener(b, 0)
	defer unix.Close(fd)
	serve(b, fd, port, n/100, false)
}

func BenchmarkCost(b *testing.B) { benchmarkCost(b, costCases) }

// benchmarkCost runs each case several times in alternation and reports the
// least: the machine is noisy, and noise only adds.
func benchmarkCost(b *testing.B, costCases []costCase) {
	open(b, Options{}).Close()
	const rounds, calls = 7, 20_000
	wall := make([]time.Duration, len(costCases))
	perRun, perOp := make([]float64, len(costCases)), make([]float64, len(costCases))
	for range rounds {
		for i := range costCases {
			w, r, o := measureCost(b, &costCases[i], calls)
			if wall[i] == 0 || w < wall[i] {
				wall[i] = w
			}
			if perRun[i] == 0 || r < perRun[i] {
				perRun[i] = r
			}
			if perOp[i] == 0 || o < perOp[i] {
				perOp[i] = o
			}
		}
	}
	for i := range costCases {
		b.Run(costCases[i].name, func(b *testing.B) {
			n := calls
			if costCases[i].name[:4] == "conn" {
				n /= 100
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(wall[i].Nanoseconds())/float64(n), "wall-ns/op")
			b.ReportMetric(perRun[i], "bpf-ns/run")
			b.ReportMetric(perOp[i]/float64(n), "bpf-ns/op")
		})
	}
}

// attachOnly loads the objects and attaches these hooks, and no others.
func attachOnly(b *testing.B, hooks []hook) (k *kernel, programs []*ebpf.Program) {
	b.Helper()
	k, err := loadKernel(&Options{Variants: map[string]string{SignalAccept: "syscall", SignalWake: "data_ready"}})
	if err != nil {
		b.Fatal(err)
	}
	for signal := range k.links {
		k.pause(signal)
	}
	for i := range hooks {
		p, err := k.load(hooks[i].program)
		if err != nil {
			b.Fatal(err)
		}
		l, err := attach(&hooks[i], p)
		if err != nil {
			b.Fatal(err)
		}
		k.links["bench"] = append(k.links["bench"], l)
		programs = append(programs, p)
	}
	return k, programs
}

// measureCost returns the wall time of the load without statistics, and the mean
// run time of the programs with them, of a run and in sum.
func measureCost(b *testing.B, c *costCase, calls int) (wall time.Duration, perRun, sum float64) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k, programs := attachOnly(b, c.hooks)
	defer k.Close()
	start := time.Now()
	c.load(b, calls)
	wall = time.Since(start)
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	c.load(b, calls)
	var run time.Duration
	var runs uint64
	for _, p := range programs {
		if s, err := p.Stats(); err == nil {
			run += s.Runtime
			runs += s.RunCount
		}
	}
	if runs == 0 {
		return wall, 0, 0
	}
	return wall, float64(run.Nanoseconds()) / float64(runs), float64(run.Nanoseconds())
}
