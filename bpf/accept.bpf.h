/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The accept signal: what accept() returned, to whom, and what it means. */
#ifndef HERDTRACE_ACCEPT_BPF_H
#define HERDTRACE_ACCEPT_BPF_H

static __always_inline struct sock *sock_of_file(struct file *file)
{
	struct socket *sock;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	sock = BPF_CORE_READ(file, private_data);
	return sock ? BPF_CORE_READ(sock, sk) : NULL;
}

static __always_inline struct sock *sock_of_fd(struct task_struct *t, __u32 fd)
{
	struct fdtable *fdt = BPF_CORE_READ(t, files, fdt);
	struct file *file = NULL, **slots;

	if (!fdt || fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;
	slots = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return sock_of_file(file);
}

/* An accept loop may move from thread to thread of its process between the
 * last success and the EAGAIN (Go does that), so the drain is also remembered
 * at the group leader's element.
 */
static __always_inline struct worker *leader_of(struct worker *w)
{
	struct worker_key key = {.ino = w->ino, .tid = w->tgid};

	return w->tid == w->tgid ? w : bpf_map_lookup_elem(&workers, &key);
}

static __always_inline void count_accepted(struct worker *w)
{
	struct worker *leader = leader_of(w);

	bump(w, &w->accepts);
	w->woken = 0;
	w->empty_so_far = 0;
	w->draining = 1;
	if (leader)
		leader->draining = 1;
}

static __always_inline void count_eagain(struct worker *w, struct task_struct *t)
{
	struct worker *leader = leader_of(w);

	bump(w, &w->eagains);
	/* Woken by this listener, not asleep again since, and this is the first
	 * accept() after it: kernel/sched/core.c counts each sleep in nvcsw.
	 */
	if (w->woken && BPF_CORE_READ(t, nvcsw) == w->wake_nvcsw)
		bump(w, &w->wasted);
	else if (w->draining || (leader && leader->draining))
		bump(w, &w->drains);
	w->woken = 0;
	w->draining = 0;
	if (leader)
		leader->draining = 0;
}

/* ret is a file descriptor or pointer, or a negative errno. */
static __always_inline int on_accept(struct sock *sk, long ret, __u32 slot)
{
	struct task_struct *t = (void *)bpf_get_current_task();
	struct listener *l;
	struct worker *w;

	if (!sk) {
		count_lost(LOSS_SOCKET_GONE);
		return 0;
	}
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP) {
		sk = tcp_listener_of(sk);
		l = listener_of(sk, slot);
		if (l)
			l->mptcp = 1;
	} else {
		l = listener_of(sk, slot);
	}
	if (!l) {
		/* No listener returns that: the descriptor has become another socket's. */
		if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN && is_traced_kind(sk))
			count_lost(LOSS_SOCKET_GONE);
		return 0;
	}
	w = worker_of(l->ino, t, slot);
	if (!w) {
		count_lost(LOSS_WORKER_MAP_FULL);
		return 0;
	}
	if (window_by_state) {
		__u32 tid = BPF_CORE_READ(t, pid);
		__u64 key = (__u64)sk;

		bpf_map_update_elem(&homes, &tid, &key, BPF_ANY);
	}
	if (ret == -EAGAIN) {
		count_eagain(w, t);
		return 0;
	}
	count_accepted(w);
	note_accepted(l, sk);
	return 0;
}

/* Called at the exit of accept(2) and accept4(2): fd is the listener's. */
static __always_inline int on_accept_exit(struct pt_regs *regs, long ret, __u32 slot)
{
	struct task_struct *t = (void *)bpf_get_current_task();

	return on_accept(sock_of_fd(t, syscall_first_arg(regs)), ret, slot);
}

#endif /* HERDTRACE_ACCEPT_BPF_H */
