/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * CFS bandwidth control, seen from the context switch: no kernel has a
 * tracepoint for it. A leaf run queue that is stopped, be it by the quota of an
 * ancestor, says so (kernel/sched/fair.c: tg_throttle_down()), and counts for how
 * long; the begin is seen when its thread is switched out, the end follows from
 * that count when one is switched in again.
 */
#ifndef HERDTRACE_STALL_BPF_H
#define HERDTRACE_STALL_BPF_H

static __always_inline __u64 cgroup_id_of(struct task_group *tg)
{
	return BPF_CORE_READ(tg, css.cgroup, kn, id);
}

/* Whose quota it is that stops the thread's run queue. */
static __always_inline __u64 throttler_of(struct task_struct *t)
{
	struct cfs_rq *cfs = BPF_CORE_READ(t, se.cfs_rq);
	struct sched_entity *se = BPF_CORE_READ(t, se.parent);

	for (int i = 0; i < MAX_DEPTH; i++) {
		if (is_throttled(cfs))
			break;
		if (!se)
			break;
		cfs = BPF_CORE_READ(se, cfs_rq);
		se = BPF_CORE_READ(se, parent);
	}
	return cgroup_id_of(BPF_CORE_READ(cfs, tg));
}

static __always_inline struct stall_state *stall_state_of(__u64 key)
{
	return bpf_map_lookup_elem(&stall_states, &key);
}

static __always_inline struct stall_state *new_stall_state(__u64 key, struct cfs_rq *cfs)
{
	static const struct stall_state none;
	struct stall_state *s;

	bpf_map_update_elem(&stall_states, &key, &none, BPF_NOEXIST);
	s = bpf_map_lookup_elem(&stall_states, &key);
	if (!s) {
		count_sched_loss(LOSS_STALL_MAP_FULL);
		return NULL;
	}
	s->stalled_ns = stalled_for(cfs);
	s->leaf_id = cgroup_id_of(BPF_CORE_READ(cfs, tg));
	return s;
}

/* The state of cfs, begun anew where the address was another's. */
static __always_inline struct stall_state *stall_state_for(__u64 key, struct cfs_rq *cfs)
{
	struct stall_state *s = stall_state_of(key);

	if (!s)
		return new_stall_state(key, cfs);
	if (s->leaf_id != cgroup_id_of(BPF_CORE_READ(cfs, tg))) {
		bpf_map_delete_elem(&stall_states, &key);
		s = new_stall_state(key, cfs);
	}
	return s;
}

static __always_inline bool is_runnable(struct task_struct *t)
{
	return BPF_CORE_READ(t, pid) && !task_state(t);
}

static __always_inline void park(struct task_struct *t, __u64 key, struct stall_state *s, __u64 now)
{
	struct parked fresh = {.start_ns = BPF_CORE_READ(t, start_boottime),
			       .since_ns = now,
			       .cfs_rq = key,
			       .stalled_ns = s->stalled_ns};
	__u32 tid = BPF_CORE_READ(t, pid);
	struct parked *p = bpf_map_lookup_elem(&parked_threads, &tid);
	__u32 i = s->tids_n;

	if (p && p->start_ns == fresh.start_ns && p->since_ns >= s->stopped_ns)
		return; /* in this stop already */
	if (bpf_map_update_elem(&parked_threads, &tid, &fresh, BPF_ANY))
		count_sched_loss(LOSS_PARKED_MAP_FULL);
	else if (!p)
		__sync_fetch_and_add(&parked_now, 1);
	s->parked++;
	if (i < STALL_TIDS) {
		s->tids[i & (STALL_TIDS - 1)] = tid;
		s->tids_n = i + 1;
	}
}

static __always_inline void keep_span(struct stall_state *s, __u64 from, __u64 to)
{
	__u32 i = s->next & (STALLS_KEPT - 1);

	s->spans[i].from_ns = from;
	s->spans[i].to_ns = to;
	s->next = i + 1;
}

static __always_inline void tell_stall(struct stall_state *s, __u64 from, __u64 to, __u64 now)
{
	struct stall *e;

	if (stalls_off) {
		__sync_fetch_and_add(&stalls_shed, 1);
		return;
	}
	e = bpf_ringbuf_reserve(&stalls, sizeof(*e), 0);
	if (!e) {
		count_sched_loss(LOSS_STALL_RING_FULL);
		return;
	}
	e->mono_ns = bpf_ktime_get_ns() - (now - to);
	e->from_ns = from;
	e->to_ns = to;
	e->cgroup_id = s->cgroup_id;
	e->cpu = s->cpu;
	e->threads = s->threads;
	e->tids_n = s->tids_n;
	e->_pad = 0;
	__builtin_memcpy(e->tids, s->tids, sizeof(e->tids));
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* Brings s up to date: its run queue runs again, or has been stopped and gone on
 * meanwhile. A stop that nobody was switched out for began when the first thread
 * came to the queue, which is the one that is switched in now.
 */
static __always_inline void note_go(struct stall_state *s, __u64 stalled, __u64 queued, __u64 now)
{
	__u64 length = stalled - s->stalled_ns;
	__u64 from = s->stopped_ns ? s->stopped_ns : queued;
	__u64 to;

	s->stopped_ns = 0;
	s->stalled_ns = stalled;
	if (!length || length > now)
		return;
	to = from + length;
	if (to > now) { /* where the begin is only known to be no later */
		to = now;
		from = now - length;
	}
	keep_span(s, from, to);
	s->last_to_ns = to;
	s->used_mono_ns = bpf_ktime_get_ns();
	tell_stall(s, from, to, now);
	s->tids_n = 0;
	s->threads = 0;
}

/* A thread, whose run queue is stopped, is switched out. That queue may be
 * stopped for nobody: one that runs dry as it goes idle is stopped, too.
 */
__noinline int note_stop(__u64 task, __u64 now, __u32 cpu)
{
	struct task_struct *t = (void *)task;
	struct cfs_rq *cfs = BPF_CORE_READ(t, se.cfs_rq);
	__u64 since = stopped_since(cfs, now);
	__u64 key = (__u64)cfs;
	struct stall_state *s;
	__u32 threads;

	if (!stalls_wanted || !since || is_realtime(t))
		return 0;
	s = stall_state_for(key, cfs);
	if (!s)
		return 0;
	if (s->stopped_ns && knows_begin() && s->stopped_ns != since)
		note_go(s, stalled_for(cfs), s->stopped_ns, now); /* it ended, and began again */
	if (!s->stopped_ns) {
		s->stopped_ns = since;
		s->stalled_ns = stalled_for(cfs);
		s->cgroup_id = throttler_of(t);
		s->cpu = cpu;
		s->threads = 0;
		s->parked = 0;
		s->tids_n = 0;
		s->used_mono_ns = bpf_ktime_get_ns();
	}
	if (is_runnable(t) && is_taken_out(t))
		park(t, key, s, now);
	/* Before v6.18 all wait in the queue; since, each one is taken out. */
	threads = queued_in(cfs) + (takes_out() ? s->parked : 0);
	if (s->threads < threads)
		s->threads = threads;
	return 0;
}

static __always_inline __u64 overlap(struct stall_state *s, __u64 from, __u64 to)
{
	__u64 sum = 0;

	for (int i = 0; i < STALLS_KEPT; i++) {
		__u64 a = s->spans[i].from_ns;
		__u64 b = s->spans[i].to_ns;

		if (a < from)
			a = from;
		if (b > to)
			b = to;
		if (b > a)
			sum += b - a;
	}
	return sum;
}

/* The part of a thread's wait in which a quota stopped it, before it was moved
 * to another core: the wait that the kernel counts begins there anew.
 */
__noinline __u64 parked_part(__u64 task, __u64 queued)
{
	struct task_struct *t = (void *)task;
	__u32 tid = BPF_CORE_READ(t, pid);
	struct parked *p = bpf_map_lookup_elem(&parked_threads, &tid);
	__u64 here = (__u64)BPF_CORE_READ(t, se.cfs_rq);
	__u64 stalled, part = 0;

	if (!p)
		return 0;
	if (p->cfs_rq != here && p->start_ns == BPF_CORE_READ(t, start_boottime) && p->since_ns < queued) {
		stalled = stalled_for((struct cfs_rq *)p->cfs_rq) - p->stalled_ns;
		part = queued - p->since_ns;
		if (part > stalled)
			part = stalled;
	}
	if (!bpf_map_delete_elem(&parked_threads, &tid))
		__sync_fetch_and_add(&parked_now, -1);
	return part;
}

/* Of a wait, which began at queued and ends now, the part in which a quota
 * stopped the thread.
 */
__noinline __u64 throttled_part(__u64 task, __u64 queued, __u64 now)
{
	struct task_struct *t = (void *)task;
	struct cfs_rq *cfs = BPF_CORE_READ(t, se.cfs_rq);
	__u64 stalled = stalled_for(cfs);
	__u64 key = (__u64)cfs;
	struct stall_state *s = stall_state_of(key);

	if (!stalled || is_realtime(t))
		return 0;
	if (!s || stalled != s->stalled_ns) {
		bool fresh = !s;

		s = stall_state_for(key, cfs);
		if (!s)
			return 0;
		/* Its first stop that we see, if that fits into the wait. */
		if (fresh && stalled <= now - queued)
			s->stalled_ns = 0;
		if (!s->stopped_ns) {
			s->cgroup_id = cgroup_id_of(limited_by(BPF_CORE_READ(cfs, tg)));
			s->cpu = task_cpu(t);
		}
		if (stalled != s->stalled_ns)
			note_go(s, stalled, queued, now);
	} else if (s->stopped_ns && !BPF_CORE_READ(cfs, throttle_count)) {
		s->stopped_ns = 0; /* it ended, and had lasted for no time */
	}
	return s->last_to_ns > queued ? overlap(s, queued, now) : 0;
}

#endif /* HERDTRACE_STALL_BPF_H */
