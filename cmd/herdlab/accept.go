// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// acceptOracle is the line on stdout. A nil count is one that cannot be known
// in this mode, never a zero.
type acceptOracle struct {
	V                         int            `json:"v"`
	Type                      string         `json:"type"`
	Scenario                  string         `json:"scenario"`
	Mode                      string         `json:"mode"`
	Listen                    string         `json:"listen"`
	Addr                      string         `json:"addr"`
	Port                      int            `json:"port"`
	Workers                   int            `json:"workers"`
	Connections               int64          `json:"connections"`
	Served                    int64          `json:"served"`
	Timeouts                  int64          `json:"timeouts"`
	Failed                    int64          `json:"failed"`
	AcceptsTotal              int64          `json:"accepts_total"`
	AcceptEagainTotal         *int64         `json:"accept_eagain_total"`
	DrainEagainTotal          *int64         `json:"drain_eagain_total"`
	FinalAcceptsTotal         *int64         `json:"final_accepts_total"`
	FinalEagainTotal          *int64         `json:"final_eagain_total"`
	WakeupsPerAcceptExpected  *float64       `json:"wakeups_per_accept_expected"`
	Unsettled                 int64          `json:"unsettled"`
	PassiveOpensDelta         *int64         `json:"passive_opens_delta"`
	AcceptQueueLenMax         *int           `json:"accept_queue_len_max"`
	AcceptStallLongestSeconds *float64       `json:"accept_stall_longest_seconds"`
	Seconds                   float64        `json:"seconds"`
	PerWorker                 []workerReport `json:"per_worker"`
}

const (
	startLimit = 10 * time.Second // for all workers to start and to wait
	stopLimit  = 10 * time.Second // for one child to report and end once told to stop
	pollEvery  = 20 * time.Millisecond
)

// acceptLab is one run: what it opened and started, to be undone by close.
type acceptLab struct {
	cfg     *acceptConfig
	talk    io.Writer
	server  *listening
	workers []*child
	client  *child
	asleep  sleepers
}

// runAccept is the scenario `herdlab accept`.
func runAccept(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseAccept(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return report(stderr, err)
	}
	lab := &acceptLab{cfg: cfg, talk: stderr}
	ctx, done := interruptible(stderr, nil, func() {
		if lab.server != nil {
			lab.server.close()
		}
	})
	defer done()
	err = lab.run(ctx, json.NewEncoder(stdout))
	lab.close()
	if err != nil {
		return report(stderr, err)
	}
	return exitOK
}

// run listens and runs one course, or two; each prints its oracle.
func (l *acceptLab) run(ctx context.Context, out *json.Encoder) error {
	var err error
	if l.server, err = openListening(l.cfg); err != nil {
		return err
	}
	for {
		oracle, err := l.course(ctx)
		if err != nil {
			return err
		}
		if err := out.Encode(oracle); err != nil {
			return fmt.Errorf("write the oracle: %w", err)
		}
		if l.cfg.then == nil || ctx.Err() != nil {
			return nil
		}
		l.cfg.mode, l.cfg.then = l.cfg.then, nil
		for _, w := range l.workers {
			w.reap(time.Second)
		}
		l.workers, l.asleep = nil, sleepers{}
	}
}

// course is start, load, stop, add up.
func (l *acceptLab) course(ctx context.Context) (*acceptOracle, error) {
	if err := l.startWorkers(); err != nil {
		return nil, err
	}
	opensBefore, err := passiveOpens()
	if err != nil {
		return nil, err
	}
	if err := l.rendezvous(ctx); err != nil {
		return nil, err
	}
	watch := watchStall(l.server, l.asleep)
	load, err := l.load(ctx)
	if err == nil {
		pause(ctx, l.cfg.linger)
	}
	queueMax, stall := watch.result()
	if err != nil {
		return nil, err
	}
	workers, err := l.stopWorkers()
	if err != nil {
		return nil, err
	}
	opensAfter, err := passiveOpens()
	if err != nil {
		return nil, err
	}
	o := l.newOracle(load, workers)
	o.AcceptQueueLenMax, o.AcceptStallLongestSeconds = queueMax, stall
	if l.cfg.kind.bind != "" {
		delta := opensAfter - opensBefore
		o.PassiveOpensDelta = &delta
	}
	return o, l.judge(o, load)
}

// startWorkers starts all workers and waits until each of them waits.
func (l *acceptLab) startWorkers() error {
	cfg := workerConfig{Mode: l.cfg.mode.name, Comm: l.cfg.comm, Work: l.cfg.work}
	env := rawWorkerEnv
	if l.cfg.mode.serve != nil {
		env = nil
	}
	l.asleep.allThreads = l.cfg.mode.serve != nil
	for i := range l.cfg.workers {
		w, err := startChild(roleAcceptWorker, cfg, env, l.server.files[i%len(l.server.files)])
		if err != nil {
			return err
		}
		l.workers = append(l.workers, w)
		l.asleep.pids = append(l.asleep.pids, w.pid())
	}
	for _, w := range l.workers {
		if err := w.receive(&workerReady{}, startLimit); err != nil {
			return fmt.Errorf("start the workers: %w", err)
		}
	}
	if !l.asleep.await(startLimit) {
		return fmt.Errorf("start the workers: not all sleep after %v (is the machine overloaded?)", startLimit)
	}
	return nil
}

// rendezvous tells others that the server is ready and waits for their go.
func (l *acceptLab) rendezvous(ctx context.Context) error {
	fmt.Fprintf(l.talk, "herdlab: %s: %d workers wait on %s\n", l.cfg.mode.name, l.cfg.workers, l.server.dialAddress())
	if f := l.cfg.readyFile; f != "" {
		if err := writeWhole(f, l.server.dialAddress()+"\n"); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	if l.cfg.waitFile == "" {
		return nil
	}
	for end := time.Now().Add(l.cfg.duration); ctx.Err() == nil; pause(ctx, pollEvery) {
		if _, err := os.Stat(l.cfg.waitFile); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for %s: it did not appear within %v (create it to start the load, or raise --duration)",
				l.cfg.waitFile, l.cfg.duration)
		}
	}
	return nil
}

// writeWhole makes the file appear with all of its content.
func writeWhole(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".herdlab-")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return os.Rename(tmp.Name(), path)
}

// pause sleeps for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// load runs the client process to its end. The end of ctx stops it early; it
// still reports what it did.
func (l *acceptLab) load(ctx context.Context) (clientReport, error) {
	var rep clientReport
	if ctx.Err() != nil {
		return rep, nil
	}
	c := l.cfg
	cfg := clientConfig{
		Dial: l.cfg.kind.dial, Port: l.server.port, Rate: c.rate, Conns: c.conns, Clients: c.clients, Burst: c.burst,
		Duration: c.duration, Timeout: c.timeout, Settle: c.settle, Workers: l.asleep.pids, AllThreads: l.asleep.allThreads,
	}
	if cfg.Dial == "" {
		cfg.Dial = l.server.addr
	}
	if c.mode.serve != nil {
		cfg.Request = goNetRequest
	}
	client, err := startChild(roleAcceptClient, cfg, []string{"GODEBUG=asyncpreemptoff=1"})
	if err != nil {
		return rep, err
	}
	l.client = client
	defer context.AfterFunc(ctx, client.stop)()
	// The last slot may begin right before the end.
	limit := c.duration + settleLimit + c.timeout + stopLimit
	if err := client.receive(&rep, limit); err != nil {
		return rep, fmt.Errorf("run the load: %w", err)
	}
	client.reap(stopLimit)
	return rep, nil
}

// stopWorkers tells all workers to stop, then collects what they counted. It
// waits until they sleep first: in mode block the stop resets what is queued
// (inet_csk_listen_stop()), and asleep means that nothing is.
func (l *acceptLab) stopWorkers() ([]workerReport, error) {
	if !l.asleep.await(stopLimit) {
		fmt.Fprintln(l.talk, "herdlab: the workers are still busy after the load; stopping them anyway")
	}
	for _, w := range l.workers {
		w.stop()
	}
	reports := make([]workerReport, len(l.workers))
	for i, w := range l.workers {
		if err := w.receive(&reports[i], stopLimit); err != nil {
			return nil, fmt.Errorf("stop the workers: %w", err)
		}
	}
	return reports, nil
}

// newOracle adds up what client and workers counted.
func (l *acceptLab) newOracle(load clientReport, workers []workerReport) *acceptOracle {
	o := &acceptOracle{
		V: 1, Type: "oracle", Scenario: "accept",
		Mode: l.cfg.mode.name, Listen: l.cfg.kind.name, Addr: l.server.addr, Port: l.server.port, Workers: len(workers),
		Connections: load.Connections, Served: load.Served, Timeouts: load.Timeouts, Failed: load.Failed,
		WakeupsPerAcceptExpected: l.cfg.expectedWakeups(), Unsettled: load.Unsettled,
		Seconds: load.Seconds, PerWorker: workers,
	}
	for _, w := range workers {
		o.AcceptsTotal += w.AcceptsTotal
	}
	sum := func(part func(workerReport) *int64) *int64 {
		total := int64(0)
		for _, w := range workers {
			p := part(w)
			if p == nil {
				return nil
			}
			total += *p
		}
		return &total
	}
	o.AcceptEagainTotal = sum(func(w workerReport) *int64 { return w.AcceptEagainTotal })
	o.DrainEagainTotal = sum(func(w workerReport) *int64 { return w.DrainEagainTotal })
	o.FinalAcceptsTotal = sum(func(w workerReport) *int64 { return w.FinalAcceptsTotal })
	o.FinalEagainTotal = sum(func(w workerReport) *int64 { return w.FinalEagainTotal })
	return o
}

// judge says whether the load ran as asked. Timeouts are what some modes are
// for, and refused connections what a small backlog is for; no connection at
// all is a failure.
func (l *acceptLab) judge(o *acceptOracle, load clientReport) error {
	if load.Connections == 0 && load.Failed > 0 {
		return fmt.Errorf("run the load: all %d connections failed, the first one: %s", load.Failed, load.FirstError)
	}
	if load.Failed > 0 {
		fmt.Fprintf(l.talk, "herdlab: %d connections failed, the first one: %s\n", load.Failed, load.FirstError)
	}
	if o.AcceptsTotal != o.Connections {
		fmt.Fprintf(l.talk, "herdlab: %d connections but %d accepts (connections that completed after their client gave up, or a foreign client)\n",
			o.Connections, o.AcceptsTotal)
	}
	return nil
}

// close ends whatever still runs; it kills only what this run started.
func (l *acceptLab) close() {
	if l.client != nil {
		l.client.reap(l.cfg.timeout + time.Second)
	}
	for _, w := range l.workers {
		w.stop()
	}
	for _, w := range l.workers {
		w.reap(time.Second)
	}
	if l.server != nil {
		l.server.close()
	}
}
