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

/* Where a listener turned a client away, see pkg/tracer/sample/queues.go. */
enum place {
	PLACE_ACCEPT_QUEUE_SYN,
	PLACE_ACCEPT_QUEUE_ACK,
	PLACE_ACCEPT_QUEUE_COOKIE,
	PLACE_SYN_QUEUE,
	PLACES,
};

/* One listening socket. Its identity is the socket's inode number, which is
 * never shared by two live sockets, in whatever network namespace they are.
 */
struct listener {
	__u64 sk; /* struct sock address, the map's key; the tracer keeps it to itself */
	__u64 ino;
	__u64 ready;	       /* calls of its data_ready callback: connections put on its accept
				* queue, but for those accepted before the call was due
				*/
	__u64 burst_ns;	       /* when its last herd burst event went out */
	__u64 bursts_unsent;   /* herd bursts that the rate bound held back */
	__u64 refused[PLACES]; /* the refusals that were seen, by place */
	__u64 cookies_sent;    /* likewise */
	__u64 cookies_failed;
	__u64 refusal_ns;	 /* when its last refusal event went out */
	__u64 refusals_unsent;	 /* refusals that no event told of on its own */
	__u64 refusals_pending;	 /* of them, those since the last event */
	__u64 accept_full_ns;	 /* how long its accept queue was full, up to ... */
	__u64 accept_full_since; /* ... this time, when it became so; 0: it is not */
	__u64 netns_cookie;	 /* tells namespaces apart that had one inode number after another; 0 not known */
	__u32 netns;		 /* inode number of its network namespace */
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
	__u32 accept_queue_peak;  /* since the last dump, which resets it */
	__u32 syn_queue_peak;	  /* likewise */
	__u32 syn_queue_len;	  /* filled by the dump, like all that follow */
	__u32 drops;		  /* sk_drops, which counts some refusals twice, and more */
	__u32 drops_booked;	  /* ... up to which a refusal was attributed; kept by the hooks */
	__u32 somaxconn;	  /* of its network namespace */
	__u32 max_syn_backlog;
	__u32 syncookies;
	__u32 abort_on_overflow;
	__s32 backlog; /* listen(2)'s argument, -1 where the call was not seen; kept by the hooks */
};

/* A client that was refused: one connection attempt at one listener. */
struct client_key {
	__u64 ino;
	__u8 addr[16]; /* IPv4 in the first four bytes */
	__u16 port;    /* host order */
	__u16 family;
	__u32 _pad;
};

struct client {
	__u64 last_ns;
	__u64 refusals;
};

#define CLIENTS_MAX 49152
#define CLIENTS_PER_LISTENER 32768

#define SKETCH_BITS 8
#define SKETCH_REGISTERS 256

/* How many distinct clients did not fit into the map of clients: HyperLogLog. */
struct sketch {
	__u8 rank[SKETCH_REGISTERS];
};

/* An address that listeners of one namespace are bound to. */
struct bound_key {
	__u32 netns;
	__u16 port;
	__u16 family; /* of the packets */
	__u8 addr[16];
};

#define BOUND_MAX 64

/* The listeners there: more than one are a SO_REUSEPORT group. */
struct bound {
	__u64 n;
	__u64 sk[BOUND_MAX];
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
	__u32 state;   /* filled by the dump: task state, 0 running; 0x8000 where its cgroup is frozen */
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
	EVENT_REFUSAL = 2,
};

/* A rare event, carried by the ring buffer. */
struct event {
	__u64 mono_ns;
	__u64 ino;
	__u32 kind;
	__u32 woken; /* herd burst: waiters woken for this one connection */
	__u32 accept_queue_len;
	__u32 cpu;
	__u64 refused; /* refusal: this one, and those since the last such event */
	__u32 place;
	__u32 syn_queue_len;
	__u8 client_addr[16];
	__u16 client_port;
	__u16 client_family;
	__u32 _pad;
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
	LOSS_SOCKET_GONE,   /* accept() returned, but its fd no longer is a listener */
	LOSS_CLIENT_SKETCH, /* a refused client that neither the map nor a sketch had room for */
	LOSS_ENTRY_MISSED,  /* a handshake function returned whose entry was not seen; by kprobes only */
	LOSS_RETURN_MISSED, /* ... entered whose return was not seen */
	LOSS_KINDS,
};

#pragma clang diagnostic pop

#endif /* HERDTRACE_RECORD_H */
