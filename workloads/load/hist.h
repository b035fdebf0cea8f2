/* SPDX-License-Identifier: MIT */
/*
 * Log-linear histogram of unsigned 64-bit values, kept whole so that slices can be merged.
 *
 * With b = HIST_SUB_BITS, a value v falls into
 *
 *	index(v) = v                                   for v < 2^(b+1)
 *	index(v) = shift * 2^b + (v >> shift)          otherwise, shift = floor(log2 v) - b
 *
 * Every octave above 2^b is cut into 2^b equal buckets, and the two lines agree where they meet.
 * The way back, for index >= 2^(b+1), with shift = index / 2^b - 1:
 *
 *	low(index)  = (index % 2^b + 2^b) << shift
 *	high(index) = low(index) + 2^shift - 1
 *
 * Below 2^(b+1) a bucket holds exactly one value; above, its width is at most 2^-b of its lower
 * end (0.8% for b = 7). A percentile is given as the middle of its bucket, so it differs from the
 * true order statistic by at most 2^-(b+1) of it (0.4%).
 *
 * With b = 7 this index is that of HdrHistogram's counts, for two significant digits and values
 * from 1 (hdr_log.h).
 *
 * Two histograms with the same b merge by adding the counts of equal indices; percentiles of the
 * merged one obey the same bound. Percentiles themselves must never be averaged.
 */
#ifndef IOLAB_LOAD_HIST_H
#define IOLAB_LOAD_HIST_H

#include <stddef.h>
#include <stdint.h>

/* log2 of the number of buckets an octave is cut into. */
#define HIST_SUB_BITS 7

/* Buckets needed for every 64-bit value: index(UINT64_MAX) + 1. */
#define HIST_BUCKETS ((64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

/* A histogram. Start with hist_reset(); the fields may be read, and are written by hist_* only. */
struct hist {
	uint64_t nr;  /* values recorded */
	uint64_t min; /* exact smallest value; UINT64_MAX while nr is 0 */
	uint64_t max; /* exact largest value; 0 while nr is 0 */
	uint64_t count[HIST_BUCKETS];
};

/* Bucket of a value, by the formula above. */
static inline size_t hist_index(uint64_t value)
{
	if (value < (2u << HIST_SUB_BITS))
		return value;
	int shift = 63 - __builtin_clzll(value) - HIST_SUB_BITS;
	return ((size_t)shift << HIST_SUB_BITS) + (size_t)(value >> shift);
}

/* Records one value. */
static inline void hist_add(struct hist *h, uint64_t value)
{
	h->nr++;
	h->count[hist_index(value)]++;
	if (value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
}

/* Empties a histogram; needed before the first hist_add(). */
void hist_reset(struct hist *h);

/* Smallest and largest value that falls into the bucket; index < HIST_BUCKETS. */
uint64_t hist_low(size_t index);
uint64_t hist_high(size_t index);

/* Adds the values of `from` to `into`. */
void hist_merge(struct hist *into, const struct hist *from);

/*
 * The value that at least the share `q` (0 to 1) of the recorded values does not exceed: middle of
 * the bucket that holds the ceil(q * nr)-th smallest value, kept within min and max. 0 when nr is
 * 0.
 */
uint64_t hist_quantile(const struct hist *h, double q);

#endif
