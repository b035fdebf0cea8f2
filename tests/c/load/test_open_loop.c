/* SPDX-License-Identifier: MIT */
/*
 * Open loops. Times are only asserted from below, and only where a server that sleeps makes them
 * certain: a slow machine can delay everything here and fail nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "clocks.h"
#include "fake.h"

#define RATE	      1000 /* constant arrivals: one a ms */
#define STALL_MS      100
#define STALL_REQUEST 20

/* Sleeps for at least so long, whatever signals come. */
static void sleep_ms(unsigned int ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

static void answer(struct fake_conn *c)
{
	fake_count(c, 2);
	fake_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void serve_at_once(struct fake_conn *c)
{
	for (unsigned int nr; (nr = fake_take(c));)
		for (; nr; nr--)
			answer(c);
}

static void serve_each_after(struct fake_conn *c, unsigned int ms)
{
	for (unsigned int nr; (nr = fake_take(c));) {
		for (; nr; nr--) {
			sleep_ms(ms);
			answer(c);
		}
	}
}

/* At most 200 answers per second and connection. */
static void serve_slowly(struct fake_conn *c)
{
	serve_each_after(c, 5);
}

/* One stall; every other answer at once. */
static void serve_with_a_stall(struct fake_conn *c)
{
	unsigned int nr, answered = 0;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			if (++answered == STALL_REQUEST)
				sleep_ms(STALL_MS);
			answer(c);
		}
	}
}

/* At most one answer each 400 ms from a connection. */
static void serve_after_the_window(struct fake_conn *c)
{
	serve_each_after(c, 400);
}

/* One answer per connection; the client has to close and to connect again. */
static void serve_one_and_close(struct fake_conn *c)
{
	if (!fake_take(c))
		return;
	fake_count(c, 2);
	fake_say(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
	while (fake_take(c))
		;
}

/*
 * The first two connections leave requests unanswered: at three of them or more they answer one,
 * after a while, and announce that they close. Later ones answer everything.
 */
static unsigned int before_close_ms;

static void serve_one_of_several_and_close(struct fake_conn *c)
{
	if (c->fake->nr_accepted > 2) {
		serve_at_once(c);
		return;
	}
	while (c->nr_taken < 3) {
		if (!fake_take(c))
			return;
	}
	sleep_ms(before_close_ms);
	fake_count(c, 2);
	fake_say(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
	while (fake_take(c))
		;
}

static void open_rig(struct rig *r, fake_serve *serve, uint32_t connections, double rate)
{
	rig_start(r, serve, connections, 1);
	r->cfg.arrivals = ARRIVALS_CONSTANT;
	assert_int_equal(load_open(&r->cfg, &r->load), 0);
	if (load_offer(r->load, rate) == -ENOSYS) {
		rig_stop(r);
		skip(); /* needs epoll_pwait2(), Linux 5.11 */
	}
}

static uint64_t nr_at_least(const struct hist *h, uint64_t ns)
{
	uint64_t nr = 0;

	for (size_t i = 0; i < HIST_BUCKETS; i++)
		nr += hist_low(i) >= ns ? h->count[i] : 0;
	return nr;
}

/* Every request that was due in the window is accounted for. */
static void assert_whole(const struct rig *r)
{
	const struct open_result *o = &r->res.open;

	rig_assert_clean(r);
	assert_int_equal(o->nr_due, r->res.latency.nr + o->nr_abandoned);
	assert_int_equal(o->lateness.nr, r->res.latency.nr);
	assert_true(o->nr_abandoned <= o->nr_unsent);
	assert_true(r->res.latency.min >= o->lateness.min);
}

/* The rate is that of all connections together, and of the real length of the window. */
static void test_rate_is_the_total(void **state)
{
	static const uint32_t connections[] = {1, 8};

	for (size_t i = 0; i < NR(connections); i++) {
		struct rig r;
		open_rig(&r, serve_at_once, connections[i], RATE);
		rig_slice(&r, 100);
		assert_whole(&r);
		uint64_t expected = r.res.window_ns / (NS_PER_S / RATE);
		assert_in_range(r.res.open.nr_due, expected, expected + 1);
		assert_true(r.res.open.rate == RATE);
		rig_stop(&r);
	}
}

static void test_poisson_slices(void **state)
{
	struct rig r;

	open_rig(&r, serve_at_once, 4, 20000);
	r.cfg.arrivals = ARRIVALS_POISSON;
	load_close(r.load);
	assert_int_equal(load_open(&r.cfg, &r.load), 0);
	assert_int_equal(load_offer(r.load, 20000), 0);
	for (int i = 0; i < 3; i++) {
		r.fake.nr_answered = 0;
		r.fake.nr_body_bytes = 0;
		rig_slice(&r, 20);
		assert_whole(&r);
	}
	rig_stop(&r);
}

/*
 * 5 ms a request on one connection, one due each ms: the k-th answer comes 5 k ms after the begin
 * at the earliest and was due k + 1 ms after it.
 */
static void test_waiting_for_a_connection_counts(void **state)
{
	struct rig r;

	open_rig(&r, serve_slowly, 1, RATE);
	rig_slice(&r, 100);
	assert_whole(&r);
	uint64_t nr = r.res.latency.nr;
	assert_true(nr > 0);
	assert_true(r.res.latency.max >= (4 * nr - 1) * NS_PER_MS);
	assert_true(hist_quantile(&r.res.latency, 0.5) >= (2 * nr - 4) * NS_PER_MS);
	rig_stop(&r);
}

static void test_overload_is_said_and_no_error(void **state)
{
	struct rig r;

	open_rig(&r, serve_slowly, 2, RATE);
	rig_slice(&r, 100);
	assert_whole(&r);
	const struct open_result *o = &r.res.open;
	uint64_t most = 2 * (r.res.window_ns / (5 * NS_PER_MS) + 1);
	assert_true(r.res.window.requests <= most);
	assert_true(o->nr_unsent >= o->nr_due - most - 2);
	assert_true(o->nr_outstanding <= 2);
	/* It had as long again as the window: at 40% of the rate, not all could be sent. */
	assert_true(o->nr_abandoned > 0);
	assert_true(open_loop_is_overload(o, r.res.window.requests));
	rig_stop(&r);
}

static void test_what_is_overload(void **state)
{
	static struct open_result o = {.nr_due = 1000, .nr_unsent = 1};

	assert_false(open_loop_is_overload(&o, 1000));
	assert_false(open_loop_is_overload(&o, 991));
	assert_true(open_loop_is_overload(&o, 990));
	o.nr_unsent = 0;
	assert_false(open_loop_is_overload(&o, 900));
}

/* With more connections than requests in the window, nothing waits unsent. */
static void test_a_growing_backlog_is_overload(void **state)
{
	static struct open_result o = {.nr_due = 480, .nr_outstanding = 80};

	memcpy(o.nr_backlog, (uint64_t[]){0, 40, 80}, sizeof(o.nr_backlog));
	assert_true(open_loop_is_overload(&o, 400));
	assert_false(open_loop_is_overload(&o, 480));
	/* One stall, near the end; one that is being worked off; and what chance may do. */
	memcpy(o.nr_backlog, (uint64_t[]){2, 2, 80}, sizeof(o.nr_backlog));
	assert_false(open_loop_is_overload(&o, 400));
	memcpy(o.nr_backlog, (uint64_t[]){2, 90, 80}, sizeof(o.nr_backlog));
	assert_false(open_loop_is_overload(&o, 400));
	memcpy(o.nr_backlog, (uint64_t[]){2, 20, 40}, sizeof(o.nr_backlog));
	assert_false(open_loop_is_overload(&o, 440));
}

/* Every request finds a connection to spare; what is counted at the end is what is outstanding. */
static void test_falling_behind_on_many_connections(void **state)
{
	struct rig r;

	open_rig(&r, serve_after_the_window, 200, RATE);
	rig_slice(&r, 100);
	assert_whole(&r);
	const struct open_result *o = &r.res.open;
	assert_in_range(o->nr_backlog[1], o->nr_backlog[0], o->nr_backlog[2]);
	assert_int_equal(o->nr_backlog[2], o->nr_unsent + o->nr_outstanding);
	/* Unless the machine held this thread up for the second half, or the window for longer. */
	if (o->nr_backlog[1] < o->nr_backlog[2] && !r.res.window.requests)
		assert_true(open_loop_is_overload(o, r.res.window.requests));
	rig_stop(&r);
}

/*
 * A stall of 100 ms at one request a ms: those due in its first half wait for 50 ms or more. What
 * the machine delays beyond that adds to them. A closed loop has one request waiting instead, and
 * whatever happens: of a connection's answers, no more can have taken 50 ms than fit in the time.
 */
static void test_a_stall_has_its_full_weight(void **state)
{
	const uint64_t half_ns = STALL_MS / 2 * NS_PER_MS;
	struct rig r;

	open_rig(&r, serve_with_a_stall, 1, RATE);
	rig_slice(&r, 300);
	assert_whole(&r);
	uint64_t waited = nr_at_least(&r.res.latency, half_ns) + r.res.open.nr_abandoned;
	assert_true(waited >= STALL_MS / 2 - 2);
	/* So more than 1 in 1000, and more than 1 in 10, of all that were due. */
	assert_true(hist_quantile(&r.res.latency, 0.999) >= half_ns);
	assert_true(waited * 10 >= r.res.open.nr_due || r.res.window_ns > 400 * NS_PER_MS);
	rig_stop(&r);

	open_rig(&r, serve_with_a_stall, 1, 0);
	rig_slice(&r, 300);
	rig_assert_clean(&r);
	assert_true(nr_at_least(&r.res.latency, half_ns) <= r.res.total_ns / half_ns);
	assert_int_equal(r.res.latency.nr, r.res.window.requests);
	rig_stop(&r);
}

/* The thread of the load generator is held up by a signal handler that sleeps. */
static pthread_t generator;

static void on_signal(int number)
{
	int saved = errno;

	sleep_ms(50);
	errno = saved;
}

static void serve_and_stall_the_client(struct fake_conn *c)
{
	for (unsigned int nr; (nr = fake_take(c));) {
		for (; nr; nr--) {
			answer(c);
			if (c->fake->nr_answered == STALL_REQUEST)
				pthread_kill(generator, SIGUSR1);
		}
	}
}

/* With connections to spare, the requests due meanwhile are late by the client's fault alone. */
static void test_the_clients_own_lateness_shows(void **state)
{
	struct sigaction action = {.sa_handler = on_signal}, before;
	struct rig r;

	generator = pthread_self();
	assert_return_code(sigaction(SIGUSR1, &action, &before), errno);
	open_rig(&r, serve_and_stall_the_client, 100, RATE);
	rig_slice(&r, 300);
	assert_whole(&r);
	assert_true(nr_at_least(&r.res.open.lateness, 25 * NS_PER_MS) >= 23);
	rig_stop(&r);
	assert_return_code(sigaction(SIGUSR1, &before, NULL), errno);
}

static void test_lost_connections_are_replaced(void **state)
{
	struct rig r;

	open_rig(&r, serve_one_and_close, 4, RATE);
	rig_slice(&r, 50);
	assert_whole(&r);
	assert_true(r.res.total.reconnects > 0);
	rig_stop(&r);
}

static void test_pipelines(void **state)
{
	struct rig r;

	rig_start(&r, serve_slowly, 2, 8);
	r.cfg.arrivals = ARRIVALS_CONSTANT;
	assert_int_equal(load_open(&r.cfg, &r.load), 0);
	if (load_offer(r.load, RATE) == -ENOSYS)
		skip(); /* needs epoll_pwait2(), Linux 5.11 */
	rig_slice(&r, 50);
	assert_whole(&r);
	assert_true(r.res.open.nr_outstanding <= 16);
	rig_stop(&r);
}

/* What a closing server leaves unanswered is asked again, or abandoned, but never forgotten. */
static void test_unanswered_requests_are_not_forgotten(void **state)
{
	static const unsigned int delays_ms[] = {0, 400};

	for (size_t i = 0; i < NR(delays_ms); i++) {
		struct rig r;
		before_close_ms = delays_ms[i];
		rig_start(&r, serve_one_of_several_and_close, 2, 8);
		r.cfg.arrivals = ARRIVALS_CONSTANT;
		assert_int_equal(load_open(&r.cfg, &r.load), 0);
		if (load_offer(r.load, RATE) == -ENOSYS)
			skip(); /* needs epoll_pwait2(), Linux 5.11 */
		rig_slice(&r, 100);
		rig_assert_clean(&r);
		assert_true(r.res.total.requests >= 2);
		assert_int_equal(r.res.open.nr_due, r.res.latency.nr + r.res.open.nr_abandoned);
		rig_stop(&r);
	}
}

/* The same connections serve both kinds of slices, in any order. */
static void test_open_and_closed_slices_take_turns(void **state)
{
	struct rig r;

	open_rig(&r, serve_at_once, 4, RATE);
	for (int i = 0; i < 4; i++) {
		bool open = i % 2 == 0;
		r.fake.nr_answered = 0;
		r.fake.nr_body_bytes = 0;
		assert_int_equal(load_offer(r.load, open ? RATE : 0), 0);
		rig_slice(&r, 20);
		rig_assert_clean(&r);
		assert_true(open == (r.res.open.rate > 0));
		assert_true(open == (r.res.open.lateness.nr > 0));
		assert_true(open == (r.res.open.nr_due > 0));
		if (!open)
			assert_int_equal(r.res.latency.nr, r.res.window.requests);
	}
	assert_int_equal(r.fake.nr_accepted, 4);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate_is_the_total),
		cmocka_unit_test(test_poisson_slices),
		cmocka_unit_test(test_waiting_for_a_connection_counts),
		cmocka_unit_test(test_overload_is_said_and_no_error),
		cmocka_unit_test(test_what_is_overload),
		cmocka_unit_test(test_a_growing_backlog_is_overload),
		cmocka_unit_test(test_falling_behind_on_many_connections),
		cmocka_unit_test(test_a_stall_has_its_full_weight),
		cmocka_unit_test(test_the_clients_own_lateness_shows),
		cmocka_unit_test(test_lost_connections_are_replaced),
		cmocka_unit_test(test_pipelines),
		cmocka_unit_test(test_unanswered_requests_are_not_forgotten),
		cmocka_unit_test(test_open_and_closed_slices_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
