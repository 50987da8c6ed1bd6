/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps, limits and the loss counters. */
#ifndef HERDTRACE_MAPS_BPF_H
#define HERDTRACE_MAPS_BPF_H

#define BURST_WOKEN_MIN 4		   /* waiters woken at once that make a burst event */
#define BURST_GAP_NS (100LL * 1000 * 1000) /* at most one such event per listener in this time */

/* Set when the tracer has found out which hooks this kernel takes: the wake
 * window opens at the child's ESTABLISHED.
 */
bool window_by_state;

/* Set while each SYN is looked at. */
bool looking;

/* Set where a hook at the callback's return closes the window. */
bool window_has_exit;

/* Set while no events are sent, to save their cost; how many there would have been. */
bool events_off;
__u64 events_shed;

/* Preallocated, since elements are added under pi_lock and in softirq. Sized by
 * the tracer.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* struct sock address */
	__type(value, struct listener);
} listeners SEC(".maps");

/* Listeners whose struct sock address came to belong to another one before the
 * tracer saw them die; the tracer empties it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u64); /* inode */
	__type(value, struct listener);
} retired SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct worker_key);
	__type(value, struct worker);
} workers SEC(".maps");

/* Only for window_by_state, which knows a port, not a socket. */
struct port_key {
	__u32 netns;
	__u16 port;
	__u16 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct port_key);
	__type(value, __u64); /* struct sock address of the listener seen last */
} ports SEC(".maps");

/* Only for window_by_state: which of a SO_REUSEPORT group a thread accepts on. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);   /* tid */
	__type(value, __u64); /* struct sock address */
} homes SEC(".maps");

/* The stretch of kernel execution in which every wake-up is one of a listener's
 * waiters: from the entry of its data_ready callback to its return.
 */
struct window {
	__u64 sk; /* 0: closed */
	__u64 ino;
	__u64 opened_ns;
	__u64 frame; /* stack address of the opening hook: what it calls lies below */
	__u64 here;  /* room to turn a stack address into a number */
	__u32 tid;
	__u32 woken;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct window);
} windows SEC(".maps");

/* Room to build a new element in. One slot for each program, because one may
 * interrupt another on a CPU, and never itself.
 */
enum slot {
	SLOT_ACCEPT,
	SLOT_ACCEPT4,
	SLOT_SYS_EXIT,
	SLOT_DO_ACCEPT,
	SLOT_READY,
	SLOT_STATE,
	SLOT_WAKING,
	SLOT_HOLDERS,
	SLOT_LISTEN,
	SLOT_REFUSE,
	SLOTS
};

struct scratch {
	struct listener listener;
	struct worker worker;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Refused clients; the tracer removes those that have not come back. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CLIENTS_MAX);
	__type(key, struct client_key);
	__type(value, struct client);
} clients SEC(".maps");

/* How many of them each listener has there: one that is flooded from forged
 * addresses must leave room for the others. Made up anew by the tracer.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* inode of the listener */
	__type(value, __u64);
} client_shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64); /* inode of the listener */
	__type(value, struct sketch);
} sketches SEC(".maps");

/* Never written: what a new sketch is copied from. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sketch);
} empty_sketch SEC(".maps");

/* Which listeners a packet may be for; filled by the tracer while refusals are
 * looked at one by one without a hook that names the listener.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct bound_key);
	__type(value, struct bound);
} bounds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

static __always_inline void count_lost(__u32 kind)
{
	__u64 *n = bpf_map_lookup_elem(&losses, &kind);

	if (n)
		(*n)++;
}

static __always_inline struct scratch *scratch_of(__u32 slot)
{
	return bpf_map_lookup_elem(&scratches, &slot);
}

#endif /* HERDTRACE_MAPS_BPF_H */
