/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Histograms: slot i of LOG2_SLOTS holds what is at least 2^i and less than
 * 2^(i+1), the last slot also what is more.
 */
#ifndef HERDTRACE_LOG2_BPF_H
#define HERDTRACE_LOG2_BPF_H

#define LOG2_SLOTS 32

static __always_inline __u32 log2_slot(__u64 ns)
{
	__u32 v = ns;
	__u32 slot = 0;

	if (ns >> LOG2_SLOTS)
		return LOG2_SLOTS - 1;
	if (v >> 16) {
		v >>= 16;
		slot += 16;
	}
	if (v >> 8) {
		v >>= 8;
		slot += 8;
	}
	if (v >> 4) {
		v >>= 4;
		slot += 4;
	}
	if (v >> 2) {
		v >>= 2;
		slot += 2;
	}
	return slot + (v >> 1);
}

#endif /* HERDTRACE_LOG2_BPF_H */
