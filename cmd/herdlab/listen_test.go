// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListenUsage(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", "use one of: accept-overflow, ack-overflow, cookie-overflow, syn-overflow, healthy, slow"},
		{"--mode herd", "use one of: accept-overflow"},
		{"--mode healthy --listen unix", "use one of: tcp4, tcp6, dual"},
		{"--mode healthy --packets 0", "use 1 to 100000000"},
		{"--mode healthy --packets 20000000 --clients 10000", "use 1 to 10000000 in mode healthy"},
		{"--mode healthy --packets 16001 --clients 1", "16000 handshakes for each of the 1 clients"},
		{"--mode healthy --clients 65001", "use 1 to 65000 in mode healthy"},
		{"--mode accept-overflow --clients 200001", "use 1 to 200000 in mode accept-overflow"},
		{"--mode accept-overflow --rate NaN", "--rate NaN"},
		{"--mode accept-overflow --backlog 0 --burst 1", "--burst does not apply"},
		{"--mode accept-overflow --backlog 0", "--backlog 0: use 1 to 200000"},
		{"--mode accept-overflow --cookies off", "it is for syn-overflow"},
		{"--mode accept-overflow --max-syn-backlog 64", "it is for syn-overflow"},
		{"--mode accept-overflow --sockets 65", "use 1 to 64"},
		{"--mode ack-overflow --sockets 2", "leave it out"},
		{"--mode ack-overflow --clients 100 --backlog 199", "use 200 or more, twice the clients"},
		{"--mode ack-overflow --abort --packets 101", "at most 100, the clients"},
		{"--mode cookie-overflow --duration 61s", "the age of SYN cookies"},
		{"--mode syn-overflow --cookies maybe", "use on or off"},
		{"--mode syn-overflow --max-syn-backlog 7", "use 8 to 1000000"},
		{"--mode healthy --backlog 64 --burst 65", "use 0 (none) to 64, the backlog"},
		{"--mode healthy --accept-rate 5", "it is for slow"},
		{"--mode slow --accept-rate 0", "--accept-rate 0"},
		{"--mode slow --port 0", "use 1 to 65535"},
		{"--mode slow --duration 11m", "up to 10m0s"},
		{"--mode slow --comm sixteen-bytes-xx", "1 to 15 bytes"},
	} {
		_, err := parseListen(strings.Fields(tc.args), io.Discard)
		if _, usage := err.(usageError); !usage || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: got %v, want a usage error with %q", tc.args, err, tc.want)
		}
	}
}

func TestListenDefaults(t *testing.T) {
	for _, tc := range []struct {
		args             string
		packets, backlog int
		rate             float64
	}{
		{"--mode accept-overflow", 10000, 16, 0},
		{"--mode ack-overflow --clients 1000", 10000, 2000, 0},
		{"--mode ack-overflow --abort", 100, 1024, 0},
		{"--mode slow", 2000, 4096, 1000},
		{"--mode slow --rate 7 --packets 8 --backlog 9", 8, 9, 7},
	} {
		c, err := parseListen(strings.Fields(tc.args), io.Discard)
		if err != nil || c.packets != tc.packets || c.backlog != tc.backlog || c.rate != tc.rate {
			t.Errorf("%q: got %+v, %v; want %+v", tc.args, c, err, tc)
		}
	}
}

func TestListenCrowd(t *testing.T) {
	for _, clients := range []int{1, 3, 4, 100} {
		c := &crowd{base: clientBase, clients: clients}
		c.grow(10*clients + 1)
		seen := map[uint64]bool{}
		for id := range c.peers {
			addr, port := c.endpoint(id)
			if c.find(addr, port) != &c.peers[id] {
				t.Fatalf("%d clients: %d is not found at %x:%d", clients, id, addr, port)
			}
			seen[uint64(addr)<<16|uint64(port)] = true
		}
		if len(seen) != len(c.peers) {
			t.Errorf("%d clients: %d handshakes have %d addresses", clients, len(c.peers), len(seen))
		}
		for _, addr := range []uint32{0, clientBase - 1, clientBase + uint32(clients), fillerBase} {
			if c.find(addr, 1024) != nil {
				t.Errorf("%d clients: %x is one of them", clients, addr)
			}
		}
	}
}

// TestListenPacket checks a packet against what RFC 1071 demands: the sum over
// all that a checksum covers, with it, is zero.
func TestListenPacket(t *testing.T) {
	for _, server := range []string{"10.0.0.1:8080", "[fd48:4c::1]:8080"} {
		fds := make([]int, 2)
		if err := unix.Pipe2(fds, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		w := newWire(fds[1], netip.MustParseAddrPort(server))
		c := &crowd{base: clientBase, clients: 5}
		c.grow(5)
		if err := w.syn(c, 3); err != nil {
			t.Fatal(err)
		}
		packet := make([]byte, 100)
		n, err := unix.Read(fds[0], packet)
		if err != nil {
			t.Fatal(err)
		}
		head, addresses := 20, packet[12:20]
		if packet[0]>>4 == 6 {
			head, addresses = 40, packet[8:40]
		} else if sum := foldChecksum(checksum(0, packet[:head])); sum != 0 {
			t.Errorf("%s: the sum of the IP header is %#x", server, sum)
		}
		sum := checksum(checksum(unix.IPPROTO_TCP+uint64(n-head), addresses), packet[head:n])
		if foldChecksum(sum) != 0 || n != head+tcpHeaderLen || binary.BigEndian.Uint16(packet[head+2:]) != 8080 {
			t.Errorf("%s: a packet of %d bytes with the TCP sum %#x: % x", server, n, foldChecksum(sum), packet[:n])
		}
	}
}

func TestListenNetCounters(t *testing.T) {
	counters := netCounters{}
	err := counters.parse(strings.NewReader("TcpExt: SyncookiesSent ListenDrops\nTcpExt: 1 20\nIpExt: InOctets\nIpExt: 300\n"))
	if err != nil || counters["TcpExt.ListenDrops"] != 20 || counters["IpExt.InOctets"] != 300 || counters["TcpExt.Missing"] != 0 {
		t.Errorf("got %v, %v", counters, err)
	}
	for _, bad := range []string{"A: x\nB: 1\n", "A: x y\nA: 1\n", "A: x\nA: one\n", "\n\n"} {
		if err := counters.parse(strings.NewReader(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// needNetns is need for root.
func needNetns(t *testing.T) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "this test needs root, network namespaces and TUN (sudo make test)"
	}
	need(t, missing)
}

// listenOracleOf demands a successful run with one line on stdout, whose
// counts agree and whose server and device are gone.
func listenOracleOf(t *testing.T, r result) listenOracle {
	t.Helper()
	var o listenOracle
	decodeOracle(t, r, &o)
	if o.ListenDrops != o.Refusals.total() || o.ListenOverflows != o.Refusals.overflows() {
		t.Errorf("the kernel counted %d drops, %d of them overflows, the lab %+v", o.ListenDrops, o.ListenOverflows, o.Refusals)
	}
	if o.SyncookiesSent != o.ReqQFullDoCookies || o.SyncookiesFailed != 0 {
		t.Errorf("cookies: %+v", o.listenCounters)
	}
	if o.NetNS == 0 || o.Comm == "" {
		t.Errorf("netns %d, comm %q", o.NetNS, o.Comm)
	}
	nothingLeft(t, o.PID)
	return o
}

func nothingLeft(t *testing.T, server int) {
	t.Helper()
	if _, err := os.Stat("/proc/" + strconv.Itoa(server)); err == nil {
		t.Errorf("the server %d is left behind", server)
	}
	if _, err := os.Stat("/sys/class/net/" + listenTun); err == nil {
		t.Errorf("%s is in the namespace of the host", listenTun)
	}
}

func runListenLab(t *testing.T, args string) listenOracle {
	t.Helper()
	return listenOracleOf(t, runHerdlab(t, append([]string{"listen"}, strings.Fields(args)...)...))
}

func TestListenModes(t *testing.T) {
	needNetns(t)
	const packets = 3000
	type want struct {
		syn, ack, cookie, synQueue int64 // refusals
		cookies, fullDrops         int64
		acceptPeak, synPeak        int
	}
	for args, w := range map[string]want{
		"accept-overflow":                                        {syn: packets, acceptPeak: 17, synPeak: 16},
		"ack-overflow":                                           {ack: packets, acceptPeak: 1025, synPeak: 100 + fillWindow},
		"cookie-overflow":                                        {cookie: packets, cookies: 129 + 100, acceptPeak: 129, synPeak: 129},
		"syn-overflow --cookies on":                              {cookies: packets, synPeak: 129},
		"syn-overflow --cookies off":                             {synQueue: packets, fullDrops: packets, synPeak: 129},
		"syn-overflow --cookies off --max-syn-backlog 64":        {synQueue: packets, synPeak: 49},
		"syn-overflow --cookies off --backlog 1 --rate 20000":    {synQueue: packets, fullDrops: packets, synPeak: 2},
		"accept-overflow --backlog 1 --abort --comm tiny":        {syn: packets, acceptPeak: 2, synPeak: 1},
		"ack-overflow --abort --clients 3000 --backlog 6000":     {ack: packets, acceptPeak: 6001, synPeak: 3000 + fillWindow},
		"cookie-overflow --backlog 8 --clients 3001 --port 1":    {cookie: packets, cookies: 9 + 3001, acceptPeak: 9, synPeak: 9},
		"accept-overflow --clients 200000 --backlog 5000":        {syn: packets, acceptPeak: 5001, synPeak: fillWindow},
		"syn-overflow --cookies off --backlog 300 --clients 999": {synQueue: packets, fullDrops: packets, synPeak: 301},
	} {
		for _, kind := range []string{"tcp4", "tcp6", "dual"} {
			t.Run(args+"/"+kind, func(t *testing.T) {
				o := runListenLab(t, "--packets 3000 --listen "+kind+" --mode "+args)
				// 5.10 admits one request less where the backlog binds.
				less := 0
				if o.SynQueuePeak != nil && *o.SynQueuePeak == w.synPeak-1 && strings.HasPrefix(kernelRelease(t), "5.10.") {
					less = 1
				}
				refused := o.Refusals
				refused.SynQueue -= o.FillRefusals
				if refused != (refusals{w.syn, w.ack, w.cookie, w.synQueue}) || o.FillRefusals > int64(less) {
					t.Errorf("refusals %+v, %d of them while filling, want %+v", o.Refusals, o.FillRefusals, w)
				}
				if o.Packets != packets || o.SyncookiesSent != w.cookies+int64(less)*min(w.cookies, 1) || o.ReqQFullDrop-o.FillRefusals != w.fullDrops {
					t.Errorf("packets %d, %+v; want %+v", o.Packets, o.listenCounters, w)
				}
				if o.AcceptQueuePeak != w.acceptPeak || *o.SynQueuePeak != w.synPeak-less {
					t.Errorf("peaks %d and %d, want %d and %d", o.AcceptQueuePeak, *o.SynQueuePeak, w.acceptPeak, w.synPeak)
				}
				listenClients(t, o)
			})
		}
	}
}

// listenClients checks that the flood came from all clients, each about as often.
func listenClients(t *testing.T, o listenOracle) {
	t.Helper()
	if o.Refusals.total() == 0 {
		if o.Clients != 0 || o.ClientRefusalMax != 0 {
			t.Errorf("nothing was refused, but to %d clients", o.Clients)
		}
		return
	}
	most := (int64(o.Packets) + int64(o.Clients) - 1) / int64(o.Clients)
	if o.Clients > o.Packets || o.ClientRefusalMax != most || o.ClientAddresses != (o.Clients+3)/4 {
		t.Errorf("%d packets of %d clients at %d addresses, at most %d of one", o.Packets, o.Clients, o.ClientAddresses, o.ClientRefusalMax)
	}
	if o.Abort && o.Mode == "ack-overflow" && o.Resets != int64(o.Packets) {
		t.Errorf("%d resets, want %d", o.Resets, o.Packets)
	}
}

func kernelRelease(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(name.Release[:])
}

func TestListenGroup(t *testing.T) {
	needNetns(t)
	for _, args := range []string{"accept-overflow", "accept-overflow --abort", "syn-overflow", "syn-overflow --cookies off", "healthy"} {
		t.Run(args, func(t *testing.T) {
			o := runListenLab(t, "--packets 3000 --sockets 4 --mode "+args)
			if o.Sockets != 4 || o.Packets != 3000 {
				t.Errorf("sockets %d, packets %d", o.Sockets, o.Packets)
			}
			if o.Mode == "accept-overflow" && (o.Handshakes != 4*17 || o.AcceptQueuePeak != 17) {
				t.Errorf("%d handshakes, peak %d: want each of 4 queues full with 17", o.Handshakes, o.AcceptQueuePeak)
			}
		})
	}
}

func TestListenHealthy(t *testing.T) {
	needNetns(t)
	for args, synPeak := range map[string]int{
		"--clients 7": fillWindow, "--listen tcp6 --rate 20000": 20, "--listen dual --burst 500 --backlog 512": 500, "--backlog 1": 1,
	} {
		t.Run(args, func(t *testing.T) {
			o := runListenLab(t, "--mode healthy --packets 3000 "+args)
			if o.Handshakes != 3000 || o.Accepts != 3000 || o.Resets != 0 || *o.SynQueuePeak != synPeak || o.AcceptQueuePeak > o.Backlog {
				t.Errorf("not healthy: %+v, SYN queue peak %d, want %d", o, *o.SynQueuePeak, synPeak)
			}
			if o.listenCounters != (listenCounters{}) {
				t.Errorf("the kernel counted %+v", o.listenCounters)
			}
		})
	}
}

func TestListenSlow(t *testing.T) {
	needNetns(t)
	o := runListenLab(t, "--mode slow --packets 300 --accept-rate 200")
	wait := time.Duration(*o.LongestWaitNS)
	if o.Accepts != 300 || o.listenCounters != (listenCounters{}) || o.AcceptQueuePeak < 150 || wait < time.Second || wait > 5*time.Second {
		t.Errorf("accepts %d, queue peak %d, longest wait %v, %+v; want 300, about 240, 1.2 s and nothing refused",
			o.Accepts, o.AcceptQueuePeak, wait, o.listenCounters)
	}
	o = runListenLab(t, "--mode slow --packets 1000 --accept-rate 100 --backlog 50")
	if o.Packets >= 1000 || o.AcceptQueuePeak > 50 || int(o.Accepts) != o.Packets {
		t.Errorf("%d packets, peak %d, %d accepts: want it to stop when the queue has no room", o.Packets, o.AcceptQueuePeak, o.Accepts)
	}
}

// TestListenRefill lets the requests in the SYN queue expire twice: before the
// flood and in it.
func TestListenRefill(t *testing.T) {
	needNetns(t)
	for _, cookies := range []string{"on", "off"} {
		t.Run(cookies, func(t *testing.T) {
			t.Parallel()
			goAhead := filepath.Join(t.TempDir(), "go")
			time.AfterFunc(7500*time.Millisecond, func() { _ = os.WriteFile(goAhead, nil, 0o600) })
			o := runListenLab(t, "--mode syn-overflow --rate 1000 --packets 9000 --wait-file "+goAhead+" --cookies "+cookies)
			if o.Packets != 9000 || o.SynsSent < 9000+3*128 || o.SynAckRetransmit < 2*128 {
				t.Errorf("%d packets, %d SYNs, %d retransmissions", o.Packets, o.SynsSent, o.SynAckRetransmit)
			}
		})
	}
}

// startListenLab runs the lab until its server listens.
func startListenLab(t *testing.T, args string) (server int, signal func(unix.Signal), end func() result) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	cmd, stdout, stderr := herdlab(append([]string{"listen", "--ready-file", ready}, strings.Fields(args)...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the ready file", func() bool { _, err := os.Stat(ready); return err == nil })
	if text, err := os.ReadFile(ready); err != nil || string(text) != "10.0.0.1:8080\n" {
		t.Errorf("the ready file says %q, %v", text, err)
	}
	kids := childrenOf(cmd.Process.Pid)
	if len(kids) != 1 {
		t.Fatalf("children %v, want one server", kids)
	}
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(kids[0]) + "/comm"); err != nil || string(comm) != "herdlab-listen\n" {
		t.Errorf("the server is called %q, %v", comm, err)
	}
	return kids[0], func(s unix.Signal) { _ = unix.Kill(cmd.Process.Pid, s) }, func() result { return wait(t, cmd, stdout, stderr) }
}

func TestListenInterrupt(t *testing.T) {
	needNetns(t)
	for _, mode := range []string{"accept-overflow --rate 1000", "healthy", "slow"} {
		t.Run(mode, func(t *testing.T) {
			_, signal, end := startListenLab(t, "--packets 5000000 --clients 1000 --mode "+mode)
			time.Sleep(300 * time.Millisecond)
			signal(unix.SIGTERM)
			o := listenOracleOf(t, end())
			if o.Packets == 0 || o.Packets == 5000000 || o.FloodSeconds > 5 {
				t.Errorf("%d packets in %.1f s: want an early stop with an oracle", o.Packets, o.FloodSeconds)
			}
		})
	}
}

func TestListenLinger(t *testing.T) {
	needNetns(t)
	server, signal, end := startListenLab(t, "--mode accept-overflow --packets 10 --linger 1m")
	time.Sleep(300 * time.Millisecond)
	netns, err := os.Readlink("/proc/" + strconv.Itoa(server) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	signal(unix.SIGINT)
	o := listenOracleOf(t, end())
	if o.PID != server || netns != "net:["+strconv.FormatUint(o.NetNS, 10)+"]" {
		t.Errorf("the oracle says pid %d and netns %d, want %d and %s", o.PID, o.NetNS, server, netns)
	}
}

func TestListenKilled(t *testing.T) {
	needNetns(t)
	server, signal, end := startListenLab(t, "--mode accept-overflow --rate 100")
	signal(unix.SIGKILL)
	end()
	goneSoon(t, []int{server})
}

func TestListenWaitFile(t *testing.T) {
	needNetns(t)
	missing := filepath.Join(t.TempDir(), "missing")
	r := runHerdlab(t, "listen", "--mode", "accept-overflow", "--wait-file", missing, "--duration", "300ms")
	if r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, "create it to start the flood") {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}
