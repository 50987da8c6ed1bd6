//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The scheduler: one hook, at each context switch. What the kernel keeps itself
 * (run time, wait time and switches of a thread, the counters of cpu.stat) is
 * read from there, once a tick; here is counted by core, and a wait that is long
 * enough to matter is taken apart: throttled, stolen, blocked by the affinity
 * mask, or else contended.
 */
#include "kernel.bpf.h"
#include "sched_kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "compat.bpf.h"
#include "sched_compat.bpf.h"
#include "log2.bpf.h"
#include "sched_record.h"
#include "sched_maps.bpf.h"
#include "look.bpf.h"
#include "stall.bpf.h"
#include "waits.bpf.h"

/* Before a thread is switched out for the last time (kernel/sched/core.c:
 * do_task_dead()): no later counter of it is missing.
 */
static __always_inline void tell_exit(struct task_struct *t)
{
	/* Not on the stack, of which a chain of calls has 512 bytes. */
	struct thread *e = bpf_ringbuf_reserve(&exits, sizeof(*e), 0);
	__u32 tid = t->pid;

	if (parked_now && !bpf_map_delete_elem(&parked_threads, &tid))
		__sync_fetch_and_add(&parked_now, -1);
	if (!e) {
		count_sched_loss(LOSS_EXIT_RING_FULL);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	read_thread(e, t);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* What prev did until now. */
static __always_inline void count_turn(struct core *c, struct task_struct *prev, struct task_struct *next,
				       struct rq *rq, __u64 now)
{
	__u64 turn = now - c->switched_ns;
	__u32 runnable = rq->nr_running - delayed_on(rq);

	if (c->switched_ns) {
		if (prev->pid) {
			c->busy_ns += turn;
		} else if (c->idle_since_ns) {
			c->idle_since_ns = 0; /* first: what others read must not be twice as much */
			c->idle_ns += turn;
		}
		if (c->runnable > 1)
			c->waited_ns += turn;
	}
	c->switched_ns = now;
	c->switches++;
	if (!next->pid) {
		c->idle_since_ns = now;
		c->idle_began_ns = now;
	}
	c->runnable = runnable;
	if (c->epoch != peak_epoch) {
		c->peak_before = c->epoch + 1 == peak_epoch ? c->peak : 0;
		c->epoch = peak_epoch;
		c->peak = 0;
	}
	if (runnable > c->peak)
		c->peak = runnable;
}

/* kernel/sched/core.c: __schedule() calls the tracepoint once it has picked next
 * and updated all that prev had used; last_queued is cleared after it
 * (kernel/sched/stats.h: sched_info_arrive()), and counted with this clock.
 */
static __always_inline int on_switch(struct task_struct *prev, struct task_struct *next, bool classic)
{
	/* One of the two is no idle thread, which has no queue on some kernels. */
	struct cfs_rq *cfs = next->pid ? next->se.cfs_rq : prev->se.cfs_rq;
	struct rq *rq = cfs->rq;
	__u64 now = rq->clock;
	__u32 cpu = bpf_get_smp_processor_id();
	struct core *c = core_of(cpu);
	__u64 queued = 0;

	if (task_state_typed(prev) == TASK_DEAD)
		tell_exit(prev);
	if (!c || !now) {
		count_sched_loss(LOSS_NO_CORE);
		return 0;
	}
	count_turn(c, prev, next, rq, now);
	if (is_stopped(prev->se.cfs_rq))
		note_stop(plain(c, prev), now, cpu);
	if (classic) {
		if (is_runnable(prev))
			note_woken(prev, now);
		queued = take_woken(next, now);
	} else if (next->pid) {
		queued = queued_since(next);
	}
	if (queued && queued <= now)
		end_wait(c, prev, next, queued, now);
	if (c->runnable > 1 && now - c->looked_ns >= look_gap_ns)
		look_around(cpu, now, stolen_on(rq));
	return 0;
}

SEC("tp_btf/sched_switch")
int sched_switch(__u64 *ctx)
{
	return on_switch((void *)ctx[1], (void *)ctx[2], false);
}

/* The classical design, where the kernel keeps no sched_info. */
SEC("tp_btf/sched_switch")
int sched_switch_classic(__u64 *ctx)
{
	return on_switch((void *)ctx[1], (void *)ctx[2], true);
}

/* On the waking CPU; the thread waits on its own run queue's. */
static __always_inline int on_wakeup(struct task_struct *t)
{
	note_woken(t, t->se.cfs_rq->rq->clock);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int sched_wakeup_classic(__u64 *ctx)
{
	return on_wakeup((void *)ctx[0]);
}

SEC("tp_btf/sched_wakeup_new")
int sched_wakeup_new_classic(__u64 *ctx)
{
	return on_wakeup((void *)ctx[0]);
}

/* Threads that ran or waited since active_since_ns, or all, where that is 0. The
 * tracer sets it to what seen_at_ns was at the beginning of the last pass, less
 * what run queues' clocks may differ by.
 */
SEC("iter/task")
int dump_threads(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct seq_file *seq = ctx->meta->seq;
	struct thread out = {};

	if (!t)
		return 0;
	if (!ctx->meta->seq_num) {
		struct task_struct *me = (void *)bpf_get_current_task();

		seen_at_ns = BPF_CORE_READ(me, se.cfs_rq, rq, clock);
		threads_total = 0;
	}
	if (t->exit_state)
		return 0; /* tell_exit() tells of it */
	threads_total++;
	if (active_since_ns && !was_active(t, active_since_ns))
		return 0;
	read_thread(&out, t);
	bpf_seq_write(seq, &out, sizeof(out));
	return 0;
}

SEC("iter/bpf_map_elem")
int dump_waits(struct bpf_iter__bpf_map_elem *ctx)
{
	struct waits *w = ctx->value;

	if (w)
		bpf_seq_write(ctx->meta->seq, w, sizeof(*w));
	return 0;
}

SEC("iter/bpf_map_elem")
int dump_contended(struct bpf_iter__bpf_map_elem *ctx)
{
	struct contention *c = ctx->value;

	if (c)
		bpf_seq_write(ctx->meta->seq, c, sizeof(*c));
	return 0;
}

/* Empty programs on the same hooks: what the bench compares with. */
SEC("tp_btf/sched_switch")
int empty_sched_switch(__u64 *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
