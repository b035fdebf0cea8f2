/* SPDX-License-Identifier: MIT */
/*
 * The ring of technique io_uring when io_uring_enter(2) fails. What would be a copy that never ends
 * is a test that ctest ends. The call is replaced when this program is linked (ld(1), --wrap).
 */
#include "check.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>

#include "shared_house.h"
#include "spec.h"

#define SIZE  65536u
#define FILES 4u

int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned nr);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned nr);

static struct {
	int err; /* 0: none */
	int nr;	 /* calls that fail */
} fails;

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned nr)
{
	if (!fails.nr)
		return __real_io_uring_submit_and_wait(ring, nr);
	fails.nr--;
	return -fails.err;
}

static int setup(void **state)
{
	(void)state;
	return shared_house_open(SIZE, FILES);
}

/* A batch, and one file of it, by a fresh copier; what they say. */
static void copy_twice(const char *text, int nr, int err, int res[2])
{
	char why[REASON_MAX + SPEC_WHY_MAX] = "";
	struct spec spec;
	struct copier c;

	assert_int_equal(spec_parse(text, &spec, why), 0);
	if (copier_open(&c, &spec, &dirs, SIZE, FILES, why) < 0) {
		print_message("%s\n", why);
		skip();
	}
	for (int i = 0; i < 2; i++) {
		struct file_batch batch = {.src_dir = house.src_dir,
					   .dst_dir = house.dst_dir,
					   .names = (const char *const *)house.names,
					   .nr = FILES,
					   .size = SIZE};

		fails.err = err;
		fails.nr = i ? 0 : nr;
		res[i] = files_copy(&c, &batch);
		fails.nr = 0;
	}
	copier_close(&c);
}

static const char *const specs[] = {"io_uring", "io_uring,files=ring"};

static void a_failure_that_stays_ends_the_copy(void **state)
{
	int res[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		copy_twice(specs[i], INT_MAX, ENXIO, res);
		assert_int_equal(res[0], -ENXIO);
		assert_int_equal(res[1], -EIO); /* the ring is of no use any more */
	}
}

static void a_failure_that_passes_is_none(void **state)
{
	static const int errs[] = {EINTR, EAGAIN, EBUSY};
	int res[2];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		copy_twice(specs[i % 2], 3, errs[i / 2], res);
		assert_int_equal(res[0], 0);
		assert_int_equal(res[1], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_that_passes_is_none),
		cmocka_unit_test(a_failure_that_stays_ends_the_copy),
	};

	return cmocka_run_group_tests(tests, setup, shared_house_close);
}
