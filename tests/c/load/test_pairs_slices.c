/* SPDX-License-Identifier: MIT */
/* Windows, pauses and drains of pairs; rates. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "middle.h"
#include "pair.h"

/* Copies both directions as bytes come, until both have ended. */
struct pump {
	int from, to;
};

static void *pump_thread(void *arg)
{
	const struct pump *p = arg;
	char buf[65536];
	ssize_t n;

	while ((n = recv(p->from, buf, sizeof(buf), 0)) > 0)
		middle_send(p->to, buf, (size_t)n);
	shutdown(p->to, SHUT_WR);
	return NULL;
}

static void pass_both(struct middle *m, int *from, int *to)
{
	struct pump up = {*from, *to}, down = {*to, *from};
	pthread_t thread;

	if (pthread_create(&thread, NULL, pump_thread, &up))
		abort();
	pump_thread(&down);
	pthread_join(thread, NULL);
}

/* What is in the buffers at the end of the window would take hours at these rates. */
static void test_the_drain_knows_no_rates(void **state)
{
	static const struct {
		uint64_t size, send, recv;
	} cases[] = {{SIZE_ENDLESS, 0, 100}, {SMALL_BYTES, 0, 100}, {SMALL_BYTES, 100, 0}};

	for (size_t i = 0; i < NR(cases); i++) {
		struct pairs_rig r;

		pairs_rig_start(&r, false, pass_both);
		r.cfg.size = cases[i].size;
		r.cfg.rate_send = cases[i].send;
		r.cfg.rate_recv = cases[i].recv;
		pairs_rig_slice(&r, 30);
		pairs_rig_expect_none(&r);
		assert_true(r.res.slice.window.body_bytes <=
				    1 + 100 * r.res.slice.total_ns / NS_PER_S ||
			    !cases[i].recv);
		assert_int_equal(r.res.sent_bytes, r.res.slice.total.body_bytes);
		pairs_rig_stop(&r);
	}
}

/* Two senders, two receivers: none lives on what the other may send. */
static void test_directions_have_rates_of_their_own(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, false, pass_both);
	r.cfg.size = SIZE_ENDLESS;
	r.cfg.direction = DIRECTION_BOTH;
	r.cfg.rate_send = 1u << 20;
	do
		pairs_rig_slice(&r, 50);
	while (!r.res.slice.window.body_bytes);
	pairs_rig_expect_none(&r);
	const struct flow *flow = r.pairs->pair[0].flow;
	assert_true(flow[0].paid_sent > 0);
	assert_true(flow[1].paid_sent > 0);
	assert_int_equal(flow[0].paid_sent + flow[1].paid_sent, r.res.sent_bytes);
	pairs_rig_stop(&r);
}

/* Of a large transfer in both directions one may be over while the other rests. */
static void test_a_pause_waits_only_for_what_is_on_its_way(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, false, pass_both);
	r.cfg.size = 2 * SMALL_BYTES;
	r.cfg.direction = DIRECTION_BOTH;
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	struct pair *p = &r.pairs->pair[0];
	p->running = true;
	assert_true(pair_on_its_way(p)); /* the greeting, before the upstream's end is known */
	p->b.fd = dup(0);
	assert_true(p->b.fd >= 0);
	assert_false(pair_on_its_way(p));
	p->flow[0].sent = r.cfg.size;
	p->flow[0].got = r.cfg.size - 1;
	p->flow[0].finished_sending = true;
	p->flow[1].sent = p->flow[1].got = SMALL_BYTES;
	assert_true(pair_on_its_way(p));
	p->flow[0].got = r.cfg.size;
	assert_true(pair_on_its_way(p)); /* its end is not there yet */
	p->flow[0].to->eof = true;
	assert_false(pair_on_its_way(p));
	p->flow[1].sent++;
	assert_true(pair_on_its_way(p));
	p->flow[1].got++;
	assert_false(pair_on_its_way(p));
	r.cfg.size = SMALL_BYTES;
	assert_true(pair_on_its_way(p)); /* to be finished */
	pairs_rig_stop(&r);
}

/* A transfer that rests between slices has no pause in its latency. */
static void test_pauses_are_no_latency(void **state)
{
	struct pairs_rig r;
	uint64_t slices_ns = 0;

	pairs_rig_start(&r, false, pass_both);
	r.cfg.size = 2 * SMALL_BYTES;
	r.cfg.rate_send = 10 * r.cfg.size; /* takes five slices */
	do {
		pairs_rig_slice(&r, 20);
		pairs_rig_expect_none(&r);
		slices_ns += r.res.slice.total_ns;
		usleep(20000);
	} while (!r.res.slice.latency.nr);
	assert_true(r.res.slice.latency.min <= slices_ns);
	pairs_rig_stop(&r);
}

static void test_cpu_times_of_clocks_and_groups_add_up(void **state)
{
	char path[] = "/tmp/iolab-usage-XXXXXX";
	int fd = mkstemp(path);
	clockid_t clock;
	struct pairs_rig r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "5\n", 2), 2);
	close(fd);
	assert_int_equal(cpu_clock_open(getpid(), &clock), 0);
	pairs_rig_start(&r, false, pass_both);
	r.cfg.cpu_clocks = &clock;
	r.cfg.nr_cpu_clocks = 1;
	r.cfg.cpu_usage = path;
	pairs_rig_slice(&r, 5);
	assert_true(r.res.slice.have_server_ns);
	assert_true(r.res.slice.server_ns > 0); /* the group stands still, this process does not */
	assert_int_equal(unlink(path), 0);
	pairs_rig_slice(&r, 5);
	assert_false(r.res.slice.have_server_ns);
	pairs_rig_stop(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_drain_knows_no_rates),
		cmocka_unit_test(test_directions_have_rates_of_their_own),
		cmocka_unit_test(test_a_pause_waits_only_for_what_is_on_its_way),
		cmocka_unit_test(test_pauses_are_no_latency),
		cmocka_unit_test(test_cpu_times_of_clocks_and_groups_add_up),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
