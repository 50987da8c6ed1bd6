// SPDX-License-Identifier: Apache-2.0

package report

import (
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// jsonQueue is what the listen signal adds to a listener: nil, and so absent,
// where it is not measured there.
type jsonQueue struct {
	// Peaks of the interval, in a summary since attach.
	AcceptPeak        uint32  `json:"accept_queue_peak"`
	AcceptPeakSampled bool    `json:"accept_queue_peak_sampled"` // the greatest that was seen, ten looks a second
	SynLen            *uint32 `json:"syn_queue_len,omitempty"`
	SynMax            *uint32 `json:"syn_queue_max,omitempty"`
	SynPeak           *uint32 `json:"syn_queue_peak,omitempty"`
	SynPeakSampled    bool    `json:"syn_queue_peak_sampled"`

	RefusalsTotal uint64          `json:"refusals_total"`
	Refusals      sample.Refusals `json:"refusals"` // by place, since attach
	RefusalsPerS  *float64        `json:"refusals_per_s,omitempty"`
	SeenTotal     uint64          `json:"refusals_seen_total"` // one by one, with their clients
	UnsentTotal   uint64          `json:"refusals_unsent_total"`
	Approximate   bool            `json:"refusals_approximate"`

	*jsonClients

	CookiesSent   uint64 `json:"syncookies_sent_total"`
	CookiesFailed uint64 `json:"syncookies_failed_total"`

	FullRatio   *float64 `json:"accept_queue_full_ratio,omitempty"` // of the interval
	FullSeconds float64  `json:"accept_queue_full_seconds_total"`
	// WaitS is absent also where connections wait and none is accepted.
	WaitS *float64 `json:"accept_queue_wait_s,omitempty"`

	Backlog   *int32 `json:"listen_backlog,omitempty"` // listen(2)'s argument
	LimitFrom string `json:"accept_queue_limit_from,omitempty"`
	// LimitUncertain: the application may have asked for the same number.
	LimitUncertain bool   `json:"accept_queue_limit_uncertain"`
	SynLimitFrom   string `json:"syn_queue_limit_from,omitempty"`
}

// jsonClients are those that were refused since attach; nil where none is seen.
type jsonClients struct {
	Clients          uint64                 `json:"refused_clients"`
	ClientsEstimated bool                   `json:"refused_clients_estimated"`
	Retries          jsonRetries            `json:"refused_client_retries"`
	TopClients       []sample.RefusedClient `json:"refused_clients_top,omitempty"` // worst first
}

// jsonRetries counts clients by how often they were refused.
type jsonRetries struct {
	Once        uint64 `json:"once"`
	Twice       uint64 `json:"twice"`
	ThreeToFive uint64 `json:"three_to_five"`
	More        uint64 `json:"more"`
}

type jsonNetNS struct {
	NetNS           uint32          `json:"netns"`
	Cookie          uint64          `json:"netns_cookie,omitempty"`
	Somaxconn       uint32          `json:"somaxconn"`
	MaxSynBacklog   uint32          `json:"max_syn_backlog"`
	Syncookies      uint32          `json:"syncookies"`
	AbortOnOverflow uint32          `json:"abort_on_overflow"`
	TCPExt          *sample.TCPExt  `json:"tcp_ext,omitempty"` // absent: could not be read
	Unattributed    sample.Refusals `json:"unattributed_refusals"`
}

// queueRecord is l's queues; a summary has their peaks since attach.
func queueRecord(f *model.Frame, l *model.Listener, total bool) *jsonQueue {
	q := l.Queue
	if q == nil {
		return nil
	}
	r := &jsonQueue{
		AcceptPeak: q.AcceptQueuePeak, AcceptPeakSampled: q.PeakSampled,
		SynPeakSampled: q.SynPeakSampled,
		RefusalsTotal:  q.Refusals.Total(), Refusals: q.Refusals,
		SeenTotal: q.SeenTotal, UnsentTotal: q.EventsUnsent, Approximate: q.Approximate,
		CookiesSent: q.SyncookiesSentTotal, CookiesFailed: q.SyncookiesFailedTotal,
		FullSeconds: seconds(q.AcceptFullNS),
		LimitFrom:   q.LimitFrom, LimitUncertain: q.LimitUncertain, SynLimitFrom: q.SynLimitFrom,
	}
	if q.Backlog >= 0 {
		r.Backlog = &q.Backlog
	}
	if f.ClientsKnown() {
		c := &q.Clients
		r.jsonClients = &jsonClients{c.Total, c.Estimated, jsonRetries{c.Retries[0], c.Retries[1], c.Retries[2], c.Retries[3]}, c.Top}
	}
	if !l.NoLimit {
		r.SynMax = &q.SynQueueMax
	}
	if !q.NoSynLen {
		r.SynLen, r.SynPeak = &q.SynQueueLen, &q.SynQueuePeak
	}
	if total {
		if r.AcceptPeak = q.AcceptTop; !q.NoSynLen {
			r.SynPeak = &q.SynTop
		}
		return r
	}
	r.RefusalsPerS, r.FullRatio, r.WaitS = known(q.RefusalsPerS), known(q.AcceptFull), known(q.WaitS)
	return r
}

func netnsRecords(f *model.Frame) []jsonNetNS {
	if f.Sample.Listen == nil {
		return nil
	}
	out := make([]jsonNetNS, 0, len(f.Sample.Listen.NetNS))
	for i := range f.Sample.Listen.NetNS {
		n := &f.Sample.Listen.NetNS[i]
		out = append(out, jsonNetNS{
			NetNS: n.Inode, Cookie: n.Cookie, Somaxconn: n.Somaxconn, MaxSynBacklog: n.MaxSynBacklog, Syncookies: n.Syncookies,
			AbortOnOverflow: n.AbortOnOverflow, TCPExt: n.TCPExt, Unattributed: n.Unattributed,
		})
	}
	return out
}
