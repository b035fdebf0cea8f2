/* SPDX-License-Identifier: MIT */
#include "arrivals.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clocks.h"
#include "random.h"

const char *const arrivals_names[] = {
	[ARRIVALS_POISSON] = "poisson", [ARRIVALS_CONSTANT] = "constant", NULL};

/* Sets next_ns. Constant times are products, not sums, so that no rounding adds up. */
static void place(struct arrivals *a)
{
	if (a->kind == ARRIVALS_CONSTANT)
		a->offset_ns = a->gap_ns * (double)(a->nr + 1);
	else
		/* The inverse of the exponential distribution; 1 - u is in (0, 1]. */
		a->offset_ns -= a->gap_ns * log(1.0 - random_unit(&a->random));
	a->next_ns = a->start_ns + (uint64_t)a->offset_ns;
}

void arrivals_init(struct arrivals *a, enum arrivals_kind kind, uint64_t seed)
{
	*a = (struct arrivals){.kind = kind, .random = seed};
}

void arrivals_begin(struct arrivals *a, double rate, uint64_t start_ns)
{
	a->gap_ns = (double)NS_PER_S / rate;
	a->offset_ns = 0;
	a->start_ns = start_ns;
	a->nr = 0;
	place(a);
}

void arrivals_advance(struct arrivals *a)
{
	a->nr++;
	place(a);
}

uint64_t arrivals_before(const struct arrivals *a, uint64_t end_ns)
{
	struct arrivals ahead = *a;

	while (ahead.next_ns < end_ns)
		arrivals_advance(&ahead);
	return ahead.nr - a->nr;
}

bool rate_parse(const char **text, const char *ends, double *rate)
{
	size_t len = strspn(*text, "0123456789.");
	char *end;

	/* Only digits and a point: no sign, exponent, infinity or blank that strtod() would take.
	 */
	*rate = strtod(*text, &end);
	if (!len || end != *text + len || (*end && !strchr(ends, *end)))
		return false;
	*text = end;
	return *rate >= RATE_MIN && *rate <= RATE_MAX;
}
