/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the receive path's BPF programs and Go, under the rules
 * of record.h.
 */
#ifndef HERDTRACE_NETRX_RECORD_H
#define HERDTRACE_NETRX_RECORD_H

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

#define LATENCY_SLOTS 32
#define DEVICE_NAME_BYTES 16 /* include/uapi/linux/if.h: IFNAMSIZ */

/* The NET_RX softirq of one CPU, which alone writes it. */
struct net_rx {
	__u64 run_ns; /* from entry to exit */
	__u64 count;  /* entries: the NET_RX line of /proc/softirqs */
	__u64 latency_ns;
	__u64 raised_ns;  /* when it was raised first since its last entry; 0: it was not */
	__u64 entered_ns; /* 0: it does not run, or ran already when we came */
	/* [i]: runs that began 2^i to 2^(i+1) ns after the raise */
	__u64 latency[LATENCY_SLOTS];
};

/* Who loses packets at a full CPU backlog. */
struct backlog_key {
	__u64 netns_cookie; /* never given twice, as the inode number is; 0 before v5.12 */
	__u32 netns;	    /* inode number of the device's network namespace */
	__u32 ifindex;
	__u32 cpu; /* that ran enqueue_to_backlog(); the backlog may be another's */
	__u32 _pad;
};

struct device_drops {
	__u64 dropped;
	__u64 told;    /* of them, those that an event carried */
	__u64 told_ns; /* when the last event went out */
	__u8 device[DEVICE_NAME_BYTES];
};

/* A rare event, carried by the ring buffer. */
struct backlog_event {
	__u64 mono_ns;
	__u64 dropped; /* since the last event of this key */
	struct backlog_key key;
	__u8 device[DEVICE_NAME_BYTES];
};

/* Every way in which something can fail to be counted, one slot each. */
enum backlog_loss {
	LOSS_BACKLOG_MAP_FULL,
	LOSS_BACKLOG_RING_FULL,
	BACKLOG_LOSS_KINDS,
};

#pragma clang diagnostic pop

#endif /* HERDTRACE_NETRX_RECORD_H */
