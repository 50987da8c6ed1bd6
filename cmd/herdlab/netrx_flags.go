// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
)

// netrxMode is one way for packets to get from a device to a socket, with the
// load that shows it on this side of saturation or the other.
type netrxMode struct {
	name  string
	brief string
	tcp   bool // over lo instead of the veth pair
	even  bool // the RPS mask has all CPUs instead of --cpu alone
	rate  float64
	cost  int
	flows int
}

// The rates go with tapCost: imbalance asks for about 90 % of the loaded core,
// balanced for half as much from all of them together, backlog-healthy for 6 %.
var netrxModes = []netrxMode{
	{name: "backlog", rate: 0, cost: 5, flows: 256,
		brief: "sends more than the loaded CPU can take: its input backlog overflows, packets are dropped"},
	{name: "backlog-healthy", rate: 5000, cost: 5, flows: 256,
		brief: "the same packets at a rate that never fills the backlog: no drops"},
	{name: "imbalance", rate: 22000, cost: 20, flows: 256,
		brief: "an RPS mask puts NET_RX of all flows on one CPU, which has no time left; the others idle"},
	{name: "balanced", rate: 10000, cost: 20, flows: 256, even: true,
		brief: "the same packets with an RPS mask of all CPUs: no core is a bottleneck"},
	{name: "loopback", flows: 1, tcp: true,
		brief: "TCP over lo at full speed: NET_RX runs where the sender runs, as it should"},
}

// netrxConfig is what the flags of `herdlab netrx` ask for, validated. It
// travels to the room in its argument.
type netrxConfig struct {
	Mode       string        `json:"mode"`
	Packets    int64         `json:"packets"` // 0: by Duration alone
	Duration   time.Duration `json:"duration"`
	Rate       float64       `json:"rate"` // packets per second, 0: as fast as it goes
	Cost       int           `json:"cost"`
	CPU        int           `json:"cpu"` // the loaded one; -1: the last one
	SenderCPU  int           `json:"sender_cpu"`
	MaxBacklog int64         `json:"max_backlog"` // net.core.netdev_max_backlog; 0: not known
	Flows      int           `json:"flows"`
	Linger     time.Duration `json:"-"`
	ReadyFile  string        `json:"ready_file"`
	WaitFile   string        `json:"wait_file"`
}

// parseNetRX returns the configuration, or pflag.ErrHelp after printing the
// help to helpOut, or a usageError.
func parseNetRX(args []string, helpOut io.Writer) (*netrxConfig, error) {
	var c netrxConfig
	fs := pflag.NewFlagSet("netrx", pflag.ContinueOnError)
	fs.StringVar(&c.Mode, "mode", "", "what goes wrong, or right (required; see below)")
	fs.Int64Var(&c.Packets, "packets", 0, "stop after so many packets; 0: stop by --duration alone")
	fs.DurationVar(&c.Duration, "duration", 5*time.Second, "stop after this time, if it comes first")
	fs.Float64Var(&c.Rate, "rate", 0, fmt.Sprintf("packets per second, in a burst every %v; 0: as fast as it goes (default: by the mode)", udpBurstEvery))
	fs.IntVar(&c.Cost, "cost", 0, fmt.Sprintf("AF_PACKET sockets on the device; each costs %v of CPU time per packet (default: by the mode)", tapCost))
	fs.IntVar(&c.CPU, "cpu", -1, "the CPU to load; -1: the last one")
	fs.IntVar(&c.Flows, "flows", 0, "UDP source ports to send from; loopback: connections (default: by the mode)")
	fs.DurationVar(&c.Linger, "linger", 0, "keep the network namespace this long after the load and its oracle")
	fs.StringVar(&c.ReadyFile, "ready-file", "", "write the name of the device here when all is ready to send")
	fs.StringVar(&c.WaitFile, "wait-file", "", fmt.Sprintf("start the load when this file exists; fail after %v", netrxWaitLimit))
	if err := parseFlags(fs, args); errors.Is(err, pflag.ErrHelp) {
		printNetRXHelp(helpOut, fs)
		return nil, err
	} else if err != nil {
		return nil, err
	}
	m := findNetRXMode(c.Mode)
	if m == nil {
		return nil, usagef("--mode %q is not a mode: use one of: %s", c.Mode, netrxModeNames())
	}
	for flag, applies := range map[string]bool{"packets": !m.tcp, "rate": !m.tcp, "cost": !m.tcp, "cpu": !m.tcp && !m.even} {
		if fs.Changed(flag) && !applies {
			return nil, usagef("--%s does not apply to --mode %s: leave it out", flag, m.name)
		}
	}
	if !fs.Changed("rate") {
		c.Rate = m.rate
	}
	if !fs.Changed("cost") {
		c.Cost = m.cost
	}
	if !fs.Changed("flows") {
		c.Flows = m.flows
	}
	return &c, c.validate(fs)
}

// validate checks the ranges: everything herdlab does is bounded.
func (c *netrxConfig) validate(fs *pflag.FlagSet) error {
	for _, check := range []struct {
		bad bool
		msg string
	}{
		{c.Packets < 0, fmt.Sprintf("--packets %d: use 0 (no bound) or more", c.Packets)},
		{c.Duration <= 0, fmt.Sprintf("--duration %v: use a positive time such as 5s", c.Duration)},
		{!(c.Rate == 0 || c.Rate >= 1 && c.Rate <= 1e7), fmt.Sprintf("--rate %v: use 0 (as fast as it goes) or 1 to 10000000 per second", c.Rate)},
		{c.Cost < 0 || c.Cost > 256, fmt.Sprintf("--cost %d: use 0 to 256", c.Cost)},
		{fs.Changed("cpu") && c.CPU < -1, fmt.Sprintf("--cpu %d: use the number of a CPU, or -1 for the last one", c.CPU)},
		{c.Flows < 1 || c.Flows > 4096, fmt.Sprintf("--flows %d: use 1 to 4096", c.Flows)},
		{c.Linger < 0, fmt.Sprintf("--linger %v: use 0 or more", c.Linger)},
	} {
		if check.bad {
			return usagef("%s", check.msg)
		}
	}
	return nil
}

func findNetRXMode(name string) *netrxMode {
	for i := range netrxModes {
		if netrxModes[i].name == name {
			return &netrxModes[i]
		}
	}
	return nil
}

func netrxModeNames() string {
	names := ""
	for i, m := range netrxModes {
		if i > 0 {
			names += ", "
		}
		names += m.name
	}
	return names
}

func printNetRXHelp(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprint(w, "herdlab netrx makes what can go wrong between a network device and a socket, in a network\n"+
		"namespace of its own (it needs root), and prints what a tracer must see.\n\n"+
		"usage: herdlab netrx --mode MODE [flags]\n\n", fs.FlagUsages(), "\nmodes:\n")
	for _, m := range netrxModes {
		fmt.Fprintf(w, "  %-16s %s\n", m.name, m.brief)
		if !m.tcp {
			fmt.Fprintf(w, "  %-16s (--rate %v --cost %d --flows %d)\n", "", m.rate, m.cost, m.flows)
		}
	}
	fmt.Fprint(w, "\nexamples:\n"+
		"  herdlab netrx --mode backlog --packets 200000       drops at the input backlog of the last CPU\n"+
		"  herdlab netrx --mode imbalance --cpu 0 --rate 15000 one core works, the others watch\n")
}
