/* SPDX-License-Identifier: MIT */
/* The program from outside: options, exit statuses, the documents and the line protocol. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "child.h"
#include "fake.h"

static struct rig rig;
static char target[32];

static void serve(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(500, &len);
	unsigned int nr;

	while ((nr = fake_take(c))) {
		for (; nr; nr--)
			fake_send(c, response, len);
	}
	free(response);
}

/* Starts the program; "TARGET" stands for the server. */
static struct child start(const char *line)
{
	return child_start(IOLAB_LOAD, line, (struct placeholder){"TARGET", target});
}

/* A number by its path, for example "window.requests". */
static double number(const cJSON *doc, const char *path)
{
	char text[64];
	char *save = NULL;

	snprintf(text, sizeof(text), "%s", path);
	for (char *key = strtok_r(text, ".", &save); key; key = strtok_r(NULL, ".", &save))
		doc = cJSON_GetObjectItemCaseSensitive(doc, key);
	if (!cJSON_IsNumber(doc))
		fail_msg("%s is not a number", path);
	return doc->valuedouble;
}

static void test_one_shot(void **state)
{
	static const char *const numbers[] = {
		"schema_version",
		"window.start_ns",
		"window.ns",
		"window.requests",
		"window.bytes",
		"window.body_bytes",
		"total.ns",
		"total.requests",
		"total.bytes",
		"total.body_bytes",
		"total.drain_ns",
		"errors.connect",
		"errors.timeout",
		"errors.reset",
		"errors.short",
		"errors.long",
		"errors.status",
		"errors.head",
		"errors.mismatch",
		"non_2xx",
		"reconnects",
		"cpu.client_ns",
		"cpu.client_share",
		"idle_ns",
		"latency.sub_bucket_bits",
	};
	struct child c = start("--target TARGET --path /x --connections 3 --pipeline 2 "
			       "--duration 0.02 --warmup 0 --seed 7 --rcvbuf 65536");
	cJSON *doc = child_document(&c);

	for (size_t i = 0; i < NR(numbers); i++)
		number(doc, numbers[i]);
	assert_string_equal(cJSON_GetObjectItem(doc, "tool")->valuestring, "iolab-load");
	assert_true(number(doc, "connections") == 3);
	assert_true(number(doc, "pipeline") == 2);
	assert_true(number(doc, "total.body_bytes") == 500 * number(doc, "total.requests"));
	assert_true(
		cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(doc, "cpu"), "server_ns")));
	cJSON_Delete(doc);
	assert_int_equal(fgetc(c.out), EOF);
	assert_int_equal(fgetc(c.err), EOF);
	assert_int_equal(child_finish(&c), 0);
}

static void test_open_loop(void **state)
{
	struct child c = start("--target TARGET --path /x --connections 3 --rate 2000.5 "
			       "--arrivals constant --duration 0.02 --warmup 0.01");
	cJSON *doc = child_document(&c);

	assert_true(number(doc, "open_loop.rate_per_s") == 2000.5);
	assert_true(number(doc, "open_loop.due") >= 40);
	assert_true(number(doc, "open_loop.lateness.max") > 0);
	assert_true(cJSON_IsFalse(cJSON_GetObjectItem(doc, "closed_loop")));
	cJSON_Delete(doc);
	assert_int_equal(child_finish(&c), 0);
}

/* A rate is for its slice alone; without one the command line's holds, and without that none. */
static void test_slices_with_rates(void **state)
{
	static const char *const options[] = {"", " --rate 700"};
	char line[200];

	for (size_t i = 0; i < NR(options); i++) {
		snprintf(line, sizeof(line), "--target TARGET --path /x --connections 4 --slices%s",
			 options[i]);
		struct child c = start(line);
		cJSON_Delete(child_document(&c));
		fputs("slice 5 20 /x rate=1000\nslice 5 20\nquit\n", c.in);
		fflush(c.in);
		cJSON *first = child_document(&c), *second = child_document(&c);
		assert_true(number(first, "open_loop.rate_per_s") == 1000);
		if (i)
			assert_true(number(second, "open_loop.rate_per_s") == 700);
		else
			assert_true(cJSON_IsNull(cJSON_GetObjectItem(second, "open_loop")));
		cJSON_Delete(first);
		cJSON_Delete(second);
		assert_int_equal(child_finish(&c), 0);
	}
}

static void test_slices(void **state)
{
	unsigned int accepted = rig.fake.nr_accepted;
	struct child c = start("--target TARGET --path /x --connections 4 --slices");
	cJSON *doc = child_document(&c);

	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(doc, "ready")));
	assert_true(number(doc, "connections") == 4);
	cJSON_Delete(doc);
	for (int i = 0; i < 3; i++) {
		fputs("slice 1 10\n", c.in);
		fflush(c.in);
		doc = child_document(&c);
		assert_true(number(doc, "total.requests") >= 4);
		assert_true(number(doc, "reconnects") == 0);
		cJSON_Delete(doc);
	}
	fputs("slice one two\nquit\n", c.in);
	fflush(c.in);
	doc = child_document(&c);
	assert_true(cJSON_IsString(cJSON_GetObjectItem(doc, "error")));
	cJSON_Delete(doc);
	assert_int_equal(child_finish(&c), 0);
	assert_int_equal(rig.fake.nr_accepted - accepted, 4);
}

static void test_end_of_input_ends_slices(void **state)
{
	struct child c = start("--target TARGET --path /x --connections 1 --slices");
	cJSON *doc = child_document(&c);

	cJSON_Delete(doc);
	assert_int_equal(child_finish(&c), 0);
}

/* One run with this process as its server; the document is the caller's. */
static cJSON *measure_this_process(void)
{
	char line[200];

	snprintf(line, sizeof(line),
		 "--target TARGET --path /x --connections 1 --duration 0.02 --cpu-clock %d,%d",
		 getpid(), getpid());
	struct child c = start(line);
	cJSON *doc = child_document(&c);

	assert_int_equal(child_finish(&c), 0);
	return doc;
}

/*
 * The server of this test is this very process. On a busy machine it may get no processor within a
 * window; of two answers in one, the second was asked for and served after the window began, so
 * that then its clock must have moved.
 */
static void test_cpu_clock_of_the_server(void **state)
{
	cJSON *doc = measure_this_process();

	while (number(doc, "window.requests") < 2) {
		cJSON_Delete(doc);
		doc = measure_this_process();
	}
	assert_true(number(doc, "cpu.server_ns") > 0);
	cJSON_Delete(doc);
}

static void test_verify(void **state)
{
	struct child c = start("--target TARGET --path /x --connections 1 --duration 0.02 "
			       "--verify /dev/null");
	cJSON *doc = child_document(&c);

	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(doc, "verified")));
	assert_true(number(doc, "errors.mismatch") > 0);
	assert_true(number(doc, "total.requests") == 0);
	cJSON_Delete(doc);
	assert_int_equal(child_finish(&c), 0);
}

/* Runs to the end; expects a status, nothing on standard output, and words on standard error. */
static void check_refusal(const char *line, int status, const char *words)
{
	char said[2000];
	struct child c = start(line);
	size_t n = fread(said, 1, sizeof(said) - 1, c.err);

	said[n] = '\0';
	if (!strstr(said, words))
		fail_msg("%s: said '%s' without '%s'", line, said, words);
	assert_int_equal(fgetc(c.out), EOF);
	assert_int_equal(child_finish(&c), status);
}

static void test_usage_errors(void **state)
{
	static const char *const cases[][2] = {
		{"", "--target"},
		{"--target TARGET", "--path"},
		{"--target TARGET --path /x", "--connections"},
		{"--target localhost --path /x --connections 1", "port is missing"},
		{"--target TARGET --path x --connections 1", "begin with '/'"},
		{"--target TARGET --path /\r\nX:y --connections 1", "percent-encode"},
		{"--target TARGET --path /x --connections 0", "whole number"},
		{"--target TARGET --path /x --connections 1x", "whole number"},
		{"--target TARGET --path /x --connections -1", "whole number"},
		{"--target TARGET --path /x --connections 1 --pipeline 9999", "1 to 1024"},
		{"--target TARGET --path /x --connections 1 --duration 0", "seconds"},
		{"--target TARGET --path /x --connections 1 --duration nan", "seconds"},
		{"--target TARGET --path /x --connections 1 --timeout 1s", "seconds"},
		{"--target TARGET --path /x --connections 1 --cpu-clock 1,x", "cpu-clock"},
		{"--target TARGET --path /x --connections 1 --cpu-clock=", "no process id"},
		{"--target TARGET --path /x --connections 1 --cpu-clock 4194304", "process"},
		{"--target TARGET --path /x --connections 1 --cpu-usage /nonexistent",
		 "/nonexistent: No such"},
		{"--target TARGET --path /x --connections 1 --cpu-usage /dev/null",
		 "neither a cpuacct.usage nor a cpu.stat"},
		{"--target TARGET --path /x --connections 1 --cpu 1023", "--cpu 1023"},
		{"--target TARGET --path /x --connections 1 --verify /nonexistent", "/nonexistent"},
		{"--target TARGET --path /x --path /y --connections 1 --verify /dev/null",
		 "one for each"},
		{"--target TARGET --path /x --connections 1 surplus", "surplus"},
		{"--bogus", "bogus"},
		{"--target TARGET --path /x --connections 1 --hdr-log /nonexistent/x",
		 "--hdr-log /nonexistent/x: No such"},
		{"--target TARGET --path /x --connections 1 --rate 0", "--rate: '0' is not"},
		{"--target TARGET --path /x --connections 1 --rate 1e3", "per second from 0.001"},
		{"--target TARGET --path /x --connections 1 --rate 1 --arrivals burst",
		 "allowed: poisson constant"},
		{"--target TARGET --relay --size 1 --hdr-log x", "not for pairs"},
		{"--target TARGET --relay --size 1 --rate 5", "not for pairs"},
		{"--target TARGET --relay --forward", "either"},
		{"--target TARGET --relay", "--size"},
		{"--target TARGET --relay --size 1 --direction down", "only for --forward"},
		{"--target TARGET --relay --size 1 --count 1 --slices", "--count"},
		{"--target TARGET --relay --size 0", "number of bytes"},
		{"--target TARGET --relay --size 101g", "number of bytes"},
		{"--target TARGET --relay --size 17179869184g", "number of bytes"},
		{"--target TARGET --relay --size 1 --prefix a/b", "--prefix"},
		{"--target TARGET --forward --size 1", "--upstream"},
		{"--target TARGET --forward --upstream TARGET --size 1 --chunked",
		 "only for --relay"},
		{"--target TARGET --forward --upstream TARGET --count 1", "--count"},
	};

	for (size_t i = 0; i < NR(cases); i++)
		check_refusal(cases[i][0], 2, cases[i][1]);
}

static void test_nothing_to_measure(void **state)
{
	/* Port 1 of loopback (tcpmux) is privileged and served by nothing on a test machine. */
	check_refusal("--target 127.0.0.1:1 --path /x --connections 2", 1, "127.0.0.1:1");
	check_refusal("--target 127.0.0.1:1 --path /x --connections 2 --slices", 1, "127.0.0.1:1");
	check_refusal("--target no.such.host.invalid:80 --path /x --connections 1", 1,
		      "no.such.host.invalid");
}

/* The other generator's report, through our script. One second is the least wrk can do. */
static void test_wrk_script(void **state)
{
	static const char prefix[] = "IOLAB-JSON ";
	char line[4096];
	cJSON *doc = NULL;

	if (system("command -v wrk >/dev/null") != 0) {
		print_message("skipped: wrk is not installed\n");
		skip();
	}
	snprintf(line, sizeof(line), "wrk -t1 -c2 -d1s -s %s http://%s/x", WRK_SCRIPT, target);
	FILE *out = popen(line, "r");
	assert_non_null(out);
	while (fgets(line, sizeof(line), out)) {
		if (strncmp(line, prefix, sizeof(prefix) - 1) == 0)
			doc = cJSON_Parse(line + sizeof(prefix) - 1);
	}
	assert_int_equal(pclose(out), 0);
	assert_non_null(doc);
	assert_string_equal(cJSON_GetObjectItem(doc, "tool")->valuestring, "wrk");
	assert_true(number(doc, "requests") > 0);
	assert_true(number(doc, "bytes") > 500 * number(doc, "requests"));
	assert_true(number(doc, "duration_us") >= 900000);
	assert_true(number(doc, "errors.read") == 0);
	assert_true(number(doc, "errors.status") == 0);
	assert_true(number(doc, "latency.p50") <= number(doc, "latency.max"));
	cJSON_Delete(doc);
}

static int setup(void **state)
{
	rig_start(&rig, serve, 1, 1);
	snprintf(target, sizeof(target), "127.0.0.1:%u", rig.fake.port);
	return 0;
}

static int teardown(void **state)
{
	rig_stop(&rig);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_shot),
		cmocka_unit_test(test_open_loop),
		cmocka_unit_test(test_slices_with_rates),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_end_of_input_ends_slices),
		cmocka_unit_test(test_cpu_clock_of_the_server),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_usage_errors),
		cmocka_unit_test(test_nothing_to_measure),
		cmocka_unit_test(test_wrk_script),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
