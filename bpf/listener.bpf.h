/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is who: listening sockets and the threads at them.
 *
 * A struct sock address alone is no identity: a listener that is closed and
 * reopened usually gets the same one from the slab. So each look-up compares
 * the socket's inode number, and an element whose inode changed is retired.
 */
#ifndef HERDTRACE_LISTENER_BPF_H
#define HERDTRACE_LISTENER_BPF_H

static __always_inline __u64 inode_of(struct sock *sk)
{
	struct socket *sock = BPF_CORE_READ(sk, sk_socket);
	struct socket_alloc *alloc = (void *)sock;

	/* include/net/sock.h: SOCK_INODE(); struct socket is the first member. */
	return sock ? BPF_CORE_READ(alloc, vfs_inode.i_ino) : 0;
}

static __always_inline bool is_traced_kind(struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);
	__u16 type = BPF_CORE_READ(sk, sk_type);

	if (family == AF_UNIX)
		return type == SOCK_STREAM || type == SOCK_SEQPACKET;
	return (family == AF_INET || family == AF_INET6) && protocol == IPPROTO_TCP;
}

static __always_inline bool is_traced_listener(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN && is_traced_kind(sk);
}

static __always_inline void read_unix_path(struct listener *l, struct sock *sk)
{
	struct unix_address *a = BPF_CORE_READ((struct unix_sock *)sk, addr);
	__u64 len;

	if (!a)
		return;
	/* net/unix/af_unix.c: len counts the two bytes of sun_family. */
	len = (__u32)BPF_CORE_READ(a, len) - 2;
	barrier_var(len); /* or clang proves the bound in a way that the verifier cannot follow */
	if (len > UNIX_PATH_BYTES)
		return;
	l->path_len = len;
	bpf_probe_read_kernel(l->path, len, &a->name[0].sun_path);
}

/* What may still be unsettled when the element is made (a port bound by
 * listen() itself, say), so the dump calls it again.
 */
static __always_inline void read_address(struct listener *l, struct sock *sk)
{
	l->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (l->family == AF_UNIX) {
		read_unix_path(l, sk);
		return;
	}
	l->protocol = IPPROTO_TCP;
	l->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	l->reuseport = BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuseport);
	if (l->family == AF_INET) {
		__be32 a = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);

		__builtin_memcpy(l->addr, &a, sizeof(a));
		return;
	}
	l->v6only = BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_ipv6only);
	BPF_CORE_READ_INTO(&l->addr, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
}

/* net/unix keeps what waits for accept() in the listener's receive queue. */
static __always_inline __u32 accept_queue_len(struct sock *sk)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		return BPF_CORE_READ(sk, sk_receive_queue.qlen);
	return BPF_CORE_READ(sk, sk_ack_backlog);
}

static __always_inline struct listener *add_listener(struct sock *sk, __u64 ino, __u32 slot)
{
	struct scratch *s = scratch_of(slot);
	__u64 key = (__u64)sk;
	struct worker_key overflow = {.ino = ino};
	long err;

	if (!s)
		return NULL;
	__builtin_memset(&s->listener, 0, sizeof(s->listener));
	__builtin_memset(&s->worker, 0, sizeof(s->worker));
	s->listener.sk = key;
	s->listener.ino = ino;
	s->listener.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	s->listener.netns_cookie = netns_cookie(BPF_CORE_READ(sk, __sk_common.skc_net.net));
	s->listener.accept_queue_first = accept_queue_len(sk);
	s->listener.drops_booked = BPF_CORE_READ(sk, sk_drops.counter);
	s->listener.backlog = -1;
	read_address(&s->listener, sk);
	s->worker.ino = ino;
	err = bpf_map_update_elem(&listeners, &key, &s->listener, BPF_NOEXIST);
	if (err && err != -EEXIST)
		count_lost(LOSS_LISTENER_MAP_FULL);
	bpf_map_update_elem(&workers, &overflow, &s->worker, BPF_NOEXIST);
	if (window_by_state && s->listener.port) {
		struct port_key p = {.netns = s->listener.netns, .port = s->listener.port};

		bpf_map_update_elem(&ports, &p, &key, BPF_ANY);
	}
	return bpf_map_lookup_elem(&listeners, &key);
}

/* The element of listening socket sk, made at first sight; NULL for what is no
 * TCP or unix listener, and where the map is full.
 */
static __always_inline struct listener *listener_known(struct sock *sk, bool listens, __u32 slot)
{
	__u64 key = (__u64)sk;
	struct listener *l = bpf_map_lookup_elem(&listeners, &key);
	__u64 ino = inode_of(sk);

	if (l && l->ino == ino)
		return l;
	if (!ino || !listens || !is_traced_kind(sk))
		return NULL;
	if (l) {
		/* Another CPU may do the same, and the element be the new one's by now. */
		__u64 old = *(volatile __u64 *)&l->ino;
		long err;

		if (old == ino)
			return l;
		err = bpf_map_update_elem(&retired, &old, l, BPF_NOEXIST);
		if (err && err != -EEXIST)
			count_lost(LOSS_RETIRED_MAP_FULL);
		bpf_map_delete_elem(&listeners, &key);
	}
	return add_listener(sk, ino, slot);
}

static __always_inline struct listener *listener_of(struct sock *sk, __u32 slot)
{
	return listener_known(sk, BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN, slot);
}

static __always_inline struct worker *worker_of(__u64 ino, struct task_struct *t, __u32 slot)
{
	struct worker_key key = {.ino = ino, .tid = BPF_CORE_READ(t, pid)};
	struct worker *w = bpf_map_lookup_elem(&workers, &key);
	struct scratch *s;
	long err;

	if (w)
		return w;
	s = scratch_of(slot);
	if (!s)
		return NULL;
	__builtin_memset(&s->worker, 0, sizeof(s->worker));
	s->worker.ino = ino;
	s->worker.task = (__u64)t;
	s->worker.tid = key.tid;
	s->worker.tgid = BPF_CORE_READ(t, tgid);
	s->worker.wait_nr = ~0U;
	s->worker.start_ns = BPF_CORE_READ(t, start_boottime);
	BPF_CORE_READ_INTO(&s->worker.comm, t, comm);
	err = bpf_map_update_elem(&workers, &key, &s->worker, BPF_NOEXIST);
	if (err && err != -EEXIST) {
		count_lost(LOSS_WORKER_MAP_FULL);
		key.tid = 0;
	}
	return bpf_map_lookup_elem(&workers, &key);
}

/* The overflow worker is written by many CPUs at once, the others by one. */
static __always_inline void bump(struct worker *w, __u64 *counter)
{
	if (w->tid)
		(*counter)++;
	else
		__sync_fetch_and_add(counter, 1);
}

#endif /* HERDTRACE_LISTENER_BPF_H */
