// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"os"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// pollSched makes Sample.Sched, Sample.CGroups and the Runq of Sample.CPUs where
// there is no BPF.
type pollSched struct {
	schedBase
	scan  *threadScan
	cores map[int]coreStat        // of each, at attach; nil: there is no /proc/schedstat
	times map[int]sample.CPUTimes // likewise
}

// newPollSched returns nil where the runq signal is not measured. What it counts
// begins now.
func newPollSched(k *kernel, o *Options) (*pollSched, error) {
	if k.chosen[SignalRunq] == nil {
		return nil, nil
	}
	r := &pollSched{schedBase: newSchedBase(k, o), times: make(map[int]sample.CPUTimes)}
	groups := &groupFinder{}
	if r.groups.files != nil {
		groups.tree = r.groups.files.tree
	}
	var err error
	if r.scan, err = newThreadScan(groups); err != nil {
		r.Close()
		return nil, err
	}
	_, cpus := readHost()
	r.noteBorn(cpus)
	for i := range cpus {
		if t := cpus[i].Times; t != nil {
			r.times[cpus[i].CPU] = *t
		}
	}
	r.cores = readCoreStats()
	if err := r.scan.scan(true); err != nil {
		r.Close()
		return nil, err
	}
	r.seed(r.scan.active)
	r.allAt = time.Now()
	return r, nil
}

// Close closes files.
func (r *pollSched) Close() {
	if r == nil {
		return
	}
	if r.scan != nil {
		r.scan.Close()
	}
	r.schedBase.Close()
}

// fill completes s. What cannot be read is absent from it, and counted.
func (r *pollSched) fill(s *sample.Sample) {
	if r == nil {
		return
	}
	r.online = numbersOf(s.CPUs)
	all := s.Final || time.Since(r.allAt) >= allThreadsEvery
	r.count(r.scan.scan(all))
	if all {
		r.allAt = time.Now()
		clear(r.table.evicted)
	}
	for _, task := range r.scan.gone { // first: a number may be another's by now
		if st := r.table.threads[task]; st != nil {
			r.table.remove(st)
		}
	}
	r.table.take(r.scan.active)
	clear(r.table.gone)
	r.threadsTotal = r.scan.total
	r.fillCores(s)
	s.Sched = r.sample(s.Final)
	s.CGroups = r.groups.samples(true, s.Final)
	r.groups.dropped = nil
	r.procs.nextTick()
	r.table.nextTick()
}

func readCoreStats() map[int]coreStat {
	b, err := os.ReadFile("/proc/schedstat")
	if err != nil {
		return nil // it takes CONFIG_SCHEDSTATS
	}
	return parseSchedstatFile(b)
}

// fillCores adds what /proc/schedstat knows of the run queues. Whether a core is
// busy is not in it: a thread's time is added when it leaves.
func (r *pollSched) fillCores(s *sample.Sample) {
	if r.cores == nil {
		return
	}
	now := readCoreStats()
	for i := range s.CPUs {
		c := &s.CPUs[i]
		core, ok := now[c.CPU]
		base, known := r.cores[c.CPU]
		if !ok || c.Times == nil {
			continue
		}
		if !known { // it came online since
			r.cores[c.CPU], r.times[c.CPU], r.steal[c.CPU] = core, *c.Times, c.Times.StealNS
			base = core
		}
		steal := less(c.Times.StealNS, r.steal[c.CPU])
		c.Runq = &sample.Runq{
			BusyNS: less(c.Times.BusyNS, r.times[c.CPU].BusyNS), IdleNS: less(c.Times.IdleNS, r.times[c.CPU].IdleNS),
			Switches: less(core.switches, base.switches), WaitNS: less(core.waitNS, base.waitNS), Waits: less(core.waits, base.waits),
			StealNS: &steal, Partial: true,
		}
	}
}

// prepareSchedstat needs a kernel that keeps these times: all zeros is one that
// does not (CONFIG_SCHED_INFO).
func prepareSchedstat(*kernel) error {
	b, err := os.ReadFile("/proc/self/schedstat")
	if err != nil {
		return err
	}
	if t, ok := parseThreadTimes(b); !ok || t == (threadTimes{}) {
		return errors.New("/proc/self/schedstat has no times: this kernel was built without them (CONFIG_SCHED_INFO)")
	}
	return nil
}
