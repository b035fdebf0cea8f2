/* SPDX-License-Identifier: MIT */
/* Arrivals of an open loop. All series are seeded: what holds once holds always. */
#include <math.h>
#include <string.h>

#include "arrivals.h"
#include "check.h"
#include "clocks.h"

#define START_NS   1000000000000ull
#define NR_SAMPLES 200000

static struct arrivals begin(enum arrivals_kind kind, double rate, uint64_t seed)
{
	struct arrivals a;

	arrivals_init(&a, kind, seed);
	arrivals_begin(&a, rate, START_NS);
	return a;
}

/* A rate whose gap is no whole number of ns: sums of rounded gaps would drift. */
static void test_constant_arrivals_do_not_drift(void **state)
{
	struct arrivals a = begin(ARRIVALS_CONSTANT, 300000, 1);

	for (uint64_t nr = 1; nr <= 3000000; nr++) {
		assert_int_equal(a.next_ns, START_NS + nr * 10000 / 3);
		arrivals_advance(&a);
	}
}

static void test_poisson_gaps_are_exponential(void **state)
{
	struct arrivals a = begin(ARRIVALS_POISSON, 1000, 7);
	double sum = 0, squares = 0, above_mean = 0, products = 0, last = 0;
	uint64_t at_ns = START_NS;

	for (int i = 0; i < NR_SAMPLES; i++) {
		double gap = (double)(a.next_ns - at_ns) / NS_PER_MS;
		assert_true(a.next_ns >= at_ns);
		sum += gap;
		squares += gap * gap;
		above_mean += gap > 1;
		products += i ? (gap - 1) * (last - 1) : 0;
		last = gap;
		at_ns = a.next_ns;
		arrivals_advance(&a);
	}
	/* Mean 1, second moment 2, P(gap > 1) = 1/e; 5 standard errors and more. */
	assert_true(fabs(sum / NR_SAMPLES - 1) < 0.012);
	assert_true(fabs(squares / NR_SAMPLES - 2) < 0.06);
	assert_true(fabs(above_mean / NR_SAMPLES - exp(-1)) < 0.006);
	/* Independent of each other. */
	assert_true(fabs(products / NR_SAMPLES) < 0.012);
}

static void test_seed_decides(void **state)
{
	struct arrivals a = begin(ARRIVALS_POISSON, 1000, 7);
	struct arrivals same = begin(ARRIVALS_POISSON, 1000, 7);
	struct arrivals other = begin(ARRIVALS_POISSON, 1000, 8);
	int nr_equal = 0;

	for (int i = 0; i < 1000; i++) {
		assert_int_equal(a.next_ns, same.next_ns);
		nr_equal += a.next_ns == other.next_ns;
		arrivals_advance(&a);
		arrivals_advance(&same);
		arrivals_advance(&other);
	}
	assert_true(nr_equal < 10);
}

/* Slices of one run must not all see the same bursts. */
static void test_slices_differ(void **state)
{
	struct arrivals a = begin(ARRIVALS_POISSON, 1000, 7);
	uint64_t first_ns = a.next_ns;

	arrivals_begin(&a, 1000, START_NS);
	assert_int_equal(a.nr, 0);
	assert_int_not_equal(a.next_ns, first_ns);
}

static void test_counting_ahead_leaves_the_cursor(void **state)
{
	const enum arrivals_kind kinds[] = {ARRIVALS_POISSON, ARRIVALS_CONSTANT};

	for (size_t i = 0; i < NR(kinds); i++) {
		struct arrivals a = begin(kinds[i], 5000, 3), before = a;
		uint64_t end_ns = START_NS + NS_PER_S, nr = arrivals_before(&a, end_ns);
		assert_memory_equal(&a, &before, sizeof(a));
		for (uint64_t seen = 0; seen < nr; seen++) {
			assert_true(a.next_ns < end_ns);
			arrivals_advance(&a);
		}
		assert_true(a.next_ns >= end_ns);
		assert_int_equal(arrivals_before(&a, end_ns), 0);
	}
}

static void test_rates(void **state)
{
	static const struct {
		const char *text;
		bool good;
		double rate;
	} cases[] = {
		{"1", true, 1},	   {"0.5", true, 0.5}, {"10000000", true, 1e7}, {"2.", true, 2},
		{"", false, 0},	   {"0", false, 0},    {".", false, 0},		{"-1", false, 0},
		{"+1", false, 0},  {" 1", false, 0},   {"1 ", false, 0},	{"1e3", false, 0},
		{"nan", false, 0}, {"0x10", false, 0}, {"10000001", false, 0},	{"1,5", false, 0},
	};

	for (size_t i = 0; i < NR(cases); i++) {
		const char *at = cases[i].text;
		double rate = 0;
		bool good = rate_parse(&at, "", &rate);
		if (good != cases[i].good)
			fail_msg("'%s' was %s", cases[i].text, good ? "accepted" : "refused");
		if (good)
			assert_true(rate == cases[i].rate && !*at);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constant_arrivals_do_not_drift),
		cmocka_unit_test(test_poisson_gaps_are_exponential),
		cmocka_unit_test(test_seed_decides),
		cmocka_unit_test(test_slices_differ),
		cmocka_unit_test(test_counting_ahead_leaves_the_cursor),
		cmocka_unit_test(test_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
