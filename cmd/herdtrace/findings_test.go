// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestPathologies: each is named within two intervals of one second of load, and
// says how the workers wait.
func TestPathologies(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name string
		id   string
		says string
		args []string
	}{
		{"herd epoll-lt", "accept-herd", "level-triggered epoll", []string{"--mode", "epoll-lt", "--rate", "1000", "--conns", "4000"}},
		{"herd epoll-et", "accept-herd", "edge-triggered epoll", []string{"--mode", "epoll-et", "--rate", "1000", "--conns", "4000"}},
		{"herd poll", "accept-herd", "poll()", []string{"--mode", "poll", "--rate", "1000", "--conns", "4000"}},
		{"herd unix", "accept-herd", "level-triggered epoll", []string{"--mode", "epoll-lt", "--listen", "unix", "--rate", "1000", "--conns", "4000"}},
		{"stall", "accept-stall", "not accepted from until EAGAIN", []string{"--mode", "epoll-et-noloop", "--workers", "2", "--rate", "100",
			"--burst", "50", "--work", "1ms", "--conns", "200", "--timeout", "4s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := lab(t, nil, append(tt.args, "--duration", "30s")...)
			first := firstLoad(t, r)
			i := slices.IndexFunc(r.of("finding"), func(f record) bool { return f.ID == tt.id })
			if i < 0 {
				t.Fatalf("%s was not raised, but %v", tt.id, r.raised())
			}
			f := r.of("finding")[i]
			// The interval in which the load began, and one more.
			if after := time.Duration(f.MonoNS - first); after > 2*time.Second+500*time.Millisecond {
				t.Errorf("%s was raised %s after the load began", tt.id, after)
			}
			if !strings.Contains(f.Cause, tt.says) {
				t.Errorf("the cause %q does not say %q", f.Cause, tt.says)
			}
			for _, id := range r.raised() {
				if id != tt.id {
					t.Errorf("%s was raised, too", id)
				}
			}
		})
	}
}

// firstLoad is the begin of the first interval with connections.
func firstLoad(t *testing.T, r *traced) uint64 {
	t.Helper()
	for _, iv := range r.of("interval") {
		for _, l := range iv.Listeners {
			if l.Completions > 0 {
				return iv.MonoNS - iv.IntervalNS
			}
		}
	}
	t.Fatal("no interval has connections")
	return 0
}

// TestHealthyTwins: the same loads on servers that do it right raise nothing,
// paced and at saturation.
func TestHealthyTwins(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"block", "epoll-exclusive", "reuseport", "go-net"} {
		for _, load := range [][]string{
			{"--conns", "1000000", "--duration", "4s"},
			{"--rate", "1000", "--conns", "4000"},
			{"--rate", "200", "--burst", "20", "--conns", "800", "--work", "1ms"},
		} {
			t.Run(mode+" "+strings.Join(load, " "), func(t *testing.T) {
				r := lab(t, nil, append([]string{"--mode", mode}, load...)...)
				r.checkExact(t)
				if ids := r.raised(); len(ids) > 0 {
					t.Errorf("raised %v: %s", ids, r.of("finding")[0].Evidence)
				}
			})
		}
	}
	// Edge-triggered with a drain loop strands nothing, whatever it wakes.
	r := lab(t, nil, "--mode", "epoll-et", "--workers", "2", "--rate", "100", "--burst", "50", "--work", "1ms", "--conns", "400")
	if slices.Contains(r.raised(), "accept-stall") {
		t.Error("a drained edge-triggered server is called stalled")
	}
}

// TestShortRun: a server that is gone before the first tick is judged all the same.
func TestShortRun(t *testing.T) {
	needRoot(t)
	r := lab(t, nil, "--mode", "epoll-lt", "--rate", "2000", "--conns", "800")
	if got := slices.Compact(r.raised()); !slices.Equal(got, []string{"accept-herd"}) {
		t.Errorf("raised %v, want accept-herd", got)
	}
	if f := r.of("finding"); len(f) > 0 && !strings.Contains(f[0].Subject, "8 workers") {
		t.Errorf("subject %q, want 8 workers", f[0].Subject)
	}
}

// busyElsewhere is a prefork server whose workers sleep in poll() for something
// else while connections wait for them: saturated, and not stalled.
const busyElsewhere = `
import os, select, socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(64); s.setblocking(sys.argv[1] == "accept")
kids = []
for _ in range(2):
    pid = os.fork()
    if pid:
        kids.append(pid)
        continue
    r, w = os.pipe()
    while True:
        if sys.argv[1] == "select": select.select([s], [], [])
        try: c, _ = s.accept()
        except BlockingIOError: continue
        p = select.poll(); p.register(r, select.POLLIN); p.poll(400)  # a database that takes its time
        c.close()
clients = [socket.create_connection(s.getsockname()) for _ in range(16)]
for c in clients: c.recv(1)
for k in kids: os.kill(k, 9); os.waitpid(k, 0)
`

// TestBusyElsewhere: that all workers sleep and connections wait is no stall, if
// what they sleep in is not a wait for connections.
func TestBusyElsewhere(t *testing.T) {
	needRoot(t)
	for _, how := range []string{"accept", "select"} {
		r := herdtrace(t, append([]string{"--"}, inNetns("python3", "-c", busyElsewhere, how)...)...)
		if r.code != 0 || len(r.raised()) > 0 {
			t.Errorf("%s: exit %d, raised %v: %s", how, r.code, r.of("finding"), r.stderr)
		}
		var queued uint32
		for _, iv := range r.of("interval") {
			for _, l := range iv.Listeners {
				queued = max(queued, l.AcceptQueueLen)
			}
		}
		if queued == 0 {
			t.Errorf("%s: no connection ever waited: that proves nothing", how)
		}
	}
}

// TestCure: a herd that is cured under load clears.
func TestCure(t *testing.T) {
	needRoot(t)
	r := lab(t, nil, "--mode", "epoll-lt", "--then", "epoll-exclusive", "--rate", "1000", "--conns", "6000", "--duration", "8s")
	var states []string
	for _, f := range r.of("finding") {
		states = append(states, f.ID+" "+f.State)
	}
	states = slices.Compact(states) // its severity may have grown
	if want := []string{"accept-herd raised", "accept-herd cleared"}; !slices.Equal(states, want) {
		t.Errorf("got %v, want %v", states, want)
	}
	bursts := 0
	for _, e := range r.of("event") {
		if e.Kind == "herd-burst" {
			bursts++
			// 8 workers, and once in a while a thread of their runtime whose
			// timer interrupts the callback.
			if e.Woken < 4 || e.Woken > 9 || !strings.HasPrefix(e.Listener, "127.0.0.1:") {
				t.Errorf("burst event: %d woken at %q", e.Woken, e.Listener)
			}
		}
	}
	if bursts == 0 {
		t.Error("no herd-burst event")
	}
}

// server starts a program, waits until it listens and returns its pid; it is
// stopped with the test.
func server(t *testing.T, addr string, stop syscall.Signal, argv ...string) *exec.Cmd {
	t.Helper()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Fatalf("start %s: somebody listens on %s already", argv[0], addr)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(stop)
		cmd.Wait()
	})
	eventually(t, addr+" listens: "+out.String(), func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return cmd
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGunicorn: the classic herd on a server that nobody here wrote.
func TestGunicorn(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "app.py"), "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n")
	server(t, "127.0.0.1:8961", syscall.SIGTERM, "gunicorn", "--chdir", dir, "-w", "8", "-b", "127.0.0.1:8961", "app:app")
	r := herdtrace(t, "-P", "8961", "--", "wrk", "-t1", "-c4", "-d4", "-H", "Connection: close", "http://127.0.0.1:8961/")
	first := firstLoad(t, r)
	fs := r.of("finding")
	if len(fs) == 0 || fs[0].ID != "accept-herd" {
		t.Fatalf("accept-herd was not raised: %v", r.raised())
	}
	if after := time.Duration(fs[0].MonoNS - first); after > 2*time.Second+500*time.Millisecond {
		t.Errorf("raised %s after the load began", after)
	}
	for _, want := range []string{"gunicorn", "8 workers"} {
		if !strings.Contains(fs[0].Subject, want) {
			t.Errorf("the subject %q does not name %s", fs[0].Subject, want)
		}
	}
	if !strings.Contains(fs[0].Cause, "select()") || !strings.Contains(fs[0].Remedy, "gunicorn") {
		t.Errorf("cause %q, remedy %q", fs[0].Cause, fs[0].Remedy)
	}
	if l := r.summary(t).Listeners[0]; l.Workers != 8 || l.Processes != 9 || l.Wait != "select" {
		t.Errorf("%d workers, %d processes, waiting by %q; want 8, 9 (with the master), select", l.Workers, l.Processes, l.Wait)
	}
}

const skewConf = `worker_processes 4;
pid %[1]s/pid; error_log %[1]s/err; daemon off;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000; gzip on; gzip_comp_level 9; gzip_types *; root %[1]s;
client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:8965; }
server { listen 127.0.0.1:8966 reuseport; } }
`

// keepalive opens n connections while the processes asleep are stopped, lets
// these go on, and then asks for a page on each connection over and over, four
// at a time, until stop is closed.
func keepalive(t *testing.T, addr string, n int, asleep []int, stop <-chan struct{}) (done *sync.WaitGroup) {
	t.Helper()
	for _, pid := range asleep {
		syscall.Kill(pid, syscall.SIGSTOP)
		// Before it has stopped it may still be woken for a connection, and
		// stop instead of taking it.
		eventually(t, "the worker stops", func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err == nil && strings.Contains(string(b), ") T ")
		})
	}
	conns := make(chan net.Conn, n)
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(60 * time.Second)) // only ends a test that is stuck
		if !fetch(c, "/small") {
			t.Fatalf("fetch from %s: the connection broke", addr)
		}
		conns <- c
	}
	for _, pid := range asleep {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	done = new(sync.WaitGroup)
	for range 4 {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				case c := <-conns:
					if !fetch(c, "/big") {
						c.Close()
						return
					}
					conns <- c
				}
			}
		})
	}
	return done
}

// fetch gets one page, and reads it to its end.
func fetch(c net.Conn, path string) bool {
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil
}

// childrenOf lists the processes that pid has forked.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(out)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

// TestSkew: one worker of nginx took all connections, because the others were
// late; now the connections are busy, and it alone serves them while a core is
// idle. The same load, spread over all workers, raises nothing.
func TestSkew(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755) // for nginx's unprivileged workers
	}
	conf := filepath.Join(dir, "nginx.conf")
	writeFile(t, conf, fmt.Sprintf(skewConf, dir))
	writeFile(t, filepath.Join(dir, "small"), "ok")
	var big strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&big, "%x ", i*i)
	}
	writeFile(t, filepath.Join(dir, "big"), big.String())
	nginx := server(t, "127.0.0.1:8965", syscall.SIGTERM, "/usr/sbin/nginx", "-c", conf, "-p", dir)
	workers := childrenOf(t, nginx.Process.Pid)
	if len(workers) != 4 {
		t.Fatalf("nginx has the workers %v, want 4", workers)
	}
	for _, tt := range []struct {
		addr   string
		asleep []int
		want   []string
	}{
		{"127.0.0.1:8965", workers[1:], []string{"accept-skew"}},
		{"127.0.0.1:8965", nil, nil},
		{"127.0.0.1:8966", nil, nil},
	} {
		addr, want := tt.addr, tt.want
		_, port, _ := net.SplitHostPort(addr)
		ready := filepath.Join(t.TempDir(), "ready")
		stop := make(chan struct{})
		var done *sync.WaitGroup
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
			done = keepalive(t, addr, 240, tt.asleep, stop)
		}()
		r := herdtrace(t, "-d", "10s", "-P", port, "--ready-file", ready)
		close(stop)
		<-loaded
		if done != nil { // else the load has failed, and said so
			done.Wait()
		}
		if got := slices.Compact(r.raised()); !slices.Equal(got, want) {
			t.Errorf("%s: raised %v, want %v: %+v", addr, got, want, r.of("finding"))
		}
	}
}

const nginxConf = `worker_processes 4;
pid %[1]s/pid; error_log %[1]s/err; daemon off; master_process on;
events { worker_connections 4096; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:8962; location / { return 200 ok; } }
server { listen 127.0.0.1:8963 reuseport; location / { return 200 ok; } } }
`

// TestHealthyServers: nginx, as it comes and with reuseport, and a Go server
// under full load raise nothing for a minute.
func TestHealthyServers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	writeFile(t, conf, fmt.Sprintf(nginxConf, dir))
	nginx := "/usr/sbin/nginx"
	server(t, "127.0.0.1:8962", syscall.SIGTERM, nginx, "-c", conf, "-p", dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const load = "62"
	for _, argv := range [][]string{
		{"wrk", "-t1", "-c16", "-d" + load, "-H", "Connection: close", "http://127.0.0.1:8962/"},
		{"wrk", "-t1", "-c16", "-d" + load, "-H", "Connection: close", "http://127.0.0.1:8963/"},
		{"wrk", "-t1", "-c16", "-d" + load, "http://127.0.0.1:8962/"},
		{tool(t, "herdlab"), "accept", "--mode", "go-net", "--clients", "4", "--conns", "1000000000", "--duration", load + "s", "--port", "8964"},
	} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
	}
	r := herdtrace(t, "-d", "60s", "-P", "8962,8963,8964")
	cancel()
	if ids := r.raised(); len(ids) > 0 {
		t.Errorf("raised %v: %+v", ids, r.of("finding"))
	}
	accepts := make(map[int]int64)
	for _, l := range r.summary(t).Listeners {
		accepts[l.Port] += l.Accepts
		if l.Port == 8962 && l.Wait != "epoll-exclusive" {
			t.Errorf("nginx waits by %q, want epoll-exclusive", l.Wait)
		}
	}
	for port, n := range accepts {
		if n < 1000 {
			t.Errorf("only %d connections at port %d: that is no load", n, port)
		}
	}
	if len(accepts) != 3 {
		t.Errorf("saw the ports %v, want 3", accepts)
	}
}
