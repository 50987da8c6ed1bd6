/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's types, cut down to the fields that herdtrace reads. Offsets are
 * CO-RE relocated at load, so order and holes do not matter here; what differs
 * between kernels in name or type lives in compat.bpf.h.
 */
#ifndef HERDTRACE_KERNEL_BPF_H
#define HERDTRACE_KERNEL_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define NULL ((void *)0)
#define true 1
#define false 0

/* include/uapi/linux/bpf.h: numbers that never change. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1 };

/* include/uapi/asm-generic/errno-base.h */
#define EAGAIN 11
#define EEXIST 17
/* include/linux/socket.h, include/uapi/linux/in.h, include/linux/net.h */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define SOCK_STREAM 1
#define SOCK_SEQPACKET 5
/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_RECV 3
#define TCP_LISTEN 10
/* include/uapi/linux/if_ether.h */
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
/* include/uapi/linux/stat.h */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
};

struct file {
	void *private_data;
	struct inode *f_inode;
	struct path f_path;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct cgroup;
struct cfs_rq;
struct rq;
struct task_group;

struct sched_entity {
	__u64 exec_start;
	__u64 sum_exec_runtime;
	__u64 nr_migrations;
	struct sched_entity *parent;
	struct cfs_rq *cfs_rq;
};

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
	unsigned long long last_arrival;
	unsigned long long last_queued;
};

struct cpumask {
	unsigned long bits[1];
};

struct thread_info {
	unsigned long flags;
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int static_prio;
	unsigned int policy;
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	struct sched_entity se;
	struct task_group *sched_task_group;
	struct sched_info sched_info;
	int exit_state;
	unsigned long jobctl;
	int pid;
	int tgid;
	struct task_struct *group_leader;
	unsigned long nvcsw;
	unsigned long nivcsw;
	__u64 start_boottime;
	char comm[16];
	struct files_struct *files;
	void *stack;
	unsigned int __state;
};

struct ns_common {
	unsigned int inum;
};

struct linux_mib {
	unsigned long mibs[1];
};

struct netns_mib {
	struct linux_mib *net_statistics; /* __percpu */
};

struct netns_core {
	int sysctl_somaxconn;
};

struct netns_ipv4 {
	int sysctl_max_syn_backlog;
	__u8 sysctl_tcp_syncookies;
	__u8 sysctl_tcp_abort_on_overflow;
};

struct net {
	__u64 net_cookie;
	struct ns_common ns;
	struct netns_mib mib;
	struct netns_core core;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
	char name[16];
	int ifindex;
};

struct dst_entry {
	struct net_device *dev;
};

struct sk_buff {
	unsigned char *head;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	unsigned long _skb_refdst;
	struct net_device *dev;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_rcv_saddr;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sk_buff_head {
	__u32 qlen;
};

struct socket;

typedef struct {
	int counter;
} atomic_t;

struct sock {
	struct sock_common __sk_common;
	struct sk_buff_head sk_receive_queue;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	atomic_t sk_drops;
	__u16 sk_type;
	__u16 sk_protocol;
	struct socket *sk_socket;
};

struct socket {
	struct sock *sk;
};

struct request_sock_queue {
	atomic_t qlen;
};

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
};

struct mptcp_sock {
	struct sock *first;
};

struct bpf_array {
	void *pptrs[1]; /* __percpu */
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "herdtrace: no system-call register layout for this architecture"
#endif

#pragma clang attribute pop

#endif /* HERDTRACE_KERNEL_BPF_H */
