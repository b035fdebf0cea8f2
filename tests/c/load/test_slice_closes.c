/* SPDX-License-Identifier: MIT */
/* Slices against servers that close connections: announced or not, idle or with a response. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "fake.h"

#define SLICE_MS 30

/* One response per connection, the close announced. */
static void serve_announced_close(struct fake_conn *c)
{
	if (!fake_take(c))
		return;
	fake_count(c, 3);
	fake_say(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc");
}

/* The same, and the client has to close: this side keeps the connection open until then. */
static void serve_announced_lazy_close(struct fake_conn *c)
{
	serve_announced_close(c);
	while (fake_take(c))
		;
}

static void check_reconnects(fake_serve *serve, uint32_t pipeline)
{
	struct rig r;

	rig_start(&r, serve, 2, pipeline);
	rig_slice(&r, SLICE_MS);
	rig_assert_clean(&r);
	assert_true(r.res.total.reconnects + 2 >= r.res.total.requests);
	rig_stop(&r);
}

static void test_announced_close_is_no_error(void **state)
{
	check_reconnects(serve_announced_close, 1);
	check_reconnects(serve_announced_lazy_close, 1);
	check_reconnects(serve_announced_lazy_close, 5);
}

/* Sends FIN after the first answers and returns when the client's kernel has confirmed it. */
static _Atomic bool hang_up;
static atomic_uint nr_hung_up;

static void serve_then_hang_up(struct fake_conn *c)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	bool first = c->fake->nr_accepted <= 4;

	while (!hang_up || !first) {
		struct timeval soon = {.tv_usec = 1000};
		setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
		for (unsigned int nr = fake_take(c); nr; nr--) {
			fake_count(c, 2);
			fake_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
		}
		/* A connection that the client has closed needs no more answers. */
		getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
		if (info.tcpi_state != TCP_ESTABLISHED)
			return;
	}
	shutdown(c->fd, SHUT_WR);
	do {
		sched_yield();
		getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	} while (info.tcpi_state == TCP_FIN_WAIT1);
	nr_hung_up++;
	while (info.tcpi_state == TCP_FIN_WAIT2) {
		usleep(1000);
		getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	}
}

static void test_idle_close_is_no_error(void **state)
{
	struct rig r;

	hang_up = false;
	nr_hung_up = 0;
	rig_start(&r, serve_then_hang_up, 4, 1);
	rig_slice(&r, 5);
	rig_assert_clean(&r);
	hang_up = true;
	while (nr_hung_up < 4)
		usleep(1000);
	r.fake.nr_answered = 0;
	r.fake.nr_body_bytes = 0;
	rig_slice(&r, 5);
	rig_assert_clean(&r);
	assert_int_equal(r.res.total.reconnects, 4);
	rig_stop(&r);
}

/* Response and FIN in one segment, thus in one event: MSG_MORE holds the bytes back for it. */
static void serve_fin_with_the_response(struct fake_conn *c)
{
	static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

	if (!fake_take(c))
		return;
	fake_count(c, 2);
	send(c->fd, response, sizeof(response) - 1, MSG_NOSIGNAL | MSG_MORE);
	shutdown(c->fd, SHUT_WR);
	/* Closed when the client has closed, or unread input would turn the FIN into an RST. */
	while (fake_take(c))
		;
}

static void test_close_together_with_the_response(void **state)
{
	check_reconnects(serve_fin_with_the_response, 1);
}

/* The FIN is in the queue right behind the response, often within one event. */
static void serve_unannounced_close(struct fake_conn *c)
{
	if (!fake_take(c))
		return;
	fake_count(c, 2);
	fake_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void test_unannounced_close_hangs_nothing(void **state)
{
	struct rig r;

	rig_start(&r, serve_unannounced_close, 3, 1);
	rig_slice(&r, SLICE_MS);
	/* Whether the next request was out already when the FIN came is the server's race. */
	uint64_t resets = r.res.total.errors[LOAD_ERR_RESET];
	assert_int_equal(rig_errors(&r), resets);
	assert_true(r.res.total.requests > 0);
	assert_int_equal(r.res.total.requests, r.fake.nr_answered);
	assert_true(r.res.total.reconnects > 0);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_announced_close_is_no_error),
		cmocka_unit_test(test_idle_close_is_no_error),
		cmocka_unit_test(test_close_together_with_the_response),
		cmocka_unit_test(test_unannounced_close_hangs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
