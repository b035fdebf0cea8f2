/* SPDX-License-Identifier: MIT */
/* Files of control groups, as written by both versions of the kernel's interface. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"

/* Reads `text` as the CPU time of a group. */
static int read_text(const char *text, uint64_t *ns)
{
	char path[] = "/tmp/iolab-clocks-XXXXXX";
	int fd = mkstemp(path);
	int res;

	assert_return_code(fd, errno);
	assert_true(dprintf(fd, "%s", text) >= 0);
	res = cpu_usage_read(path, ns);
	close(fd);
	unlink(path);
	return res;
}

static void test_nanoseconds_of_v1(void **state)
{
	uint64_t ns = 0;

	assert_int_equal(read_text("12345678901234\n", &ns), 0);
	assert_int_equal(ns, 12345678901234);
}

static void test_microseconds_of_v2(void **state)
{
	uint64_t ns = 0;

	assert_int_equal(read_text("usage_usec 5000123\nuser_usec 1\nsystem_usec 2\n"
				   "core_sched.force_idle_usec 0\nnr_periods 0\n",
				   &ns),
			 0);
	assert_int_equal(ns, 5000123000);
}

static void test_anything_else_is_refused(void **state)
{
	static const char *const texts[] = {"", "\n", "x\n", "12", "12 13\n", "user_usec 1\n"};
	uint64_t ns;

	for (size_t i = 0; i < NR(texts); i++)
		assert_int_equal(read_text(texts[i], &ns), -EINVAL);
	assert_int_equal(cpu_usage_read("/nonexistent", &ns), -ENOENT);
	assert_int_equal(cpu_usage_read("/", &ns), -EISDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nanoseconds_of_v1),
		cmocka_unit_test(test_microseconds_of_v2),
		cmocka_unit_test(test_anything_else_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
