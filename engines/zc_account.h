/* SPDX-License-Identifier: MIT */
/*
 * How the zero-copy engines count: sends when the kernel accepts them, completions when they are
 * read. All four belong to the worker, or thread, that makes the calls.
 */
#ifndef IOLAB_ZC_ACCOUNT_H
#define IOLAB_ZC_ACCOUNT_H

#include "engine.h"

/* The kernel may hold `bytes` more, or fewer, of a sender's memory until it says otherwise. */
static inline void zc_count_inflight(struct counters *ctr, int64_t bytes)
{
	count_add(ctr, zc_inflight_bytes, bytes);
	count_peak(ctr, zc_inflight_peak_bytes,
		   atomic_load_explicit(&ctr->zc_inflight_bytes, memory_order_relaxed));
}

/* A zero-copy send of so many bytes was accepted. */
static inline void zc_count_sent(struct counters *ctr, size_t bytes)
{
	count_one(ctr, zc_sends);
	count_add(ctr, zc_bytes, bytes);
}

/* The completion of one such send was read, delay_ns after it had been accepted. */
static inline void zc_count_notified(struct counters *ctr, bool copied, uint64_t delay_ns)
{
	count_one(ctr, zc_notified);
	count_add(ctr, zc_copied, copied);
	count_add(ctr, zc_delay_ns, delay_ns);
	count_peak(ctr, zc_delay_max_ns, delay_ns);
}

#endif
