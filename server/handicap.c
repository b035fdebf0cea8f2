// SPDX-License-Identifier: MIT
#include "handicap.h"

#include "../engines/engine.h"

#include <time.h>

enum {
	PERIOD_NS = 500000, /* a reading of the process's clock costs under 0.1% of it */
	SPIN_MIN_NS = 1000, /* shorter spins would consist of reading the clock */
};

static uint64_t process_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void handicap_init(struct handicap *h, unsigned percent)
{
	*h = (struct handicap){
		.percent = percent,
		.clocks = {.wall_ns = clock_now_ns, .cpu_ns = process_cpu_ns},
	};
}

/* What the responses since the last time cost, and what the next ones owe for it. */
static void settle(struct handicap *h)
{
	uint64_t cpu_ns = h->clocks.cpu_ns(), spun_ns = atomic_load(&h->spun_ns);
	uint64_t responses = atomic_load(&h->responses);
	uint64_t nr = responses - h->settled_responses;
	int64_t spun = (int64_t)(spun_ns - h->settled_spun_ns);
	int64_t own = (int64_t)(cpu_ns - h->cpu_ns) - spun;
	int64_t due = own > 0 ? own * (int64_t)h->percent / 100 : 0;

	/* What came before the first response is nobody's. */
	if (h->cpu_ns && nr) {
		int64_t next;

		h->owed_ns += due - spun;
		/* A debt after a pause is paid off slowly: no response waits for many others. */
		next = due + (h->owed_ns > due ? due : h->owed_ns);
		atomic_store(&h->response_ns, next > 0 ? (uint64_t)next / nr : 0);
	}
	h->cpu_ns = cpu_ns;
	h->settled_spun_ns = spun_ns;
	h->settled_responses = responses;
}

/*
 * A worker that is preempted while it spins has not used the CPU: at most twice what was asked is
 * counted. The reading that ends the loop is on average as dear as the others.
 */
static uint64_t spin(struct handicap *h, uint64_t ns, uint64_t *now_ns)
{
	uint64_t start = h->clocks.wall_ns(), spent, nr = 0;

	do {
		*now_ns = h->clocks.wall_ns();
		spent = *now_ns - start;
		nr++;
	} while (spent < ns);
	spent += spent / nr;
	return spent < 2 * ns ? spent : 2 * ns;
}

uint64_t handicap_spin(struct handicap *h, unsigned nr, uint64_t *unspent_ns)
{
	uint64_t each = atomic_load_explicit(&h->response_ns, memory_order_relaxed);
	uint64_t spun = 0, now_ns, next_ns;

	atomic_fetch_add(&h->responses, nr);
	*unspent_ns += nr * each;
	if (*unspent_ns >= SPIN_MIN_NS) {
		spun = spin(h, *unspent_ns, &now_ns);
		*unspent_ns = 0;
		atomic_fetch_add(&h->spun_ns, spun);
	} else if (each) {
		return 0;
	} else {
		now_ns = h->clocks.wall_ns();
	}
	next_ns = atomic_load_explicit(&h->next_ns, memory_order_relaxed);
	if (now_ns >= next_ns &&
	    atomic_compare_exchange_strong(&h->next_ns, &next_ns, now_ns + PERIOD_NS))
		settle(h);
	return spun;
}
