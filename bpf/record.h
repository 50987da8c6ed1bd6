/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the BPF programs and Go: bpf2go generates the Go side
 * from these types. Fixed-width fields, no bitfields, no implicit padding.
 * Counters are cumulative since attach; *_ns are CLOCK_MONOTONIC nanoseconds
 * or durations in nanoseconds.
 */
#ifndef HERDTRACE_RECORD_H
#define HERDTRACE_RECORD_H

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

#define UNIX_PATH_BYTES 108

/* One listening socket. Its identity is the socket's inode number, which is
 * never shared by two live sockets, in whatever network namespace they are.
 */
struct listener {
	__u64 sk; /* struct sock address, the map's key; the tracer keeps it to itself */
	__u64 ino;
	__u64 ready;	     /* calls of its data_ready callback: connections put on its accept
			      * queue, but for those accepted before the call was due
			      */
	__u64 burst_ns;	     /* when its last herd burst event went out */
	__u64 bursts_unsent; /* herd bursts that the rate bound held back */
	__u32 netns;	     /* inode number of its network namespace */
	__u16 family;
	__u16 port;	/* host order; 0 for unix */
	__u16 protocol; /* IPPROTO_TCP; 0 for unix */
	__u8 mptcp;	/* the application holds an MPTCP socket around it */
	__u8 v6only;
	__u8 reuseport;
	__u8 live;	/* filled by the dump: still this socket, still listening */
	__u16 path_len; /* unix: bytes of path, a leading NUL is an abstract name */
	__u8 addr[16];	/* IPv4 in the first four bytes */
	__u8 path[UNIX_PATH_BYTES];
	__u32 accept_queue_len;	  /* filled by the dump */
	__u32 accept_queue_max;	  /* filled by the dump */
	__u32 accept_queue_first; /* its length when the element was made */
};

struct worker_key {
	__u64 ino;
	__u32 tid; /* 0: the listener's overflow worker, when the worker map is full */
	__u32 _pad;
};

/* One thread at one listening socket. Only the thread itself writes the accept
 * side, and only a waker that holds the thread's pi_lock the wake-up side, so
 * none of it needs atomics (the overflow worker, which is shared, is atomic).
 */
struct worker {
	__u64 ino;
	__u64 task; /* struct task_struct address; the tracer keeps it to itself */
	__u64 start_ns;
	__u64 wakeups;	     /* wake-ups caused by the listener's readiness */
	__u64 accepts;	     /* connections accepted */
	__u64 eagains;	     /* accept() said EAGAIN */
	__u64 wasted;	     /* ... as the first thing after such a wake-up */
	__u64 drains;	     /* ... as the end of an accept-until-EAGAIN loop */
	__u64 empty_wakeups; /* wake-ups after which nothing was accepted before the next */
	__u64 empty_bursts;  /* of those, the ones whose run burst could be measured */
	__u64 empty_ns;	     /* CPU time of the measured ones */
	__u64 wake_run_ns;   /* sum_exec_runtime at the last wake-up */
	__u64 wake_nvcsw;    /* nvcsw at the last wake-up */
	__u64 run_ns;	     /* filled by the dump: sum_exec_runtime */
	__u64 wait_ns;	     /* filled by the dump: sched_info.run_delay */
	__u64 sleeps;	     /* filled by the dump: nvcsw */
	__u32 tid;
	__u32 tgid;
	__u32 state;   /* filled by the dump: task state, 0 running */
	__u32 wait_nr; /* system call in which it slept at the last wake-up; ~0 not known */
	__u32 _pad;
	__u8 live;	   /* filled by the dump */
	__u8 woken;	   /* woken, no accept call since */
	__u8 empty_so_far; /* woken, nothing accepted since */
	__u8 draining;	   /* accepted, no EAGAIN since (a leader's also for its threads) */
	char comm[16];
};

enum event_kind {
	EVENT_HERD_BURST = 1,
};

/* A rare event, carried by the ring buffer. */
struct event {
	__u64 mono_ns;
	__u64 ino;
	__u32 kind;
	__u32 woken; /* waiters woken for this one connection */
	__u32 accept_queue_len;
	__u32 cpu;
};

enum holder_kind {
	HOLDER_LISTENER = 1,
	HOLDER_EPOLL = 2,
	HOLDER_URING = 3,
};

/* A process that has a listening socket, an epoll instance or an io_uring open. */
struct holder {
	__u64 ino; /* of the listener; 0 otherwise */
	__u32 tgid;
	__u32 fd;
	__u32 kind;
	__u32 _pad;
};

/* Every way in which something can fail to be counted, one slot each. */
enum loss {
	LOSS_LISTENER_MAP_FULL,
	LOSS_WORKER_MAP_FULL,
	LOSS_RETIRED_MAP_FULL,
	LOSS_RING_FULL,
	LOSS_SOCKET_GONE, /* accept() returned, but its fd no longer is a listener */
	LOSS_KINDS,
};

#pragma clang diagnostic pop

#endif /* HERDTRACE_RECORD_H */
