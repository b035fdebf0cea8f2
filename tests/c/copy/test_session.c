/* SPDX-License-Identifier: MIT */
/* Slices: what they count, and that a copy which is none is never counted as one. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

#define MS 1000000ull

/* A baseline that can be told to fail, or to lie. */
static struct technique fake;
static const struct technique *honest;
static unsigned nr_copies;
static unsigned wrong_after; /* copies that are right; the rest misses its first byte */
static unsigned fail_after;

static int fake_copy(struct copier *c, int src, int dst, uint64_t size)
{
	int res = honest->copy(c, src, dst, size);

	nr_copies++;
	if (nr_copies > fail_after)
		return -EIO;
	if (nr_copies > wrong_after && pwrite(dst, "?", 1, 0) != 1)
		return -errno;
	return res;
}

static struct spec spec;
static struct session session;
static struct copy_result result;
static struct session_config config;

static int setup(void **state)
{
	char why[SPEC_WHY_MAX];

	(void)state;
	if (spec_parse("read-write", &spec, why) < 0)
		return -1;
	honest = spec.technique;
	fake = *honest;
	fake.copy = fake_copy;
	spec.technique = &fake;
	nr_copies = 0;
	wrong_after = fail_after = 1u << 30;
	config = (struct session_config){
		.spec = &spec,
		.house = {.dir = ".", .size = 100000, .files = 6, .max_bytes = 1 << 30},
		.batch = 3,
	};
	return 0;
}

static void open_session(void)
{
	char why[HOUSE_WHY_MAX];
	bool unsupported;

	if (session_open(&session, &config, &unsupported, why) < 0)
		fail_msg("%s", why);
}

static int copies_left(void)
{
	int nr = 0;

	for (unsigned i = 0; i < session.house.files; i++)
		nr += faccessat(session.house.dst_dir, session.house.names[i], F_OK, 0) == 0;
	return nr;
}

static void test_a_slice_adds_up(void **state)
{
	(void)state;
	open_session();
	nr_copies = 0;
	session_slice(&session, 1 * MS, 5 * MS, &result);
	assert_int_equal(result.total.files, nr_copies);
	assert_int_equal(result.total.files, 3 * result.total.operations);
	assert_int_equal(result.total.bytes, 100000 * result.total.files);
	assert_true(result.window.operations >= 1);
	/* Every file once, and a warm-up of one operation at least. */
	assert_true(result.total.operations >= result.window.operations + 3);
	assert_int_equal(result.window.files, 3 * result.window.operations);
	assert_int_equal(result.latency.nr, result.window.operations);
	assert_true(result.window_ns >= result.latency.max);
	assert_true(result.wall_ns >= result.window_ns);
	assert_true(result.total_ns >= result.wall_ns);
	assert_true(result.cpu_ns > 0);
	assert_int_equal(result.pages, 25 * result.window.files);
	assert_int_equal(result.pages_cached, result.pages);
	for (int i = 0; i < NR_COPY_ERRORS; i++)
		assert_int_equal(result.errors[i], 0);
	assert_int_equal(copies_left(), 0);
	session_close(&session);
}

static void test_a_wrong_copy_is_seen_after_the_window(void **state)
{
	(void)state;
	open_session();
	wrong_after = nr_copies;
	session_slice(&session, 0, 1 * MS, &result);
	assert_int_equal(result.errors[COPY_ERR_MISMATCH], 3);
	session_close(&session);
}

static void test_a_failed_copy_ends_the_slice(void **state)
{
	(void)state;
	open_session();
	fail_after = nr_copies + 7;
	session_slice(&session, 3600000 * MS, 1 * MS, &result);
	assert_int_equal(result.errors[COPY_ERR_COPY], 1);
	assert_int_equal(result.total.files, 6);
	assert_int_equal(result.window.operations, 0);
	assert_int_equal(copies_left(), 0);
	session_close(&session);
}

static void test_a_wrong_technique_is_not_opened(void **state)
{
	char why[HOUSE_WHY_MAX];
	bool unsupported;

	(void)state;
	wrong_after = 0;
	assert_int_equal(session_open(&session, &config, &unsupported, why), -EILSEQ);
	assert_false(unsupported);
	assert_non_null(strstr(why, "wrong copies"));
	session_close(&session);
}

static void test_fresh_copies_are_made_anew(void **state)
{
	(void)state;
	config.fresh = true;
	config.durable = true;
	open_session();
	session_slice(&session, 0, 1 * MS, &result);
	for (int i = 0; i < NR_COPY_ERRORS; i++)
		assert_int_equal(result.errors[i], 0);
	assert_int_equal(copies_left(), 0);
	session_close(&session);
}

static void test_cold_sources_are_out_of_the_cache(void **state)
{
	char why[HOUSE_WHY_MAX];
	bool unsupported;
	int res;

	(void)state;
	config.cold = true;
	res = session_open(&session, &config, &unsupported, why);
	if (res == -ENOTSUP) {
		session_close(&session);
		print_message("left out: %s\n", why);
		skip();
	}
	assert_int_equal(res, 0);
	session_slice(&session, 0, 1 * MS, &result);
	assert_true(result.pages > 0);
	assert_int_equal(result.pages_cached, 0);
	assert_int_equal(result.errors[COPY_ERR_CACHE], 0);
	session_close(&session);
}

static atomic_bool end = true;

static void test_a_slice_can_be_ended_early(void **state)
{
	(void)state;
	config.end = &end;
	open_session();
	session_slice(&session, 3600000 * MS, 3600000 * MS, &result);
	assert_true(result.total.operations <= 1);
	session_close(&session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_slice_adds_up, setup),
		cmocka_unit_test_setup(test_a_wrong_copy_is_seen_after_the_window, setup),
		cmocka_unit_test_setup(test_a_failed_copy_ends_the_slice, setup),
		cmocka_unit_test_setup(test_a_wrong_technique_is_not_opened, setup),
		cmocka_unit_test_setup(test_fresh_copies_are_made_anew, setup),
		cmocka_unit_test_setup(test_cold_sources_are_out_of_the_cache, setup),
		cmocka_unit_test_setup(test_a_slice_can_be_ended_early, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
