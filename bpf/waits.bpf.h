/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of a wait: how long it was, and why. And what the kernel knows of a
 * thread by itself.
 */
#ifndef HERDTRACE_WAITS_BPF_H
#define HERDTRACE_WAITS_BPF_H

static __always_inline void read_thread(struct thread *out, struct task_struct *t)
{
	struct rq *rq = BPF_CORE_READ(t, se.cfs_rq, rq);
	__u64 now = BPF_CORE_READ(rq, clock);
	__u64 queued = 0;

	out->task = (__u64)t;
	out->leader_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	out->start_ns = BPF_CORE_READ(t, start_boottime);
	out->run_ns = BPF_CORE_READ(t, se.sum_exec_runtime);
	if (bpf_core_field_exists(t->sched_info)) {
		out->wait_ns = BPF_CORE_READ(t, sched_info.run_delay);
		out->arrivals = BPF_CORE_READ(t, sched_info.pcount);
		queued = BPF_CORE_READ(t, sched_info.last_queued);
	}
	if (queued && now > queued)
		out->pending_ns = now - queued;
	out->voluntary = BPF_CORE_READ(t, nvcsw);
	out->involuntary = BPF_CORE_READ(t, nivcsw);
	out->migrations = BPF_CORE_READ(t, se.nr_migrations);
	out->cgroup_id = cgroup_id_of(BPF_CORE_READ(t, sched_task_group));
	out->tid = BPF_CORE_READ(t, pid);
	out->tgid = BPF_CORE_READ(t, tgid);
	out->cpu = task_cpu(t);
	out->allowed = BPF_CORE_READ(t, nr_cpus_allowed);
	out->policy = BPF_CORE_READ(t, policy);
	out->nice = BPF_CORE_READ(t, static_prio) - DEFAULT_PRIO;
	out->kernel = !!(BPF_CORE_READ(t, flags) & PF_KTHREAD);
	bpf_core_read_str(&out->comm, sizeof(out->comm), &t->comm);
}

/* For a pointer of which the verifier knows the type: there may be 100,000
 * threads to ask. exec_start is on the clock that leaves out interrupts and steal
 * (kernel/sched/core.c: update_rq_clock_task()): it is behind by what there was
 * of these, and the gap never shrinks.
 */
static __always_inline bool was_active(struct task_struct *t, __u64 since)
{
	struct rq *rq;

	if (bpf_core_field_exists(t->sched_info) && (t->sched_info.last_queued || t->sched_info.last_arrival >= since))
		return true;
	rq = t->se.cfs_rq->rq;
	return t->se.exec_start + (rq->clock - rq->clock_task) >= since;
}

static __always_inline void note_woken(struct task_struct *t, __u64 now)
{
	__u32 tid = t->pid;

	if (bpf_map_update_elem(&woken, &tid, &now, BPF_ANY))
		count_sched_loss(LOSS_WOKEN_MAP_FULL);
}

static __always_inline __u64 take_woken(struct task_struct *t, __u64 now)
{
	__u32 tid = t->pid;
	__u64 *since, at = 0;

	if (!tid)
		return 0;
	since = bpf_map_lookup_elem(&woken, &tid);
	if (since) {
		at = *since;
		bpf_map_delete_elem(&woken, &tid);
	}
	return at;
}

/* Whether none of the cores that were idle at the last look may run t. */
static __always_inline bool mask_forbids(struct core *c, struct task_struct *t)
{
	__u64 bits[MAX_CORES / 64] = {};
	const struct cpumask *mask = BPF_CORE_READ(t, cpus_ptr);
	__u32 allowed = BPF_CORE_READ(t, nr_cpus_allowed);
	__u32 size = bpf_core_type_size(struct cpumask);

	if (allowed >= cores_online)
		return false;
	if (allowed == 1)
		return true;
	if (size > sizeof(bits))
		size = sizeof(bits);
	bpf_probe_read_kernel(bits, size, mask);
	for (int i = 0; i < MAX_CORES / 64; i++)
		if (bits[i] & c->idle_map[i])
			return false;
	return true;
}

static __always_inline void add_waits(struct waits *w, const struct waits *d)
{
	__sync_fetch_and_add(&w->throttled_ns, d->throttled_ns);
	__sync_fetch_and_add(&w->mask_ns, d->mask_ns);
	__sync_fetch_and_add(&w->stolen_ns, d->stolen_ns);
}

static __always_inline void count_waits(struct waits *d)
{
	struct waits *w = bpf_map_lookup_elem(&thread_waits, &d->tid);

	if (!w || w->task != d->task || w->start_ns != d->start_ns) {
		if (bpf_map_update_elem(&thread_waits, &d->tid, d, BPF_ANY))
			count_sched_loss(LOSS_WAIT_MAP_FULL);
	} else {
		add_waits(w, d);
	}
	w = bpf_map_lookup_elem(&cgroup_waits, &d->cgroup_id);
	if (w) {
		add_waits(w, d);
		return;
	}
	d->task = 0;
	d->start_ns = 0;
	d->tid = 0;
	if (bpf_map_update_elem(&cgroup_waits, &d->cgroup_id, d, BPF_NOEXIST)) {
		w = bpf_map_lookup_elem(&cgroup_waits, &d->cgroup_id);
		if (w)
			add_waits(w, d); /* another CPU was first */
		else
			count_sched_loss(LOSS_WAIT_MAP_FULL);
	}
}

static __always_inline void count_rival(struct task_struct *t, struct task_struct *holder, __u64 ns)
{
	struct rivals key = {.tgid = BPF_CORE_READ(t, tgid), .holder = BPF_CORE_READ(holder, tgid)};
	struct contention *n = bpf_map_lookup_elem(&contended, &key);
	struct contention fresh = {.who = key, .wait_ns = ns};

	if (n) {
		__sync_fetch_and_add(&n->wait_ns, ns);
		return;
	}
	bpf_core_read_str(fresh.comm, sizeof(fresh.comm), &holder->comm);
	if (!bpf_map_update_elem(&contended, &key, &fresh, BPF_NOEXIST))
		return;
	n = bpf_map_lookup_elem(&contended, &key); /* another CPU may have been first */
	if (n)
		__sync_fetch_and_add(&n->wait_ns, ns);
	else
		count_sched_loss(LOSS_RIVAL_MAP_FULL);
}

/* t gets the core that prev had, after a wait of which throttled is accounted
 * for, and before that a part that the wait does not contain.
 */
static __always_inline void split(struct core *c, struct task_struct *t, struct task_struct *prev, __u64 queued,
				  __u64 now, __u64 throttled, __u64 before)
{
	struct waits d = {.task = (__u64)t, .start_ns = BPF_CORE_READ(t, start_boottime), .tid = BPF_CORE_READ(t, pid)};
	struct meanwhile m = {};
	__u64 rest = now - queued;

	d.throttled_ns = throttled + before;
	rest -= throttled < rest ? throttled : rest;
	look_back(&m, c, queued, now);
	d.stolen_ns = m.steal_ns < rest ? m.steal_ns : rest;
	rest -= d.stolen_ns;
	if (m.elsewhere_ns && mask_forbids(c, t)) {
		d.mask_ns = m.elsewhere_ns < rest ? m.elsewhere_ns : rest;
		rest -= d.mask_ns;
	}
	if (rest && BPF_CORE_READ(prev, pid))
		count_rival(t, prev, rest);
	if (d.throttled_ns || d.stolen_ns || d.mask_ns) {
		d.cgroup_id = cgroup_id_of(BPF_CORE_READ(t, sched_task_group));
		count_waits(&d);
	}
}

/* task gets the core that holder had, after a wait that matters. */
__noinline int take_apart(__u64 task, __u64 holder, __u64 queued, __u64 now, __u32 quota)
{
	struct task_struct *t = (void *)task;
	struct rq *rq = BPF_CORE_READ(t, se.cfs_rq, rq);
	struct core *c = core_of(BPF_CORE_READ(rq, cpu));
	__u64 throttled = 0, before = 0;

	if (!c)
		return 0;
	if (quota && stalls_wanted) {
		before = parked_part(task, queued);
		throttled = throttled_part(task, queued, now);
		c->throttled_ns += throttled;
	}
	if (now - queued < long_wait_ns && !throttled && !before)
		return 0;
	if (now - c->looked_ns >= look_gap_ns)
		look_around(BPF_CORE_READ(rq, cpu), now, stolen_on(rq));
	split(c, t, (void *)holder, queued, now, throttled, before);
	return 0;
}

static __always_inline void end_wait(struct core *c, struct task_struct *prev, struct task_struct *t, __u64 queued,
				     __u64 now)
{
	__u64 wait = now - queued;
	/* Most have never been stopped in their lives; or were, on another core. */
	bool quota = has_stalled(t->se.cfs_rq) || (parked_now && may_have_quota(t));

	/* A core that has been idle meanwhile had nobody waiting: since v6.12 a thread
	 * that is moved while it sleeps may be stamped as if it did.
	 */
	if (wait >= long_wait_ns && queued < c->idle_began_ns && !quota)
		return;

	c->waits++;
	c->wait_ns += wait;
	c->wait[log2_slot(wait) & (WAIT_SLOTS - 1)]++;
	if (wait >= long_wait_ns || quota)
		take_apart(plain(c, t), plain(c, prev), queued, now, quota);
}

#endif /* HERDTRACE_WAITS_BPF_H */
