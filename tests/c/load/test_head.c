/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "guard.h"
#include "head.h"

static struct guard guard;

static const char *parse(const char *text, struct head *head)
{
	size_t len = strlen(text);
	const char *input = guard_put(&guard, text, len);

	assert_int_equal(head_find_end(input, len, 0), len);
	return head_parse(input, len, head);
}

static void test_reads_what_it_needs(void **state)
{
	static const struct {
		const char *text;
		struct head want;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", {0, 200, true, true, 12}},
		{"HTTP/1.1 200 \r\nContent-Length:0\r\n\r\n", {0, 200, true, true, 0}},
		{"HTTP/1.1 404 Not Found\r\n\r\n", {0, 404, true, false, 0}},
		{"HTTP/1.0 200 OK\r\ncontent-length: \t7 \t\r\n\r\n", {0, 200, false, true, 7}},
		{"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", {0, 200, true, false, 0}},
		{"HTTP/1.1 200 OK\r\nCONNECTION: x, Close ,y\r\n\r\n", {0, 200, false, false, 0}},
		{"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
		 {0, 200, false, false, 0}},
		{"HTTP/1.1 200 OK\r\nConnection: closed\r\nX: close\r\n\r\n",
		 {0, 200, true, false, 0}},
		{"HTTP/1.1 200 OK\r\nConnection:\r\nConnection: ,,\r\n\r\n",
		 {0, 200, true, false, 0}},
		{"HTTP/1.1 200 a\tb \x80\xff\r\nX-Long: \xc3\xa9\r\nEmpty:\r\n\r\n",
		 {0, 200, true, false, 0}},
		{"HTTP/1.1 599 X\r\nContent-Length: 9223372036854775807\r\n\r\n",
		 {0, 599, true, true, INT64_MAX}},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0000000000000000000000012\r\n\r\n",
		 {0, 200, true, true, 12}},
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct head head;
		assert_null(parse(cases[i].text, &head));
		assert_int_equal(head.len_bytes, strlen(cases[i].text));
		assert_int_equal(head.status, cases[i].want.status);
		assert_int_equal(head.keep_alive, cases[i].want.keep_alive);
		assert_int_equal(head.has_length, cases[i].want.has_length);
		assert_int_equal(head.content_length, cases[i].want.content_length);
	}
}

static void test_rejects(void **state)
{
	static const struct {
		const char *text;
		const char *part_of_reason;
	} cases[] = {
		{"\r\n\r\n", "status line"},
		{"HTTP/1.1\r\n\r\n", "status line"},
		{"HTTP/1.1 200\r\n\r\n", "status line"},
		{"HTTP/2.0 200 OK\r\n\r\n", "status line"},
		{"http/1.1 200 OK\r\n\r\n", "status line"},
		{" HTTP/1.1 200 OK\r\n\r\n", "status line"},
		{"HTTP/1.2 200 OK\r\n\r\n", "version"},
		{"HTTP/1.10 200 OK\r\n\r\n", "space"},
		{"HTTP/1.1  200 OK\r\n\r\n", "space"},
		{"HTTP/1.1 2000 OK\r\n\r\n", "space"},
		{"HTTP/1.1 2x0 OK\r\n\r\n", "three digits"},
		{"HTTP/1.1 099 OK\r\n\r\n", "100 to 599"},
		{"HTTP/1.1 600 OK\r\n\r\n", "100 to 599"},
		{"HTTP/1.1 200 O\001K\r\n\r\n", "reason phrase"},
		{"HTTP/1.1 200 O\rK\r\n\r\n", "reason phrase"},
		{"HTTP/1.1 200 OK\r\nNoColon\r\n\r\n", "no field name"},
		{"HTTP/1.1 200 OK\r\n: x\r\n\r\n", "no field name"},
		{"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "field name"},
		{"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n", "field name"},
		{"HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n", "field value"},
		{"HTTP/1.1 200 OK\r\nX: \x7f\r\n\r\n", "field value"},
		{"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "empty"},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "decimal"},
		{"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "decimal"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1 2\r\n\r\n", "decimal"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n", "decimal"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "decimal"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "twice"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", "too large"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\n", "too large"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "not supported"},
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct head head;
		const char *why = parse(cases[i].text, &head);
		assert_non_null(why);
		if (!strstr(why, cases[i].part_of_reason))
			fail_msg("%s: rejected because '%s'", cases[i].text, why);
	}
}

static void test_rejects_nul(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nX\0Y: z\r\n\r\n";
	static const char value[] = "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n";
	struct head head;

	assert_non_null(head_parse(text, sizeof(text) - 1, &head));
	assert_non_null(head_parse(value, sizeof(value) - 1, &head));
}

static void test_status_survives_a_bad_field(void **state)
{
	struct head head;

	assert_non_null(parse("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n", &head));
	assert_int_equal(head.status, 404);
	assert_non_null(parse("HTTP/1.1 4x4 X\r\n\r\n", &head));
	assert_int_equal(head.status, 0);
}

static void test_finds_the_end_in_pieces(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nA: b\r\n\r\nBODY\r\n\r\n";
	const size_t end = strlen("HTTP/1.1 200 OK\r\nA: b\r\n\r\n");

	for (size_t len = 0; len < sizeof(text); len++) {
		const char *input = guard_put(&guard, text, len);
		for (size_t from = 0; from <= len && from < end; from++)
			assert_int_equal(head_find_end(input, len, from), len < end ? 0 : end);
	}
}

static void test_bare_line_feeds_end_nothing(void **state)
{
	assert_int_equal(head_find_end("\n", 1, 0), -EBADMSG);
	assert_int_equal(head_find_end("HTTP/1.1 200 OK\n\n", 17, 0), -EBADMSG);
	assert_int_equal(head_find_end("A: b\r\n\n", 7, 0), -EBADMSG);
}

static void test_garbage_is_implausible_at_once(void **state)
{
	assert_true(head_plausible("", 0));
	assert_true(head_plausible("H", 1));
	assert_true(head_plausible("HTTP/1.1 200", 12));
	assert_false(head_plausible("h", 1));
	assert_false(head_plausible("HTTP/2", 6));
	assert_false(head_plausible("\r\nHTTP/1.1", 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_it_needs),
		cmocka_unit_test(test_rejects),
		cmocka_unit_test(test_rejects_nul),
		cmocka_unit_test(test_status_survives_a_bad_field),
		cmocka_unit_test(test_finds_the_end_in_pieces),
		cmocka_unit_test(test_bare_line_feeds_end_nothing),
		cmocka_unit_test(test_garbage_is_implausible_at_once),
	};

	guard_open(&guard, 4096);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	guard_close(&guard);
	return failed;
}
