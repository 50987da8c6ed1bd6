// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleCrowd is herdbench as what there is to look at: threads, listeners or
// threads in cgroups of their own, of which some are active once a second. It
// ends with its standard input.
const roleCrowd = "crowd"

type crowdConfig struct {
	Threads   int
	Listeners int
	CGroups   []string // one thread is put into each
	Active    int      // of the threads, or of the listeners
}

// maxThreads is Go's limit on threads, above what growth makes.
const maxThreads = 12_000

// activeEvery is how often an active one does something.
const activeEvery = time.Second

// crowd is a running one.
type crowd struct {
	cmd *exec.Cmd
	in  io.Closer
}

// startCrowd returns when all of it is there.
func startCrowd(e *env, c *crowdConfig) (*crowd, error) {
	arg, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode crowd: %w", err)
	}
	cmd := exec.Command(e.self, roleCrowd, string(arg))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start crowd: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start crowd: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start crowd: %w", err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		in.Close()
		return nil, fmt.Errorf("start crowd: it ended (%v)", cmd.Wait())
	}
	return &crowd{cmd, in}, nil
}

func (c *crowd) stop() {
	c.in.Close()
	c.cmd.Wait()
}

// runCrowd is the role.
func runCrowd(_ context.Context, args []string) error {
	var c crowdConfig
	if len(args) != 1 {
		return fmt.Errorf("run crowd: it takes one argument")
	}
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return fmt.Errorf("run crowd: %w", err)
	}
	debug.SetMaxThreads(maxThreads)
	var err error
	switch {
	case c.Listeners > 0:
		err = listeners(c.Listeners, c.Active)
	case len(c.CGroups) > 0:
		err = threads(len(c.CGroups), c.Active, c.CGroups)
	default:
		err = threads(c.Threads, c.Active, nil)
	}
	if err != nil {
		return err
	}
	fmt.Println("there")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// threads starts n threads, puts the i-th into groups[i], and lets the first of
// them run shortly once a second, not all at once; the others sleep for ever.
func threads(n, active int, groups []string) error {
	var never [2]int
	if err := unix.Pipe2(never[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	there := make(chan error)
	for i := range n {
		go func() {
			runtime.LockOSThread()
			var err error
			if groups != nil {
				err = enterCGroup(groups[i])
			}
			there <- err
			if i >= active {
				unix.Read(never[0], make([]byte, 1))
			}
			pause := unix.NsecToTimespec(int64(activeEvery) * int64(i) / int64(max(active, 1)))
			for {
				unix.Nanosleep(&pause, nil)
				pause = unix.NsecToTimespec(int64(activeEvery))
			}
		}()
	}
	for range n {
		if err := <-there; err != nil {
			return err
		}
	}
	return nil
}

// enterCGroup moves the calling thread.
func enterCGroup(dir string) error {
	f := filepath.Join(dir, "cgroup.threads")
	if _, err := os.Stat(f); err != nil {
		f = filepath.Join(dir, "tasks") // v1
	}
	if err := os.WriteFile(f, []byte(strconv.Itoa(unix.Gettid())), 0o644); err != nil {
		return fmt.Errorf("enter cgroup: %w", err)
	}
	return nil
}

// listeners opens n, and lets the first of them get a connection a second.
func listeners(n, active int) error {
	fds, addrs := make([]int, n), make([]unix.Sockaddr, n)
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open listener %d: %w", i, err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return fmt.Errorf("bind listener %d: %w", i, err)
		}
		if err := unix.Listen(fd, 16); err != nil {
			return fmt.Errorf("listen on listener %d: %w", i, err)
		}
		if addrs[i], err = unix.Getsockname(fd); err != nil {
			return fmt.Errorf("name listener %d: %w", i, err)
		}
		fds[i] = fd
	}
	if active > 0 {
		go connectTo(fds[:active], addrs)
	}
	return nil
}

// connectTo gives each listener a connection, for ever, spread over the second.
func connectTo(fds []int, addrs []unix.Sockaddr) {
	runtime.LockOSThread()
	for {
		for i, fd := range fds {
			if err := connectOnce(fd, addrs[i]); err != nil {
				complain(err)
				os.Exit(exitFailed)
			}
			time.Sleep(activeEvery / time.Duration(len(fds)))
		}
	}
}

func connectOnce(listener int, to unix.Sockaddr) error {
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open client: %w", err)
	}
	defer unix.Close(c)
	if err := unix.Connect(c, to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	a, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	return unix.Close(a)
}
