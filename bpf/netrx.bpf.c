//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The receive path: how long each core is in the NET_RX softirq and how long
 * that waits to run, and whose packets a full CPU backlog refuses. What the
 * kernel counts itself (/proc/net/softnet_stat) the tracer reads from there.
 */
#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "compat.bpf.h"
#include "log2.bpf.h"
#include "netrx_record.h"

#define NET_RX_SOFTIRQ 3		    /* include/linux/interrupt.h */
#define EVENT_GAP_NS (100ULL * 1000 * 1000) /* at most one event per key in this time */

/* Types that no map holds would be missing from the BTF that Go is generated from. */
const struct backlog_event *keep_backlog_event __attribute__((unused));
const enum backlog_loss *keep_backlog_loss __attribute__((unused));

/* Where the code of enqueue_to_backlog() lies, where the tracer had to look it up. */
__u64 backlog_start;
__u64 backlog_bytes;

/* Set while no events are sent, to save their cost; how many there would have been. */
bool backlog_events_off;
__u64 backlog_events_shed;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct net_rx);
} net_rx_cpus SEC(".maps");

/* Preallocated, since elements are added in softirq. Sized by the tracer, which
 * takes out those that have been idle.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct backlog_key);
	__type(value, struct device_drops);
} backlog_drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} backlog_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BACKLOG_LOSS_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} backlog_losses SEC(".maps");

static __always_inline struct net_rx *net_rx_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&net_rx_cpus, &zero);
}

/* kernel/softirq.c: handle_softirqs() runs one vector after the other, each
 * between these two, and is not entered again on a CPU before it returns.
 */
SEC("tp_btf/softirq_entry")
int net_rx_entry(__u64 *ctx)
{
	struct net_rx *n;
	__u64 now, wait;

	if ((__u32)ctx[0] != NET_RX_SOFTIRQ)
		return 0;
	n = net_rx_here();
	if (!n)
		return 0;
	now = bpf_ktime_get_ns();
	n->count++;
	n->entered_ns = now;
	/* Without one it was raised again after its CPU had taken the first raise
	 * as pending: it runs a second time for what the first run has done.
	 */
	if (!n->raised_ns)
		return 0;
	wait = now - n->raised_ns;
	n->raised_ns = 0;
	n->latency_ns += wait;
	n->latency[log2_slot(wait) & (LATENCY_SLOTS - 1)]++;
	return 0;
}

SEC("tp_btf/softirq_exit")
int net_rx_exit(__u64 *ctx)
{
	struct net_rx *n;

	if ((__u32)ctx[0] != NET_RX_SOFTIRQ)
		return 0;
	n = net_rx_here();
	if (!n || !n->entered_ns)
		return 0;
	n->run_ns += bpf_ktime_get_ns() - n->entered_ns;
	n->entered_ns = 0;
	return 0;
}

/* Always on the CPU that will run it (kernel/softirq.c: __raise_softirq_irqoff()). */
SEC("tp_btf/softirq_raise")
int net_rx_raise(__u64 *ctx)
{
	struct net_rx *n;

	if ((__u32)ctx[0] != NET_RX_SOFTIRQ)
		return 0;
	n = net_rx_here();
	if (n && !n->raised_ns)
		n->raised_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline void count_backlog_loss(__u32 kind)
{
	__u64 *n = bpf_map_lookup_elem(&backlog_losses, &kind);

	if (n)
		(*n)++;
}

static __always_inline struct device_drops *drops_of(struct backlog_key *key, struct net_device *dev)
{
	struct device_drops *d = bpf_map_lookup_elem(&backlog_drops, key);
	struct device_drops fresh = {};

	if (d)
		return d;
	BPF_CORE_READ_STR_INTO(&fresh.device, dev, name);
	bpf_map_update_elem(&backlog_drops, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&backlog_drops, key);
}

static __always_inline void tell_drops(struct backlog_key *key, struct device_drops *d)
{
	struct backlog_event e = {.mono_ns = bpf_ktime_get_ns(), .key = *key};

	if (e.mono_ns - d->told_ns < EVENT_GAP_NS)
		return;
	if (backlog_events_off) {
		d->told_ns = e.mono_ns;
		__sync_fetch_and_add(&backlog_events_shed, 1);
		return;
	}
	e.dropped = d->dropped - d->told;
	__builtin_memcpy(e.device, d->device, sizeof(e.device));
	d->told_ns = e.mono_ns;
	if (bpf_ringbuf_output(&backlog_events, &e, sizeof(e), BPF_RB_NO_WAKEUP)) {
		count_backlog_loss(LOSS_BACKLOG_RING_FULL);
		return;
	}
	d->told += e.dropped;
}

/* net/core/dev.c: enqueue_to_backlog() has counted the packet in softnet_stat
 * before it frees it. So what finds no place here is missing from the sum, and
 * the tracer sees how much that is.
 */
static __always_inline int on_backlog_drop(struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct backlog_key key = {};
	struct device_drops *d;
	struct net *net;

	if (!dev)
		return 0;
	net = BPF_CORE_READ(dev, nd_net.net);
	key.netns_cookie = netns_cookie(net);
	key.netns = BPF_CORE_READ(net, ns.inum);
	key.ifindex = BPF_CORE_READ(dev, ifindex);
	key.cpu = bpf_get_smp_processor_id();
	d = drops_of(&key, dev);
	if (!d) {
		count_backlog_loss(LOSS_BACKLOG_MAP_FULL);
		return 0;
	}
	__sync_fetch_and_add(&d->dropped, 1);
	tell_drops(&key, d);
	return 0;
}

/* v5.18 (44f0bd40803c): its number moves with every release. Absent before; the
 * tracer does not load this program then.
 */
enum skb_drop_reason___backlog { SKB_DROP_REASON_CPU_BACKLOG = 0xffff };

/* One call for each packet that is dropped for whatever reason, wherever. */
SEC("tp_btf/kfree_skb")
int backlog_by_reason(__u64 *ctx)
{
	if ((__u32)ctx[2] != bpf_core_enum_value(enum skb_drop_reason___backlog, SKB_DROP_REASON_CPU_BACKLOG))
		return 0;
	return on_backlog_drop((void *)ctx[0]);
}

SEC("tp_btf/kfree_skb")
int backlog_by_location(__u64 *ctx)
{
	if (ctx[1] - backlog_start >= backlog_bytes)
		return 0;
	return on_backlog_drop((void *)ctx[0]);
}

/* Empty programs on the same hooks: what the bench compares with. */
SEC("tp_btf/softirq_entry")
int empty_softirq_entry(__u64 *ctx)
{
	return 0;
}

SEC("tp_btf/softirq_exit")
int empty_softirq_exit(__u64 *ctx)
{
	return 0;
}

SEC("tp_btf/softirq_raise")
int empty_softirq_raise(__u64 *ctx)
{
	return 0;
}

SEC("tp_btf/kfree_skb")
int empty_kfree_skb(__u64 *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
