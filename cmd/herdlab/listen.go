// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"
)

const (
	listenTun = "herdlab0"

	// Addresses of the clients, the last 32 bits of them; the server is 10.0.0.1.
	clientBase = 10<<24 | 64<<16 | 1
	fillerBase = 10<<24 | 128<<16 | 1
	fillersMax = 1 << 24
)

// listenLab is one run. All that it makes is in a network namespace of its
// own: the TUN device ends with its descriptor, the namespace with this
// process and the server, and the server with this process.
type listenLab struct {
	cfg    *listenConfig
	talk   io.Writer
	netns  uint64
	before netCounters
	start  time.Time
	end    time.Time // of filling, waiting and flooding

	wire    *wire
	clients *crowd // of the flood
	fillers *crowd // those that fill the queues before
	owner   *child // the server process
	server  *serverAddress

	packets    int       // of the flood
	ackedAt    []int64   // when, in mode slow
	filledAt   time.Time // the SYN queue
	admitted   int64     // requests that filled the SYN queue
	standing   int       // requests that stay in the SYN queue
	synPeak    int
	acceptPeak int
	filling    refusals // of those that fill the queues
	floodTime  time.Duration
}

// runListen is the scenario `herdlab listen`.
func runListen(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseListen(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return report(stderr, err)
	}
	lab := &listenLab{cfg: cfg, talk: stderr, start: time.Now(), server: findServer(cfg.kind)}
	lab.end = lab.start.Add(cfg.duration)
	ctx, done := interruptible(stderr, nil, nil)
	defer done()
	err = lab.run(ctx, json.NewEncoder(stdout))
	lab.close()
	if err != nil {
		return report(stderr, err)
	}
	return exitOK
}

// run opens everything, fills the queue, floods, and prints what came of it.
func (l *listenLab) run(ctx context.Context, out *json.Encoder) error {
	if err := l.open(); err != nil {
		return err
	}
	if err := l.ready(); err != nil {
		return err
	}
	if l.cfg.mode.fill != nil {
		if err := l.cfg.mode.fill(l); err != nil {
			return err
		}
	}
	if err := l.rendezvous(ctx); err != nil {
		return err
	}
	oracle, err := l.flood(ctx)
	if err != nil {
		return err
	}
	if err := out.Encode(oracle); err != nil {
		return fmt.Errorf("write the oracle: %w", err)
	}
	pause(ctx, l.cfg.linger)
	return nil
}

// open makes the namespace, the TUN device, the clients and the server.
func (l *listenLab) open() (err error) {
	if l.netns, err = enterNetns(); err != nil {
		return err
	}
	if err := l.setSysctls(); err != nil {
		return err
	}
	tun, err := openTun(listenTun, tunQueueLen)
	if err != nil {
		return err
	}
	l.wire = newWire(tun, l.address())
	if err := addAddress(listenTun, l.server.prefix); err != nil {
		return err
	}
	if l.before, err = readNetCounters(); err != nil {
		return err
	}
	l.wire.processed = l.processed
	m := l.cfg.mode
	l.clients = &crowd{base: clientBase, clients: l.cfg.clients, stateless: m.keepsFull() && l.cfg.cookies}
	l.clients.grow(max(l.cfg.clients, l.cfg.handshakes()))
	l.fillers = &crowd{base: fillerBase, clients: fillersMax}
	l.wire.crowds = []*crowd{l.clients, l.fillers}
	l.owner, err = startChild(roleListenServer, serverConfig{
		Bind: l.server.bind, Port: l.cfg.port, Backlog: l.cfg.asked, Sockets: l.cfg.sockets,
		Comm: l.cfg.comm, Accept: m.accepting, Rate: l.cfg.acceptRate,
	}, nil)
	if err != nil {
		return err
	}
	if err := l.owner.receive(&workerReady{}, startLimit); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	return nil
}

// setSysctls leaves nothing to the defaults that the outcome depends on.
func (l *listenLab) setSysctls() error {
	flag := map[bool]int{true: 1}
	settings := []struct {
		path  string
		value int
	}{
		{"net/core/somaxconn", l.cfg.somaxconn},
		{"net/ipv4/tcp_syncookies", flag[l.cfg.cookies]},
		{"net/ipv4/tcp_max_syn_backlog", l.cfg.maxSynBacklog},
		{"net/ipv4/tcp_abort_on_overflow", flag[l.cfg.abort]},
		{"net/ipv4/tcp_synack_retries", l.cfg.mode.retries},
	}
	for _, s := range settings {
		if err := setSysctl(s.path, s.value); err != nil {
			return err
		}
	}
	return nil
}

// address is where clients connect to.
func (l *listenLab) address() netip.AddrPort {
	return netip.AddrPortFrom(l.server.prefix.Addr(), uint16(l.cfg.port))
}

// ready tells others that the server listens and no packet was sent yet.
func (l *listenLab) ready() error {
	fmt.Fprintf(l.talk, "herdlab: %s: %s (pid %d) listens on %s, backlog %d, in the network namespace %d\n",
		l.cfg.mode.name, l.cfg.comm, l.owner.pid(), l.address(), l.cfg.backlog, l.netns)
	if l.cfg.readyFile == "" {
		return nil
	}
	if err := writeWhole(l.cfg.readyFile, l.address().String()+"\n"); err != nil {
		return fmt.Errorf("write the ready file: %w", err)
	}
	return nil
}

// rendezvous waits for others to say go.
func (l *listenLab) rendezvous(ctx context.Context) error {
	if l.cfg.waitFile == "" {
		return nil
	}
	fmt.Fprintf(l.talk, "herdlab: %s: prepared; waiting for %s\n", l.cfg.mode.name, l.cfg.waitFile)
	for ; ctx.Err() == nil; pause(ctx, pollEvery) {
		if _, err := os.Stat(l.cfg.waitFile); err == nil {
			return nil
		}
		if l.late() {
			return fmt.Errorf("wait for %s: it did not appear within %v (create it to start the flood, or raise --duration)",
				l.cfg.waitFile, l.cfg.duration)
		}
	}
	return nil
}

// flood sends the packets, waits until the kernel has processed them all, and
// adds up.
func (l *listenLab) flood(ctx context.Context) (*listenOracle, error) {
	var err error
	if l.filling, err = l.refusals(0); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := l.cfg.mode.flood(l, ctx); err != nil {
		return nil, err
	}
	l.floodTime = time.Since(begin)
	if l.packets < l.cfg.packets && ctx.Err() == nil {
		fmt.Fprintf(l.talk, "herdlab: %s: sent %d of %d packets: %s\n", l.cfg.mode.name, l.packets, l.cfg.packets, l.whyFewer())
	}
	served, err := l.serverReport()
	if err != nil {
		return nil, err
	}
	after, err := l.quiesce()
	if err != nil {
		return nil, err
	}
	o, err := l.newOracle(served, after)
	if err != nil {
		return nil, err
	}
	return o, l.judge(o)
}

// whyFewer says what ended the flood early.
func (l *listenLab) whyFewer() string {
	if l.late() {
		return fmt.Sprintf("%v are over (raise --duration)", l.cfg.duration)
	}
	return "the accept queue has no room for more (raise --accept-rate or lower --packets)"
}

// serverReport asks the server what it accepted; it accepts no more.
func (l *listenLab) serverReport() (rep serverReport, err error) {
	if _, err = l.owner.ctl.Write([]byte{0}); err == nil {
		err = l.owner.receive(&rep, stopLimit)
	}
	if err != nil {
		return rep, fmt.Errorf("ask the server: %w", err)
	}
	return rep, nil
}

// quiesce waits until the kernel has taken in all that was written and its
// counters rest, and returns them.
func (l *listenLab) quiesce() (netCounters, error) {
	last := listenCounters{ListenDrops: -1}
	for end := time.Now().Add(settleWait); time.Now().Before(end); time.Sleep(pollEvery) {
		if err := l.wire.drain(); err != nil {
			return nil, err
		}
		now, err := readNetCounters()
		if err != nil {
			return nil, err
		}
		deltas := listenDeltas(l.before, now)
		if deltas == last && l.tookIn(now) == l.wire.segments {
			return now, nil
		}
		last = deltas
	}
	return nil, fmt.Errorf("wait for the kernel: it did not take in all packets and come to rest within %v", settleWait)
}

// processed is how many segments of the clients the kernel took in, whatever
// came of them (net/ipv4/tcp_ipv4.c: tcp_v4_rcv(), TCP_MIB_INSEGS).
func (l *listenLab) processed() (int64, error) {
	now, err := readNetCounters()
	if err != nil {
		return 0, err
	}
	return l.tookIn(now), nil
}

func (l *listenLab) tookIn(now netCounters) int64 { return now["Tcp.InSegs"] - l.before["Tcp.InSegs"] }

// late says that the run has used up its time.
func (l *listenLab) late() bool { return !time.Now().Before(l.end) }

// queues reads the accept queues of all sockets and notes the longest.
func (l *listenLab) queues() ([]int, error) {
	lens, err := acceptQueues(l.server.v6(), l.cfg.port)
	if err != nil {
		return nil, err
	}
	if len(lens) != l.cfg.sockets {
		return nil, fmt.Errorf("read the accept queues: %d sockets listen on port %d, want %d", len(lens), l.cfg.port, l.cfg.sockets)
	}
	for _, n := range lens {
		l.acceptPeak = max(l.acceptPeak, n)
	}
	return lens, nil
}

// close ends the server.
func (l *listenLab) close() {
	if l.owner != nil {
		l.owner.reap(stopLimit)
	}
}
