/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the schedulers of different kernels differ, under the rules of
 * compat.bpf.h.
 */
#ifndef HERDTRACE_SCHED_COMPAT_BPF_H
#define HERDTRACE_SCHED_COMPAT_BPF_H

#define TASK_DEAD 0x80	 /* include/linux/sched.h */
#define MAX_DEPTH 32	 /* of nested cgroups */
#define DEFAULT_PRIO 120 /* include/linux/sched/prio.h: nice 0 */

#define ACCESSED __attribute__((preserve_access_index))

/* v5.16 (bcf9033e5449): it moved from task_struct to thread_info. */
struct thread_info___cpu {
	__u32 cpu;
} ACCESSED;
struct task_struct___cpu {
	unsigned int cpu;
} ACCESSED;
struct task_struct___thread_info {
	struct thread_info___cpu thread_info;
} ACCESSED;

static __always_inline __u32 task_cpu(struct task_struct *t)
{
	struct task_struct___cpu *old = (void *)t;
	struct task_struct___thread_info *now = (void *)t;

	if (bpf_core_field_exists(now->thread_info.cpu))
		return BPF_CORE_READ(now, thread_info.cpu);
	return BPF_CORE_READ(old, cpu);
}

/* v6.12 (152e11f6df29): a thread that sleeps may stay in its queue for a while,
 * and is counted there: by h_nr_delayed (76f2f783294d, v6.13), then as what is
 * queued and not runnable (c2a295bffeaf, 9216582b0bfb, v6.14). Between these a
 * kernel does not tell.
 */
struct cfs_rq___delayed {
	unsigned int h_nr_delayed;
} ACCESSED;

static __always_inline __u32 delayed_on(struct rq *rq)
{
	struct cfs_rq___delayed *old = (void *)&rq->cfs;

	if (bpf_core_field_exists(rq->cfs.h_nr_runnable))
		return rq->cfs.h_nr_queued - rq->cfs.h_nr_runnable;
	if (bpf_core_field_exists(old->h_nr_delayed))
		return old->h_nr_delayed;
	return 0;
}

/* h_nr_running until v6.14 (7b8a702d943827); 6.12.107 has the new name, too. */
struct cfs_rq___running {
	unsigned int h_nr_running;
} ACCESSED;

static __always_inline __u32 queued_in(struct cfs_rq *cfs)
{
	struct cfs_rq___running *old = (void *)cfs;

	if (bpf_core_field_exists(cfs->h_nr_queued))
		return BPF_CORE_READ(cfs, h_nr_queued);
	return BPF_CORE_READ(old, h_nr_running);
}

/* For how long a leaf run queue has been stopped by now, by its own quota or an
 * ancestor's, without the present stop. v6.6 (677ea015f231) counts real time
 * while there is something to run; before, it is the time that load averages
 * count, which goes slower where frequency or capacity scale it; it was renamed
 * in v5.19 (64eaf50731ac).
 */
struct cfs_rq___pelt {
	__u64 throttled_clock_pelt_time;
} ACCESSED;
struct cfs_rq___task {
	__u64 throttled_clock_task_time;
} ACCESSED;

static __always_inline __u64 stalled_for(struct cfs_rq *cfs)
{
	struct cfs_rq___pelt *pelt = (void *)cfs;
	struct cfs_rq___task *task = (void *)cfs;

	if (bpf_core_field_exists(cfs->throttled_clock_self_time))
		return BPF_CORE_READ(cfs, throttled_clock_self_time);
	if (bpf_core_field_exists(pelt->throttled_clock_pelt_time))
		return BPF_CORE_READ(pelt, throttled_clock_pelt_time);
	if (bpf_core_field_exists(task->throttled_clock_task_time))
		return BPF_CORE_READ(task, throttled_clock_task_time);
	return 0;
}

/* Whether that is more than nothing, for a pointer of which the verifier knows
 * the type.
 */
static __always_inline bool has_stalled(struct cfs_rq *cfs)
{
	struct cfs_rq___pelt *pelt = (void *)cfs;
	struct cfs_rq___task *task = (void *)cfs;

	if (bpf_core_field_exists(cfs->throttled_clock_self_time))
		return cfs->throttled_clock_self_time;
	if (bpf_core_field_exists(pelt->throttled_clock_pelt_time))
		return pelt->throttled_clock_pelt_time;
	if (bpf_core_field_exists(task->throttled_clock_task_time))
		return task->throttled_clock_task_time;
	return false;
}

/* Since when the present stop is counted: 0 where nothing in the queue waits for
 * its end. Where the kernel does not say, it is now.
 */
static __always_inline __u64 stopped_since(struct cfs_rq *cfs, __u64 now)
{
	if (bpf_core_field_exists(cfs->throttled_clock_self))
		return BPF_CORE_READ(cfs, throttled_clock_self);
	return now;
}

static __always_inline bool knows_begin(void)
{
	return bpf_core_field_exists(((struct cfs_rq *)0)->throttled_clock_self);
}

/* Whether the thread's cgroup or an ancestor may have a quota (kernel/sched/core.c:
 * tg_cfs_schedulable_down()): at least where they have.
 */
static __always_inline bool may_have_quota(struct task_struct *t)
{
	struct task_group *tg = t->sched_task_group;

	return bpf_core_field_exists(tg->cfs_bandwidth) && tg->cfs_bandwidth.hierarchical_quota != -1;
}

/* The nearest cgroup with a quota, from tg upwards. */
static __always_inline struct task_group *limited_by(struct task_group *tg)
{
	for (int i = 0; i < MAX_DEPTH; i++) {
		struct task_group *up;

		if (!bpf_core_field_exists(tg->cfs_bandwidth) || BPF_CORE_READ(tg, cfs_bandwidth.quota) != ~0ULL)
			return tg;
		up = BPF_CORE_READ(tg, parent);
		if (!up)
			return tg;
		tg = up;
	}
	return tg;
}

/* include/uapi/linux/sched.h: what no quota of CFS stops. */
static __always_inline bool is_realtime(struct task_struct *t)
{
	__u32 policy = BPF_CORE_READ(t, policy);

	return policy == 1 || policy == 2 || policy == 6; /* SCHED_FIFO, SCHED_RR, SCHED_DEADLINE */
}

/* A bit since v6.18, an int before. */
static __always_inline bool is_throttled(struct cfs_rq *cfs)
{
	return bpf_core_field_exists(cfs->throttled) && BPF_CORE_READ_BITFIELD_PROBED(cfs, throttled);
}

/* v6.18 (e1fad12dcb66): a stop takes each thread out of its queue when that goes
 * back to user space; until then it runs. Before, the queue is stopped as a whole.
 */
struct task_struct___throttled {
	bool throttled;
} ACCESSED;

static __always_inline bool takes_out(void)
{
	return bpf_core_field_exists(((struct task_struct___throttled *)0)->throttled);
}

static __always_inline bool is_taken_out(struct task_struct *t)
{
	return !takes_out() || BPF_CORE_READ((struct task_struct___throttled *)t, throttled);
}

/* Absent without CONFIG_CFS_BANDWIDTH. */
static __always_inline bool is_stopped(struct cfs_rq *cfs)
{
	return bpf_core_field_exists(cfs->throttle_count) && cfs->throttle_count > 0;
}

/* What the hypervisor took, by the kernel's account: at each tick
 * (kernel/sched/cputime.c: steal_account_process_time()). Absent without
 * CONFIG_PARAVIRT.
 */
static __always_inline __u64 stolen_on(struct rq *rq)
{
	return bpf_core_field_exists(rq->prev_steal_time) ? BPF_CORE_READ(rq, prev_steal_time) : 0;
}

/* When t became runnable; 0 where it is not, or without CONFIG_SCHED_INFO. */
static __always_inline __u64 queued_since(struct task_struct *t)
{
	return bpf_core_field_exists(t->sched_info) ? t->sched_info.last_queued : 0;
}

#endif /* HERDTRACE_SCHED_COMPAT_BPF_H */
