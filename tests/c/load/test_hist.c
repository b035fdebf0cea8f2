/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "hist.h"

#define NR_VALUES 20000

/* Values over many octaves, the same in every run. */
static uint64_t some_value(uint64_t i)
{
	uint64_t z = (i + 1) * 0x9e3779b97f4a7c15ull;

	z ^= z >> 29;
	z *= 0xbf58476d1ce4e5b9ull;
	z ^= z >> 32;
	return z >> (20 + i % 40);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void test_buckets_tile_the_range(void **state)
{
	assert_int_equal(hist_low(0), 0);
	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		assert_int_equal(hist_index(hist_low(i)), i);
		assert_int_equal(hist_index(hist_high(i)), i);
		assert_true(hist_low(i) <= hist_high(i));
		if (i)
			assert_int_equal(hist_low(i), hist_high(i - 1) + 1);
	}
	assert_true(hist_high(HIST_BUCKETS - 1) == UINT64_MAX);
}

static void test_buckets_are_narrow(void **state)
{
	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		uint64_t width = hist_high(i) - hist_low(i) + 1;
		/* width <= low / 2^b, without overflow; one value each at the bottom. */
		assert_true(width == 1 || width <= hist_low(i) >> HIST_SUB_BITS);
	}
}

/* The documented formula, written the other way round. */
static void test_documented_index(void **state)
{
	static const uint64_t values[][2] = {
		{0, 0},	    {127, 127},	 {128, 128},	  {255, 255},
		{256, 256}, {257, 256},	 {510, 383},	  {511, 383},
		{512, 384}, {1000, 506}, {1000000, 1780}, {UINT64_MAX, HIST_BUCKETS - 1},
	};

	for (size_t i = 0; i < NR(values); i++) {
		assert_int_equal(hist_index(values[i][0]), values[i][1]);
		uint64_t v = values[i][0], shift = 0;
		while (v >= 256) {
			v /= 2;
			shift++;
		}
		assert_int_equal(values[i][1], shift * 128 + v);
	}
}

static void test_empty(void **state)
{
	struct hist h;

	hist_reset(&h);
	assert_int_equal(hist_quantile(&h, 0.5), 0);
	assert_int_equal(h.nr, 0);
}

static void test_quantiles_are_within_the_bound(void **state)
{
	static const double qs[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
	static uint64_t values[NR_VALUES];
	struct hist h;

	hist_reset(&h);
	for (size_t i = 0; i < NR_VALUES; i++) {
		values[i] = some_value(i);
		hist_add(&h, values[i]);
	}
	qsort(values, NR_VALUES, sizeof(values[0]), by_value);
	assert_int_equal(h.min, values[0]);
	assert_int_equal(h.max, values[NR_VALUES - 1]);
	for (size_t i = 0; i < NR(qs); i++) {
		size_t rank = (size_t)ceil(qs[i] * NR_VALUES);
		double exact = (double)values[rank ? rank - 1 : 0];
		double got = (double)hist_quantile(&h, qs[i]);
		assert_true(fabs(got - exact) <= exact / (2 << HIST_SUB_BITS));
	}
}

static void test_merging_equals_recording_together(void **state)
{
	static struct hist parts[3], merged, together;

	hist_reset(&merged);
	hist_reset(&together);
	for (size_t p = 0; p < NR(parts); p++)
		hist_reset(&parts[p]);
	for (size_t i = 0; i < NR_VALUES; i++) {
		hist_add(&parts[i % NR(parts)], some_value(i));
		hist_add(&together, some_value(i));
	}
	for (size_t p = 0; p < NR(parts); p++)
		hist_merge(&merged, &parts[p]);
	assert_memory_equal(&merged, &together, sizeof(merged));
}

static void test_merging_nothing_changes_nothing(void **state)
{
	static struct hist h, empty, before;

	hist_reset(&h);
	hist_reset(&empty);
	hist_add(&h, 12345);
	before = h;
	hist_merge(&h, &empty);
	assert_memory_equal(&h, &before, sizeof(h));
	hist_merge(&empty, &h);
	assert_memory_equal(&h, &empty, sizeof(h));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_tile_the_range),
		cmocka_unit_test(test_buckets_are_narrow),
		cmocka_unit_test(test_documented_index),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_quantiles_are_within_the_bound),
		cmocka_unit_test(test_merging_equals_recording_together),
		cmocka_unit_test(test_merging_nothing_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
