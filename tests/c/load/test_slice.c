/* SPDX-License-Identifier: MIT */
/*
 * Slices against servers that answer correctly, in awkward ways. A lost wake-up shows as a request
 * that never completes: the drain would run into its time-out, which counts an error.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "fake.h"

#define SLICE_MS 30

/* Body sizes around the edges of the receive sizes (head: 58 to 63 bytes). */
static const size_t edge_sizes[] = {
	0,    1,    100,   4032,  4033,	 4034,	4035,	4036,	4037,	4038,	 4039,
	4096, 4097, 16384, 65000, 65536, 65537, 131072, 262144, 262145, 1 << 20,
};

/* Answers with bodies of 1000 bytes, as many at a time as requests came. */
static void serve_coalesced(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(1000, &len);
	unsigned int nr;

	while ((nr = fake_take(c))) {
		char *all = malloc(nr * len);
		for (unsigned int i = 0; i < nr; i++) {
			memcpy(all + i * len, response, len);
			fake_count(c, 1000);
		}
		fake_send(c, all, nr * len);
		free(all);
	}
	free(response);
}

/* Cuts the n-th response after n bytes, so that over time every place is cut. */
static void serve_cut(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(150, &len);
	unsigned int nr, answered = 0;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			size_t cut = answered++ % len;
			fake_count(c, 150);
			fake_send(c, response, cut);
			sched_yield();
			fake_send(c, response + cut, len - cut);
		}
	}
	free(response);
}

static void serve_byte_by_byte(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(20, &len);
	unsigned int nr;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			fake_count(c, 20);
			for (size_t i = 0; i < len; i++)
				fake_send(c, response + i, 1);
		}
	}
	free(response);
}

/* Gathers responses and sends them in chunks that end anywhere. */
static void serve_misaligned(struct fake_conn *c)
{
	size_t len, at = 0;
	char *response = fake_response(333, &len);
	unsigned int nr;

	while ((nr = fake_take(c))) {
		size_t total = nr * len;
		char *all = malloc(total);
		for (unsigned int i = 0; i < nr; i++) {
			memcpy(all + i * len, response, len);
			fake_count(c, 333);
		}
		for (size_t sent = 0; sent < total;) {
			size_t n = 1 + at++ % (2 * len);
			n = n < total - sent ? n : total - sent;
			fake_send(c, all + sent, n);
			sent += n;
		}
		free(all);
	}
	free(response);
}

static void serve_edge_sizes(struct fake_conn *c)
{
	unsigned int nr, answered = 0;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			size_t len, body = edge_sizes[answered++ % NR(edge_sizes)];
			char *response = fake_response(body, &len);
			fake_count(c, body);
			fake_send(c, response, len);
			free(response);
		}
	}
}

/* A little above the size up to which a response is received whole: two receives for each. */
static void serve_many_middle_ones(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(5000, &len);
	unsigned int nr;

	while ((nr = fake_take(c))) {
		char *all = malloc(nr * len);
		for (unsigned int i = 0; i < nr; i++) {
			memcpy(all + i * len, response, len);
			fake_count(c, 5000);
		}
		fake_send(c, all, nr * len);
		free(all);
	}
	free(response);
}

static void serve_interim(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(10, &len);
	unsigned int nr;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			fake_count(c, 10);
			fake_say(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
			fake_send(c, response, len);
		}
	}
	free(response);
}

static void serve_http10(struct fake_conn *c)
{
	unsigned int nr;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			fake_count(c, 2);
			fake_say(c, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
				    "Content-Length: 2\r\n\r\nok");
		}
	}
}

static void check_serves(fake_serve *serve, uint32_t connections, uint32_t pipeline)
{
	struct rig r;

	rig_start(&r, serve, connections, pipeline);
	rig_slice(&r, SLICE_MS);
	rig_assert_clean(&r);
	assert_int_equal(r.res.total.reconnects, 0);
	assert_int_equal(r.fake.nr_accepted, connections);
	rig_stop(&r);
}

static void test_single_requests(void **state)
{
	check_serves(serve_coalesced, 1, 1);
	check_serves(serve_coalesced, 20, 1);
}

static void test_pipelines_coalesced(void **state)
{
	check_serves(serve_coalesced, 3, 2);
	check_serves(serve_coalesced, 3, 100);
}

static void test_responses_cut_everywhere(void **state)
{
	check_serves(serve_cut, 2, 1);
	check_serves(serve_cut, 2, 7);
}

static void test_responses_byte_by_byte(void **state)
{
	check_serves(serve_byte_by_byte, 2, 1);
	check_serves(serve_byte_by_byte, 2, 3);
}

static void test_responses_misaligned(void **state)
{
	check_serves(serve_misaligned, 3, 16);
}

static void test_sizes_around_the_edges(void **state)
{
	check_serves(serve_edge_sizes, 2, 1);
	check_serves(serve_edge_sizes, 2, 5);
}

static void test_more_receives_than_a_turn_allows(void **state)
{
	check_serves(serve_many_middle_ones, 2, 200);
}

static void test_interim_responses(void **state)
{
	check_serves(serve_interim, 2, 1);
	check_serves(serve_interim, 2, 4);
}

static void test_http10_keep_alive(void **state)
{
	check_serves(serve_http10, 2, 1);
}

/* More request bytes than a socket takes at once: the rest waits for writability. */
static void test_requests_larger_than_the_socket(void **state)
{
	static char path[16000];
	const char *const paths[] = {path};
	struct rig r;

	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	rig_start(&r, serve_coalesced, 1, LOAD_MAX_PIPELINE);
	r.cfg.paths = paths;
	rig_slice(&r, SLICE_MS);
	rig_assert_clean(&r);
	rig_stop(&r);
}

static void test_several_paths(void **state)
{
	static const char *const paths[] = {"/one", "/two", "/three"};
	struct rig r;

	rig_start(&r, serve_edge_sizes, 2, 3);
	r.cfg.paths = paths;
	r.cfg.nr_paths = NR(paths);
	rig_slice(&r, SLICE_MS);
	rig_assert_clean(&r);
	rig_stop(&r);
}

static void test_window_is_part_of_total(void **state)
{
	struct rig r;

	rig_start(&r, serve_edge_sizes, 4, 2);
	assert_int_equal(load_open(&r.cfg, &r.load), 0);
	load_slice(r.load, 10 * 1000000, SLICE_MS * 1000000, &r.res);
	rig_assert_clean(&r);
	const struct slice_result *res = &r.res;
	assert_true(res->window_ns >= SLICE_MS * 1000000);
	assert_true(res->total_ns >= res->window_ns + res->drain_ns + 10 * 1000000);
	assert_true(res->idle_ns <= res->window_ns);
	assert_true(res->window.requests <= res->total.requests);
	assert_true(res->window.body_bytes <= res->window.bytes);
	assert_true(res->window.bytes <= res->total.bytes);
	assert_int_equal(res->latency.nr, res->window.requests);
	assert_false(res->have_server_ns);
	rig_stop(&r);
}

static void test_ended_process_has_no_cpu_time(void **state)
{
	pid_t pid = fork();
	clockid_t clocks[2];
	struct rig r;

	assert_return_code(pid, errno);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(cpu_clock_open(getpid(), &clocks[0]), 0);
	assert_int_equal(cpu_clock_open(pid, &clocks[1]), 0);
	rig_start(&r, serve_edge_sizes, 1, 1);
	r.cfg.cpu_clocks = clocks;
	r.cfg.nr_cpu_clocks = NR(clocks);
	rig_slice(&r, 5);
	assert_true(r.res.have_server_ns);
	assert_true(r.res.server_ns > 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	rig_slice(&r, 5);
	assert_false(r.res.have_server_ns);
	rig_stop(&r);
}

static void test_usage_of_a_group_is_added(void **state)
{
	char path[] = "/tmp/iolab-usage-XXXXXX";
	int fd = mkstemp(path);
	struct rig r;

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, "5\n", 2), 2);
	rig_start(&r, serve_edge_sizes, 1, 1);
	r.cfg.cpu_usage = path;
	rig_slice(&r, 5);
	assert_true(r.res.have_server_ns);
	assert_int_equal(r.res.server_ns, 0);
	assert_int_equal(unlink(path), 0);
	rig_slice(&r, 5);
	assert_false(r.res.have_server_ns);
	close(fd);
	rig_stop(&r);
}

static void test_connections_outlive_slices(void **state)
{
	struct rig r;

	rig_start(&r, serve_edge_sizes, 8, 2);
	for (int i = 0; i < 5; i++) {
		r.fake.nr_answered = 0;
		r.fake.nr_body_bytes = 0;
		rig_slice(&r, 5);
		rig_assert_clean(&r);
		assert_int_equal(load_connected(r.load), 8);
	}
	assert_int_equal(r.fake.nr_accepted, 8);
	rig_stop(&r);
}

static void serve_bodies(struct fake_conn *c, size_t body, size_t wrong_at)
{
	size_t len;
	char *response = fake_response(body, &len);
	unsigned int nr;

	if (wrong_at)
		response[len - wrong_at] ^= 1;
	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			fake_count(c, body);
			fake_send(c, response, len);
		}
	}
	free(response);
}

#define VERIFY_BYTES 300000

static void serve_right_body(struct fake_conn *c)
{
	serve_bodies(c, VERIFY_BYTES, 0);
}

static void serve_wrong_body(struct fake_conn *c)
{
	serve_bodies(c, VERIFY_BYTES, 1000);
}

static void serve_body_of_other_length(struct fake_conn *c)
{
	serve_bodies(c, VERIFY_BYTES - 1, 0);
}

static void verify_slice(struct rig *r, fake_serve *serve)
{
	static struct verify_want want;
	char path[] = "/tmp/iolab-test-slice-XXXXXX";
	int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");

	assert_non_null(file);
	for (size_t i = 0; i < VERIFY_BYTES; i++)
		putc(fake_body_byte(i), file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(verify_read_file(path, &want), 0);
	unlink(path);
	rig_start(r, serve, 2, 3);
	r->cfg.wants = &want;
	rig_slice(r, SLICE_MS);
}

static void test_verified_bodies(void **state)
{
	struct rig r;

	verify_slice(&r, serve_right_body);
	rig_assert_clean(&r);
	rig_stop(&r);
}

static void test_mismatching_bodies(void **state)
{
	fake_serve *const servers[] = {serve_wrong_body, serve_body_of_other_length};

	for (size_t i = 0; i < NR(servers); i++) {
		struct rig r;
		verify_slice(&r, servers[i]);
		assert_int_equal(r.res.total.requests, 0);
		assert_int_equal(r.res.latency.nr, 0);
		assert_int_equal(r.res.total.errors[LOAD_ERR_MISMATCH], r.fake.nr_answered);
		assert_int_equal(rig_errors(&r), r.fake.nr_answered);
		rig_stop(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_requests),
		cmocka_unit_test(test_pipelines_coalesced),
		cmocka_unit_test(test_responses_cut_everywhere),
		cmocka_unit_test(test_responses_byte_by_byte),
		cmocka_unit_test(test_responses_misaligned),
		cmocka_unit_test(test_sizes_around_the_edges),
		cmocka_unit_test(test_more_receives_than_a_turn_allows),
		cmocka_unit_test(test_interim_responses),
		cmocka_unit_test(test_http10_keep_alive),
		cmocka_unit_test(test_requests_larger_than_the_socket),
		cmocka_unit_test(test_several_paths),
		cmocka_unit_test(test_window_is_part_of_total),
		cmocka_unit_test(test_ended_process_has_no_cpu_time),
		cmocka_unit_test(test_usage_of_a_group_is_added),
		cmocka_unit_test(test_connections_outlive_slices),
		cmocka_unit_test(test_verified_bodies),
		cmocka_unit_test(test_mismatching_bodies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
