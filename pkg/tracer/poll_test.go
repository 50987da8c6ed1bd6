// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const someStat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 50 60 7 8 20 -5 3 0 12345 1 2 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 3 0 0 0 0 0\n"

func TestParseStatLine(t *testing.T) {
	var st statLine
	if !st.parse([]byte(someStat)) {
		t.Fatal("it is not understood")
	}
	want := statLine{comm: []byte("a) b (c"), state: 'S', usedTicks: 110, start: 12345, threads: 3, nice: -5, cpu: 1, policy: 3}
	if !reflect.DeepEqual(st, want) {
		t.Errorf("%+v, want %+v", st, want)
	}
	kernel := strings.Replace(someStat, "4194304", "2129984", 1)
	if !st.parse([]byte(kernel)) || !st.kernel {
		t.Error("a thread of the kernel's is none")
	}
	for _, bad := range []string{"", "7 a S 1", ")(", "7 (a) S", "7 (a) SS 1 2 3", someStat[:60], strings.Replace(someStat, "12345", "x", 1)} {
		if st.parse([]byte(bad)) {
			t.Errorf("%q is understood", bad)
		}
	}
}

func FuzzStatLine(f *testing.F) {
	f.Add([]byte(someStat))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var st statLine
		st.parse(b)
		parseThreadTimes(b)
		parseSwitches(b)
		parseSchedstatFile(b)
		parseSoftIRQs(b)
		parseProcTCP(b, unix.AF_INET, nil)
	})
}

func FuzzSockDiag(f *testing.F) {
	f.Add(diagRequest(1, unix.AF_INET, unix.IPPROTO_MPTCP))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var out []diagListener
		parseDiag(b, 1, &out)
		appendNumbers(nil, b)
	})
}

func TestParsePollFiles(t *testing.T) {
	if got, ok := parseThreadTimes([]byte("123 45 6\n")); !ok || got != (threadTimes{123, 45, 6}) {
		t.Errorf("schedstat %+v", got)
	}
	if _, ok := parseThreadTimes([]byte("123 45\n")); ok {
		t.Error("half a schedstat is understood")
	}
	v, i := parseSwitches([]byte("Name:\tnonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n"))
	if v != 150 || i != 545 {
		t.Errorf("switches %d, %d", v, i)
	}
	cores := parseSchedstatFile([]byte("version 15\ntimestamp 1\ncpu0 1 0 300 4 5 6 7000 8000 90\ndomain0 3 1 2 3\ncpu11 0 0 1 0 0 0 2 3 4\n"))
	if want := map[int]coreStat{0: {300, 8000, 90}, 11: {1, 3, 4}}; !reflect.DeepEqual(cores, want) {
		t.Errorf("cores %v, want %v", cores, want)
	}
	if parseSchedstatFile([]byte("version 14\ncpu0 1 0 300 4 5 6 7000 8000 90\n")) != nil {
		t.Error("an old format is understood")
	}
	irqs := parseSoftIRQs([]byte("                    CPU0       CPU2\n          HI:          1          2\n      NET_RX:  4294967295         7\n"))
	if want := map[int]uint32{0: 4294967295, 2: 7}; !reflect.DeepEqual(irqs, want) {
		t.Errorf("softirqs %v, want %v", irqs, want)
	}
	const tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000011 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n" +
		"   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n"
	want := []diagListener{{family: unix.AF_INET, port: 8080, length: 17, inode: 4711, cookie: 4711, addr: [16]uint8{127, 0, 0, 1}}}
	if got := parseProcTCP([]byte(tcp), unix.AF_INET, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("listeners %+v, want %+v", got, want)
	}
}

// listenAt opens a listener with a backlog of 5 and leaves one connection in its
// queue.
func listenAt(t *testing.T, family, protocol int, sa unix.Sockaddr, addr string) (inode uint32, port uint16) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		need(t, err.Error())
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 5)); err != nil {
		need(t, err.Error())
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch a := at.(type) {
	case *unix.SockaddrInet4:
		port = uint16(a.Port)
	case *unix.SockaddrInet6:
		port = uint16(a.Port)
	}
	c, err := net.Dial("tcp", net.JoinHostPort(strings.Trim(addr, "[]"), fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino), port
}

// TestPolledListeners: sock_diag and /proc/net/tcp find the same sockets, by the
// inode that /proc/PID/fd shows, without any rights.
func TestPolledListeners(t *testing.T) {
	for _, tt := range []struct {
		name             string
		family, protocol int
		sa               unix.Sockaddr
		addr             string
	}{
		{"tcp4", unix.AF_INET, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, "127.0.0.1"},
		{"tcp6", unix.AF_INET6, 0, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}, "[::1]"},
		{"mptcp", unix.AF_INET, unix.IPPROTO_MPTCP, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inode, port := listenAt(t, tt.family, tt.protocol, tt.sa, tt.addr)
			for _, byProc := range []bool{false, true} {
				if byProc && tt.protocol != 0 {
					continue // it shows the subflow
				}
				p := newListenerPoll(byProc)
				defer p.Close()
				all := p.listeners()
				i := slices.IndexFunc(all, func(l bpf.AcceptListener) bool { return l.Ino == uint64(inode) })
				if i < 0 {
					t.Fatalf("by /proc %v: it is not among %d listeners", byProc, len(all))
				}
				l := &all[i]
				if addrOf(l) != strings.Trim(tt.addr, "[]") || l.Port != port || l.AcceptQueueLen != 1 || !byProc && l.AcceptQueueMax != 5 ||
					(l.Mptcp != 0) != (tt.protocol != 0) || l.Live != 1 || l.Netns != p.own {
					t.Errorf("by /proc %v: %+v", byProc, l)
				}
				held := slices.ContainsFunc(p.holders(), func(h bpf.AcceptHolder) bool {
					return h.Ino == uint64(inode) && int(h.Tgid) == os.Getpid()
				})
				if !held {
					t.Errorf("by /proc %v: nobody holds it", byProc)
				}
			}
		})
	}
}

// TestPolledListenerCloses: it is reported once more, as dead.
func TestPolledListenerCloses(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	p := newListenerPoll(false)
	defer p.Close()
	states := func() (live []uint8) {
		for _, raw := range p.listeners() {
			if raw.Port == port && raw.Netns == p.own {
				live = append(live, raw.Live)
			}
		}
		return live
	}
	if got := states(); !slices.Equal(got, []uint8{1}) {
		t.Errorf("while it lives: %v", got)
	}
	l.Close()
	if got := states(); !slices.Equal(got, []uint8{0}) {
		t.Errorf("when it is closed: %v", got)
	}
	if got := states(); got != nil {
		t.Errorf("then: %v", got)
	}
}

// TestThreadScan: a process that ran is found, with what schedstat says, and one
// that is gone is said to be.
func TestThreadScan(t *testing.T) {
	s, err := newThreadScan(&groupFinder{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cmd := exec.Command("sh", "-c", `read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read y`)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	pid := uint32(cmd.Process.Pid)
	find := func() *bpf.SchedThread {
		if err := s.scan(false); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.active, func(r bpf.SchedThread) bool { return r.Tid == pid })
		if i < 0 {
			return nil
		}
		return &s.active[i]
	}
	asleep := func() {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if st, ok := s.stat(fmt.Sprint(pid)); ok && st.state == 'S' {
				return
			}
		}
		t.Fatal("it does not sleep")
	}
	asleep()
	if find() == nil {
		t.Fatal("a new process is not found")
	}
	if r := find(); r != nil {
		t.Errorf("it slept, and is said to have run: %+v", r)
	}
	fmt.Fprintln(in)
	out.Read(make([]byte, 8))
	asleep()
	r := find()
	times, ok := s.times(fmt.Sprint(pid))
	if r == nil || !ok || r.RunNs != times.runNS || r.WaitNs != times.waitNS || r.Arrivals != times.arrivals || r.Tgid != pid || threadComm(r.Comm[:]) != "sh" {
		t.Errorf("%+v, schedstat says %+v", r, times)
	}
	in.Close()
	cmd.Wait()
	if find() != nil || !slices.Contains(s.gone, uint64(pid)) {
		t.Error("that it is gone is not said")
	}
}

func TestRungOf(t *testing.T) {
	r, err := RungOf(Options{NoBPF: true})
	if err != nil || r.Name != sample.RungProcFS || r.Reason != notAsked {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = RungOf(Options{Variants: map[string]string{SignalRunq: "schedstat"}}); err != nil || r.Name != sample.RungProcFS {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err = RungOf(Options{NoBPF: true, Variants: map[string]string{SignalWake: "fentry"}}); !errors.Is(err, ErrHost) {
		t.Errorf("without BPF what takes it: %v", err)
	}
	if _, err = RungOf(Options{NoBPF: true, Variants: map[string]string{SignalWake: "magic"}}); err == nil || errors.Is(err, ErrHost) {
		t.Errorf("no such variant: %v", err)
	}
	k := &kernel{signals: []sample.Signal{
		{Name: "accept", Variant: "syscall", Hooks: []string{"tracepoint/syscalls:sys_exit_accept"}, Rejected: []sample.Rejection{{Variant: "fexit", Error: "no trampolines"}}}, {Name: "wake", Variant: "data_ready"},
	}}
	if r := k.rung(); r != (Rung{sample.RungTracepoints, "no trampolines"}) {
		t.Errorf("%+v", r)
	}
	k.signals[0] = sample.Signal{Name: "accept", Variant: "fexit", Hooks: []string{"fexit/do_accept"}}
	if r := k.rung(); r != (Rung{Name: sample.RungFexit}) {
		t.Errorf("%+v", r)
	}
}

// TestRest: what costs more than its share is done less often, and counted.
func TestRest(t *testing.T) {
	c := &pollCollector{interval: time.Second, share: 0.01}
	if rest := c.rest(); rest != 0 || c.skipped != 0 {
		t.Errorf("for nothing: %v, %d skipped", rest, c.skipped)
	}
	c.cost = 100 * time.Second
	c.share = 0
	if rest := c.rest(); rest != 0 {
		t.Errorf("without a bound: %v", rest)
	}
	c.share = 0.01
	if rest := c.rest(); rest < 2*time.Second || c.skipped != uint64(rest/time.Second)-1 {
		t.Errorf("for 100 s: %v, %d skipped", rest, c.skipped)
	}
	rest := c.rest()
	for _, interval := range []time.Duration{rest / 4, rest / 2, 2 * rest, rest / 10} { // while it rests
		c.setInterval(interval)
		want := max(uint64(rest/interval), 1) - 1
		if got := c.rest(); c.skipped != want || (got == 0) != (interval > rest) {
			t.Errorf("every %v: %v, %d skipped, want %d", interval, got, c.skipped, want)
		}
	}
}

// TestGroupFinder: a group is looked for below the mount.
func TestGroupFinder(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := openHierarchy(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	inode := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	for _, tt := range []struct {
		root, group string
		want        uint64
	}{
		{"/", "/", inode(dir)},
		{"/", "/a/b", inode(dir + "/a/b")},
		{"/docker/x", "/docker/x", inode(dir)},
		{"/docker/x", "/docker/x/a", inode(dir + "/a")},
		{"/docker/x", "/docker/xy", unseenGroup},
		{"/docker/x", "/other", unseenGroup},
		{"/", "/gone", unseenGroup},
		{"", "/a", inode(dir + "/a")},
	} {
		h.root = tt.root
		f := &groupFinder{tree: h}
		if got := f.find(tt.group); got != tt.want {
			t.Errorf("%s mounted: group %s is %d, want %d", tt.root, tt.group, got, tt.want)
		}
	}
}
