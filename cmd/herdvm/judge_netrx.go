// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "encoding/json"

// netrxOracle is what herdlab netrx prints.
type netrxOracle struct {
	Device  string `json:"device"`
	Softnet []struct {
		CPU       int   `json:"cpu"`
		Processed int64 `json:"processed_delta"`
		Dropped   int64 `json:"dropped_delta"`
	} `json:"softnet"`
	SoftIRQs []int64 `json:"net_rx_softirqs_delta"`
}

// judgeNetRX: drops are softnet_stat's, for each core and for the device. How
// often NET_RX ran is at least what the lab read, which began later.
func judgeNetRX(j *judgement, signal string) {
	var o netrxOracle
	if err := json.Unmarshal(j.run.oracle, &o); err != nil || len(o.Softnet) == 0 {
		j.wrong("the lab said no oracle: %v", err)
		return
	}
	s := j.run.summary()
	cpus := make(map[int]cpuRecord)
	var dropped int64
	for _, c := range s.CPUList {
		cpus[c.CPU] = c
		dropped += c.Dropped
	}
	if signal == "cpu-backlog" {
		judgeDrops(j, &o, s, dropped)
		return
	}
	for _, want := range o.Softnet {
		got := cpus[want.CPU]
		j.equal("drops of a core", got.Dropped, want.Dropped)
		if got.Processed < want.Processed {
			j.wrong("cpu %d: %d packets, the lab read %d", want.CPU, got.Processed, want.Processed)
		}
		if !j.exact || want.CPU >= len(o.SoftIRQs) {
			continue
		}
		if n := o.SoftIRQs[want.CPU]; got.SoftIRQs < n || got.SoftIRQs > 0 && got.Seconds <= 0 {
			j.wrong("cpu %d: %d NET_RX softirqs in %.6f s, /proc/softirqs says %d", want.CPU, got.SoftIRQs, got.Seconds, n)
		}
	}
}

func judgeDrops(j *judgement, o *netrxOracle, s *record, dropped int64) {
	var truth, ofDevice, all int64
	for _, c := range o.Softnet {
		truth += c.Dropped
	}
	for _, d := range s.NetRX.Drops {
		all += d.Dropped
		if d.Device == o.Device {
			ofDevice += d.Dropped
		}
	}
	if truth == 0 {
		j.wrong("the lab made no drop")
	}
	j.equal("drops by device and unattributed", all+s.NetRX.Unattributed, dropped)
	j.equal("drops in all", dropped, truth)
	j.equal("drops of "+o.Device, ofDevice+s.NetRX.Unattributed, truth)
	if s.NetRX.Unattributed > 0 {
		j.note("%d of %d drops unattributed", s.NetRX.Unattributed, truth)
	}
}
