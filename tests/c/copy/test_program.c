/* SPDX-License-Identifier: MIT */
/* The program from outside: exit statuses, documents, the line protocol, the end by a signal. */
#include "check.h"
#include "child.h"
#include "fresh_dir.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts the program; "DIR" is the test's directory. */
static struct child start(const char *line)
{
	return child_start(IOLAB_COPY, line, (struct placeholder){"DIR", fresh_dir});
}

static double number(const cJSON *doc, const char *object, const char *key)
{
	const cJSON *item =
		cJSON_GetObjectItem(object ? cJSON_GetObjectItem(doc, object) : doc, key);

	if (!cJSON_IsNumber(item))
		fail_msg("%s.%s is no number", object ? object : "", key);
	return item->valuedouble;
}

/* Runs to the end; its exit status, with what it said on standard error in `said`. */
static int run(const char *line, char said[1000])
{
	struct child c = start(line);

	said[fread(said, 1, 999, c.err)] = '\0';
	return child_finish(&c);
}

static void test_usage_is_explained(void **state)
{
	static const struct {
		const char *line, *words;
	} wrong[] = {
		{"", "--dir DIR is missing"},
		{"--dir DIR", "--technique NAME is missing"},
		{"--dir DIR -t cp", "no technique 'cp'"},
		{"--dir DIR -t mmap --size big", "'big' is no size"},
		{"--dir DIR -t mmap --files 0", "allowed: 1 to"},
		{"--dir DIR -t mmap --files 10 --batch 3", "3 does not divide --files (10)"},
		{"--dir DIR -t mmap --cache hot", "allowed: warm cold"},
		{"--dir DIR -t mmap --duration 0", "above 0 seconds"},
		{"--dir DIR -t mmap surplus", "there are no arguments"},
	};
	char said[1000];

	(void)state;
	for (size_t i = 0; i < NR(wrong); i++) {
		assert_int_equal(run(wrong[i].line, said), 2);
		if (!strstr(said, wrong[i].words))
			fail_msg("%s: %s", wrong[i].line, said);
	}
}

static void test_what_cannot_be_is_unsupported(void **state)
{
	char said[1000];

	(void)state;
	assert_int_equal(run("--dir DIR -t mmap,window=70000", said), 3);
	assert_non_null(strstr(said, "unsupported: "));
	assert_non_null(strstr(said, "64 KiB"));
	assert_int_equal(run("--dir DIR -t mmap --size 8g", said), 1);
	assert_non_null(strstr(said, "--limit"));
	assert_int_equal(run("--dir no-such-place -t mmap", said), 1);
	assert_non_null(strstr(said, "no-such-place"));
}

static void test_slices_are_answered_line_by_line(void **state)
{
	struct child c = start("--dir DIR -t read-write --size 64k --files 4 --batch 2 --slices");
	cJSON *doc = child_document(&c);

	(void)state;
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(doc, "ready")));
	assert_true(number(doc, NULL, "checks") > 50);
	cJSON_Delete(doc);
	for (int i = 0; i < 2; i++) {
		fputs("slice 1 5\n", c.in);
		fflush(c.in);
		doc = child_document(&c);
		assert_true(number(doc, "window", "ns") > 0);
		assert_int_equal(number(doc, "window", "body_bytes"),
				 65536 * number(doc, "window", "requests"));
		assert_int_equal(number(doc, "errors", "copy"), 0);
		assert_int_equal(number(doc, "errors", "mismatch"), 0);
		assert_true(number(doc, "cpu", "server_ns") > 0);
		cJSON_Delete(doc);
	}
	fputs("slice soon\n", c.in);
	fflush(c.in);
	doc = child_document(&c);
	assert_non_null(cJSON_GetObjectItem(doc, "error"));
	cJSON_Delete(doc);
	fputs("slice 1 1 /f000000\n", c.in);
	fflush(c.in);
	doc = child_document(&c);
	assert_non_null(cJSON_GetObjectItem(doc, "error"));
	cJSON_Delete(doc);
	fputs("quit\n", c.in);
	assert_int_equal(child_finish(&c), 0);
}

static void test_describe_names_every_option(void **state)
{
	struct child c = start("--dir DIR --describe");
	cJSON *doc = child_document(&c), *one;

	(void)state;
	cJSON_ArrayForEach(one, cJSON_GetObjectItem(doc, "techniques"))
	{
		const cJSON *usable = cJSON_GetObjectItem(one, "usable");

		assert_non_null(cJSON_GetObjectItem(one, "options"));
		/* A reason exactly where it is needed. */
		assert_int_equal(cJSON_IsTrue(usable) != 0,
				 cJSON_IsNull(cJSON_GetObjectItem(one, "reason")) != 0);
	}
	assert_true(cJSON_GetArraySize(cJSON_GetObjectItem(doc, "techniques")) >= 6);
	cJSON_Delete(doc);
	assert_int_equal(child_finish(&c), 0);
}

static void end_by(int sig, const char *command)
{
	struct child c = start("--dir DIR -t read-write --size 1m --slices");
	int status;

	cJSON_Delete(child_document(&c));
	assert_int_equal(fresh_dir_entries(), 2);
	fputs(command, c.in);
	fflush(c.in);
	kill(c.pid, sig);
	/*
	 * Its files go before it does, so its end is all there is to wait for. Its input stays open
	 * until then: the end of that would be a reason to go as well.
	 */
	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	fclose(c.in);
	fclose(c.out);
	fclose(c.err);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), sig);
	assert_int_equal(fresh_dir_entries(), 0);
}

static void test_signals_leave_no_files(void **state)
{
	(void)state;
	end_by(SIGTERM, "");
	end_by(SIGINT, "slice 3600000 3600000\n");
	end_by(SIGHUP, "slice 1 3600000\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_test_in_fresh_dir(test_usage_is_explained),
		unit_test_in_fresh_dir(test_what_cannot_be_is_unsupported),
		unit_test_in_fresh_dir(test_slices_are_answered_line_by_line),
		unit_test_in_fresh_dir(test_describe_names_every_option),
		unit_test_in_fresh_dir(test_signals_leave_no_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
