/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The scheduler's types, under the rules of kernel.bpf.h. */
#ifndef HERDTRACE_SCHED_KERNEL_BPF_H
#define HERDTRACE_SCHED_KERNEL_BPF_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct cfs_bandwidth {
	__u64 quota;
	__s64 hierarchical_quota;
};

struct task_group {
	struct cgroup_subsys_state css;
	struct task_group *parent;
	struct cfs_bandwidth cfs_bandwidth;
};

struct cfs_rq {
	unsigned int h_nr_queued;
	unsigned int h_nr_runnable;
	struct rq *rq;
	struct task_group *tg;
	__u64 throttled_clock_self;
	__u64 throttled_clock_self_time;
	int throttled;
	int throttle_count;
};

struct rq {
	unsigned int nr_running;
	struct cfs_rq cfs;
	__u64 clock;
	__u64 clock_task;
	int cpu;
	__u64 prev_steal_time;
};

#pragma clang attribute pop

#endif /* HERDTRACE_SCHED_KERNEL_BPF_H */
