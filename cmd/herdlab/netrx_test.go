// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNetRXUsage(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		code       int
		want       string // in stdout when the code is 0, else in stderr
	}{
		{"help", "-h", exitOK, "backlog-healthy"},
		{"no mode", "", exitUsage, "use one of: backlog, backlog-healthy, imbalance"},
		{"unknown mode", "--mode backlogs", exitUsage, `--mode "backlogs" is not a mode`},
		{"rate of TCP", "--mode loopback --rate 5", exitUsage, "--rate does not apply to --mode loopback"},
		{"cpu of all", "--mode balanced --cpu 1", exitUsage, "--cpu does not apply to --mode balanced"},
		{"NaN rate", "--mode backlog --rate NaN", exitUsage, "--rate NaN"},
		{"slow rate", "--mode backlog --rate 0.5", exitUsage, "use 0 (as fast as it goes) or 1"},
		{"packets", "--mode backlog --packets -1", exitUsage, "--packets -1"},
		{"duration", "--mode backlog --duration 0s", exitUsage, "use a positive time"},
		{"cost", "--mode imbalance --cost 257", exitUsage, "use 0 to 256"},
		{"flows", "--mode balanced --flows 0", exitUsage, "use 1 to 4096"},
		{"negative cpu", "--mode backlog --cpu -2", exitUsage, "--cpu -2"},
		{"linger", "--mode backlog --linger -1s", exitUsage, "--linger -1s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := runHerdlab(t, append([]string{"netrx"}, strings.Fields(tc.args)...)...)
			data, silent := r.stdout, r.stderr
			if tc.code != exitOK {
				data, silent = r.stderr, r.stdout
			}
			if r.code != tc.code || !strings.Contains(data, tc.want) || silent != "" {
				t.Errorf("exit code %d, got %q and %q; want %d, %q and nothing", r.code, data, silent, tc.code, tc.want)
			}
		})
	}
}

// needNamespaces is need for root and two CPUs.
func needNamespaces(t *testing.T) {
	t.Helper()
	missing := ""
	if err := netrxPrivileged(); err != nil {
		missing = err.Error()
	} else if runtime.NumCPU() < 2 {
		missing = "this test needs 2 CPUs"
	}
	need(t, missing)
}

// netrxOracleOf demands a successful run with exactly one line on stdout, whose
// sums hold.
func netrxOracleOf(t *testing.T, r result) (o netrxOracle) {
	t.Helper()
	decodeOracle(t, r, &o)
	if o.PacketsReceived == 0 || o.PacketsDelivered != nil && *o.PacketsDelivered != o.PacketsReceived {
		t.Errorf("the device received %d packets, the socket other ones: %s", o.PacketsReceived, r.stdout)
	}
	// Others may be dropped meanwhile: at least ours must be in it.
	var dropped, processed int64
	for _, cpu := range o.Softnet {
		dropped += cpu.DroppedDelta
		processed += cpu.ProcessedDelta
	}
	if lost := o.PacketsSent - o.PacketsReceived; dropped < lost || processed < o.PacketsReceived {
		t.Errorf("softnet dropped %d and processed %d, but %d of %d were lost", dropped, processed, lost, o.PacketsSent)
	}
	if _, err := os.Stat("/sys/class/net/" + netrxReceiveDevice); err == nil {
		t.Errorf("%s is in this network namespace", netrxReceiveDevice)
	}
	return o
}

func TestNetRXModes(t *testing.T) {
	needNamespaces(t)
	of := func(o netrxOracle, cpu int) (row softnetDelta) {
		for _, row := range o.Softnet {
			if row.CPU == cpu {
				return row
			}
		}
		t.Fatalf("no softnet counters of CPU %d", cpu)
		return row
	}
	for _, m := range netrxModes {
		t.Run(m.name, func(t *testing.T) {
			o := netrxOracleOf(t, runHerdlab(t, "netrx", "--mode", m.name, "--duration", "1s"))
			lost := o.PacketsSent - o.PacketsReceived
			switch {
			case m.name == "backlog":
				if lost <= 0 || of(o, *o.CPU).DroppedDelta < lost {
					t.Errorf("%d packets lost, CPU %d dropped %d: want drops, and there", lost, *o.CPU, of(o, *o.CPU).DroppedDelta)
				}
			case lost != 0:
				t.Errorf("%d of %d packets lost, want none", lost, o.PacketsSent)
			}
			switch {
			case o.CPU != nil:
				if n := of(o, *o.CPU).ProcessedDelta; n < o.PacketsReceived || o.RPSCPUs != netrxCPUMask([]int{*o.CPU}) {
					t.Errorf("CPU %d processed %d of %d packets, mask %s: want all", *o.CPU, n, o.PacketsReceived, o.RPSCPUs)
				}
			case m.even:
				for _, cpu := range o.Softnet {
					if fair := o.PacketsReceived / int64(len(o.Softnet)); cpu.ProcessedDelta < fair/2 {
						t.Errorf("CPU %d processed %d of %d packets: want a fair share", cpu.CPU, cpu.ProcessedDelta, o.PacketsReceived)
					}
				}
			}
		})
	}
}

func TestNetRXPackets(t *testing.T) {
	needNamespaces(t)
	o := netrxOracleOf(t, runHerdlab(t, "netrx", "--mode", "backlog-healthy", "--packets", "123", "--cpu", "0", "--cost", "0"))
	if o.PacketsSent != 123 || o.PacketsReceived != 123 || *o.CPU != 0 || *o.SenderCPU == 0 {
		t.Errorf("sent %d, received %d, CPU %d, sender's %d", o.PacketsSent, o.PacketsReceived, *o.CPU, *o.SenderCPU)
	}
}

// startedNetRX runs herdlab until its room waits for the load to begin.
func startedNetRX(t *testing.T, args ...string) (room []int, goAhead string, signal func(unix.Signal), end func() result) {
	t.Helper()
	dir := t.TempDir()
	ready, goAhead := filepath.Join(dir, "ready"), filepath.Join(dir, "go")
	cmd, stdout, stderr := herdlab(append(args, "--ready-file", ready, "--wait-file", goAhead)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the ready file", func() bool { _, err := os.Stat(ready); return err == nil })
	room = childrenOf(cmd.Process.Pid)
	return room, goAhead, func(s unix.Signal) { _ = unix.Kill(cmd.Process.Pid, s) }, func() result { return wait(t, cmd, stdout, stderr) }
}

func TestNetRXInterrupted(t *testing.T) {
	needNamespaces(t)
	room, goAhead, signal, end := startedNetRX(t, "netrx", "--mode", "balanced", "--duration", "1m", "--linger", "1m")
	if err := os.WriteFile(goAhead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	signal(unix.SIGINT)
	if o := netrxOracleOf(t, end()); o.Seconds > 10 {
		t.Errorf("the load ran for %.1f s: want an early stop with an oracle", o.Seconds)
	}
	goneSoon(t, room)
}

func TestNetRXParentKilled(t *testing.T) {
	needNamespaces(t)
	room, _, signal, end := startedNetRX(t, "netrx", "--mode", "backlog", "--duration", "1m")
	if len(room) != 1 {
		t.Fatalf("children %v, want the room", room)
	}
	signal(unix.SIGKILL)
	end()
	goneSoon(t, room)
}

func TestParseSoftnet(t *testing.T) {
	const line = "0000000a 00000002 00000003 0 0 0 0 0 0 ffffffff 00000000 00000007 00000004 00000000 00000007\n"
	rows, err := parseSoftnet(line)
	want := softnetRow{cpu: 4, processed: 10, dropped: 2, squeezed: 3, receivedRPS: 0xffffffff, backlog: 7}
	if err != nil || len(rows) != 1 || rows[0] != want {
		t.Errorf("got %+v, %v; want %+v", rows, err, want)
	}
	for _, bad := range []string{"0000000a 00000002\n", strings.Replace(line, "a", "x", 1)} {
		if _, err := parseSoftnet(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestParseSoftirqs(t *testing.T) {
	const text = "                    CPU0       CPU3       \n      NET_TX:          1          2\n      NET_RX:          30          40\n"
	if n, err := parseSoftirqs(text, "NET_RX"); err != nil || len(n) != 2 || n[0] != 30 || n[3] != 40 {
		t.Errorf("got %v, %v; want 30 and 40", n, err)
	}
	if _, err := parseSoftirqs(text, "BLOCK"); err == nil {
		t.Error("no error for a line that is not there")
	}
}

func TestParseCPUTicks(t *testing.T) {
	const text = "cpu  1 2 3 4 5 6 7 8 0 0\ncpu1 10 20 30 40 50 60 70 80 0 0\nintr 1 2\n"
	if n, err := parseCPUTicks(text); err != nil || len(n) != 1 || n[1] != (cpuTicks{idle: 40, softirq: 70}) {
		t.Errorf("got %+v, %v", n, err)
	}
}

func TestNetRXCPUMask(t *testing.T) {
	for want, cpus := range map[string][]int{"0": nil, "3": {0, 1}, "80000000": {31}, "1,00000002": {1, 32}} {
		if got := netrxCPUMask(cpus); got != want {
			t.Errorf("the mask of %v is %s, want %s", cpus, got, want)
		}
	}
}

func TestUDPFrame(t *testing.T) {
	f := udpFrame(make([]byte, 6), make([]byte, 6), 20001)
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	if sum = sum>>16 + sum&0xffff; len(f) != 60 || sum != 0xffff {
		t.Errorf("%d bytes, header sum %#x; want 60 and 0xffff", len(f), sum)
	}
}
