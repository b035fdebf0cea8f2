// SPDX-License-Identifier: MIT
/* target.c: paths, ranges, dates, entity tags. */
#include "test.h"

#include "target.h"

#include <string.h>

static void paths(void **state)
{
	static const struct {
		const char *target, *path;
	} cases[] = {
		{"/", "/"},
		{"/a/b?c", "/a/b"},
		{"/a#f", "/a"},
		{"http://host/a?b", "/a"},
		{"HTTPS://host:1/a", "/a"},
		{"http://host", "/"},
		{"http://host?q", "/"},
		{"*", NULL},
		{"a/b", NULL},
		{"", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len;
		const char *got = target_path(cases[i].target, strlen(cases[i].target), &len);

		if (!cases[i].path) {
			assert_null(got);
			continue;
		}
		assert_int_equal(len, strlen(cases[i].path));
		assert_memory_equal(got, cases[i].path, len);
	}
}

static void decoding(void **state)
{
	static const struct {
		const char *path, *out;
	} cases[] = {
		{"/", "."},	  {"///", "."},	      {"/a%20b", "a b"}, {"/%41%4a", "AJ"},
		{"//etc", "etc"}, {"/%2fetc", "etc"}, {"/%2f", "."},	 {"/a/%2e%2e/b", "a/../b"},
		{"/%", NULL},	  {"/%4", NULL},      {"/%4x", NULL},	 {"/a%00b", NULL},
		{"a", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char out[64];
		bool ok = target_decode(cases[i].path, strlen(cases[i].path), out);

		assert_int_equal(ok, cases[i].out != NULL);
		if (ok)
			assert_string_equal(out, cases[i].out);
	}
}

static void ranges(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
		enum range_result res;
		uint64_t first, last;
	} cases[] = {
		{"bytes=0-0", 10, RANGE_ONE, 0, 0},
		{"bytes=3-", 10, RANGE_ONE, 3, 9},
		{"bytes=-4", 10, RANGE_ONE, 6, 9},
		{"bytes=-40", 10, RANGE_ONE, 0, 9},
		{"BYTES=2-99999999999999999999999", 10, RANGE_ONE, 2, 9},
		{"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0},
		{"bytes=99999999999999999999999-", 10, RANGE_UNSATISFIABLE, 0, 0},
		{"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0},
		{"bytes=-1", 0, RANGE_UNSATISFIABLE, 0, 0},
		{"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
		{"bytes=5-4", 10, RANGE_NONE, 0, 0},
		{"bytes=0-1,3-4", 10, RANGE_NONE, 0, 0},
		{"bytes=", 10, RANGE_NONE, 0, 0},
		{"bytes=-", 10, RANGE_NONE, 0, 0},
		{"bytes=x-1", 10, RANGE_NONE, 0, 0},
		{"bytes=1", 10, RANGE_NONE, 0, 0},
		{"lines=0-1", 10, RANGE_NONE, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t first = 0, last = 0;
		enum range_result res = range_parse(cases[i].text, strlen(cases[i].text),
						    cases[i].size, &first, &last);

		assert_int_equal(res, cases[i].res);
		if (res == RANGE_ONE) {
			assert_int_equal(first, cases[i].first);
			assert_int_equal(last, cases[i].last);
		}
	}
}

static void dates(void **state)
{
	static const char *const same[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
					   "Sunday, 06-Nov-94 08:49:37 GMT",
					   "Sun Nov  6 08:49:37 1994"};
	static const char *const none[] = {"", "yesterday", "Sun, 06 Nov 1994 08:49:37 GMT x",
					   "Sun, 06 Nov 1994"};

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(http_date_parse(same[i], strlen(same[i])), 784111777);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(http_date_parse(none[i], strlen(none[i])), -1);
}

static void entity_tags(void **state)
{
	static const struct {
		const char *list;
		bool weak, strong;
	} cases[] = {
		{"\"a\"", true, true},
		{"*", true, true},
		{"W/\"a\"", true, false},
		{"\"x\", W/\"y\" ,\"a\"", true, true},
		{"\"x\",\t\"y\"", false, false},
		{"\"a", false, false},
		{"a", false, false},
		{"", false, false},
		{"W/", false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len = strlen(cases[i].list);

		assert_int_equal(etag_listed(cases[i].list, len, "\"a\"", false), cases[i].weak);
		assert_int_equal(etag_listed(cases[i].list, len, "\"a\"", true), cases[i].strong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths), cmocka_unit_test(decoding),	cmocka_unit_test(ranges),
		cmocka_unit_test(dates), cmocka_unit_test(entity_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
