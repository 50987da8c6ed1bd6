// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	roleNetRXDoor = "_netrx-door"
	roleNetRXRoom = "_netrx-room"

	roomCtlFD = 3
)

// netrxRoom is the process that owns the namespaces and all that is in them:
// devices, taps, sender and receiver. They end with it, however it ends.
type netrxRoom struct {
	cfg     *netrxConfig
	mode    *netrxMode
	device  string // whose packets are counted
	rpsCPUs string
	traffic netrxTraffic
}

// netrxTraffic is the sender and the receiver of a mode, ready to go.
type netrxTraffic interface {
	// run sends until ctx ends or all is sent.
	run(ctx context.Context) error
	// report fills in what only the traffic itself knows.
	report(o *netrxOracle)
}

// runNetRXDoor makes the namespaces and goes through: it executes herdlab once
// more. unshare(2) is per thread, and this way no thread of the runtime stays
// outside. Parent, descriptors and PR_SET_PDEATHSIG survive the exec
// (begin_new_exec() clears the latter for secureexec only).
func runNetRXDoor(arg string) error {
	var cfg netrxConfig
	if err := decodeConfig(arg, &cfg); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a network and a mount namespace: %w", err)
	}
	if mode := findNetRXMode(cfg.Mode); mode != nil && !mode.tcp {
		// Threads inherit it, so that nothing of ours runs on the loaded CPU.
		var set unix.CPUSet
		set.Set(cfg.SenderCPU)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin the sender to CPU %d: %w", cfg.SenderCPU, err)
		}
	}
	err := unix.Exec("/proc/self/exe", []string{"herdlab", roleNetRXRoom, arg}, os.Environ())
	return fmt.Errorf("execute herdlab in its namespaces: %w", err)
}

// runNetRXRoom furnishes the namespaces, runs the load, sends the oracle, and
// stays until it is told to stop.
func runNetRXRoom(arg string) error {
	var cfg netrxConfig
	if err := decodeConfig(arg, &cfg); err != nil {
		return err
	}
	r := &netrxRoom{cfg: &cfg, mode: findNetRXMode(cfg.Mode)}
	if r.mode == nil {
		return fmt.Errorf("start the netrx room: unknown mode %q", cfg.Mode)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		awaitStop(roomCtlFD)
		stop()
	}()
	if err := r.furnish(); err != nil {
		return err
	}
	oracle, err := r.course(ctx)
	if err != nil {
		return err
	}
	if err := send(oracle); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// furnish makes the devices and the traffic.
func (r *netrxRoom) furnish() error {
	if err := netrxOwnSysfs(); err != nil {
		return err
	}
	if err := netrxNoIPv6(); err != nil {
		return err
	}
	if r.mode.tcp {
		r.device = "lo"
		if err := netrxLinkUp(r.device); err != nil {
			return err
		}
		traffic, err := openTCPTraffic(r.cfg)
		if err != nil {
			return err
		}
		r.traffic = traffic
	} else {
		r.device = netrxReceiveDevice
		cpus := []int{r.cfg.CPU}
		if r.mode.even {
			cpus = nil
		}
		if err := netrxMakeVeth(cpus); err != nil {
			return err
		}
		traffic, err := openUDPTraffic(r.cfg, r.mode)
		if err != nil {
			return err
		}
		r.traffic = traffic
	}
	var err error
	r.rpsCPUs, err = netrxRPSMask(r.device)
	return err
}

// course is wait, look, load, settle, look again.
func (r *netrxRoom) course(ctx context.Context) (*netrxOracle, error) {
	o := &netrxOracle{V: 1, Type: "oracle", Scenario: "netrx", Mode: r.mode.name, Device: r.device, RPSCPUs: r.rpsCPUs}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("identify the network namespace: %w", err)
	}
	o.Netns = ns.Ino
	if r.cfg.MaxBacklog > 0 {
		o.NetdevMaxBacklog = &r.cfg.MaxBacklog
	}
	if err := r.rendezvous(ctx); err != nil {
		return nil, err
	}
	meter, err := newNetRXMeter(r.device)
	if err != nil {
		return nil, err
	}
	before, err := meter.look()
	if err != nil {
		return nil, err
	}
	end, done := context.WithTimeout(ctx, r.cfg.Duration)
	defer done()
	if err := r.traffic.run(end); err != nil {
		return nil, err
	}
	after, err := meter.settle()
	if err != nil {
		return nil, err
	}
	meter.fill(o, before, after)
	r.traffic.report(o)
	return o, nil
}

// rendezvous tells others that all is ready and waits for their go.
func (r *netrxRoom) rendezvous(ctx context.Context) error {
	fmt.Fprintf(os.Stderr, "herdlab: %s: %s is ready in the network namespace of pid %d\n", r.mode.name, r.device, os.Getpid())
	if f := r.cfg.ReadyFile; f != "" {
		if err := writeWhole(f, r.device+"\n"); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	if r.cfg.WaitFile == "" {
		return nil
	}
	for end := time.Now().Add(netrxWaitLimit); ctx.Err() == nil; pause(ctx, pollEvery) {
		if _, err := os.Stat(r.cfg.WaitFile); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for %s: it did not appear within %v (create it to start the load)", r.cfg.WaitFile, netrxWaitLimit)
		}
	}
	return nil
}
