/* SPDX-License-Identifier: MIT */
/* Log-linear histogram; hist.h holds the formulas. */
#include "hist.h"

#include <math.h>
#include <string.h>

void hist_reset(struct hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

static unsigned int index_shift(size_t index)
{
	return index < (2u << HIST_SUB_BITS) ? 0 : (unsigned int)(index >> HIST_SUB_BITS) - 1;
}

uint64_t hist_low(size_t index)
{
	const uint64_t buckets = 1u << HIST_SUB_BITS;

	if (index < 2 * buckets)
		return index;
	return (index % buckets + buckets) << index_shift(index);
}

uint64_t hist_high(size_t index)
{
	return hist_low(index) + ((1ull << index_shift(index)) - 1);
}

void hist_merge(struct hist *into, const struct hist *from)
{
	into->nr += from->nr;
	if (from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	for (size_t i = 0; i < HIST_BUCKETS; i++)
		into->count[i] += from->count[i];
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
	if (value < low)
		return low;
	return value > high ? high : value;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t seen = 0;

	if (!h->nr)
		return 0;
	uint64_t rank = clamp((uint64_t)ceil(q * (double)h->nr), 1, h->nr);
	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		seen += h->count[i];
		if (seen >= rank) {
			uint64_t low = hist_low(i);
			return clamp(low + (hist_high(i) - low) / 2, h->min, h->max);
		}
	}
	return h->max;
}
