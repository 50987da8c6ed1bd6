/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel itself decided about a packet, read from its own counters.
 *
 * A listener that refuses a client says so nowhere but in the TcpExt counters
 * of its namespace, which are kept per CPU. A handshake packet is handled on
 * one CPU without another of its kind in between, so the counters of that CPU
 * before and after it tell its fate, with no race and on every kernel.
 */
#ifndef HERDTRACE_MIB_BPF_H
#define HERDTRACE_MIB_BPF_H

enum mib_kind {
	MIB_LISTEN_OVERFLOWS,
	MIB_LISTEN_DROPS,
	MIB_COOKIES_SENT,
	MIB_COOKIES_FAILED,
	MIB_KINDS,
};

/* Their places in struct linux_mib, which move between kernels. The tracer
 * finds them by name in the kernel's BTF (include/uapi/linux/snmp.h), in an
 * enum without a name, which CO-RE cannot.
 */
__u32 mib_index[MIB_KINDS];

struct mib {
	__u64 n[MIB_KINDS];
};

struct mib_room {
	__u64 self; /* address of this room, on this CPU */
	__u64 map;  /* address of the map that holds it */
	__u64 percpu_offset;
	__u64 marked[STAGES]; /* struct net address */
	struct mib marks[STAGES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mib_room);
} mib_rooms SEC(".maps");

static __always_inline struct mib_room *mib_room_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&mib_rooms, &zero);
}

/* What must be added to a __percpu pointer on this CPU. A per-CPU map shows it:
 * its element's address here, less the __percpu pointer that the map keeps.
 * The verifier lets both pointers be stored, and calculates with numbers only.
 */
static __always_inline __u64 percpu_offset(struct mib_room *r)
{
	struct bpf_array *map;
	void *p = NULL;

	if (r->percpu_offset)
		return r->percpu_offset;
	*(volatile __u64 *)&r->self = (__u64)r;
	*(volatile __u64 *)&r->map = (__u64)&mib_rooms;
	map = (void *)*(volatile __u64 *)&r->map;
	bpf_core_read(&p, sizeof(p), &map->pptrs);
	if (!p)
		return 0;
	r->percpu_offset = *(volatile __u64 *)&r->self - (__u64)p;
	return r->percpu_offset;
}

static __always_inline bool read_mib(struct mib_room *r, struct mib *m, struct net *net)
{
	__u64 base = (__u64)BPF_CORE_READ(net, mib.net_statistics);
	__u64 offset = percpu_offset(r);

	if (!base || !offset)
		return false;
	base += offset;
	for (int i = 0; i < MIB_KINDS; i++)
		if (bpf_probe_read_kernel(&m->n[i], sizeof(m->n[i]), (void *)(base + 8 * mib_index[i])))
			return false;
	return true;
}

/* At the entry of a function: what the counters are now. */
static __always_inline void mark_mib(struct sock *sk, __u32 stage)
{
	struct net *net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	struct mib_room *r = mib_room_here();

	if (r && read_mib(r, &r->marks[stage], net))
		r->marked[stage] = (__u64)net;
}

/* A mark whose exit was missed must not be taken for that of the next call. */
static __always_inline void unmark_mib(__u32 stage)
{
	struct mib_room *r = mib_room_here();

	if (r)
		r->marked[stage] = 0;
}

/* At its exit: by how much they grew. False without a mark. */
static __always_inline bool since_mark(struct sock *sk, __u32 stage, struct mib *d)
{
	struct mib_room *r = mib_room_here();
	struct net *net;

	if (!r || !r->marked[stage])
		return false;
	net = (void *)r->marked[stage];
	r->marked[stage] = 0;
	if (net != BPF_CORE_READ(sk, __sk_common.skc_net.net) || !read_mib(r, d, net))
		return false;
	for (int i = 0; i < MIB_KINDS; i++)
		d->n[i] -= r->marks[stage].n[i];
	return true;
}

#endif /* HERDTRACE_MIB_BPF_H */
