/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the scheduler's BPF programs and Go, under the rules of
 * record.h. Times are on the run queues' clock (kernel/sched/sched.h:
 * rq_clock()) unless a comment says otherwise.
 */
#ifndef HERDTRACE_SCHED_RECORD_H
#define HERDTRACE_SCHED_RECORD_H

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

#define WAIT_SLOTS 32 /* LOG2_SLOTS */
#define MAX_CORES 512
#define MARKS 64       /* a power of two: see struct core */
#define STALLS_KEPT 16 /* a power of two */
#define STALL_TIDS 8
#define COMM_BYTES 16

/* What had accumulated at one moment. */
struct mark {
	__u64 at_ns;
	__u64 elsewhere_ns;
	__u64 steal_ns;
};

/* One CPU, which alone writes it and others read. */
struct core {
	/* What each switch writes comes first: two cache lines and one of wait. */
	__u64 switched_ns;   /* its last switch; 0: none yet */
	__u64 idle_since_ns; /* 0: it is not idle */
	__u64 busy_ns;
	__u64 idle_ns; /* without the present spell */
	__u64 switches;
	__u64 waits;
	__u64 wait_ns;
	/* for how long, since the last look around, a thread waited here */
	__u64 waited_ns;
	__u32 runnable;	   /* after the last switch */
	__u32 epoch;	   /* of peak: see peak_epoch */
	__u32 peak;	   /* most runnable in epoch */
	__u32 peak_before; /* in the one before it */
	__u64 looked_ns;
	__u64 idle_began_ns; /* the last time */
	__u64 throttled_ns;  /* of wait_ns */
	__u64 unclaimed_ns;  /* of waited_ns, while another core was idle; of all looks */
	/* What another core was idle for, one at a time, as of the last look. */
	__u64 elsewhere_ns;
	__u64 others_idle_ns; /* their sum, then */
	__u64 steal_ns;
	__u64 wait[WAIT_SLOTS];		/* [i]: waits of 2^i to 2^(i+1) ns */
	__u64 idle_map[MAX_CORES / 64]; /* the cores that were idle at the last look */
	__u64 bounce;			/* see plain() */
	/* Since when the core that has been idle longest is, at the last look; 0: none. */
	__u64 idle_from_ns;
	struct mark before;	  /* as of the look before the last */
	struct mark marks[MARKS]; /* by time, MARK_SHIFT apart */
	__u64 spare[2];		  /* to a multiple of a cache line: others read it */
};

/* What of the waits of a thread, or of a leaf cgroup, is not contention. */
struct waits {
	__u64 throttled_ns;
	__u64 mask_ns;
	__u64 stolen_ns;
	__u64 task; /* address and start: a thread's identity. 0 for a cgroup */
	__u64 start_ns;
	__u64 cgroup_id;
	__u32 tid;
	__u32 _pad;
};

/* Who had the core at the end of whose wait. */
struct rivals {
	__u32 tgid;
	__u32 holder;
};

struct contention {
	struct rivals who;
	__u64 wait_ns;
	__u8 comm[COMM_BYTES]; /* of a thread of the holder */
};

/* A live thread, as the iterator shows it, or one that has just ended. */
struct thread {
	__u64 task;	 /* its address; one that execs keeps it, not its number */
	__u64 start_ns;	 /* CLOCK_BOOTTIME */
	__u64 leader_ns; /* of the main thread of its process: with tgid, the process's identity */
	__u64 run_ns;
	__u64 wait_ns;
	__u64 pending_ns; /* how long it has been waiting by now */
	__u64 voluntary;
	__u64 involuntary;
	__u64 arrivals; /* sched_info.pcount */
	__u64 migrations;
	__u64 cgroup_id; /* 0: in an autogroup of the root cgroup */
	__u32 tid;
	__u32 tgid;
	__u32 cpu;
	__u32 allowed; /* cores that it may use */
	__u32 policy;
	__s32 nice;
	__u32 kernel;
	__u32 _pad;
	__u8 comm[COMM_BYTES];
};

/* A thread that was stopped for want of quota. */
struct parked {
	__u64 start_ns; /* of the thread */
	__u64 since_ns;
	__u64 cfs_rq;
	__u64 stalled_ns; /* what cfs_rq had been stopped for by then */
};

struct span {
	__u64 from_ns;
	__u64 to_ns;
};

/* A leaf run queue (struct cfs_rq: one cgroup on one CPU) that its own or an
 * ancestor's quota stops now and then.
 */
struct stall_state {
	__u64 leaf_id;	    /* of its cgroup: the address may be another's by now */
	__u64 cgroup_id;    /* whose quota it is */
	__u64 stopped_ns;   /* when it was stopped; 0: it is not */
	__u64 stalled_ns;   /* the kernel's sum of its stops, as of the last one seen */
	__u64 used_mono_ns; /* CLOCK_MONOTONIC, of the last stop */
	__u64 last_to_ns;   /* end of the last span */
	struct span spans[STALLS_KEPT];
	__u32 next; /* where the next span goes */
	__u32 cpu;
	__u32 threads; /* that waited in it, at most */
	__u32 parked;  /* that were switched out in this stop */
	__u32 _pad;
	__u32 tids_n;
	__u32 tids[STALL_TIDS];
};

/* It was stopped, and runs again. */
struct stall {
	__u64 mono_ns; /* CLOCK_MONOTONIC, of the end */
	__u64 from_ns;
	__u64 to_ns;
	__u64 cgroup_id;
	__u32 cpu;
	__u32 threads;
	__u32 tids_n;
	__u32 _pad;
	__u32 tids[STALL_TIDS];
};

/* Every way in which something can fail to be counted, one slot each. */
enum sched_loss {
	LOSS_EXIT_RING_FULL,
	LOSS_STALL_RING_FULL,
	LOSS_STALL_MAP_FULL,
	LOSS_WAIT_MAP_FULL,
	LOSS_RIVAL_MAP_FULL,
	LOSS_PARKED_MAP_FULL,
	LOSS_WOKEN_MAP_FULL,
	LOSS_NO_CORE,
	SCHED_LOSS_KINDS,
};

#pragma clang diagnostic pop

#endif /* HERDTRACE_SCHED_RECORD_H */
