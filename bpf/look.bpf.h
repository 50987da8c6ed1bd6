/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What was going on elsewhere while a thread waited on this core. A core on
 * which threads wait looks at all others now and then, and keeps marks of what
 * it found, so that the end of a wait can be compared with its begin.
 */
#ifndef HERDTRACE_LOOK_BPF_H
#define HERDTRACE_LOOK_BPF_H

#define OFFLINE_NS (10ULL * 1000 * 1000 * 1000)
#define MARK_SHIFT 22 /* 4.2 ms: the marks reach back 268 ms */

/* How long the others have been idle by now, in sum; and which of them are. */
static __always_inline __u64 others_idle(struct core *c, __u64 now)
{
	__u64 sum = 0, from = 0;

	for (__u32 i = 0; i < MAX_CORES; i++) {
		struct core *o;
		__u64 since, bit = 1ULL << (i & 63);

		if (i >= cores_possible)
			break;
		if (!(online_map[i / 64] & bit)) {
			c->idle_map[i / 64] &= ~bit;
			continue;
		}
		o = core_of(i);
		if (!o)
			break;
		sum += o->idle_ns;
		since = o->idle_since_ns; /* 0 of this core, on which a thread runs */
		if (since) {
			if (now > since)
				sum += now - since;
			if (!from || since < from)
				from = since;
			c->idle_map[i / 64] |= bit;
		} else {
			c->idle_map[i / 64] &= ~bit;
		}
	}
	c->idle_from_ns = from;
	return sum - c->idle_ns;
}

/* This core looks at the others. A moment at which any other core was idle is
 * worth one; that two may have been so at once, or one after the other, the sum
 * does not tell: it is taken for the latter. Global, as are the functions that
 * seldom run: so the verifier looks at each of them once.
 */
__noinline int look_around(__u32 cpu, __u64 now, __u64 steal)
{
	struct core *c = core_of(cpu);
	__u64 idle, slice, grown, mark;

	if (!c)
		return 0;
	slice = now - c->looked_ns;
	idle = others_idle(c, now);
	grown = idle > c->others_idle_ns ? idle - c->others_idle_ns : 0;
	/* It is read while it is written, and may seem to have shrunk a little; by a
	 * lot it does when a core went offline.
	 */
	if (grown || idle + OFFLINE_NS < c->others_idle_ns)
		c->others_idle_ns = idle;
	if (!c->looked_ns) { /* the first one: nothing to compare with */
		slice = 0;
		c->waited_ns = 0;
	}
	if (grown > slice)
		grown = slice;
	c->before.at_ns = c->looked_ns;
	c->before.elsewhere_ns = c->elsewhere_ns;
	c->before.steal_ns = c->steal_ns;
	c->elsewhere_ns += grown;
	c->unclaimed_ns += c->waited_ns < grown ? c->waited_ns : grown;
	c->waited_ns = 0;
	c->steal_ns = steal;
	c->looked_ns = now;
	mark = (now >> MARK_SHIFT) & (MARKS - 1);
	if (c->marks[mark].at_ns >> MARK_SHIFT != now >> MARK_SHIFT) {
		c->marks[mark].at_ns = now;
		c->marks[mark].elsewhere_ns = c->elsewhere_ns;
		c->marks[mark].steal_ns = steal;
	}
	return 0;
}

/* n of one span, for another: all of them less than two days. */
static __always_inline __u64 scaled(__u64 n, __u64 to, __u64 from)
{
	return (n >> 8) * (to >> 16) / ((from >> 16) + 1) << 8;
}

/* The mark that was set first since queued, or of the oldest there are. */
static __always_inline struct mark *mark_at(struct core *c, __u64 queued, __u64 now)
{
	__u64 slot = queued >> MARK_SHIFT, last = now >> MARK_SHIFT;

	if (c->before.at_ns && queued >= c->before.at_ns)
		return &c->before;
	if (last - slot >= MARKS)
		slot = last - MARKS + 1;
	for (int i = 0; i < MARKS; i++) {
		struct mark *then = &c->marks[(slot + i) & (MARKS - 1)];

		/* Not the one that was set just now. */
		if (then->at_ns && then->at_ns < c->looked_ns && then->at_ns >> MARK_SHIFT == slot + i)
			return then;
	}
	return &c->before;
}

struct meanwhile {
	__u64 elsewhere_ns;
	__u64 steal_ns;
};

/* What happened from queued until now, when c has just looked around. */
static __always_inline void look_back(struct meanwhile *m, struct core *c, __u64 queued, __u64 now)
{
	struct mark *then = mark_at(c, queued, now);
	__u64 wait = now - queued, span = now - then->at_ns;

	m->elsewhere_ns = c->elsewhere_ns - then->elsewhere_ns;
	m->steal_ns = c->steal_ns - then->steal_ns;
	/* Nobody has looked since long before the wait: the mean of that time says
	 * nothing about it, but a core that is idle by now may have been so all along.
	 */
	if (span / 8 > wait) {
		__u64 from = c->idle_from_ns > queued ? c->idle_from_ns : queued;

		m->elsewhere_ns = c->idle_from_ns && now > from ? now - from : 0;
		m->steal_ns = 0;
		return;
	}
	/* A mark is up to two of its slots younger than the wait, unless the marks
	 * do not reach back so far.
	 */
	if (span > wait || span + (2ULL << MARK_SHIFT) < wait) {
		m->elsewhere_ns = scaled(m->elsewhere_ns, wait, span);
		m->steal_ns = scaled(m->steal_ns, wait, span);
	}
}

#endif /* HERDTRACE_LOOK_BPF_H */
