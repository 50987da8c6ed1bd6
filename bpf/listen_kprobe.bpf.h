/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listen signal by kprobes, where a kernel refuses fentry and fexit: the
 * same functions, watched in the same way.
 *
 * A kretprobe is not told the arguments, so the entry leaves them behind. All of
 * these functions run with bottom halves disabled, so one call of each at most is
 * under way on a CPU. For the same reason a kretprobe cannot run out of its
 * instances (kernel/kprobes.c: register_kretprobe() makes one for each possible
 * CPU at least). On PREEMPT_RT bottom halves can be preempted, since 6.18 by one
 * another: that, and whatever else parts an entry from its return, is noticed
 * here and counted. Only a call of which both were skipped cannot be: a kprobe
 * program does not run while its CPU is inside another one, that of a classic
 * tracepoint, or a bpf(2) map operation (kernel/trace/bpf_trace.c:
 * trace_call_bpf()). TcpExt tells of its refusal all the same.
 */
#ifndef HERDTRACE_LISTEN_KPROBE_BPF_H
#define HERDTRACE_LISTEN_KPROBE_BPF_H

#define __VMLINUX_H__ /* kernel.bpf.h is ours: registers by the kernel's names */
#include <bpf/bpf_tracing.h>

/* A call between its entry and its return, on this CPU. */
struct call {
	__u64 sk; /* 0: there is none */
	__u64 skb;
	__u64 task;
	__u64 begun; /* calls whose entry was seen */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAGES);
	__type(key, __u32);
	__type(value, struct call);
} calls SEC(".maps");

static __always_inline struct call *call_of(__u32 stage)
{
	return bpf_map_lookup_elem(&calls, &stage); /* a copy: elsewhere it must stay a constant */
}

static __always_inline int on_call(__u64 sk, __u64 skb, __u32 stage)
{
	struct call *c = call_of(stage);

	if (!c)
		return 0;
	if (c->sk)
		count_lost(LOSS_RETURN_MISSED);
	c->sk = sk;
	c->skb = skb;
	c->task = bpf_get_current_task();
	c->begun++;
	if (stage == STAGE_ACK)
		return on_ack_entry((void *)sk);
	mark_mib((void *)sk, stage);
	return 0;
}

/* The return is attached before the entry, so only what was under way by then
 * returns without having entered.
 */
static __always_inline int on_return(__u32 stage)
{
	struct call *c = call_of(stage);
	struct sock *sk;

	if (!c || !c->begun)
		return 0;
	sk = (void *)c->sk;
	c->sk = 0;
	if (!sk || c->task != bpf_get_current_task()) {
		count_lost(LOSS_ENTRY_MISSED);
		return 0;
	}
	return on_stage_exit(sk, (void *)c->skb, stage);
}

SEC("kprobe/tcp_conn_request")
int conn_request_call(struct pt_regs *ctx)
{
	return on_call(PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx), STAGE_SYN);
}

SEC("kretprobe/tcp_conn_request")
int conn_request_return(void *ctx)
{
	return on_return(STAGE_SYN);
}

SEC("kprobe/tcp_check_req")
int check_req_call(struct pt_regs *ctx)
{
	return on_call(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), STAGE_ACK);
}

SEC("kretprobe/tcp_check_req")
int check_req_return(void *ctx)
{
	return on_return(STAGE_ACK);
}

/* cookie_v4_check() and cookie_v6_check(). */
SEC("kprobe/cookie_v4_check")
int cookie_call(struct pt_regs *ctx)
{
	return on_call(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), STAGE_COOKIE);
}

SEC("kretprobe/cookie_v4_check")
int cookie_return(void *ctx)
{
	return on_return(STAGE_COOKIE);
}

#endif /* HERDTRACE_LISTEN_KPROBE_BPF_H */
