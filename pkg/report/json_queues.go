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
	AcceptPeak        uint32 `json:"accept_queue_peak"`
	AcceptPeakSampled bool   `json:"accept_queue_peak_sampled"` // the greatest that was seen, ten looks a second
	SynLen            uint32 `json:"syn_queue_len"`
	SynMax            uint32 `json:"syn_queue_max"`
	SynPeak           uint32 `json:"syn_queue_peak"`
	SynPeakSampled    bool   `json:"syn_queue_peak_sampled"`

	RefusalsTotal uint64          `json:"refusals_total"`
	Refusals      sample.Refusals `json:"refusals"` // by place, since attach
	RefusalsPerS  *float64        `json:"refusals_per_s,omitempty"`
	SeenTotal     uint64          `json:"refusals_seen_total"` // one by one, with their clients
	UnsentTotal   uint64          `json:"refusals_unsent_total"`
	Approximate   bool            `json:"refusals_approximate"`

	Clients          uint64                 `json:"refused_clients"` // since attach
	ClientsEstimated bool                   `json:"refused_clients_estimated"`
	Retries          jsonRetries            `json:"refused_client_retries"`
	TopClients       []sample.RefusedClient `json:"refused_clients_top,omitempty"` // worst first

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
func queueRecord(l *model.Listener, total bool) *jsonQueue {
	q := l.Queue
	if q == nil {
		return nil
	}
	r := &jsonQueue{
		AcceptPeak: q.AcceptQueuePeak, AcceptPeakSampled: q.PeakSampled,
		SynLen: q.SynQueueLen, SynMax: q.SynQueueMax, SynPeak: q.SynQueuePeak, SynPeakSampled: q.SynPeakSampled,
		RefusalsTotal: q.Refusals.Total(), Refusals: q.Refusals,
		SeenTotal: q.SeenTotal, UnsentTotal: q.EventsUnsent, Approximate: q.Approximate,
		Clients: q.Clients.Total, ClientsEstimated: q.Clients.Estimated, TopClients: q.Clients.Top,
		Retries:     jsonRetries{q.Clients.Retries[0], q.Clients.Retries[1], q.Clients.Retries[2], q.Clients.Retries[3]},
		CookiesSent: q.SyncookiesSentTotal, CookiesFailed: q.SyncookiesFailedTotal,
		FullSeconds: seconds(q.AcceptFullNS),
		LimitFrom:   q.LimitFrom, LimitUncertain: q.LimitUncertain, SynLimitFrom: q.SynLimitFrom,
	}
	if q.Backlog >= 0 {
		r.Backlog = &q.Backlog
	}
	if total {
		r.AcceptPeak, r.SynPeak = q.AcceptTop, q.SynTop
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
