/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where kernels differ: one accessor for each drift, headed by the release and
 * the reason. Callers never see a flavour.
 */
#ifndef HERDTRACE_COMPAT_BPF_H
#define HERDTRACE_COMPAT_BPF_H

/* v5.14 (2f064a59a11f): task_struct.state, a long, became __state, unsigned int. */
struct task_struct___pre_v514 {
	long state;
} __attribute__((preserve_access_index));

static __always_inline __u32 task_state(struct task_struct *t)
{
	if (bpf_core_field_exists(t->__state))
		return BPF_CORE_READ(t, __state);
	return BPF_CORE_READ((struct task_struct___pre_v514 *)t, state);
}

/* For a pointer of which the verifier knows the type: no call of a helper. */
static __always_inline __u32 task_state_typed(struct task_struct *t)
{
	if (bpf_core_field_exists(t->__state))
		return t->__state;
	return ((struct task_struct___pre_v514 *)t)->state;
}

/* v5.6 on: an MPTCP socket wraps the TCP socket that really listens
 * (net/mptcp/protocol.h: mptcp_sock.first). The type is absent where
 * CONFIG_MPTCP is off.
 */
static __always_inline struct sock *tcp_listener_of(struct sock *sk)
{
	struct sock *first;

	if (!bpf_core_type_exists(struct mptcp_sock))
		return sk;
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_MPTCP)
		return sk;
	first = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return first ? first : sk;
}

/* Given at birth in 6.1; in 5.10 it is an atomic64_t that is 0 until somebody asks.
 */
static __always_inline __u64 netns_cookie(struct net *net)
{
	return bpf_core_field_exists(net->net_cookie) ? BPF_CORE_READ(net, net_cookie) : 0;
}

/* The handshake packets that a listener can refuse. */
enum stage {
	STAGE_SYN,
	STAGE_ACK,
	STAGE_COOKIE,
	STAGES,
};

enum skb_drop_reason___overflow { SKB_DROP_REASON_TCP_LISTEN_OVERFLOW___overflow = 1 };
enum skb_drop_reason___socket { SKB_DROP_REASON_NO_SOCKET___socket = 1, SKB_DROP_REASON_NOT_SPECIFIED___socket };

#define REASON_LISTEN_OVERFLOW                                                                                         \
	bpf_core_enum_value(enum skb_drop_reason___overflow, SKB_DROP_REASON_TCP_LISTEN_OVERFLOW___overflow)
#define REASON_NO_SOCKET bpf_core_enum_value(enum skb_drop_reason___socket, SKB_DROP_REASON_NO_SOCKET___socket)
#define REASON_NOT_SPECIFIED bpf_core_enum_value(enum skb_drop_reason___socket, SKB_DROP_REASON_NOT_SPECIFIED___socket)

/* Which handshake packet a listener freed with this reason. The numbers move
 * with every release. TCP_LISTEN_OVERFLOW is in 6.16 and not in 6.12, where the
 * final ACK goes without a reason. STAGES: none.
 */
static __always_inline __u32 stage_of_reason(__u32 reason)
{
	if (bpf_core_enum_value_exists(enum skb_drop_reason___overflow,
				       SKB_DROP_REASON_TCP_LISTEN_OVERFLOW___overflow)) {
		if (reason == REASON_LISTEN_OVERFLOW)
			return STAGE_ACK;
	} else if (reason == REASON_NOT_SPECIFIED) {
		return STAGE_ACK;
	}
	return reason == REASON_NO_SOCKET ? STAGE_COOKIE : STAGES;
}

/* NOT_SPECIFIED is also that of a retransmitted SYN, or of a bare ACK that
 * TCP_DEFER_ACCEPT ignores.
 */
static __always_inline bool reason_is_telling(__u32 reason)
{
	return reason != REASON_NOT_SPECIFIED;
}

/* int in 5.10, u8 in 6.1. */
static __always_inline __u32 tcp_syncookies(struct net *net)
{
	__u32 v = 0;

	bpf_core_read(&v, bpf_core_field_size(net->ipv4.sysctl_tcp_syncookies), &net->ipv4.sysctl_tcp_syncookies);
	return v;
}

static __always_inline __u32 tcp_abort_on_overflow(struct net *net)
{
	__u32 v = 0;

	bpf_core_read(&v, bpf_core_field_size(net->ipv4.sysctl_tcp_abort_on_overflow),
		      &net->ipv4.sysctl_tcp_abort_on_overflow);
	return v;
}

#if defined(__TARGET_ARCH_x86)
#define NR_ACCEPT 43
#define NR_ACCEPT4 288
#define IS_WAIT_CALL(                                                                                                  \
	nr) /* accept, accept4, poll, ppoll, select, pselect6, epoll_{wait,pwait,pwait2}, io_uring_enter */            \
	((nr) == 43 || (nr) == 288 || (nr) == 7 || (nr) == 271 || (nr) == 23 || (nr) == 270 || (nr) == 232 ||          \
	 (nr) == 281 || (nr) == 441 || (nr) == 426)
#define TS_COMPAT 0x0002 /* arch/x86/include/asm/thread_info.h */

static __always_inline __u32 syscall_first_arg(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, di);
}

static __always_inline __s32 syscall_second_arg(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, si);
}

static __always_inline long syscall_number(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, orig_ax);
}

/* A 32-bit task numbers its system calls differently. */
static __always_inline bool task_is_compat(struct task_struct *t)
{
	return BPF_CORE_READ(t, thread_info.status) & TS_COMPAT;
}
#elif defined(__TARGET_ARCH_arm64)
#define NR_ACCEPT 202
#define NR_ACCEPT4 242
#define IS_WAIT_CALL(nr) /* accept, accept4, ppoll, pselect6, epoll_{pwait,pwait2}, io_uring_enter */                  \
	((nr) == 202 || (nr) == 242 || (nr) == 73 || (nr) == 72 || (nr) == 22 || (nr) == 441 || (nr) == 426)
#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */

/* x0 holds the return value by now; the argument was saved beside it. */
static __always_inline __u32 syscall_first_arg(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, orig_x0);
}

static __always_inline __s32 syscall_second_arg(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, regs[1]);
}

static __always_inline long syscall_number(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, syscallno);
}

static __always_inline bool task_is_compat(struct task_struct *t)
{
	return BPF_CORE_READ(t, thread_info.flags) & (1UL << TIF_32BIT);
}
#endif

enum bpf_func_id___any { BPF_FUNC_task_pt_regs___any = 0xffff };

#define THREAD_SIZE (16 * 1024) /* x86-64; arm64 with pages of 4 or 16 KiB */

/* v5.15 (dd6e10fbd9fb): bpf_task_pt_regs(). Before, what it does: the registers
 * of a system call are saved at the top of the task's stack
 * (arch/{x86,arm64}/include/asm/processor.h: task_pt_regs()).
 */
static __always_inline struct pt_regs *regs_on_stack(struct task_struct *t)
{
	return (void *)(BPF_CORE_READ(t, stack) + THREAD_SIZE - bpf_core_type_size(struct pt_regs));
}

static __always_inline long sleeping_syscall(struct task_struct *t)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___any, BPF_FUNC_task_pt_regs___any))
		return syscall_number((void *)bpf_task_pt_regs(t));
	return syscall_number(regs_on_stack(t));
}

static __always_inline struct pt_regs *current_regs(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___any, BPF_FUNC_task_pt_regs___any))
		return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return regs_on_stack((void *)bpf_get_current_task());
}

#endif /* HERDTRACE_COMPAT_BPF_H */
