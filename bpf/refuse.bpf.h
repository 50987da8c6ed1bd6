/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The listen signal: one refusal, its client, and the event that tells of it. */
#ifndef HERDTRACE_REFUSE_BPF_H
#define HERDTRACE_REFUSE_BPF_H

#define REFUSAL_GAP_NS (100LL * 1000 * 1000) /* at most one event per listener in this time */

/* Makes the sketch's hash one that nobody can aim at; set by the tracer. */
__u64 hash_seed;

/* Addresses and ports of a TCP packet, ports in host order. */
struct tuple {
	__u8 saddr[16];
	__u8 daddr[16];
	__u16 sport;
	__u16 dport;
	__u16 family;
	__u16 _pad;
};

static __always_inline bool read_tuple(struct tuple *t, struct sk_buff *skb)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	unsigned char *net = head + BPF_CORE_READ(skb, network_header);
	unsigned char *tcp = head + BPF_CORE_READ(skb, transport_header);
	__u16 ports[2] = {};

	__builtin_memset(t, 0, sizeof(*t));
	if (bpf_probe_read_kernel(ports, sizeof(ports), tcp))
		return false;
	t->sport = bpf_ntohs(ports[0]);
	t->dport = bpf_ntohs(ports[1]);
	switch (bpf_ntohs(BPF_CORE_READ(skb, protocol))) {
	case ETH_P_IP: /* include/uapi/linux/ip.h: saddr and daddr follow 12 bytes */
		t->family = AF_INET;
		bpf_probe_read_kernel(t->saddr, 4, net + 12);
		return !bpf_probe_read_kernel(t->daddr, 4, net + 16);
	case ETH_P_IPV6: /* include/uapi/linux/ipv6.h: they follow 8 bytes */
		t->family = AF_INET6;
		bpf_probe_read_kernel(t->saddr, 16, net + 8);
		return !bpf_probe_read_kernel(t->daddr, 16, net + 24);
	}
	return false;
}

static __always_inline __u64 mix(__u64 h, __u64 v)
{
	h ^= v;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ (h >> 33);
}

static __always_inline __u64 hash_client(struct client_key *k)
{
	__u64 *addr = (void *)k->addr;
	__u64 h = mix(hash_seed, k->ino);

	h = mix(h, addr[0]);
	h = mix(h, addr[1]);
	return mix(h, k->port);
}

/* The client map is full: remember the client's hash only. */
static __always_inline void sketch_client(struct client_key *k)
{
	struct sketch *s = bpf_map_lookup_elem(&sketches, &k->ino);
	__u64 h = hash_client(k);
	__u32 zero = 0, at = h & (SKETCH_REGISTERS - 1);
	__u8 rank = 1;

	if (!s) {
		s = bpf_map_lookup_elem(&empty_sketch, &zero);
		if (s)
			bpf_map_update_elem(&sketches, &k->ino, s, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&sketches, &k->ino);
		if (!s) {
			count_lost(LOSS_CLIENT_SKETCH);
			return;
		}
	}
	/* The position of the lowest bit that is set, without a loop. */
	h >>= SKETCH_BITS;
	if (!(__u32)h) {
		rank += 32;
		h >>= 32;
	}
	if (!(__u16)h) {
		rank += 16;
		h >>= 16;
	}
	if (!(__u8)h) {
		rank += 8;
		h >>= 8;
	}
	if (!(h & 0xf)) {
		rank += 4;
		h >>= 4;
	}
	if (!(h & 3)) {
		rank += 2;
		h >>= 2;
	}
	if (!(h & 1))
		rank += 1;
	if (rank > s->rank[at])
		s->rank[at] = rank;
}

static __always_inline bool has_room(__u64 ino)
{
	__u64 *n = bpf_map_lookup_elem(&client_shares, &ino), one = 1;

	if (!n) {
		bpf_map_update_elem(&client_shares, &ino, &one, BPF_NOEXIST);
		return true;
	}
	if (*n >= CLIENTS_PER_LISTENER)
		return false;
	__sync_fetch_and_add(n, 1);
	return true;
}

static __always_inline void count_client(struct listener *l, struct tuple *t, __u64 now)
{
	struct client_key key = {.ino = l->ino, .port = t->sport, .family = t->family};
	struct client *c, fresh = {.last_ns = now, .refusals = 1};
	long err;

	__builtin_memcpy(key.addr, t->saddr, sizeof(key.addr));
	c = bpf_map_lookup_elem(&clients, &key);
	if (!c && has_room(l->ino)) {
		err = bpf_map_update_elem(&clients, &key, &fresh, BPF_NOEXIST);
		if (!err)
			return;
		c = bpf_map_lookup_elem(&clients, &key); /* another CPU was first? */
	}
	if (!c) {
		sketch_client(&key);
		return;
	}
	c->last_ns = now;
	__sync_fetch_and_add(&c->refusals, 1);
}

static __always_inline void send_refusal(struct listener *l, struct sock *sk, struct tuple *t, __u32 place, __u64 now)
{
	struct event e = {
		.kind = EVENT_REFUSAL,
		.mono_ns = now,
		.ino = l->ino,
		.place = place,
		.cpu = bpf_get_smp_processor_id(),
		.client_port = t->sport,
		.client_family = t->family,
	};
	__s64 pending = l->refusals_pending;

	/* Another CPU's may be later. */
	if ((__s64)(now - l->refusal_ns) < REFUSAL_GAP_NS || events_off) {
		__sync_fetch_and_add(&l->refusals_pending, 1);
		__sync_fetch_and_add(&l->refusals_unsent, 1);
		return;
	}
	l->refusal_ns = now;
	__sync_fetch_and_add(&l->refusals_pending, -pending);
	e.refused = (pending > 0 ? pending : 0) + 1; /* another CPU may have told of them, too */
	e.accept_queue_len = BPF_CORE_READ(sk, sk_ack_backlog);
	e.syn_queue_len = syn_queue_len(sk);
	__builtin_memcpy(e.client_addr, t->saddr, sizeof(e.client_addr));
	if (bpf_ringbuf_output(&events, &e, sizeof(e), BPF_RB_NO_WAKEUP))
		count_lost(LOSS_RING_FULL);
}

static __always_inline void refuse(struct listener *l, struct sock *sk, struct tuple *t, __u32 place)
{
	__u64 now = bpf_ktime_get_ns();

	if (place < PLACES) /* the verifier's, not ours */
		__sync_fetch_and_add(&l->refused[place], 1);
	if (!t->family)
		return;
	count_client(l, t, now);
	send_refusal(l, sk, t, place, now);
}

#endif /* HERDTRACE_REFUSE_BPF_H */
