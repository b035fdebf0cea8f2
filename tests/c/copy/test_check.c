/* SPDX-License-Identifier: MIT */
/* Whether the checks find what is wrong: with techniques that are, each in its own way. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "checks.h"
#include "shared_house.h"

static int setup(void **state)
{
	(void)state;
	return shared_house_open(0, 1);
}

/* The right copy, to be spoilt. */
static int honest(struct copier *c, int src, int dst, uint64_t size)
{
	char bin[4096];

	(void)c;
	for (uint64_t off = 0; off < size;) {
		ssize_t n = pread(src, bin, sizeof(bin), (off_t)off);

		if (n <= 0)
			return -EIO;
		if (pwrite(dst, bin, (size_t)n, (off_t)off) != n)
			return -errno;
		off += (uint64_t)n;
	}
	return 0;
}

static int flip_last(struct copier *c, int src, int dst, uint64_t size)
{
	int res = honest(c, src, dst, size);
	char byte;

	if (res || !size)
		return res;
	pread(dst, &byte, 1, (off_t)size - 1) == 1 || (byte = 0);
	byte = (char)~byte;
	return pwrite(dst, &byte, 1, (off_t)size - 1) == 1 ? 0 : -EIO;
}

static int too_long(struct copier *c, int src, int dst, uint64_t size)
{
	int res = honest(c, src, dst, size);

	return res ? res : pwrite(dst, "", 1, (off_t)size) == 1 ? 0 : -EIO;
}

static int nothing(struct copier *c, int src, int dst, uint64_t size)
{
	(void)c;
	(void)src;
	(void)dst;
	(void)size;
	return 0;
}

static int refused(struct copier *c)
{
	return refuse(c, -EPERM, "trying");
}

static int opened(struct copier *c)
{
	(void)c;
	return 0;
}

static void closed(struct copier *c)
{
	(void)c;
}

static const struct option_def no_options[] = {{0}};

static struct check_report check(int (*copy)(struct copier *, int, int, uint64_t))
{
	const struct technique t = {.name = "fake",
				    .options = no_options,
				    .open = opened,
				    .copy = copy,
				    .close = closed};
	const struct spec spec = {.technique = &t};
	struct check_report report;

	assert_int_equal(check_technique(&spec, &dirs, &report), 0);
	return report;
}

static void test_a_right_copy_passes(void **state)
{
	struct check_report report = check(honest);

	(void)state;
	assert_int_equal(report.failures, 0);
	assert_true(report.checks > 50);
}

static void test_wrong_copies_are_found(void **state)
{
	struct check_report report = check(flip_last);

	(void)state;
	assert_true(report.failures > 20);
	assert_non_null(strstr(report.why, "differ at byte 0"));
	report = check(too_long);
	assert_true(report.failures > 20);
	assert_non_null(strstr(report.why, "a new file of 0 bytes"));
	report = check(nothing);
	assert_true(report.failures > 20);
}

static void test_a_probe_says_why_not(void **state)
{
	const struct technique no = {.name = "fake",
				     .options = no_options,
				     .open = refused,
				     .copy = honest,
				     .close = closed};
	const struct technique wrong = {.name = "fake",
					.options = no_options,
					.open = opened,
					.copy = flip_last,
					.close = closed};
	char why[REASON_MAX];

	(void)state;
	assert_int_equal(check_probe(&(struct spec){.technique = &no}, &dirs, why), -EPERM);
	assert_string_equal(why, "trying: Operation not permitted");
	assert_int_equal(check_probe(&(struct spec){.technique = &wrong}, &dirs, why), -EIO);
	assert_non_null(strstr(why, "differ at byte 4095"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_right_copy_passes),
		cmocka_unit_test(test_wrong_copies_are_found),
		cmocka_unit_test(test_a_probe_says_why_not),
	};

	return cmocka_run_group_tests(tests, setup, shared_house_close);
}
