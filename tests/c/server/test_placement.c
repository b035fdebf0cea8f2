// SPDX-License-Identifier: MIT
/* Places of workers on machines that hwloc makes up from a description (HWLOC_SYNTHETIC). */
#include "placement.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void a_worker_has_the_node_of_its_cpu(void **state)
{
	static const struct place expected[] = {{0, 0}, {2, 0}, {4, 1}, {6, 1}};
	struct place *places = NULL;

	(void)state;
	setenv("HWLOC_SYNTHETIC", "node:2 core:2 pu:2", 1);
	assert_int_equal(placement_find(NULL, &places), 4);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(places[i].cpu, expected[i].cpu);
		assert_int_equal(places[i].node, expected[i].node);
	}
	free(places);
}

static void a_list_is_taken_as_it_stands(void **state)
{
	struct place *places = NULL;

	(void)state;
	setenv("HWLOC_SYNTHETIC", "node:2 core:2 pu:2", 1);
	assert_int_equal(placement_find("3,5", &places), 2);
	assert_int_equal(places[0].node, 0);
	assert_int_equal(places[1].cpu, 5);
	assert_int_equal(places[1].node, 1);
	free(places);
	assert_int_equal(placement_find("9", &places), -ENODEV);
	assert_int_equal(placement_find("x", &places), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_worker_has_the_node_of_its_cpu),
		cmocka_unit_test(a_list_is_taken_as_it_stands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
