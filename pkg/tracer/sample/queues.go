// SPDX-License-Identifier: Apache-2.0

package sample

// The places at which a listener turns a client away. A refusal is one SYN or
// one final ACK that was not admitted; a client repeats it, so refusals are not
// clients.
const (
	// PlaceAcceptQueueSYN: a SYN came while the accept queue was full
	// (net/ipv4/tcp_input.c: tcp_conn_request()).
	PlaceAcceptQueueSYN = "accept_queue_syn"
	// PlaceAcceptQueueACK: the ACK that completes a handshake came while the
	// accept queue was full (net/ipv4/tcp_minisocks.c: tcp_check_req()).
	PlaceAcceptQueueACK = "accept_queue_ack"
	// PlaceAcceptQueueCookie: the same for an ACK that returns a SYN cookie
	// (net/ipv4/syncookies.c: tcp_get_cookie_sock()).
	PlaceAcceptQueueCookie = "accept_queue_cookie"
	// PlaceSynQueue: a SYN came while the SYN queue was full and no cookie was
	// sent for it; and what little else makes a listener drop a SYN (no memory,
	// no route back).
	PlaceSynQueue = "syn_queue"
)

// Refusals counts by place.
type Refusals struct {
	AcceptQueueSYN    uint64 `json:"accept_queue_syn"`
	AcceptQueueACK    uint64 `json:"accept_queue_ack"`
	AcceptQueueCookie uint64 `json:"accept_queue_cookie"`
	SynQueue          uint64 `json:"syn_queue"`
}

// Total is the sum over all places.
func (r *Refusals) Total() uint64 { return r.AcceptQueue() + r.SynQueue }

// AcceptQueue is the sum over the places where the accept queue was full: what
// TcpExt ListenOverflows counts.
func (r *Refusals) AcceptQueue() uint64 {
	return r.AcceptQueueSYN + r.AcceptQueueACK + r.AcceptQueueCookie
}

// Queues is the state and the history of one TCP listener's two queues. The
// accept queue's present length and its limit stand in Listener.
type Queues struct {
	// A queue is full when its length is greater than its limit, so limit+1 fit.
	SynQueueLen uint32 `json:"syn_queue_len"` // request sockets, now
	SynQueueMax uint32 `json:"syn_queue_max"`
	// NoSynLen: the SYN queue's lengths are not known.
	NoSynLen bool `json:"no_syn_len,omitempty"`
	// The peaks are the greatest lengths since the Sample before. That of the
	// accept queue is exact where PeakSampled is false, else the greatest that
	// was seen at ten looks a second; that of the SYN queue likewise, by SynPeakSampled.
	AcceptQueuePeak uint32 `json:"accept_queue_peak"`
	SynQueuePeak    uint32 `json:"syn_queue_peak"`
	PeakSampled     bool   `json:"peak_sampled,omitempty"`
	SynPeakSampled  bool   `json:"syn_peak_sampled,omitempty"`
	// AcceptFullNS is how long the accept queue was full, since attach.
	AcceptFullNS uint64 `json:"accept_full_ns"`

	Refusals              Refusals `json:"refusals"`
	SyncookiesSentTotal   uint64   `json:"syncookies_sent_total"`
	SyncookiesFailedTotal uint64   `json:"syncookies_failed_total"`
	// Approximate: how the kernel's totals divide among the places, or among
	// the listeners of the namespace, was in part inferred.
	Approximate bool `json:"approximate,omitempty"`
	// SeenTotal of the refusals were seen one by one, with their clients.
	SeenTotal uint64         `json:"refusals_seen_total"`
	Clients   RefusedClients `json:"clients"`
	// EventsUnsent counts the refusals that no event tells of on its own.
	EventsUnsent uint64 `json:"events_unsent_total,omitempty"`

	// Backlog is listen(2)'s argument, -1 where the call was not seen.
	Backlog int32 `json:"listen_backlog"`
}

// RefusedClients are the clients behind the refusals that were seen. A client
// is one connection attempt: remote address and port.
type RefusedClients struct {
	Total     uint64 `json:"total"`
	Estimated bool   `json:"estimated,omitempty"` // there were too many to know each; of those beyond the standard error is 6.5 %
	// Retries counts clients by how often they were refused: once, twice, three
	// to five times, more often. Of the estimated ones it counts none.
	Retries [4]uint64 `json:"retries"`
	Max     uint32    `json:"max"` // the most refusals of one client
	// Top are those refused most often, the worst first; at most eight.
	Top []RefusedClient `json:"top,omitempty"`
}

// RefusedClient is one client and how often it was refused.
type RefusedClient struct {
	Addr     string `json:"addr"`
	Port     uint16 `json:"port"`
	Refusals uint32 `json:"refusals"`
}

// Listen is what the listen signal knows beside the listeners.
type Listen struct {
	NetNS []NetNS `json:"netns"`
}

// NetNS is one network namespace with TCP listeners: its settings, and what the
// kernel counts for all of its listeners together.
type NetNS struct {
	Inode uint32 `json:"inode"`
	// Cookie tells it from another one that had the same inode number before; 0
	// where the kernel does not say (before Linux 5.12).
	Cookie          uint64 `json:"cookie,omitempty"`
	Somaxconn       uint32 `json:"somaxconn"`         // net.core.somaxconn
	MaxSynBacklog   uint32 `json:"max_syn_backlog"`   // net.ipv4.tcp_max_syn_backlog
	Syncookies      uint32 `json:"syncookies"`        // net.ipv4.tcp_syncookies: 0 off, 1 when full, 2 always
	AbortOnOverflow uint32 `json:"abort_on_overflow"` // net.ipv4.tcp_abort_on_overflow
	// TCPExt is nil where the namespace's counters could not be read.
	TCPExt *TCPExt `json:"tcp_ext,omitempty"`
	// Unattributed refusals are in the kernel's counters and at no listener: it
	// was closed before anyone looked, or nothing tells which of several it was.
	Unattributed Refusals `json:"unattributed"`
}

// NetNSID tells network namespaces apart over the whole of a trace.
type NetNSID struct {
	Inode  uint32
	Cookie uint64
}

// ID identifies n.
func (n *NetNS) ID() NetNSID { return NetNSID{n.Inode, n.Cookie} }

// NetNSID identifies the network namespace that l is in.
func (l *Listener) NetNSID() NetNSID { return NetNSID{l.NetNS, l.NetNSCookie} }

// TCPExt are counters of /proc/net/netstat by their names there, since attach.
type TCPExt struct {
	ListenOverflows      uint64 `json:"listen_overflows_total"` // contained in ListenDrops
	ListenDrops          uint64 `json:"listen_drops_total"`
	TCPReqQFullDrop      uint64 `json:"syn_queue_drops_total"`
	TCPReqQFullDoCookies uint64 `json:"syn_queue_cookies_total"`
	SyncookiesSent       uint64 `json:"syncookies_sent_total"`
	SyncookiesRecv       uint64 `json:"syncookies_recv_total"`
	SyncookiesFailed     uint64 `json:"syncookies_failed_total"`
}
