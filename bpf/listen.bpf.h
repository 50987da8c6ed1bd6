/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listen signal: who was turned away, where.
 *
 * With fentry and fexit the three functions in which a listener can refuse are
 * watched from entry to exit, and name the listener. None of them runs for a
 * packet of an established connection.
 *
 * Kprobes on the same functions do as well, for a little more.
 *
 * Without, the refused ACKs show in kfree_skb, which names the listener, too;
 * a refused SYN is freed by consume_skb, like an admitted one, and names
 * nothing: it is looked at only while there are refusals (the tracer attaches
 * the program then), because consume_skb is not the listeners' alone.
 */
#ifndef HERDTRACE_LISTEN_BPF_H
#define HERDTRACE_LISTEN_BPF_H

/* Where the code of tcp_rcv_state_process() lies; set by the tracer. */
__u64 rcv_state_start;
__u64 rcv_state_bytes;

/* The counters of a namespace on this CPU when they were looked at last; the
 * tracer empties it before it begins to look.
 */
struct last_mib {
	struct mib mib;
	__u64 netns; /* its inode number, for the address may become another's; 0: not looked at */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64); /* struct net address */
	__type(value, struct last_mib);
} last_mibs SEC(".maps");

static __always_inline __u32 place_of(__u32 stage, struct mib *d)
{
	if (!d->n[MIB_LISTEN_OVERFLOWS])
		return PLACE_SYN_QUEUE;
	if (stage == STAGE_SYN)
		return PLACE_ACCEPT_QUEUE_SYN;
	return stage == STAGE_ACK ? PLACE_ACCEPT_QUEUE_ACK : PLACE_ACCEPT_QUEUE_COOKIE;
}

/* The listener is sk, the kernel counted d for skb. */
static __always_inline int settle(struct sock *sk, struct sk_buff *skb, struct mib *d, __u32 stage)
{
	struct tuple t = {};
	struct listener *l;
	__u32 len;

	l = listener_of(sk, SLOT_REFUSE);
	if (!l)
		return 0;
	if (stage == STAGE_SYN) {
		len = syn_queue_len(sk);
		if (len > l->syn_queue_peak)
			l->syn_queue_peak = len;
	}
	if (!d->n[MIB_LISTEN_DROPS] && !d->n[MIB_COOKIES_SENT] && !d->n[MIB_COOKIES_FAILED])
		return 0;
	if (!read_tuple(&t, skb) || (l->port && t.dport != l->port))
		return 0; /* the address of a socket that is gone is another's by now */
	if (d->n[MIB_COOKIES_SENT])
		__sync_fetch_and_add(&l->cookies_sent, 1);
	if (d->n[MIB_COOKIES_FAILED])
		__sync_fetch_and_add(&l->cookies_failed, 1);
	if (!d->n[MIB_LISTEN_DROPS])
		return 0;
	l->drops_booked = BPF_CORE_READ(sk, sk_drops.counter);
	refuse(l, sk, &t, place_of(stage, d));
	return 0;
}

static __always_inline int on_stage_exit(struct sock *sk, struct sk_buff *skb, __u32 stage)
{
	struct mib d = {};

	if (!since_mark(sk, stage, &d))
		return 0;
	return settle(sk, skb, &d, stage);
}

/* The final ACK is refused only where the accept queue is full. Less than half
 * full, it is not going to be by the time that this CPU has looked, unless it
 * holds next to nothing; then the kernel's totals tell.
 */
static __always_inline int on_ack_entry(struct sock *sk)
{
	if (2 * BPF_CORE_READ(sk, sk_ack_backlog) >= BPF_CORE_READ(sk, sk_max_ack_backlog))
		mark_mib(sk, STAGE_ACK);
	else
		unmark_mib(STAGE_ACK);
	return 0;
}

/* include/linux/skbuff.h: skb_dst(); the flag bits are the lowest three. */
static __always_inline struct net *net_of(struct sk_buff *skb)
{
	struct dst_entry *dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & ~7UL);

	return dst ? BPF_CORE_READ(dst, dev, nd_net.net) : NULL;
}

/* Which socket of a SO_REUSEPORT group the packet was for: one whose queue is
 * full, and where it was dropped one whose sk_drops grew since it was last
 * booked there. It grows for other reasons, too, so both must be.
 */
static __always_inline bool fits(struct sock *sk, struct listener *l, struct mib *d)
{
	if (!d->n[MIB_LISTEN_DROPS])
		return syn_queue_len(sk) > BPF_CORE_READ(sk, sk_max_ack_backlog);
	if (d->n[MIB_LISTEN_OVERFLOWS] && !accept_queue_full(sk))
		return false;
	return (__u32)BPF_CORE_READ(sk, sk_drops.counter) != l->drops_booked;
}

static __always_inline struct sock *member_of(struct bound *b, struct mib *d)
{
	if (b->n == 1)
		return (void *)b->sk[0];
	for (__u32 i = 0; i < BOUND_MAX; i++) {
		__u64 key = b->sk[i];
		struct listener *l;

		if (i >= b->n)
			break;
		l = bpf_map_lookup_elem(&listeners, &key);
		if (l && fits((void *)key, l, d))
			return (void *)key;
	}
	return NULL;
}

static __always_inline struct sock *find_listener(struct net *net, struct tuple *t, struct mib *d)
{
	struct bound_key key = {.netns = BPF_CORE_READ(net, ns.inum), .port = t->dport, .family = t->family};
	struct bound *b;

	__builtin_memcpy(key.addr, t->daddr, sizeof(key.addr));
	b = bpf_map_lookup_elem(&bounds, &key);
	if (!b) {
		__builtin_memset(key.addr, 0, sizeof(key.addr));
		b = bpf_map_lookup_elem(&bounds, &key);
	}
	return b ? member_of(b, d) : NULL;
}

/* What this CPU's counters of net say since they were looked at last. */
static __always_inline bool since_last(struct net *net, struct mib *d)
{
	struct mib_room *r = mib_room_here();
	struct last_mib now = {.netns = BPF_CORE_READ(net, ns.inum)}, *last;
	__u64 key = (__u64)net;
	bool known;

	if (!r || !read_mib(r, &now.mib, net))
		return false;
	last = bpf_map_lookup_elem(&last_mibs, &key);
	if (!last) {
		bpf_map_update_elem(&last_mibs, &key, &now, BPF_ANY);
		return false;
	}
	known = last->netns == now.netns;
	for (int i = 0; i < MIB_KINDS; i++)
		d->n[i] = known ? now.mib.n[i] - last->mib.n[i] : 0;
	*last = now;
	return known;
}

/* For the first SYN that this CPU looks at: one that meets a full accept queue
 * is refused. No such thing can be said of the SYN queue, which it may just
 * have filled itself.
 */
static __always_inline void guess(struct mib *d)
{
	d->n[MIB_LISTEN_OVERFLOWS] = 1;
	d->n[MIB_LISTEN_DROPS] = 1;
}

/* net/ipv4/tcp_input.c: tcp_rcv_state_process() frees each SYN that came to a
 * listener, whatever became of it.
 */
static __always_inline int on_consume(struct sk_buff *skb, __u64 location)
{
	struct mib d = {};
	struct tuple t;
	struct net *net;
	struct sock *sk;
	bool known;

	if (location - rcv_state_start >= rcv_state_bytes)
		return 0;
	net = net_of(skb);
	if (!net)
		return 0;
	known = since_last(net, &d);
	if (known && !d.n[MIB_LISTEN_DROPS] && !d.n[MIB_COOKIES_SENT])
		return 0;
	if (!read_tuple(&t, skb))
		return 0;
	if (!known)
		guess(&d);
	sk = find_listener(net, &t, &d);
	if (!sk || (!known && !accept_queue_full(sk)))
		return 0;
	return settle(sk, skb, &d, STAGE_SYN);
}

/* Whether the final ACK that listener sk frees without a reason was refused. The
 * first one that this CPU looks at has no counters to compare with, but sk_drops,
 * where a refusal counts twice and all else once (net/ipv4/tcp_ipv4.c:
 * tcp_listendrop(), then discard_and_relse).
 */
static __always_inline bool was_refused(struct sock *sk, bool known, struct mib *counted)
{
	struct listener *l = looking ? listener_of(sk, SLOT_REFUSE) : NULL;
	__u32 drops = BPF_CORE_READ(sk, sk_drops.counter), grown;

	if (!l)
		return false;
	grown = drops - l->drops_booked;
	l->drops_booked = drops;
	return known ? counted->n[MIB_LISTEN_OVERFLOWS] : grown == 2;
}

/* The tracepoint names the receiving socket in 6.12, and not in 6.1. An ACK that
 * the accept queue had no room for carries TCP_LISTEN_OVERFLOW, or nothing (see
 * stage_of_reason()); one with a cookie carries NO_SOCKET, strange as that is.
 */
static __always_inline int on_free(struct sk_buff *skb, __u32 reason, struct sock *sk)
{
	struct mib d = {.n[MIB_LISTEN_OVERFLOWS] = 1, .n[MIB_LISTEN_DROPS] = 1};
	struct mib counted = {};
	bool known = false;
	__u32 stage;

	if (!sk || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0;
	stage = stage_of_reason(reason);
	if (stage >= STAGES || !accept_queue_full(sk))
		return 0;
	if (looking) /* what was counted for this packet must not be for the next SYN */
		known = since_last(BPF_CORE_READ(sk, __sk_common.skc_net.net), &counted);
	if (!reason_is_telling(reason) && !was_refused(sk, known, &counted))
		return 0;
	return settle(sk, skb, &d, stage);
}

static __always_inline int on_listen_exit(struct pt_regs *regs)
{
	struct task_struct *t = (void *)bpf_get_current_task();
	struct sock *sk = sock_of_fd(t, syscall_first_arg(regs)), *tcp;
	struct listener *l;

	if (!sk)
		return 0;
	tcp = tcp_listener_of(sk);
	l = listener_of(tcp, SLOT_LISTEN);
	if (!l)
		return 0;
	l->backlog = syscall_second_arg(regs);
	if (tcp != sk)
		l->mptcp = 1;
	return 0;
}

#endif /* HERDTRACE_LISTEN_BPF_H */
