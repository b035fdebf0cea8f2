// SPDX-License-Identifier: MIT
/* What of an upload's fields reaches a receiver: never a type that a browser takes for HTML. */
#include "test.h"

#include "relay.h"

#include <string.h>

TEST_COMPLAIN

static void passes_as(const char *name, const char *value, const char *expected)
{
	char out[256], line[256];
	size_t at = 0;

	snprintf(line, sizeof(line), "%s: %s\r\n", name, expected);
	assert_true(relay_field(out, sizeof(out), &at, name, value, strlen(value)));
	assert_int_equal(at, strlen(line));
	assert_memory_equal(out, line, at);
}

static void type_passes_as(const char *value, const char *expected)
{
	passes_as("Content-Type", value, expected);
}

static void html_becomes_plain(void **state)
{
	type_passes_as("text/html", "text/plain");
	type_passes_as("TEXT/Html", "text/plain");
	type_passes_as("text/html; charset=utf-8", "text/plain; charset=utf-8");
	type_passes_as("text/html;charset=\"utf-8\"", "text/plain;charset=\"utf-8\"");
	type_passes_as("text/html\t;a=b", "text/plain\t;a=b");
	type_passes_as("  text/html", "  text/plain");
}

static void html_in_a_list_becomes_plain(void **state)
{
	type_passes_as("a/b, text/html", "a/b, text/plain");
	type_passes_as("a/b,text/HTML;x=y,c/d", "a/b,text/plain;x=y,c/d");
	type_passes_as("text/html,text/html", "text/plain,text/plain");
	type_passes_as("text/plain;charset=gbk,text/html", "text/plain;charset=gbk,text/plain");
	type_passes_as(",,\ttext/html,", ",,\ttext/plain,");
}

/* Where parsers differ about what ends a type, or a quoted string. */
static void html_where_some_parser_sees_it(void **state)
{
	type_passes_as("text/html x", "text/plain x");
	type_passes_as("text/html(x)", "text/plain(x)");
	type_passes_as("a/b;c=\"d, text/html", "a/b;c=\"d, text/plain");
	type_passes_as("a/b;c=\"\\\", text/html\"", "a/b;c=\"\\\", text/plain\"");
	type_passes_as("\xa0text/html\xa0", "\xa0text/plain\xa0");
}

static void other_types_stay(void **state)
{
	type_passes_as("", "");
	type_passes_as("text/htm", "text/htm");
	type_passes_as("text/htmlx", "text/htmlx");
	type_passes_as("text/html-x", "text/html-x");
	type_passes_as("xtext/html", "xtext/html");
	type_passes_as("application/xhtml+xml", "application/xhtml+xml");
	type_passes_as("a/b; c=\"d, e\"", "a/b; c=\"d, e\"");
}

static void only_a_type_is_looked_at(void **state)
{
	passes_as("X-Piping", "text/html", "text/html");
	passes_as("Content-Disposition", "attachment; filename=\"text/html\"",
		  "attachment; filename=\"text/html\"");
}

static void folds_are_blanks(void **state)
{
	type_passes_as("a/b,\r\n text/html", "a/b,   text/plain");
	type_passes_as("text/\r\n\thtml", "text/  \thtml");
	passes_as("X-Piping", "one\r\n two\nthree\rfour", "one   two three four");
}

static void a_byte_too_many_is_refused(void **state)
{
	static const char line[] = "Content-Type: a/b, text/plain\r\n";
	char out[sizeof(line)];

	for (size_t size = 0; size < sizeof(line); size++) {
		size_t at = 0;
		bool fits;

		out[size] = '#';
		fits = relay_field(out, size, &at, "Content-Type", "a/b, text/html", 14);
		assert_int_equal(fits, size == sizeof(line) - 1);
		assert_int_equal(out[size], '#');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(html_becomes_plain),
		cmocka_unit_test(html_in_a_list_becomes_plain),
		cmocka_unit_test(html_where_some_parser_sees_it),
		cmocka_unit_test(other_types_stay),
		cmocka_unit_test(only_a_type_is_looked_at),
		cmocka_unit_test(folds_are_blanks),
		cmocka_unit_test(a_byte_too_many_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
