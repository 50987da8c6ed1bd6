// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
)

// record is what the cells read of herdtrace's NDJSON output.
type record struct {
	Type    string `json:"type"`
	Signals []struct {
		Name     string `json:"name"`
		Variant  string `json:"variant"`
		Accuracy string `json:"accuracy"`
	} `json:"signals"`
	Kind        string `json:"kind"`
	Inode       uint64 `json:"inode"`
	Refused     int64  `json:"refused"`
	CGroupID    uint64 `json:"cgroup_id"`
	ThrottledNS int64  `json:"throttled_ns"`

	Listeners []listenerRecord `json:"listeners"`
	NetNS     []netnsRecord    `json:"netns"`
	NetRX     netrxRecord      `json:"netrx"`
	CGroups   []cgroupRecord   `json:"cgroups"`
	Processes []processRecord  `json:"processes"`
	Cost      struct {
		LostTotal         int64            `json:"lost_total"`
		Lost              map[string]int64 `json:"lost"`
		RecursionMisses   int64            `json:"recursion_misses_total"`
		RecursionMissesBy map[string]int64 `json:"recursion_misses_by"`
	} `json:"cost"`

	CPUList []cpuRecord `json:"-"` // the header's cpus is a number
}

// parseRecord reads a line.
func parseRecord(line []byte) (*record, error) {
	var typed struct {
		Type  string          `json:"type"`
		CPUs  json.RawMessage `json:"cpus"`
		NetNS json.RawMessage `json:"netns"`
	}
	if err := json.Unmarshal(line, &typed); err != nil {
		return nil, fmt.Errorf("parse record %q: %w", line, err)
	}
	if typed.Type == "event" || typed.Type == "finding" { // their netns is a number
		var e struct {
			Kind        string `json:"kind"`
			Inode       uint64 `json:"inode"`
			Refused     int64  `json:"refused"`
			CGroupID    uint64 `json:"cgroup_id"`
			ThrottledNS int64  `json:"throttled_ns"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("parse record %q: %w", line, err)
		}
		return &record{Type: typed.Type, Kind: e.Kind, Inode: e.Inode, Refused: e.Refused, CGroupID: e.CGroupID, ThrottledNS: e.ThrottledNS}, nil
	}
	r := &record{}
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("parse record %q: %w", line, err)
	}
	if typed.Type != "header" && typed.CPUs != nil {
		if err := json.Unmarshal(typed.CPUs, &r.CPUList); err != nil {
			return nil, fmt.Errorf("parse record %q: %w", line, err)
		}
	}
	return r, nil
}

type listenerRecord struct {
	Port        int    `json:"port"`
	Proto       string `json:"proto"`
	NetNS       uint64 `json:"netns"`
	Inode       uint64 `json:"inode"`
	Completions int64  `json:"completions_total"`
	Accepts     int64  `json:"accepts_total"`
	EAGAINs     int64  `json:"accept_eagain_total"`
	Wakeups     int64  `json:"wakeups_total"`

	AcceptQueueMax  uint32  `json:"accept_queue_max"`
	AcceptQueuePeak uint32  `json:"accept_queue_peak"`
	SynQueueLen     *uint32 `json:"syn_queue_len"` // nil: not seen
	SynQueueMax     uint32  `json:"syn_queue_max"`
	SynQueuePeak    uint32  `json:"syn_queue_peak"`
	Refusals        places  `json:"refusals"`
	RefusalsTotal   int64   `json:"refusals_total"`
	Seen            int64   `json:"refusals_seen_total"`
	Clients         int64   `json:"refused_clients"`
	Estimated       bool    `json:"refused_clients_estimated"`
	CookiesSent     int64   `json:"syncookies_sent_total"`
}

// places are refusals by where they happened.
type places struct {
	SYN    int64 `json:"accept_queue_syn"`
	ACK    int64 `json:"accept_queue_ack"`
	Cookie int64 `json:"accept_queue_cookie"`
	SynQ   int64 `json:"syn_queue"`
}

func (p *places) add(q *places) {
	p.SYN += q.SYN
	p.ACK += q.ACK
	p.Cookie += q.Cookie
	p.SynQ += q.SynQ
}

func (p *places) overflows() int64 { return p.SYN + p.ACK + p.Cookie }

type netnsRecord struct {
	NetNS        uint64           `json:"netns"`
	TCPExt       map[string]int64 `json:"tcp_ext"`
	Unattributed places           `json:"unattributed_refusals"`
}

type netrxRecord struct {
	Drops []struct {
		Device  string `json:"device"`
		Dropped int64  `json:"dropped_total"`
	} `json:"cpu_backlog_drops"`
	Unattributed int64 `json:"cpu_backlog_drops_unattributed_total"`
}

type cpuRecord struct {
	CPU       int     `json:"cpu"`
	SoftIRQs  int64   `json:"net_rx_softirqs_total"`
	Seconds   float64 `json:"net_rx_softirq_seconds_total"`
	Processed int64   `json:"softnet_processed_total"`
	Dropped   int64   `json:"softnet_dropped_total"`
	Wait      float64 `json:"runq_wait_seconds_total"`
}

// waitRecord is runnable without a core, and why. Two of the parts are left out
// where a wait for a quota cannot be told from others.
type waitRecord struct {
	Wait      float64  `json:"wait_seconds_total"`
	Throttled *float64 `json:"wait_throttled_seconds_total"`
	Contended *float64 `json:"wait_contended_seconds_total"`
	Mask      float64  `json:"wait_mask_seconds_total"`
	Stolen    float64  `json:"wait_stolen_seconds_total"`
}

type cgroupRecord struct {
	Path      string  `json:"path"`
	CGroupID  uint64  `json:"cgroup_id"`
	CPU       float64 `json:"cpu_seconds_total"`
	QuotaUS   int64   `json:"cpu_quota_us"`
	Periods   int64   `json:"cfs_periods_total"`
	Throttled int64   `json:"cfs_throttled_periods_total"`
	Seconds   float64 `json:"cfs_throttled_seconds_total"`
	waitRecord
}

type processRecord struct {
	PID     int      `json:"pid"`
	Comm    string   `json:"comm"`
	Run     float64  `json:"run_seconds_total"`
	Claimed *float64 `json:"claimed_seconds_total"`
	waitRecord
	TopThreads []struct {
		TID int     `json:"tid"`
		Run float64 `json:"run_seconds_total"`
		waitRecord
	} `json:"top_threads"`
}

// ns is the number of nanoseconds that a JSON number of seconds stands for.
func ns(seconds float64) int64 { return int64(math.Round(seconds * 1e9)) }
