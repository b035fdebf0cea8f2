/* SPDX-License-Identifier: MIT */
/* The two ends of a forwarder's connection: who belongs to whom, and what nobody sent. */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "middle.h"
#include "pair.h"

#define SIZE ((1u << 20) + 3) /* of the rig's transfers */

/*
 * Leaves the first client waiting until it has given up; connects for it when the second one is
 * there, and for the second one when that connection was refused.
 */
static void connect_late(struct middle *m, int *from, int *to)
{
	static char first[HELLO_BYTES], bytes[HELLO_BYTES + SIZE];

	if (m->nr_served == 1) {
		middle_take(*from, first, HELLO_BYTES);
		middle_await_end(*from);
		return;
	}
	middle_take(*from, bytes, sizeof(bytes));
	int late = middle_connect(m);
	middle_send(late, first, HELLO_BYTES);
	middle_await_end(late);
	close(late);
	*to = middle_connect(m);
	middle_send(*to, bytes, sizeof(bytes));
	shutdown(*to, SHUT_WR);
	middle_await_end(*to);
}

static void test_a_late_connection_is_not_the_next_attempts(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, false, connect_late);
	r.middle.lazy = true;
	r.cfg.timeout_ns = NS_PER_S;
	pairs_rig_count(&r, 2);
	pairs_rig_expect(&r, LOAD_ERR_TIMEOUT, 1);
	assert_int_equal(r.res.slice.total.requests, 1);
	pairs_rig_stop(&r);
}

/* Says who it is only in part, and stays. */
static void mumble(struct middle *m, int *from, int *to)
{
	char hello[HELLO_BYTES];

	middle_send(*to, hello, middle_take(*from, hello, HELLO_BYTES) / 2);
	middle_await_end(*to);
	m->mark++;
}

static void test_a_connection_that_says_too_little_is_closed(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, false, mumble);
	r.cfg.timeout_ns = 50 * NS_PER_MS;
	while (r.middle.mark < 3)
		pairs_rig_slice(&r, 10);
	pairs_rig_stop(&r);
}

static const char *const wrong_hellos[] = {
	"0123456789abcdef",
	"GET / HTTP/1.0\r\n\r\n",
};

/* Connections of others reach the upstream; the pair's own follows. */
static void let_others_in(struct middle *m, int *from, int *to)
{
	static char bytes[HELLO_BYTES + SIZE];

	for (size_t i = 0; i < NR(wrong_hellos); i++) {
		int other = middle_connect(m);
		middle_say(other, "%s", wrong_hellos[i]);
		middle_await_end(other);
		close(other);
	}
	middle_send(*to, bytes, middle_take(*from, bytes, sizeof(bytes)));
	shutdown(*to, SHUT_WR);
	middle_await_end(*to);
}

static void test_connections_of_others_are_closed(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, false, let_others_in);
	pairs_rig_count(&r, 2);
	pairs_rig_expect_none(&r);
	assert_int_equal(r.res.slice.total.requests, 2);
	pairs_rig_stop(&r);
}

static void answer_the_client(struct middle *m, int *from, int *to)
{
	middle_say(*from, "x");
	middle_await_end(*from);
}

static void add_to_the_hello(struct middle *m, int *from, int *to)
{
	char hello[HELLO_BYTES + 1] = "";

	middle_send(*to, hello, middle_take(*from, hello, HELLO_BYTES) + 1);
	middle_await_end(*to);
}

/* In the direction in which nothing is sent, nothing may arrive. */
static void test_bytes_in_the_other_direction(void **state)
{
	static const struct {
		uint8_t direction;
		middle_script *script;
	} cases[] = {{DIRECTION_UP, answer_the_client}, {DIRECTION_DOWN, add_to_the_hello}};

	for (size_t i = 0; i < NR(cases); i++) {
		struct pairs_rig r;

		pairs_rig_start(&r, false, cases[i].script);
		r.cfg.direction = cases[i].direction;
		r.cfg.timeout_ns = 5 * NS_PER_S;
		pairs_rig_count(&r, 1);
		pairs_rig_expect(&r, LOAD_ERR_LONG, 1);
		pairs_rig_stop(&r);
	}
}

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* Linux 5.15 */
#endif

/* A slow receiver has a small buffer that does not grow, also where it is the upstream. */
static void test_the_buffer_of_a_slow_upstream(void **state)
{
	struct pairs_rig r;
	int locks = 0;
	socklen_t len = sizeof(locks);

	pairs_rig_start(&r, false, let_others_in);
	r.cfg.rate_recv = 1000;
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	int fd = middle_connect(&r.middle);
	struct pollfd waiting = {.fd = r.pairs->listen_fd, .events = POLLIN};
	assert_int_equal(poll(&waiting, 1, -1), 1);
	int accepted = accept(r.pairs->listen_fd, NULL, NULL);
	bool known = getsockopt(accepted, SOL_SOCKET, SO_BUF_LOCK, &locks, &len) == 0;
	close(fd);
	close(accepted);
	pairs_rig_stop(&r);
	if (!known) {
		print_message("skipped: this kernel does not tell (SO_BUF_LOCK, Linux 5.15)\n");
		skip();
	}
	assert_int_equal(locks & 2, 2); /* SOCK_RCVBUF_LOCK */
}

/* One wait brings events of both ends, and the first of them opens both anew. */
static void test_events_of_a_closed_socket_are_not_its_successors(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, true, answer_the_client);
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	struct pair *p = &r.pairs->pair[0];
	r.pairs->sending = true;
	pair_start(p);
	assert_true(p->b.connecting);
	pair_event(&p->b, EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR);
	assert_true(p->b.connecting);
	assert_false(p->b.readable);
	r.pairs->nr_turns++;
	pair_event(&p->b, EPOLLOUT);
	assert_false(p->b.connecting);
	end_close(&p->b);
	pair_event(&p->b, EPOLLIN | EPOLLOUT);
	assert_false(p->b.writable);
	pairs_rig_stop(&r);
}

/* A connection of the pair over a socketpair(2); returns the server's side of it. */
static int stand_in(struct end *e)
{
	int fds[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), errno);
	e->fd = fds[0];
	e->writable = true;
	reply_init(e->reply);
	return fds[1];
}

static void test_a_full_socket_does_not_keep_the_other_head(void **state)
{
	struct pairs_rig r;
	char text[8] = "";

	pairs_rig_start(&r, true, answer_the_client);
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	struct pair *p = &r.pairs->pair[0];
	int sender = stand_in(&p->a), receiver = stand_in(&p->b);
	while (send(p->a.fd, text, sizeof(text), 0) > 0)
		;
	end_say(&p->a, "PUT");
	end_say(&p->b, "GET");
	p->running = true;
	pair_pump(p);
	assert_int_equal(recv(receiver, text, sizeof(text), 0), 3);
	assert_string_equal(text, "GET");
	close(sender);
	close(receiver);
	pairs_rig_stop(&r);
}

/* Allows no further descriptor; returns the limit there was. */
static struct rlimit use_up_descriptors(void)
{
	struct rlimit was, now;
	int next = dup(0);

	assert_return_code(next, errno);
	close(next);
	assert_return_code(getrlimit(RLIMIT_NOFILE, &was), errno);
	now = was;
	now.rlim_cur = (rlim_t)next;
	assert_return_code(setrlimit(RLIMIT_NOFILE, &now), errno);
	return was;
}

/* What cannot be accepted keeps nobody busy, and is accepted when it can be. */
static void test_a_listener_short_of_descriptors(void **state)
{
	struct pairs_rig r;
	char byte;

	pairs_rig_start(&r, false, let_others_in);
	r.cfg.timeout_ns = 50 * NS_PER_MS;
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	int fd = middle_connect(&r.middle);
	middle_say(fd, "%s", wrong_hellos[0]);
	struct rlimit was = use_up_descriptors();
	pairs_slice(r.pairs, 0, 30 * NS_PER_MS, &r.res);
	assert_return_code(setrlimit(RLIMIT_NOFILE, &was), errno);
	/* Each turn waits for at least a millisecond, but for a few that events end. */
	assert_true(r.pairs->nr_turns <= r.res.slice.total_ns / NS_PER_MS + 10);
	assert_true(r.res.slice.total.errors[LOAD_ERR_CONNECT] > 0);
	while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
		pairs_slice(r.pairs, 0, 10 * NS_PER_MS, &r.res);
	close(fd);
	pairs_rig_stop(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_late_connection_is_not_the_next_attempts),
		cmocka_unit_test(test_a_connection_that_says_too_little_is_closed),
		cmocka_unit_test(test_connections_of_others_are_closed),
		cmocka_unit_test(test_bytes_in_the_other_direction),
		cmocka_unit_test(test_the_buffer_of_a_slow_upstream),
		cmocka_unit_test(test_events_of_a_closed_socket_are_not_its_successors),
		cmocka_unit_test(test_a_full_socket_does_not_keep_the_other_head),
		cmocka_unit_test(test_a_listener_short_of_descriptors),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
