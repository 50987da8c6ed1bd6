// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf/btf"
)

// prepareRunq tells the programs how many cores there are and what is long. A
// core that comes online later is among the possible ones.
func prepareRunq(k *kernel) error {
	_, cpus := readHost()
	if err := k.setOnline(numbersOf(cpus)); err != nil {
		return err
	}
	for name, v := range map[string]any{
		"cores_possible": uint32(ebpfCPUs()),
		"long_wait_ns":   uint64(longWait),
		"look_gap_ns":    uint64(max(lookGap, time.Duration(ebpfCPUs())*16*time.Microsecond)),
	} {
		if err := k.setVariable(name, v); err != nil {
			return err
		}
	}
	return nil
}

// setOnline tells the programs which cores are: one that goes offline while it
// is idle would be idle for ever.
func (k *kernel) setOnline(cpus []int) error {
	var online [bpfMaxCores / 64]uint64
	for _, c := range cpus {
		if c >= 0 && c < bpfMaxCores {
			online[c/64] |= 1 << (c % 64)
		}
	}
	if err := k.setVariable("online_map", online); err != nil {
		return err
	}
	return k.setVariable("cores_online", uint32(len(cpus)))
}

func prepareSchedInfo(k *kernel) error {
	if err := needsField("sched_info", "last_queued"); err != nil {
		return err
	}
	return prepareRunq(k)
}

// prepareStalls needs the runq signal's hook, and a kernel that keeps one of
// these clocks in each run queue of a cgroup.
func prepareStalls(clocks ...string) func(*kernel) error {
	return func(k *kernel) error {
		if err := needsRunq(k); err != nil {
			return err
		}
		var err error
		for _, clock := range clocks {
			if err = needsField("cfs_rq", clock); err == nil {
				return nil
			}
		}
		return err
	}
}

func prepareCPUStat(k *kernel) error {
	if err := needsRunq(k); err != nil {
		return err // whose reader it is a part of
	}
	tree, err := findHierarchy("cpu")
	if err != nil {
		return err
	}
	return tree.Close()
}

func needsRunq(k *kernel) error {
	if k.chosen[SignalRunq] == nil {
		return errors.New("the runq signal, which it is a part of, is not there")
	}
	return nil
}

// needsField looks for a field in the running kernel's types.
func needsField(structName, field string) error {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("read the kernel's types: %w", err)
	}
	var s *btf.Struct
	if err := spec.TypeByName(structName, &s); err != nil {
		return fmt.Errorf("find struct %s: %w", structName, err)
	}
	for _, m := range s.Members {
		if m.Name == field {
			return nil
		}
	}
	return fmt.Errorf("struct %s of this kernel has no %s", structName, field)
}
