/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps and knobs of the scheduler's programs. */
#ifndef HERDTRACE_SCHED_MAPS_BPF_H
#define HERDTRACE_SCHED_MAPS_BPF_H

/* Types that no map holds would be missing from the BTF that Go is generated from. */
const struct thread *keep_thread __attribute__((unused));
const struct stall *keep_stall __attribute__((unused));
const enum sched_loss *keep_sched_loss __attribute__((unused));

#define OWN_LINE __attribute__((aligned(64))) /* apart from what is written */

/* Read at each switch, and set by the tracer. A wait from long_wait_ns on is
 * taken apart; look_gap_ns is how often a core looks at others; peak_epoch is
 * raised when the peaks are read: they begin anew.
 */
OWN_LINE __u64 long_wait_ns;
__u64 look_gap_ns;
__u32 peak_epoch;
__u32 cores_possible;
__u32 cores_online;
bool stalls_off;    /* no stops are told, to save their cost */
bool stalls_wanted; /* the throttle signal looks at single stops */
OWN_LINE __u64 online_map[MAX_CORES / 64];
/* How many threads are in parked_threads. */
OWN_LINE __s64 parked_now;
__u64 stalls_shed; /* stops that were not told, while stalls_off */
/* Of dump_threads. */
OWN_LINE __u64 active_since_ns;
__u64 seen_at_ns;
__u32 threads_total;

_Static_assert(sizeof(struct core) % 64 == 0, "two cores share a cache line");

/* By CPU. No per-CPU map: cores look at each other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CORES);
	__type(key, __u32);
	__type(value, struct core);
} cores SEC(".maps");

/* All preallocated: there is no allocating under a run queue's lock. Sized by
 * the tracer, which takes out what is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct waits);
} thread_waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct waits);
} cgroup_waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct rivals);
	__type(value, struct contention);
} contended SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct stall_state);
} stall_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct parked);
} parked_threads SEC(".maps");

/* Of the classical variant alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, __u64);
} woken SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} exits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} stalls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCHED_LOSS_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} sched_losses SEC(".maps");

static __always_inline void count_sched_loss(__u32 kind)
{
	__u64 *n = bpf_map_lookup_elem(&sched_losses, &kind);

	if (n)
		(*n)++;
}

static __always_inline struct core *core_of(__u32 cpu)
{
	return bpf_map_lookup_elem(&cores, &cpu);
}

/* The verifier lets no typed pointer into a global function. What has been in a
 * map is a number, which probe_read takes all the same.
 */
static __always_inline __u64 plain(struct core *c, const void *p)
{
	*(volatile __u64 *)&c->bounce = (__u64)p;
	return *(volatile __u64 *)&c->bounce;
}

#endif /* HERDTRACE_SCHED_MAPS_BPF_H */
