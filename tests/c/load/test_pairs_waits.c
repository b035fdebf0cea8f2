/* SPDX-License-Identifier: MIT */
/*
 * Pairs whose server, relay or forwarder leaves them waiting: every wait ends, as an error of the
 * right kind. What never ends here runs into the time-out of the test.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "middle.h"
#include "pair.h"

#define SHORT_NS (50 * NS_PER_MS) /* time-out of tests that wait for it */

static void stay_silent(struct middle *m, int *from, int *to)
{
	middle_await_end(*from);
}

static void answer_with_heads_only(struct middle *m, int *from, int *to)
{
	middle_say(*from, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	middle_say(*to, "HTTP/1.1 200 OK\r\nContent-Length: 1048579\r\n\r\n");
	middle_await_end(*from);
}

/* Everything arrives but the end of what the sender is told. */
static void leave_the_sender_waiting(struct middle *m, int *from, int *to)
{
	static char bytes[(1u << 20) + 3];
	size_t len = middle_take(*from, bytes, sizeof(bytes));

	middle_say(*from, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
	middle_say(*to, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof(bytes));
	middle_send(*to, bytes, len);
	middle_await_end(*from);
}

/* Talks to the sender for ever; the receiver gets nothing. */
static void keep_talking(struct middle *m, int *from, int *to)
{
	static char bytes[(1u << 20) + 3];

	middle_take(*from, bytes, sizeof(bytes));
	middle_say(*from, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	while (send(*from, "7\r\nwaiting\r\n", 12, MSG_NOSIGNAL) > 0)
		usleep(1000);
}

/* The payload arrives, its end does not. */
static void keep_the_end(struct middle *m, int *from, int *to)
{
	static char bytes[HELLO_BYTES + (1u << 20) + 3];

	middle_send(*to, bytes, middle_take(*from, bytes, sizeof(bytes)));
	middle_await_end(*to);
}

static void check_times_out(bool relay, middle_script *script, uint64_t rate)
{
	struct pairs_rig r;

	pairs_rig_start(&r, relay, script);
	r.cfg.timeout_ns = 200 * NS_PER_MS; /* longer than a few of the loop's waits */
	r.cfg.rate_send = r.cfg.rate_recv = rate;
	pairs_rig_count(&r, 1);
	pairs_rig_expect(&r, LOAD_ERR_TIMEOUT, 1);
	assert_int_equal(r.res.slice.total.requests, 0);
	pairs_rig_stop(&r);
}

static void test_counted_transfers_time_out(void **state)
{
	check_times_out(true, stay_silent, 0);
	check_times_out(true, answer_with_heads_only, 0);
	check_times_out(true, leave_the_sender_waiting, 0);
	check_times_out(true, keep_talking, 0);
	check_times_out(false, stay_silent, 0);
	check_times_out(false, keep_the_end, 0);
}

static void test_limited_transfers_time_out(void **state)
{
	check_times_out(true, stay_silent, 1u << 30);
	check_times_out(true, answer_with_heads_only, 1u << 30);
	check_times_out(true, leave_the_sender_waiting, 1u << 30);
	check_times_out(false, stay_silent, 1u << 30);
}

static void pass_up(struct middle *m, int *from, int *to)
{
	char buf[4096];
	ssize_t n;

	while ((n = recv(*from, buf, sizeof(buf), 0)) > 0)
		middle_send(*to, buf, (size_t)n);
	shutdown(*to, SHUT_WR);
	middle_await_end(*to);
}

/* A pair of one byte and these rates (bytes/s, 0: no limit), with half a second to wait at most. */
static void check_is_no_stall(uint64_t rate_send, uint64_t rate_recv)
{
	struct pairs_rig r;

	pairs_rig_start(&r, false, pass_up);
	r.cfg.size = 1;
	r.cfg.rate_send = rate_send;
	r.cfg.rate_recv = rate_recv;
	r.cfg.timeout_ns = 500 * NS_PER_MS;
	pairs_rig_count(&r, 1);
	pairs_rig_expect_none(&r);
	assert_int_equal(r.res.slice.window.requests, 1);
	pairs_rig_stop(&r);
}

/* One byte a second: nothing goes for twice the time-out, by the pair's own limit. */
static void test_waiting_for_the_own_rate_is_no_stall(void **state)
{
	check_is_no_stall(1, 0);
	check_is_no_stall(0, 1);
}

/* An address of another family than its socket: connect(2) itself fails. */
static void make_connect_fail(struct pairs_rig *r)
{
	r->middle.addr.sin_family = AF_UNIX;
}

static void test_connects_that_fail_at_once_end_a_count(void **state)
{
	for (int relay = 0; relay < 2; relay++) {
		struct pairs_rig r;

		pairs_rig_start(&r, relay, stay_silent);
		make_connect_fail(&r);
		r.cfg.nr_pairs = 2;
		pairs_rig_count(&r, 3);
		pairs_rig_expect(&r, LOAD_ERR_CONNECT, 6);
		pairs_rig_stop(&r);
	}
}

/* Nothing listens; the port is bound, so that nobody else can. */
static void make_connect_refused(struct pairs_rig *r)
{
	r->middle.addr = r->middle.upstream;
}

static void test_a_count_gives_up_on_a_server_that_is_not_there(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, true, stay_silent);
	make_connect_refused(&r);
	r.cfg.nr_pairs = 2;
	pairs_rig_count(&r, UINT32_MAX);
	pairs_rig_expect(&r, LOAD_ERR_CONNECT, 2 * FAILURES_MAX);
	pairs_rig_stop(&r);
}

static void test_failures_in_a_row_are_spaced(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, true, stay_silent);
	make_connect_refused(&r);
	for (int i = 0; i < 3; i++) {
		pairs_rig_slice(&r, 50);
		uint64_t nr = r.res.slice.total.errors[LOAD_ERR_CONNECT];
		assert_true(nr >= 1);
		assert_true(nr <= 2 + r.res.slice.total_ns / RETRY_NS);
		pairs_rig_expect(&r, LOAD_ERR_CONNECT, nr);
	}
	pairs_rig_stop(&r);
}

/* Nobody accepts, and the queue is full: the kernel drops further SYNs. */
static int fill_queue(struct pairs_rig *r)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(listen(r->middle.listen_fd, 0), errno);
	assert_return_code(connect(fd, (struct sockaddr *)&r->middle.addr, sizeof(r->middle.addr)),
			   errno);
	return fd;
}

static void test_a_connect_that_takes_too_long(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, true, stay_silent);
	int fd = fill_queue(&r);

	r.cfg.timeout_ns = SHORT_NS;
	r.cfg.count = 2;
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0); /* without the middle */
	pairs_count(r.pairs, &r.res);
	pairs_rig_expect(&r, LOAD_ERR_CONNECT, 2);
	close(fd);
	pairs_rig_stop(&r);
}

/* Slices that are shorter than the time-out add up to it; pauses between them do not count. */
static void test_waits_go_on_over_slices(void **state)
{
	struct pairs_rig r;
	uint64_t slices_ns = 0;

	pairs_rig_start(&r, true, stay_silent);
	int fd = fill_queue(&r);

	r.cfg.timeout_ns = 2 * SHORT_NS;
	r.cfg.size = 1ull << 30; /* is not finished between slices, thus never waited for */
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	do {
		pairs_slice(r.pairs, 0, SHORT_NS / 4, &r.res);
		slices_ns += r.res.slice.total_ns;
		usleep(SHORT_NS / 4000);
	} while (!r.res.slice.total.errors[LOAD_ERR_CONNECT]);
	assert_true(slices_ns > r.cfg.timeout_ns);
	close(fd);
	pairs_rig_stop(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted_transfers_time_out),
		cmocka_unit_test(test_limited_transfers_time_out),
		cmocka_unit_test(test_waiting_for_the_own_rate_is_no_stall),
		cmocka_unit_test(test_connects_that_fail_at_once_end_a_count),
		cmocka_unit_test(test_a_count_gives_up_on_a_server_that_is_not_there),
		cmocka_unit_test(test_failures_in_a_row_are_spaced),
		cmocka_unit_test(test_a_connect_that_takes_too_long),
		cmocka_unit_test(test_waits_go_on_over_slices),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
