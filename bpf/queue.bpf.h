/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The listen signal: how long a listener's two queues are, and were. */
#ifndef HERDTRACE_QUEUE_BPF_H
#define HERDTRACE_QUEUE_BPF_H

static __always_inline __u32 syn_queue_len(struct sock *sk)
{
	struct inet_connection_sock *icsk = (void *)sk;

	return BPF_CORE_READ(icsk, icsk_accept_queue.qlen.counter);
}

/* include/net/sock.h: sk_acceptq_is_full(): one more than the limit fits. */
static __always_inline bool accept_queue_full(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_ack_backlog) > BPF_CORE_READ(sk, sk_max_ack_backlog);
}

/* A connection was put on the accept queue. */
static __always_inline void note_queued(struct listener *l, struct sock *sk)
{
	__u32 len;

	if (l->protocol != IPPROTO_TCP)
		return;
	len = BPF_CORE_READ(sk, sk_ack_backlog);
	if (len > l->accept_queue_peak)
		l->accept_queue_peak = len;
	if (!l->accept_full_since && len > BPF_CORE_READ(sk, sk_max_ack_backlog))
		l->accept_full_since = bpf_ktime_get_ns();
}

/* A connection was taken off it. */
static __always_inline void note_accepted(struct listener *l, struct sock *sk)
{
	__u64 since = l->accept_full_since;

	if (!since || accept_queue_full(sk))
		return;
	l->accept_full_since = 0;
	__sync_fetch_and_add(&l->accept_full_ns, bpf_ktime_get_ns() - since);
}

/* For the dump: what is so at this moment. */
static __always_inline void read_queues(struct listener *l, struct sock *sk)
{
	struct net *net = BPF_CORE_READ(sk, __sk_common.skc_net.net);

	l->syn_queue_len = syn_queue_len(sk);
	l->drops = BPF_CORE_READ(sk, sk_drops.counter);
	if (!looking)
		l->drops_booked = l->drops;
	l->somaxconn = BPF_CORE_READ(net, core.sysctl_somaxconn);
	l->max_syn_backlog = BPF_CORE_READ(net, ipv4.sysctl_max_syn_backlog);
	l->syncookies = tcp_syncookies(net);
	l->abort_on_overflow = tcp_abort_on_overflow(net);
	/* It may have been full before anyone looked, and an accept that no hook
	 * sees may have ended it since the last dump.
	 */
	if (l->accept_queue_len > l->accept_queue_max)
		note_queued(l, sk);
	else
		note_accepted(l, sk);
	if (l->accept_queue_len > l->accept_queue_peak)
		l->accept_queue_peak = l->accept_queue_len;
	if (l->syn_queue_len > l->syn_queue_peak)
		l->syn_queue_peak = l->syn_queue_len;
}

#endif /* HERDTRACE_QUEUE_BPF_H */
