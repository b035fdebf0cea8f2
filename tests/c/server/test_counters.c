// SPDX-License-Identifier: MIT
/* counters.c: sums, and numbers that a double would round. */
#include "test.h"

#include "server.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

TEST_COMPLAIN

static void move_empties_the_source(void **state)
{
	struct counters a = {0}, b = {0};

	count_add(&a, bytes, 5);
	count_one(&b, bytes);
	count_one(&b, sys_splice);
	counters_move(&a, &b);
	assert_int_equal(a.bytes, 6);
	assert_int_equal(a.sys_splice, 1);
	assert_int_equal(b.bytes + b.sys_splice, 0);
	counters_add(&b, &a);
	assert_int_equal(b.bytes, 6);
	assert_int_equal(a.bytes, 6);
}

static void peaks_are_not_added(void **state)
{
	struct counters a = {0}, b = {0};

	count_peak(&a, zc_delay_max_ns, 7);
	count_peak(&a, zc_delay_max_ns, 3);
	count_peak(&b, zc_delay_max_ns, 9);
	assert_int_equal(a.zc_delay_max_ns, 7);
	counters_add(&b, &a);
	assert_int_equal(b.zc_delay_max_ns, 9);
	counters_move(&a, &b);
	assert_int_equal(a.zc_delay_max_ns, 9);
	assert_int_equal(b.zc_delay_max_ns, 0);
}

static void json_is_exact(void **state)
{
	struct counters a = {0};
	cJSON *doc;
	char *text;

	count_add(&a, bytes, (1ull << 53) + 1);
	count_peak(&a, zc_inflight_peak_bytes, 5);
	doc = counters_json(&a);
	text = cJSON_PrintUnformatted(doc);
	assert_non_null(strstr(text, "\"bytes\":9007199254740993,"));
	assert_non_null(strstr(text, "\"zc_inflight_peak_bytes\":5,"));
	assert_non_null(strstr(text, "\"syscalls\":{\"accept\":0,"));
	free(text);
	cJSON_Delete(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(move_empties_the_source),
		cmocka_unit_test(peaks_are_not_added),
		cmocka_unit_test(json_is_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
