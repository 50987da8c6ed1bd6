// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nginxConf answers from memory, logs nothing, and writes nothing but below its
// directory.
const nginxConf = `daemon off;
user root;
worker_processes %d;
error_log stderr;
pid %s/pid;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	server {
		listen 127.0.0.1:%[3]d backlog=1024;
		location / { return 200 "ok\n"; }
	}
}
`

const nginxWorkers = 2

// nginx is a server of our own.
type nginx struct {
	cmd  *exec.Cmd
	dir  string
	port int
	pids []int // its workers
}

func startNginx() (n *nginx, err error) {
	n = &nginx{}
	if n.dir, err = os.MkdirTemp("", "herdbench-nginx-"); err != nil {
		return nil, fmt.Errorf("make directory for nginx: %w", err)
	}
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	if n.port, err = freePort(); err != nil {
		return nil, err
	}
	conf, log := filepath.Join(n.dir, "conf"), filepath.Join(n.dir, "log")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, nginxWorkers, n.dir, n.port), 0o644); err != nil {
		return nil, fmt.Errorf("write configuration of nginx: %w", err)
	}
	path, err := exec.LookPath("nginx")
	if errors.Is(err, exec.ErrNotFound) {
		path = "/usr/sbin/nginx" // where it is on Debian, and sudo's PATH may not be
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("create log of nginx: %w", err)
	}
	defer out.Close()
	n.cmd = exec.Command(path, "-p", n.dir, "-e", "stderr", "-c", conf)
	n.cmd.Stderr = out
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(pollEvery) {
		if n.pids = childrenOf(n.cmd.Process.Pid); len(n.pids) == nginxWorkers && answers(n.port) {
			return n, nil
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(log)
			return nil, fmt.Errorf("start nginx: no answer on port %d after %v; it said: %s", n.port, readyWithin, firstLines(string(b)))
		}
	}
}

func (n *nginx) stop() {
	if n.cmd != nil {
		n.cmd.Process.Signal(unix.SIGTERM) // it ends its workers
		n.cmd.Wait()
	}
	os.RemoveAll(n.dir)
}

// freePort asks the kernel for one.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func answers(port int) bool {
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// childrenOf reads which processes a single-threaded process has forked.
func childrenOf(pid int) (pids []int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// wrk runs against the server for a time.
func (n *nginx) wrk(ctx context.Context, keepAlive bool, per time.Duration) (result, error) {
	argv := []string{"wrk", "-t2", "-c32", "-d", strconv.Itoa(max(1, int(per.Seconds()+0.5))) + "s"}
	if !keepAlive {
		argv = append(argv, "-H", "Connection: close")
	}
	before, err := cpuOf(n.pids...)
	if err != nil {
		return result{}, err
	}
	out, cpu, err := runOnce(ctx, append(argv, fmt.Sprintf("http://127.0.0.1:%d/", n.port))...)
	if err != nil {
		return result{}, err
	}
	after, err := cpuOf(n.pids...)
	if err != nil {
		return result{}, err
	}
	r, err := parseWrk(out)
	r.cpuNS = cpu + after - before
	return r, err
}

func nginxLoad(keepAlive bool) func(context.Context, *env, time.Duration) (func() (result, error), func(), error) {
	return func(ctx context.Context, _ *env, per time.Duration) (func() (result, error), func(), error) {
		n, err := startNginx()
		if err != nil {
			return nil, nil, err
		}
		return func() (result, error) { return n.wrk(ctx, keepAlive, per) }, n.stop, nil
	}
}
