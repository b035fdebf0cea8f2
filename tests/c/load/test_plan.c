/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "check.h"
#include "plan.h"

#define NR_PATHS 5

static const char *const paths[NR_PATHS] = {"/a", "/bb", "/ccc", "/dddd", "/eeeee"};

static void draw(uint64_t seed, uint32_t *order, size_t nr)
{
	struct plan p = {0};

	assert_int_equal(plan_init(&p, "h:1", paths, NR_PATHS, 4, seed), 0);
	for (size_t i = 0; i < nr; i++)
		order[i] = plan_next(&p);
	plan_free(&p);
}

static void test_request_text(void **state)
{
	struct plan p = {0};

	assert_int_equal(plan_init(&p, "[::1]:80", paths, NR_PATHS, 1, 1), 0);
	assert_string_equal(p.routes[1].text, "GET /bb HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
	assert_int_equal(p.routes[1].text_bytes, strlen(p.routes[1].text));
	plan_free(&p);
}

static void test_single_path_fills_the_batch(void **state)
{
	struct plan p = {0};

	assert_int_equal(plan_init(&p, "h:1", paths, 1, 3, 1), 0);
	for (int i = 0; i < 3; i++) {
		const struct route *r = &p.routes[0];
		assert_int_equal(plan_next(&p), 0);
		assert_memory_equal(p.batch + (size_t)i * r->text_bytes, r->text, r->text_bytes);
	}
	plan_free(&p);
}

static void test_one_of_several_may_be_chosen(void **state)
{
	struct plan p = {0};

	assert_int_equal(plan_init(&p, "h:1", paths, NR_PATHS, 3, 1), 0);
	assert_int_equal(plan_find(&p, "/ccc"), 2);
	assert_int_equal(plan_find(&p, "/cc"), PLAN_ALL);
	plan_choose(&p, 2);
	for (int i = 0; i < 3; i++) {
		const struct route *r = &p.routes[2];
		assert_int_equal(plan_next(&p), 2);
		assert_memory_equal(p.batch + (size_t)i * r->text_bytes, r->text, r->text_bytes);
	}
	plan_choose(&p, PLAN_ALL);
	bool seen[NR_PATHS] = {false};
	for (int i = 0; i < NR_PATHS; i++)
		seen[plan_next(&p)] = true;
	for (int i = 0; i < NR_PATHS; i++)
		assert_true(seen[i]);
	plan_free(&p);
}

static void test_order_follows_the_seed(void **state)
{
	uint32_t first[100], again[100], other[100];

	draw(7, first, NR(first));
	draw(7, again, NR(again));
	draw(8, other, NR(other));
	assert_memory_equal(first, again, sizeof(first));
	assert_memory_not_equal(first, other, sizeof(first));
}

static void test_every_round_asks_for_every_path(void **state)
{
	uint32_t order[20 * NR_PATHS];

	draw(1, order, NR(order));
	for (size_t round = 0; round < 20; round++) {
		unsigned int seen = 0;
		for (size_t i = 0; i < NR_PATHS; i++)
			seen |= 1u << order[round * NR_PATHS + i];
		assert_int_equal(seen, (1u << NR_PATHS) - 1);
	}
	/* Rounds differ, or it would be no shuffle. */
	bool differ = false;
	for (size_t i = NR_PATHS; i < NR(order); i++)
		differ |= order[i] != order[i % NR_PATHS];
	assert_true(differ);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_text),
		cmocka_unit_test(test_single_path_fills_the_batch),
		cmocka_unit_test(test_one_of_several_may_be_chosen),
		cmocka_unit_test(test_order_follows_the_seed),
		cmocka_unit_test(test_every_round_asks_for_every_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
