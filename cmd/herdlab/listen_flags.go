// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
)

// listenConfig is what the flags of `herdlab listen` ask for, validated.
type listenConfig struct {
	mode          *listenMode
	kind          *listenKind
	packets       int
	clients       int
	rate          float64
	acceptRate    float64
	burst         int
	asked         int // of listen(2)
	backlog       int // what somaxconn leaves of it
	somaxconn     int
	maxSynBacklog int
	sockets       int
	port          int
	cookies       bool
	abort         bool
	duration      time.Duration
	linger        time.Duration
	comm          string
	readyFile     string
	waitFile      string
}

const (
	// A handshake of healthy and slow has a port of its own: see crowd.
	maxRounds = 16000
	// Cookies are good for 60 s at least (net/ipv4/syncookies.c:
	// check_tcp_syn_cookie(), MAX_SYNCOOKIE_AGE), requests of ack-overflow for
	// 14 minutes: see longSynAckRetries.
	maxCookieAge = time.Minute
	maxDuration  = 10 * time.Minute
)

// parseListen returns the configuration, or pflag.ErrHelp after printing the
// help to helpOut, or a usageError.
func parseListen(args []string, helpOut io.Writer) (*listenConfig, error) {
	var c listenConfig
	var mode, kind, cookies string
	fs := listenFlags(&c, &mode, &kind, &cookies)
	if err := parseFlags(fs, args); errors.Is(err, pflag.ErrHelp) {
		printListenHelp(helpOut, fs)
		return nil, err
	} else if err != nil {
		return nil, err
	}
	if c.mode = findListenMode(mode); c.mode == nil {
		return nil, usagef("--mode %q is not a mode: use one of: %s", mode, listenModeNames())
	}
	if c.kind = findListenKind(kind); c.kind == nil || findServer(c.kind) == nil {
		return nil, usagef("--listen %q is not known here: use one of: tcp4, tcp6, dual", kind)
	}
	if cookies != "on" && cookies != "off" {
		return nil, usagef("--cookies %q: use on or off", cookies)
	}
	c.cookies = cookies == "on"
	for _, only := range []struct{ flag, mode string }{
		{"cookies", "syn-overflow"}, {"max-syn-backlog", "syn-overflow"}, {"burst", "healthy"}, {"accept-rate", "slow"},
	} {
		if fs.Changed(only.flag) && c.mode.name != only.mode {
			return nil, usagef("--%s does not apply to --mode %s: leave it out (it is for %s)", only.flag, c.mode.name, only.mode)
		}
	}
	c.setDefaults(fs)
	return &c, c.validate()
}

func listenFlags(c *listenConfig, mode, kind, cookies *string) *pflag.FlagSet {
	fs := pflag.NewFlagSet("listen", pflag.ContinueOnError)
	fs.StringVar(mode, "mode", "", "how clients are refused (required; see below)")
	fs.StringVar(kind, "listen", "tcp4", "what the server listens on: tcp4, tcp6, or dual (a v6 socket, v4 clients)")
	fs.IntVar(&c.packets, "packets", 10000, "packets of the flood; healthy and slow: handshakes (slow: 2000)")
	fs.IntVar(&c.clients, "clients", 100, "clients (address and port) that send them, each about as many")
	fs.Float64Var(&c.rate, "rate", 0, "packets per second; 0: as fast as it goes (slow: 1000)")
	fs.IntVar(&c.backlog, "backlog", 0, "listen(2) backlog (default: see below)")
	fs.IntVar(&c.somaxconn, "somaxconn", 0, "net.core.somaxconn of the namespace; a smaller one cuts the backlog (default 4096, or the backlog if that is more)")
	fs.IntVar(&c.sockets, "sockets", 1, "listening sockets on the port, one SO_REUSEPORT group")
	fs.StringVar(cookies, "cookies", "on", "syn-overflow: tcp_syncookies, on or off")
	fs.IntVar(&c.maxSynBacklog, "max-syn-backlog", 4096, "syn-overflow: tcp_max_syn_backlog; binds with --cookies off, if 3/4 of it is less than the backlog")
	fs.IntVar(&c.burst, "burst", 0, "healthy: open so many connections at once, up to the backlog")
	fs.Float64Var(&c.acceptRate, "accept-rate", 100, "slow: connections that the server accepts per second")
	fs.BoolVar(&c.abort, "abort", false, "tcp_abort_on_overflow: a final ACK that is refused is answered with a reset")
	fs.IntVar(&c.port, "port", 8080, "TCP port, in a network namespace of its own")
	fs.DurationVar(&c.duration, "duration", time.Minute, "stop after this time, if it comes first")
	fs.DurationVar(&c.linger, "linger", 0, "keep the server and its namespace this long after the oracle")
	fs.StringVar(&c.comm, "comm", "herdlab-listen", "name of the server process, 1 to 15 bytes")
	fs.StringVar(&c.readyFile, "ready-file", "", "write the address here when the server listens, before any packet")
	fs.StringVar(&c.waitFile, "wait-file", "", "start the flood (once the queue is full) when this file exists; fail after --duration")
	return fs
}

// setDefaults fills in what depends on the mode.
func (c *listenConfig) setDefaults(fs *pflag.FlagSet) {
	if !fs.Changed("backlog") {
		c.backlog = c.mode.backlog
		if c.mode.halfOpen {
			c.backlog = max(c.backlog, 2*c.clients)
		}
	}
	if !fs.Changed("somaxconn") {
		c.somaxconn = max(4096, c.backlog)
	}
	c.asked, c.backlog = c.backlog, min(c.backlog, c.somaxconn)
	switch {
	case fs.Changed("packets"):
	case c.mode.packets != 0:
		c.packets = c.mode.packets
	case c.abort && c.mode.halfOpen:
		c.packets = c.clients
	}
	if c.mode.accepting == acceptPaced && !fs.Changed("rate") {
		c.rate = 1000
	}
}

type listenCheck struct {
	bad bool
	msg string
}

// validate checks the ranges: everything herdlab does is bounded.
func (c *listenConfig) validate() error {
	m := c.mode
	checks := []listenCheck{
		{c.packets < 1 || c.packets > 100e6, fmt.Sprintf("--packets %d: use 1 to 100000000", c.packets)},
		{c.clients < 1 || c.clients > m.maxClients, fmt.Sprintf("--clients %d: use 1 to %d in mode %s", c.clients, m.maxClients, m.name)},
		{!(c.rate >= 0 && c.rate <= 1e6), fmt.Sprintf("--rate %v: use 0 (as fast as it goes) to 1000000 per second", c.rate)},
		{!(c.acceptRate > 0 && c.acceptRate <= 1e6), fmt.Sprintf("--accept-rate %v: use more than 0, up to 1000000 per second", c.acceptRate)},
		{c.backlog < 1 || c.backlog > 200000, fmt.Sprintf("--backlog %d: use 1 to 200000", c.backlog)},
		{c.sockets < 1 || c.sockets > 64, fmt.Sprintf("--sockets %d: use 1 to 64", c.sockets)},
		{c.sockets > 1 && !m.group, fmt.Sprintf("--sockets does not apply to --mode %s: leave it out", m.name)},
		{c.somaxconn < 1 || c.somaxconn > 200000, fmt.Sprintf("--somaxconn %d: use 1 to 200000", c.somaxconn)},
		{c.maxSynBacklog < 8 || c.maxSynBacklog > 1e6, fmt.Sprintf("--max-syn-backlog %d: use 8 to 1000000", c.maxSynBacklog)},
		{c.burst < 0 || c.burst > c.backlog, fmt.Sprintf("--burst %d: use 0 (none) to %d, the backlog", c.burst, c.backlog)},
		{c.port < 1 || c.port > 65535, fmt.Sprintf("--port %d: use 1 to 65535", c.port)},
		{c.duration <= 0 || c.duration > maxDuration, fmt.Sprintf("--duration %v: use more than 0, up to %v", c.duration, maxDuration)},
		{c.linger < 0, fmt.Sprintf("--linger %v: use 0 or more", c.linger)},
		{len(c.comm) < 1 || len(c.comm) > commMax, fmt.Sprintf("--comm %q: use 1 to %d bytes", c.comm, commMax)},
	}
	for _, check := range append(checks, c.modeChecks()...) {
		if check.bad {
			return usagef("%s", check.msg)
		}
	}
	return nil
}

// modeChecks are the limits that the kernel sets to single modes. A request
// is given up early once the SYN queue is more than half full
// (net/ipv4/inet_connection_sock.c: reqsk_timer_handler()), and is dropped
// when its final ACK is refused with a reset (tcp_check_req()).
func (c *listenConfig) modeChecks() []listenCheck {
	m := c.mode
	return []listenCheck{
		{m.halfOpen && 2*c.clients > c.backlog,
			fmt.Sprintf("--backlog %d: use %d or more, twice the clients, so that the kernel keeps their requests", c.backlog, 2*c.clients)},
		{m.halfOpen && c.abort && c.packets > c.clients,
			fmt.Sprintf("--packets %d: use at most %d, the clients: with --abort each of them can be refused only once", c.packets, c.clients)},
		{m.cookieACKs && c.duration > maxCookieAge,
			fmt.Sprintf("--duration %v: use at most %v in mode %s, the age of SYN cookies", c.duration, maxCookieAge, m.name)},
		{m.accepting != acceptNone && (c.packets-1)/c.clients >= maxRounds,
			fmt.Sprintf("--packets %d: use at most %d handshakes for each of the %d clients", c.packets, maxRounds, c.clients)},
		{m.accepting != acceptNone && c.packets > 10e6, fmt.Sprintf("--packets %d: use 1 to 10000000 in mode %s", c.packets, m.name)},
	}
}

func printListenHelp(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprint(w, "herdlab listen makes a TCP listener refuse clients, in a network namespace of its own, and prints what a\n"+
		"tracer must see. Clients are forged through a TUN device. It needs root.\n\n"+
		"usage: herdlab listen --mode MODE [flags]\n\n", fs.FlagUsages(), "\nmodes:\n")
	for _, m := range listenModes {
		fmt.Fprintf(w, "  %-16s %s (backlog %d)\n", m.name, m.brief, m.backlog)
	}
	fmt.Fprint(w, "\nexamples:\n"+
		"  herdlab listen --mode accept-overflow --packets 100000     100000 SYNs refused: the accept queue is full\n"+
		"  herdlab listen --mode ack-overflow --abort                 100 clients reset at their final ACK\n"+
		"  herdlab listen --mode syn-overflow --cookies off           10000 SYNs refused: the SYN queue is full\n"+
		"  herdlab listen --mode healthy --packets 100000             the healthy twin of all of them\n")
}
