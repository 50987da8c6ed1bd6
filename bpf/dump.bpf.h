/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Iterators, read once a tick: they complete each element with what the kernel
 * knows at this moment, in every network namespace, and write it out.
 *
 * Elements keep plain addresses of kernel objects that may be gone. Reading
 * through them cannot fault (bpf_probe_read_kernel()), and what was read counts
 * only if it still carries the identity that was noted down.
 */
#ifndef HERDTRACE_DUMP_BPF_H
#define HERDTRACE_DUMP_BPF_H

SEC("iter/bpf_map_elem")
int dump_listeners(struct bpf_iter__bpf_map_elem *ctx)
{
	struct listener *l = ctx->value;
	struct seq_file *seq = ctx->meta->seq;
	struct sock *sk;
	__u64 ino;

	if (!l)
		return 0;
	sk = (void *)l->sk;
	ino = *(volatile __u64 *)&l->ino;
	l->live = inode_of(sk) == ino && is_traced_listener(sk);
	if (l->live) {
		l->accept_queue_len = accept_queue_len(sk);
		l->accept_queue_max = BPF_CORE_READ(sk, sk_max_ack_backlog);
		if (!l->port && l->family != AF_UNIX)
			l->port = BPF_CORE_READ(sk, __sk_common.skc_num);
		if (l->protocol == IPPROTO_TCP)
			read_queues(l, sk);
	}
	if (*(volatile __u64 *)&l->ino != ino)
		return 0; /* it became another's meanwhile, whom this would call dead */
	if (bpf_seq_write(seq, l, sizeof(*l)))
		return 0; /* the buffer is full: the element is shown again */
	l->accept_queue_peak = 0;
	l->syn_queue_peak = 0;
	return 0;
}

#define JOBCTL_TRAP_FREEZE (1UL << 23) /* include/linux/sched/jobctl.h: a cgroup v2's freezer */
#define TASK_FROZEN 0x8000	       /* include/linux/sched.h: a cgroup v1's, since 6.1 */

SEC("iter/bpf_map_elem")
int dump_workers(struct bpf_iter__bpf_map_elem *ctx)
{
	struct worker *w = ctx->value;
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *t;

	if (!w)
		return 0;
	t = (void *)w->task;
	w->live = w->tid && (__u32)BPF_CORE_READ(t, pid) == w->tid && BPF_CORE_READ(t, start_boottime) == w->start_ns &&
		  !BPF_CORE_READ(t, exit_state);
	if (w->live) {
		w->run_ns = BPF_CORE_READ(t, se.sum_exec_runtime);
		w->wait_ns = BPF_CORE_READ(t, sched_info.run_delay);
		w->sleeps = BPF_CORE_READ(t, nvcsw);
		w->state = task_state(t);
		if (BPF_CORE_READ(t, jobctl) & JOBCTL_TRAP_FREEZE)
			w->state |= TASK_FROZEN;
	}
	bpf_seq_write(seq, w, sizeof(*w));
	return 0;
}

static __always_inline bool name_is(const unsigned char *name, const char *want, int len)
{
	for (int i = 0; i < len; i++)
		if (name[i] != want[i])
			return false;
	return true;
}

/* fs/anon_inodes.c names the file: "[eventpoll]", "[io_uring]". */
static __always_inline __u32 anon_kind(struct file *file)
{
	const unsigned char *p = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	unsigned char name[12] = {};

	bpf_probe_read_kernel(name, sizeof(name), p);
	if (name_is(name, "[eventpoll]", 11))
		return HOLDER_EPOLL;
	if (name_is(name, "[io_uring]", 10))
		return HOLDER_URING;
	return 0;
}

/* Who has which listening socket open, in every process and network namespace.
 * Listeners that no connection came to yet get their element here.
 */
SEC("iter/task_file")
int dump_holders(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct task_struct *t = ctx->task;
	struct seq_file *seq = ctx->meta->seq;
	struct holder h = {};
	struct listener *l;
	struct sock *sk;

	if (!file || !t)
		return 0;
	h.tgid = t->tgid;
	h.fd = ctx->fd;
	sk = sock_of_file(file);
	if (!sk) {
		h.kind = anon_kind(file);
	} else if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN) {
		struct sock *tcp = tcp_listener_of(sk);

		l = listener_of(tcp, SLOT_HOLDERS);
		if (!l)
			return 0;
		if (tcp != sk)
			l->mptcp = 1;
		h.kind = HOLDER_LISTENER;
		h.ino = l->ino;
	}
	if (h.kind)
		bpf_seq_write(seq, &h, sizeof(h));
	return 0;
}

#endif /* HERDTRACE_DUMP_BPF_H */
