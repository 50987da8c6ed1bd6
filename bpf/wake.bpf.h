/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The accept signal: the wake-ups that a listener's readiness causes.
 *
 * Most of a herd dies inside the kernel: the woken thread looks at its epoll or
 * poll set again, finds the connection gone and sleeps on, and no EAGAIN tells.
 * So the wake-ups are counted where they are caused: a window opens on this CPU
 * when the listener's data_ready callback is entered (net/core/sock.c:
 * sock_def_readable(), net/mptcp/subflow.c: subflow_data_ready()), and what
 * sched_waking reports inside it is one of the listener's waiters.
 *
 * A tracepoint at the entry says nothing of the return. But what the callback
 * calls has its stack frame below the callback's, on the same stack and in the
 * same task, and before the next socket becomes ready or changes state; a
 * wake-up for which one of these fails is another's, and closes the window.
 */
#ifndef HERDTRACE_WAKE_BPF_H
#define HERDTRACE_WAKE_BPF_H

#define STACK_BYTES (16 * 1024) /* THREAD_SIZE and IRQ_STACK_SIZE of x86-64 and arm64 */

/* From tcp_child_process() down to the hook of inet_sock_set_state it may be deeper
 * than down to a wake-up that needs no epoll: on arm64 it is.
 */
#define SIBLING_BYTES 1024

static __always_inline struct window *window_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&windows, &zero);
}

static __always_inline void send_burst(struct window *win)
{
	struct listener *l = bpf_map_lookup_elem(&listeners, &win->sk);
	struct sock *sk = (void *)win->sk;
	struct event e = {
		.kind = EVENT_HERD_BURST,
		.mono_ns = win->opened_ns,
		.ino = win->ino,
		.woken = win->woken,
		.cpu = bpf_get_smp_processor_id(),
	};

	if (!l || l->ino != win->ino)
		return;
	if ((__s64)(win->opened_ns - l->burst_ns) < BURST_GAP_NS) { /* another CPU's may be later */
		__sync_fetch_and_add(&l->bursts_unsent, 1);
		return;
	}
	l->burst_ns = win->opened_ns;
	if (events_off) {
		__sync_fetch_and_add(&events_shed, 1);
		return;
	}
	e.accept_queue_len = accept_queue_len(sk);
	if (bpf_ringbuf_output(&events, &e, sizeof(e), BPF_RB_NO_WAKEUP))
		count_lost(LOSS_RING_FULL);
}

static __always_inline void close_window(struct window *win)
{
	if (!win->sk)
		return;
	if (win->woken >= BURST_WOKEN_MIN)
		send_burst(win);
	win->sk = 0;
}

/* A program's context lies on the kernel stack, just below the frame that hit
 * the hook. The verifier lets a pointer be stored, but not be calculated with,
 * so it goes through memory.
 */
static __always_inline __u64 stack_address(struct window *win, void *ctx)
{
	*(volatile __u64 *)&win->here = (__u64)ctx;
	return *(volatile __u64 *)&win->here;
}

static __always_inline void open_window(struct window *win, struct listener *l, void *ctx)
{
	win->ino = l->ino;
	win->opened_ns = bpf_ktime_get_ns();
	win->frame = stack_address(win, ctx);
	win->tid = (__u32)bpf_get_current_pid_tgid();
	win->woken = 0;
	win->sk = l->sk;
}

/* A socket became ready. For a listener: one more connection waits in its
 * accept queue. MPTCP calls it for the TCP listener and then, nested, for the
 * MPTCP socket around it, so only the former counts.
 */
static __always_inline int on_ready(void *ctx, struct sock *sk, __u8 state)
{
	struct window *win = window_here();
	struct listener *l;
	struct sock *tcp;

	if (!win)
		return 0;
	close_window(win);
	if (state != TCP_LISTEN)
		return 0;
	tcp = tcp_listener_of(sk);
	l = listener_of(tcp, SLOT_READY);
	if (!l)
		return 0;
	if (tcp == sk)
		__sync_fetch_and_add(&l->ready, 1);
	note_queued(l, tcp);
	open_window(win, l, ctx);
	return 0;
}

static __always_inline int on_close(void)
{
	struct window *win = window_here();

	if (win)
		close_window(win);
	return 0;
}

/* The window of kernels that do not trace data_ready (before 6.3): the child
 * becomes ESTABLISHED just before its listener's callback is called
 * (net/ipv4/tcp_input.c: tcp_rcv_state_process()). It names a port only.
 */
static __always_inline int on_state(void *ctx, struct sock *sk, int old_state, int new_state)
{
	struct window *win = window_here();
	struct port_key key = {};
	struct listener *l;
	__u64 *addr;

	if (!win)
		return 0;
	close_window(win);
	if (!window_by_state)
		return 0;
	/* net/ipv4/af_inet.c: inet_sk_state_store() traces before it stores. */
	if (new_state == TCP_LISTEN)
		listener_known(sk, true, SLOT_STATE);
	if (old_state != TCP_SYN_RECV || new_state != TCP_ESTABLISHED)
		return 0;
	key.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	key.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	addr = bpf_map_lookup_elem(&ports, &key);
	l = addr ? bpf_map_lookup_elem(&listeners, addr) : NULL;
	if (!l)
		return 0;
	__sync_fetch_and_add(&l->ready, 1);
	open_window(win, l, ctx);
	/* This is not in the callback, but in a call before it. */
	win->frame += SIBLING_BYTES;
	return 0;
}

/* The thread sleeps and its pi_lock is held (kernel/sched/core.c:
 * try_to_wake_up()), so its clocks stand still and its element is ours.
 */
static __always_inline void count_wakeup(struct worker *w, struct task_struct *p)
{
	__u64 run_ns = BPF_CORE_READ(p, se.sum_exec_runtime);
	__u64 nvcsw = BPF_CORE_READ(p, nvcsw);

	if (w->empty_so_far) {
		bump(w, &w->empty_wakeups);
		/* Slept just once since: all it ran in between was for nothing. */
		if (nvcsw - w->wake_nvcsw <= 1) {
			bump(w, &w->empty_bursts);
			w->empty_ns += run_ns - w->wake_run_ns;
		}
	}
	bump(w, &w->wakeups);
	w->wake_run_ns = run_ns;
	w->wake_nvcsw = nvcsw;
	w->woken = 1;
	w->empty_so_far = 1;
}

static __always_inline int on_waking(void *ctx, struct task_struct *p)
{
	struct window *win = window_here();
	struct worker *w;
	__u64 ino;
	long nr;

	if (!win || !win->sk)
		return 0;
	if (win->frame - stack_address(win, ctx) > STACK_BYTES || win->tid != (__u32)bpf_get_current_pid_tgid()) {
		/* An interrupt in it, or who preempted it; else it is over. */
		if (!window_has_exit)
			close_window(win);
		return 0;
	}
	if (BPF_CORE_READ(p, flags) & PF_KTHREAD)
		return 0;
	/* A timer that interrupts the callback wakes on this stack, too. Its
	 * sleepers are elsewhere: in nanosleep, in a futex.
	 */
	nr = sleeping_syscall(p);
	if (nr != -1 && !IS_WAIT_CALL(nr))
		return 0;
	ino = win->ino;
	if (window_by_state) {
		__u32 tid = BPF_CORE_READ(p, pid);
		__u64 *home = bpf_map_lookup_elem(&homes, &tid);
		struct listener *l = home ? bpf_map_lookup_elem(&listeners, home) : NULL;

		if (l)
			ino = l->ino;
	}
	w = worker_of(ino, p, SLOT_WAKING);
	if (!w) {
		count_lost(LOSS_WORKER_MAP_FULL);
		return 0;
	}
	win->woken++;
	w->wait_nr = nr;
	count_wakeup(w, p);
	return 0;
}

#endif /* HERDTRACE_WAKE_BPF_H */
