//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The accept signal: per listening socket the connections completed, per thread
 * at it the wake-ups, accepts and EAGAINs. The programs below are thin: each
 * hook is one of several variants, and the tracer attaches the best that this
 * kernel takes (pkg/tracer/variants.go).
 */
#include "kernel.bpf.h"
#include "accept_kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "record.h"
#include "compat.bpf.h"
#include "maps.bpf.h"
#include "mib.bpf.h"
#include "listener.bpf.h"
#include "queue.bpf.h"
#include "accept.bpf.h"
#include "wake.bpf.h"
#include "refuse.bpf.h"
#include "listen.bpf.h"
#include "listen_kprobe.bpf.h"

/* Types that no map holds would be missing from the BTF that Go is generated from. */
const struct event *keep_event __attribute__((unused));
const struct holder *keep_holder __attribute__((unused));
const enum event_kind *keep_event_kind __attribute__((unused));
const enum holder_kind *keep_holder_kind __attribute__((unused));
const enum place *keep_place __attribute__((unused));
const enum mib_kind *keep_mib_kind __attribute__((unused));
const enum loss *keep_loss __attribute__((unused));

/* What the accept() hooks return to us: >= 0 accepted, -EAGAIN. All else
 * (EINTR, EMFILE, EINVAL of a closed listener) is neither.
 */
#define IS_COUNTED(ret) ((ret) >= 0 || (ret) == -EAGAIN)

/* include/trace/events/syscalls.h through kernel/trace/trace_syscalls.c. */
struct sys_exit_args {
	__u64 common;
	__s64 nr;
	__s64 ret;
};

/* One call for each accept of every family and of io_uring (net/socket.c:
 * do_accept()), and nothing on any other path. Five arguments since it exists.
 */
SEC("fexit/do_accept")
int do_accept_exit(__u64 *ctx)
{
	struct file *file = (void *)ctx[0];
	long ret = ctx[5];

	/* A struct file * or an ERR_PTR: include/linux/err.h: MAX_ERRNO. */
	if (ret < 0 && ret >= -4095 && ret != -EAGAIN)
		return 0;
	if (ret < -4095)
		ret = 0;
	return on_accept(sock_of_file(file), ret, SLOT_DO_ACCEPT);
}

/* These two cost nothing on other system calls. */
SEC("tracepoint/syscalls/sys_exit_accept")
int sys_exit_accept(struct sys_exit_args *ctx)
{
	if (!IS_COUNTED(ctx->ret))
		return 0;
	return on_accept_exit(current_regs(), ctx->ret, SLOT_ACCEPT);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int sys_exit_accept4(struct sys_exit_args *ctx)
{
	if (!IS_COUNTED(ctx->ret))
		return 0;
	return on_accept_exit(current_regs(), ctx->ret, SLOT_ACCEPT4);
}

/* Runs at every system call of the machine: the last resort. */
SEC("tp_btf/sys_exit")
int sys_exit(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	long nr = syscall_number(regs);
	long ret = ctx[1];

	if (nr != NR_ACCEPT && nr != NR_ACCEPT4)
		return 0;
	if (!IS_COUNTED(ret) || task_is_compat((void *)bpf_get_current_task()))
		return 0;
	return on_accept_exit(regs, ret, SLOT_SYS_EXIT);
}

SEC("fentry/sock_def_readable")
int readable_entry(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	return on_ready(ctx, sk, sk->__sk_common.skc_state);
}

SEC("fexit/sock_def_readable")
int readable_exit(__u64 *ctx)
{
	return on_close();
}

/* Since 6.3 (40e0b0908142): at the entry of every data_ready callback. */
SEC("tp_btf/sk_data_ready")
int sk_data_ready(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	return on_ready(ctx, sk, sk->__sk_common.skc_state);
}

SEC("tp_btf/inet_sock_set_state")
int inet_sock_set_state(__u64 *ctx)
{
	return on_state(ctx, (void *)ctx[0], ctx[1], ctx[2]);
}

/* Only for window_by_state, which has no data_ready of another socket to close it. */
SEC("tp_btf/netif_receive_skb")
int netif_receive_skb(__u64 *ctx)
{
	return on_close();
}

SEC("tp_btf/softirq_exit")
int softirq_exit(__u64 *ctx)
{
	return on_close();
}

SEC("tp_btf/sched_waking")
int sched_waking(__u64 *ctx)
{
	return on_waking(ctx, (void *)ctx[0]);
}

/* listen(2): its argument is kept nowhere once it is cut to somaxconn. */
SEC("tracepoint/syscalls/sys_exit_listen")
int sys_exit_listen(struct sys_exit_args *ctx)
{
	return ctx->ret ? 0 : on_listen_exit(current_regs());
}

/* The three functions in which a listener refuses; how many arguments they have
 * beyond the first ones differs, and does not matter.
 */
SEC("fentry/tcp_conn_request")
int conn_request_entry(__u64 *ctx)
{
	mark_mib((void *)ctx[2], STAGE_SYN);
	return 0;
}

SEC("fexit/tcp_conn_request")
int conn_request_exit(__u64 *ctx)
{
	return on_stage_exit((void *)ctx[2], (void *)ctx[3], STAGE_SYN);
}

SEC("fentry/tcp_check_req")
int check_req_entry(__u64 *ctx)
{
	return on_ack_entry((void *)ctx[0]);
}

SEC("fexit/tcp_check_req")
int check_req_exit(__u64 *ctx)
{
	return on_stage_exit((void *)ctx[0], (void *)ctx[1], STAGE_ACK);
}

SEC("fentry/cookie_v4_check")
int cookie_v4_entry(__u64 *ctx)
{
	mark_mib((void *)ctx[0], STAGE_COOKIE);
	return 0;
}

SEC("fexit/cookie_v4_check")
int cookie_v4_exit(__u64 *ctx)
{
	return on_stage_exit((void *)ctx[0], (void *)ctx[1], STAGE_COOKIE);
}

SEC("fentry/cookie_v6_check")
int cookie_v6_entry(__u64 *ctx)
{
	mark_mib((void *)ctx[0], STAGE_COOKIE);
	return 0;
}

SEC("fexit/cookie_v6_check")
int cookie_v6_exit(__u64 *ctx)
{
	return on_stage_exit((void *)ctx[0], (void *)ctx[1], STAGE_COOKIE);
}

SEC("tp_btf/kfree_skb")
int listen_kfree_skb(__u64 *ctx)
{
	return on_free((void *)ctx[0], ctx[2], (void *)ctx[3]);
}

/* With the location in 6.12; 6.1 has the packet only, and refuses the program. */
SEC("tp_btf/consume_skb")
int listen_consume_skb(__u64 *ctx)
{
	return on_consume((void *)ctx[0], ctx[1]);
}

/* An empty program on the same kinds of hook: what the bench compares with. */
SEC("tracepoint/syscalls/sys_exit_accept4")
int empty_tracepoint(void *ctx)
{
	return 0;
}

SEC("tp_btf/sys_exit")
int empty_sys_exit(__u64 *ctx)
{
	return 0;
}

SEC("tp_btf/sched_waking")
int empty_sched_waking(__u64 *ctx)
{
	return 0;
}

#include "dump.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
