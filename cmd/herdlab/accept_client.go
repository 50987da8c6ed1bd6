// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	roleAcceptClient = "_accept-client"

	clientCtlFD = 3
	clientComm  = "herdlab-client"
)

// clientConfig travels to the client process in its argument.
type clientConfig struct {
	Dial       string        `json:"dial"` // address, or path of a unix socket
	Port       int           `json:"port"` // 0: unix socket
	Rate       float64       `json:"rate"` // connections per second, 0: as fast as it goes
	Conns      int64         `json:"conns"`
	Clients    int           `json:"clients"`
	Burst      int64         `json:"burst"`
	Duration   time.Duration `json:"duration"`
	Timeout    time.Duration `json:"timeout"`
	Settle     bool          `json:"settle"`
	Workers    []int         `json:"workers"`
	AllThreads bool          `json:"all_threads"`
	Request    string        `json:"request"`
}

// clientReport is what the client saw. Every attempt is in exactly one of
// served, timeouts and failed; connections counts successful connect(2)s.
type clientReport struct {
	Connections int64   `json:"connections"`
	Served      int64   `json:"served"`
	Timeouts    int64   `json:"timeouts"`
	Failed      int64   `json:"failed"`
	Unsettled   int64   `json:"unsettled"`
	Seconds     float64 `json:"seconds"`
	FirstError  string  `json:"first_error"`
}

// loadClient makes the connections. It is a process of its own, so that no
// thread of it wakes inside the server. Each client is a thread in blocking
// system calls: no Go poller, one way through the kernel per connection.
type loadClient struct {
	cfg      clientConfig
	workers  sleepers
	end      time.Time
	attempts atomic.Int64
	source   atomic.Uint32
	stop     chan struct{}

	connections, served, timeouts, failed, unsettled atomic.Int64

	firstErr sync.Once
	errText  string
}

func runAcceptClient(arg string) error {
	var cfg clientConfig
	if err := decodeConfig(arg, &cfg); err != nil {
		return err
	}
	if err := setComm(clientComm); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	// A P per client: one that blocks in recv(2) must not hold up the others
	// until sysmon retakes its P.
	runtime.GOMAXPROCS(cfg.Clients + 2)
	c := &loadClient{cfg: cfg, stop: make(chan struct{}), workers: sleepers{cfg.Workers, cfg.AllThreads}}
	go func() {
		awaitStop(clientCtlFD)
		close(c.stop)
	}()
	start := time.Now()
	c.end = start.Add(cfg.Duration)
	if cfg.Rate > 0 {
		c.paced(start)
	} else {
		c.saturate()
	}
	return send(clientReport{
		Connections: c.connections.Load(), Served: c.served.Load(), Timeouts: c.timeouts.Load(),
		Failed: c.failed.Load(), Unsettled: c.unsettled.Load(),
		Seconds: time.Since(start).Seconds(), FirstError: c.errText,
	})
}

// saturate keeps every client busy: each connects again at once.
func (c *loadClient) saturate() {
	var wg sync.WaitGroup
	for range c.cfg.Clients {
		wg.Go(func() {
			for !c.over() && c.take(1) == 1 {
				c.slot(1)
			}
		})
	}
	wg.Wait()
}

// paced opens one slot of burst connections at a time, at most Clients slots
// in flight. A slot that is late is not made up for: bunching would put two
// connections into one wake-up.
func (c *loadClient) paced(start time.Time) {
	interval := time.Duration(float64(c.cfg.Burst) / c.cfg.Rate * float64(time.Second))
	inFlight := make(chan struct{}, c.cfg.Clients)
	var wg sync.WaitGroup
	defer wg.Wait()
	for next := start; ; next = latest(next.Add(interval), time.Now()) {
		inFlight <- struct{}{}
		if !c.sleepUntil(next) || c.over() {
			return
		}
		if c.cfg.Settle && !c.workers.await(settleLimit) {
			c.unsettled.Add(1)
		}
		n := c.take(c.cfg.Burst)
		if n == 0 {
			return
		}
		wg.Go(func() {
			c.slot(int(n))
			<-inFlight
		})
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sleepUntil is false when the load is over before t.
func (c *loadClient) sleepUntil(t time.Time) bool {
	if t.After(c.end) {
		t = c.end
	}
	select {
	case <-c.stop:
		return false
	case <-time.After(time.Until(t)):
		return true
	}
}

func (c *loadClient) over() bool {
	select {
	case <-c.stop:
		return true
	default:
		return !time.Now().Before(c.end)
	}
}

// take reserves up to n of the connections that are still to be made.
func (c *loadClient) take(n int64) int64 {
	before := c.attempts.Add(n) - n
	return max(0, min(n, c.cfg.Conns-before))
}

// slot opens n connections one right after the other (on loopback connect(2)
// runs the whole handshake, so they are in the accept queue within
// microseconds) and only then waits for the answers.
func (c *loadClient) slot(n int) {
	var few [1]int
	fds := few[:0]
	deadline := time.Now().Add(c.cfg.Timeout)
	for range n {
		fd, err := c.connect(deadline)
		if err != nil {
			c.fail(err)
			continue
		}
		c.connections.Add(1)
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		c.finish(fd, deadline)
	}
}

// timeLeft is never 0, which would mean "no limit" to the kernel.
func timeLeft(deadline time.Time) unix.Timeval {
	return unix.NsecToTimeval(int64(max(time.Until(deadline), time.Millisecond)))
}

func (c *loadClient) fail(err error) {
	c.failed.Add(1)
	c.firstErr.Do(func() { c.errText = err.Error() })
}

// connect makes one connection and sends the request, if there is one. A full
// accept queue drops the handshake: then connect(2) blocks until the deadline.
func (c *loadClient) connect(deadline time.Time) (fd int, err error) {
	domain, sa := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: c.cfg.Dial})
	if c.cfg.Port != 0 {
		domain, sa = inetAddress(c.cfg.Dial, c.cfg.Port)
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a client socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	limit := timeLeft(deadline)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return -1, fmt.Errorf("set SO_SNDTIMEO: %w", err)
	}
	if domain == unix.AF_INET {
		if err := c.bindSource(fd); err != nil {
			return -1, err
		}
	}
	if err := unix.Connect(fd, sa); err == unix.EINPROGRESS || err == unix.EAGAIN {
		// What SO_SNDTIMEO makes of a connect(2) that nobody answered.
		return -1, fmt.Errorf("connect to %s port %d: no answer within %v (is the accept queue full?)",
			c.cfg.Dial, c.cfg.Port, c.cfg.Timeout)
	} else if err != nil {
		return -1, fmt.Errorf("connect to %s port %d: %w", c.cfg.Dial, c.cfg.Port, err)
	}
	if c.cfg.Request != "" {
		// A refusal here shows again as a failed read.
		_ = unix.Send(fd, []byte(c.cfg.Request), unix.MSG_NOSIGNAL)
	}
	return fd, nil
}

// bindSource rotates the source address over 127.0.0.2 ... 127.0.0.250 and
// leaves the port to connect(2), which then needs it unique for the 4-tuple
// only (inet_csk_get_port() would want it unique per address).
func (c *loadClient) bindSource(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	last := byte(2 + c.source.Add(1)%249)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, last}}); err != nil {
		return fmt.Errorf("bind 127.0.0.%d: %w", last, err)
	}
	return nil
}

// finish reads the answer until end of file or the deadline, and closes with
// SO_LINGER {1,0}: the RST takes the server's FIN_WAIT2 with it and this side
// never was in TIME_WAIT (it closes second), so no port stays occupied.
func (c *loadClient) finish(fd int, deadline time.Time) {
	defer unix.Close(fd)
	if c.cfg.Port != 0 {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	limit := timeLeft(deadline)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		c.fail(fmt.Errorf("set SO_RCVTIMEO: %w", err))
		return
	}
	got, err := readAll(fd)
	switch {
	case got > 0:
		c.served.Add(1)
	case err == unix.EAGAIN:
		c.timeouts.Add(1)
	case err != nil:
		c.fail(fmt.Errorf("read the answer: %w", err))
	default:
		c.fail(fmt.Errorf("read the answer: the server closed without one"))
	}
}

// readAll reads until end of file or an error and returns how much came.
func readAll(fd int) (got int, err error) {
	var buf [512]byte
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			return got, err
		default:
			got += n
		}
	}
}

// decodeConfig reads what startChild put into a role's argument.
func decodeConfig(arg string, v any) error {
	if err := json.Unmarshal([]byte(arg), v); err != nil {
		return fmt.Errorf("decode the configuration of this role: %w (roles are started by herdlab itself)", err)
	}
	return nil
}
