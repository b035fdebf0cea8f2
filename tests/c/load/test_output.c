/* SPDX-License-Identifier: MIT */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "output.h"

static const struct load_config cfg = {.connections = 50, .pipeline = 4};

/* Writes a result into memory; the caller frees it. */
static char *write_result(const struct slice_result *res)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(output_result(out, &cfg, res), 0);
	fclose(out);
	assert_int_equal(text[len - 1], '\n');
	assert_ptr_equal(strchr(text, '\n'), text + len - 1);
	return text;
}

static void fill_result(struct slice_result *res)
{
	*res = (struct slice_result){
		.start_ns = 1000000000000000ull,
		.window_ns = 200000000,
		.client_ns = 150000000,
		.server_ns = 180000000,
		.have_server_ns = true,
		.window = {.requests = 3, .bytes = 9007199254740993ull},
		.total = {.requests = 5, .non_2xx = 2, .errors = {[LOAD_ERR_LONG] = 7}},
	};
	hist_reset(&res->latency);
	hist_add(&res->latency, 5);
	hist_add(&res->latency, 1000);
	hist_add(&res->latency, 1001);
}

static void test_integers_are_exact(void **state)
{
	static struct slice_result res;

	fill_result(&res);
	char *text = write_result(&res);
	/* Both would be lost in a double's usual print: 1e+15 and ...992. */
	assert_non_null(strstr(text, "\"start_ns\":1000000000000000,"));
	assert_non_null(strstr(text, "\"bytes\":9007199254740993,"));
	free(text);
}

static void test_document(void **state)
{
	static struct slice_result res;

	fill_result(&res);
	char *text = write_result(&res);
	cJSON *doc = cJSON_Parse(text);
	assert_non_null(doc);
	const cJSON *errors = cJSON_GetObjectItem(doc, "errors");
	const cJSON *cpu = cJSON_GetObjectItem(doc, "cpu");
	assert_int_equal(cJSON_GetArraySize(errors), NR_LOAD_ERRORS);
	assert_int_equal(cJSON_GetObjectItem(errors, "long")->valueint, 7);
	assert_int_equal(cJSON_GetObjectItem(doc, "non_2xx")->valueint, 2);
	assert_int_equal(cJSON_GetObjectItem(doc, "pipeline")->valueint, 4);
	assert_true(cJSON_GetObjectItem(cpu, "client_share")->valuedouble == 0.75);
	assert_int_equal(cJSON_GetObjectItem(cpu, "server_ns")->valueint, 180000000);
	assert_true(cJSON_IsFalse(cJSON_GetObjectItem(doc, "verified")));
	cJSON_Delete(doc);
	free(text);
}

static void test_histogram_survives(void **state)
{
	static struct slice_result res;
	uint64_t nr = 0;

	fill_result(&res);
	char *text = write_result(&res);
	cJSON *doc = cJSON_Parse(text);
	const cJSON *latency = cJSON_GetObjectItem(doc, "latency");
	const cJSON *pair;
	cJSON_ArrayForEach(pair, cJSON_GetObjectItem(latency, "counts"))
	{
		int index = cJSON_GetArrayItem(pair, 0)->valueint;
		int count = cJSON_GetArrayItem(pair, 1)->valueint;
		assert_int_equal(res.latency.count[index], count);
		nr += (uint64_t)count;
	}
	assert_int_equal(nr, 3);
	assert_int_equal(cJSON_GetObjectItem(latency, "min")->valueint, 5);
	assert_int_equal(cJSON_GetObjectItem(latency, "max")->valueint, 1001);
	cJSON_Delete(doc);
	free(text);
}

static void test_unknown_is_null(void **state)
{
	static struct slice_result res;

	fill_result(&res);
	res.have_server_ns = false;
	hist_reset(&res.latency);
	char *text = write_result(&res);
	assert_non_null(strstr(text, "\"server_ns\":null"));
	assert_non_null(strstr(text, "\"counts\":[],\"min\":null,\"p50\":null"));
	free(text);
}

static void test_open_loop_says_so(void **state)
{
	static struct slice_result res;

	fill_result(&res);
	char *text = write_result(&res);
	assert_non_null(strstr(text, "\"closed_loop\":true,"));
	assert_non_null(strstr(text, "\"open_loop\":null,"));
	assert_non_null(strstr(text, "\"kind\":\"closed loop, service time\""));
	free(text);
	res.open = (struct open_result){
		.rate = 1500.5, .nr_due = 300, .nr_unsent = 200, .nr_outstanding = 50};
	hist_reset(&res.open.lateness);
	hist_add(&res.open.lateness, 77);
	text = write_result(&res);
	cJSON *doc = cJSON_Parse(text);
	const cJSON *open = cJSON_GetObjectItem(doc, "open_loop");
	assert_true(cJSON_IsFalse(cJSON_GetObjectItem(doc, "closed_loop")));
	assert_true(cJSON_GetObjectItem(open, "rate_per_s")->valuedouble == 1500.5);
	assert_string_equal(cJSON_GetObjectItem(open, "arrivals")->valuestring, "poisson");
	assert_int_equal(cJSON_GetObjectItem(open, "unsent")->valueint, 200);
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(open, "overload")));
	const cJSON *lateness = cJSON_GetObjectItem(open, "lateness");
	assert_int_equal(cJSON_GetObjectItem(lateness, "max")->valueint, 77);
	assert_non_null(strstr(text, "\"kind\":\"open loop, from the intended send time\""));
	cJSON_Delete(doc);
	free(text);
}

static void test_write_error_is_reported(void **state)
{
	FILE *full = fopen("/dev/full", "w");

	if (!full)
		skip(); /* needs /dev/full */
	assert_true(output_ready(full, 1) < 0);
	fclose(full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers_are_exact),
		cmocka_unit_test(test_document),
		cmocka_unit_test(test_histogram_survives),
		cmocka_unit_test(test_unknown_is_null),
		cmocka_unit_test(test_open_loop_says_so),
		cmocka_unit_test(test_write_error_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
