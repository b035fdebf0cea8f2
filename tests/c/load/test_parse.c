/* SPDX-License-Identifier: MIT */
/* Targets and commands. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "commands.h"
#include "net.h"

static void test_targets(void **state)
{
	static const char *const cases[][3] = {
		{"127.0.0.1:80", "127.0.0.1", "80"},
		{"[::1]:8080", "::1", "8080"},
		{"localhost:65535", "localhost", "65535"},
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct target t;
		struct addrinfo *list;
		assert_null(target_parse(cases[i][0], &t));
		assert_string_equal(t.host, cases[i][1]);
		assert_string_equal(t.port, cases[i][2]);
		assert_int_equal(target_resolve(&t, &list), 0);
		assert_int_equal(list->ai_socktype, SOCK_STREAM);
		freeaddrinfo(list);
	}
}

static void test_wrong_targets(void **state)
{
	static const char *const cases[] = {
		"",
		"localhost",
		":80",
		"localhost:",
		"localhost:0",
		"localhost:65536",
		"localhost:x",
		"::1:80",
		"[::1]",
		"[]:80",
		"[::1:80",
		"a b:80",
		"a:-1",
		"a:123456",
		"a:80 ",
		"[::1]x:80",
		"a\r\nX: y:80",
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct target t;
		if (!target_parse(cases[i], &t))
			fail_msg("'%s' was accepted", cases[i]);
	}
}

static void test_long_host(void **state)
{
	char text[400];
	struct target t;

	memset(text, 'h', sizeof(text));
	memcpy(text + 300, ":80", 4);
	assert_non_null(target_parse(text, &t));
	memcpy(text + 255, ":80", 4);
	assert_null(target_parse(text, &t));
	assert_int_equal(strlen(t.host), 255);
}

/* Parsing cuts the line: each gets room of its own. The path points into it. */
static char line[200];

static struct command parse(const char *text)
{
	snprintf(line, sizeof(line), "%s", text);
	return command_parse(line);
}

static void test_commands(void **state)
{
	struct command c = parse("slice 30 200\n");

	assert_int_equal(c.kind, COMMAND_SLICE);
	assert_int_equal(c.warmup_ns, 30000000);
	assert_int_equal(c.duration_ns, 200000000);
	assert_null(c.path);
	assert_int_equal(parse("slice  0\t1").kind, COMMAND_SLICE);
	assert_int_equal(parse("quit\n").kind, COMMAND_QUIT);
	assert_int_equal(parse("quit \r\n").kind, COMMAND_QUIT);
}

static void test_commands_with_a_path(void **state)
{
	struct command c = parse("slice 30 200 /1024.bin\r\n");

	assert_int_equal(c.kind, COMMAND_SLICE);
	assert_string_equal(c.path, "/1024.bin");
	assert_null(parse("slice 30 200  \n").path);
}

static void test_commands_with_a_rate(void **state)
{
	struct command c = parse("slice 30 200 rate=1500\n");

	assert_int_equal(c.kind, COMMAND_SLICE);
	assert_null(c.path);
	assert_true(c.rate == 1500);
	c = parse("slice 30 200\t/a?rate=3  rate=0.5 \r\n");
	assert_int_equal(c.kind, COMMAND_SLICE);
	assert_string_equal(c.path, "/a?rate=3");
	assert_true(c.rate == 0.5);
	assert_true(parse("slice 30 200 /a").rate == 0);
}

static void test_wrong_commands(void **state)
{
	static const char *const cases[] = {
		"",
		"\n",
		"slice",
		"slice 1",
		"slice 1 0",
		"slice 1 -2",
		"slice 1 2 3",
		"slice 1 2 /a /b",
		"slice 1 2/a",
		"slice 1 2 a",
		"slice1 2",
		"slice 1.5 2",
		"slice 1 99999999999",
		"slice 1 2x",
		"slice 1 2 rate=",
		"slice 1 2 rate=0",
		"slice 1 2 rate=-1",
		"slice 1 2 rate=1e3",
		"slice 1 2 rate=inf",
		"slice 1 2 rate=1.2.3",
		"slice 1 2 rate=99999999",
		"slice 1 2 rate=1 /a",
		"slice 1 2 rate=1 rate=2",
		"slice 1 2 Rate=1",
		"slice 1 2rate=1",
		"quitter",
		"Slice 1 2",
		"stop",
		"slice 99999999999999999999 1",
	};

	for (size_t i = 0; i < NR(cases); i++) {
		if (parse(cases[i]).kind != COMMAND_WRONG)
			fail_msg("'%s' was accepted", cases[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_wrong_targets),
		cmocka_unit_test(test_long_host),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_commands_with_a_rate),
		cmocka_unit_test(test_wrong_commands),
		cmocka_unit_test(test_commands_with_a_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
