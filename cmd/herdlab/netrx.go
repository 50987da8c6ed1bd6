// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// netrxOracle is the line on stdout. The counters of softnet and of the CPUs
// are global: they contain what the machine received besides. An array "per
// CPU" has the CPU's number as its index. A nil is what does not exist in this
// mode or cannot be known here, never a zero.
type netrxOracle struct {
	V                        int            `json:"v"`
	Type                     string         `json:"type"`
	Scenario                 string         `json:"scenario"`
	Mode                     string         `json:"mode"`
	Device                   string         `json:"device"`
	Netns                    uint64         `json:"netns"`
	PacketsSent              int64          `json:"packets_sent"`
	PacketsReceived          int64          `json:"packets_received"`  // by the device: the backlog took them
	PacketsDelivered         *int64         `json:"packets_delivered"` // read from the socket
	PacketCostSeconds        *float64       `json:"packet_cost_seconds"`
	CPU                      *int           `json:"cpu"`
	SenderCPU                *int           `json:"sender_cpu"`
	RPSCPUs                  string         `json:"rps_cpus"`
	NetdevMaxBacklog         *int64         `json:"netdev_max_backlog"`
	Softnet                  []softnetDelta `json:"softnet"`
	NetRXSoftirqsDelta       []int64        `json:"net_rx_softirqs_delta"`
	SoftirqSecondsDelta      []float64      `json:"softirq_seconds_delta"`
	IdleSecondsDelta         []float64      `json:"idle_seconds_delta"`
	KsoftirqdRunSecondsDelta []float64      `json:"ksoftirqd_run_seconds_delta"`
	Seconds                  float64        `json:"seconds"` // between the two looks at the counters
}

// softnetDelta is one CPU's row of /proc/net/softnet_stat.
type softnetDelta struct {
	CPU                int   `json:"cpu"`
	ProcessedDelta     int64 `json:"processed_delta"`
	DroppedDelta       int64 `json:"dropped_delta"`
	TimesSqueezedDelta int64 `json:"times_squeezed_delta"`
	ReceivedRPSDelta   int64 `json:"received_rps_delta"`
}

const (
	netrxWaitLimit   = time.Minute     // for --wait-file to appear
	netrxSettleLimit = 3 * time.Second // for the packets in flight
)

// netrxEnv of the room: the sender spins, so the receiver needs a P of its own
// even where the affinity of the room is one CPU; no collector (the steady
// state allocates nothing).
var netrxEnv = []string{"GOMAXPROCS=4", "GOGC=off"}

// runNetRX is the scenario `herdlab netrx`.
func runNetRX(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseNetRX(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return report(stderr, err)
	}
	return report(stderr, netrx(cfg, stdout, stderr))
}

// netrx has the room do the work, prints its oracle, and keeps it for a while.
func netrx(cfg *netrxConfig, stdout, talk io.Writer) error {
	var err error
	if cfg.CPU, cfg.SenderCPU, err = netrxCPUs(cfg.CPU); err != nil {
		return err
	}
	if err := netrxPrivileged(); err != nil {
		return err
	}
	// Only the initial network namespace shows it (net_core_table): elsewhere
	// it stays unknown.
	if cfg.MaxBacklog, err = netrxNumber("/proc/sys/net/core/netdev_max_backlog"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	room, err := startChild(roleNetRXDoor, cfg, netrxEnv)
	if err != nil {
		return err
	}
	defer room.reap(stopLimit)
	ctx, done := interruptible(talk, room.stop, nil)
	defer done()
	var oracle netrxOracle
	if err := room.receive(&oracle, startLimit+netrxWaitLimit+cfg.Duration+netrxSettleLimit+stopLimit); err != nil {
		return fmt.Errorf("run the load: %w", err)
	}
	if err := json.NewEncoder(stdout).Encode(&oracle); err != nil {
		return fmt.Errorf("write the oracle: %w", err)
	}
	pause(ctx, cfg.Linger)
	return nil
}

// netrxPrivileged says in one sentence what is missing. It asks for
// capabilities: root in a container may lack them, too.
func netrxPrivileged() error {
	var caps [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	missing := ""
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		if caps[0].Effective&(1<<c.bit) == 0 {
			missing += ", " + c.name
		}
	}
	if missing != "" {
		return fmt.Errorf("make a network namespace: this process lacks %s: run it as root (sudo herdlab netrx ...)", missing[2:])
	}
	return nil
}

// netrxCPUs picks the CPU to load (-1: the last one) and the sender's, the
// first other one, among those that this process may use.
func netrxCPUs(want int) (loaded, sender int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("read the CPUs of this process: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < 2 {
		return 0, 0, errors.New("choose the CPUs: netrx needs 2, one that sends and one that receives; this process may use only one (see taskset, cpuset)")
	}
	if want == -1 {
		want = cpus[len(cpus)-1]
	}
	if !set.IsSet(want) {
		return 0, 0, usagef("--cpu %d: use one of the CPUs of this process: %v", want, cpus)
	}
	sender = cpus[0]
	if sender == want {
		sender = cpus[1]
	}
	return want, sender, nil
}
