/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "verify.h"

/* More than the read buffer, and no multiple of any block. */
#define BODY_BYTES 600001

static char *body;
static struct verify_want want;
static struct verify_hash *hash;

static void write_file(char *path, const char *bytes, size_t len)
{
	int fd = mkstemp(path);

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static int setup(void **state)
{
	char path[] = "/tmp/iolab-test-verify-XXXXXX";

	body = malloc(BODY_BYTES);
	hash = verify_hash_new();
	assert_non_null(body);
	assert_non_null(hash);
	for (size_t i = 0; i < BODY_BYTES; i++)
		body[i] = (char)(i * 31 + i / 256);
	write_file(path, body, BODY_BYTES);
	assert_int_equal(verify_read_file(path, &want), 0);
	unlink(path);
	return 0;
}

static int teardown(void **state)
{
	verify_hash_free(hash);
	free(body);
	return 0;
}

static void test_same_bytes_in_any_pieces(void **state)
{
	static const size_t steps[] = {1, 255, 65536, BODY_BYTES};

	assert_int_equal(want.length_bytes, BODY_BYTES);
	for (size_t i = 0; i < NR(steps); i++) {
		verify_hash_reset(hash);
		for (size_t at = 0; at < BODY_BYTES; at += steps[i]) {
			size_t left = BODY_BYTES - at;
			verify_hash_add(hash, body + at, left < steps[i] ? left : steps[i]);
		}
		assert_true(verify_hash_matches(hash, &want));
	}
}

static void test_one_bit_matters(void **state)
{
	static const size_t places[] = {0, 1000, BODY_BYTES / 2, BODY_BYTES - 1};

	for (size_t i = 0; i < NR(places); i++) {
		body[places[i]] ^= 1;
		verify_hash_reset(hash);
		verify_hash_add(hash, body, BODY_BYTES);
		assert_false(verify_hash_matches(hash, &want));
		body[places[i]] ^= 1;
	}
}

static void test_length_matters(void **state)
{
	verify_hash_reset(hash);
	verify_hash_add(hash, body, BODY_BYTES - 1);
	assert_false(verify_hash_matches(hash, &want));
	verify_hash_add(hash, body + BODY_BYTES - 1, 1);
	assert_true(verify_hash_matches(hash, &want));
	verify_hash_add(hash, "", 1);
	assert_false(verify_hash_matches(hash, &want));
}

static void test_empty_file(void **state)
{
	struct verify_want empty;

	assert_int_equal(verify_read_file("/dev/null", &empty), 0);
	assert_int_equal(empty.length_bytes, 0);
	verify_hash_reset(hash);
	assert_true(verify_hash_matches(hash, &empty));
	assert_false(verify_hash_matches(hash, &want));
}

static void test_missing_file(void **state)
{
	struct verify_want none;

	assert_int_equal(verify_read_file("/nonexistent/file", &none), -ENOENT);
	assert_int_equal(verify_read_file("/", &none), -EISDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bytes_in_any_pieces),
		cmocka_unit_test(test_one_bit_matters),
		cmocka_unit_test(test_length_matters),
		cmocka_unit_test(test_empty_file),
		cmocka_unit_test(test_missing_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
