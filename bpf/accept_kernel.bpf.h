/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The types that only the accept and listen signals read, under the rules of kernel.bpf.h. */
#ifndef HERDTRACE_ACCEPT_KERNEL_BPF_H
#define HERDTRACE_ACCEPT_KERNEL_BPF_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sockaddr_un {
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct unix_address *addr;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* arch/arm64/include/uapi/asm/ptrace.h: what a kprobe program is given there. */
struct user_pt_regs {
	__u64 regs[31];
};

#endif /* HERDTRACE_ACCEPT_KERNEL_BPF_H */
