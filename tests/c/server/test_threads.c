// SPDX-License-Identifier: MIT
/*
 * Threads of workers with an engine that fails where the test wants it to. What would be a hang of
 * the server is one of the test, which ctest ends.
 */
#include "test.h"

#include "server.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

TEST_COMPLAIN

enum {
	NR_WORKERS = 3,
	NOBODY = -1
};

/* What the engine shall do, and what was done with it. */
static struct {
	int fails_init, fails_run; /* index of a worker, or NOBODY */
	_Atomic int nr_init, nr_run, nr_exit;
} script;

static int scripted_init(struct worker *w)
{
	atomic_fetch_add(&script.nr_init, 1);
	return w->index == script.fails_init ? -ENOMEM : 0;
}

/* The least that a driver has to do; see docs/engine-contract.md. */
static int scripted_run(struct worker *w)
{
	struct pollfd wake = {.fd = w->wake_fd, .events = POLLIN};
	eventfd_t ignored;

	atomic_fetch_add(&script.nr_run, 1);
	if (w->index == script.fails_run)
		return -EIO;
	while (!worker_finished(w)) {
		poll(&wake, 1, (int)(worker_wait_ns(w) / 1000000u));
		eventfd_read(w->wake_fd, &ignored);
		worker_tick(w, clock_now_ns());
	}
	return 0;
}

static void scripted_exit(struct worker *w)
{
	atomic_fetch_add(&script.nr_exit, 1);
}

static const struct engine scripted = {.name = "scripted",
				       .api = ENGINE_API,
				       .worker_init = scripted_init,
				       .worker_run = scripted_run,
				       .worker_exit = scripted_exit};
static const struct role idle = {.name = "idle"};

static struct server *server_new(int fails_init, int fails_run)
{
	struct server *srv = calloc(1, sizeof(*srv));

	script.fails_init = fails_init;
	script.fails_run = fails_run;
	script.nr_init = script.nr_run = script.nr_exit = 0;
	assert_non_null(srv);
	srv->cfg = (struct server_config){.engine = &scripted,
					  .role = &idle,
					  .header_timeout_ms = 10000,
					  .idle_timeout_ms = 10000,
					  .send_timeout_ms = 10000,
					  .linger_timeout_ms = 10000,
					  .drain_timeout_ms = 10000};
	srv->nr_workers = NR_WORKERS;
	srv->workers = calloc(NR_WORKERS, sizeof(struct sworker *));
	assert_non_null(srv->workers);
	for (int i = 0; i < NR_WORKERS; i++) {
		srv->workers[i] = worker_create(srv, i, -1, -1);
		assert_non_null(srv->workers[i]);
	}
	return srv;
}

static void server_free(struct server *srv)
{
	for (int i = 0; i < NR_WORKERS; i++)
		worker_destroy(srv->workers[i]);
	free(srv->workers);
	free(srv);
}

static void test_all_run_and_end(void **state)
{
	struct server *srv = server_new(NOBODY, NOBODY);
	int nr;

	assert_int_equal(workers_start(srv, &nr), 0);
	assert_int_equal(nr, NR_WORKERS);
	assert_int_equal(workers_stop(srv, nr), 0);
	assert_int_equal(script.nr_run, NR_WORKERS);
	assert_int_equal(script.nr_exit, NR_WORKERS);
	server_free(srv);
}

static void test_none_runs_if_one_cannot_start(void **state)
{
	for (int i = 0; i < NR_WORKERS; i++) {
		struct server *srv = server_new(i, NOBODY);
		int nr;

		assert_int_equal(workers_start(srv, &nr), -ENOMEM);
		assert_int_equal(nr, NR_WORKERS);
		assert_int_equal(workers_stop(srv, nr), -ENOMEM);
		assert_int_equal(script.nr_init, NR_WORKERS);
		assert_int_equal(script.nr_run, 0);
		assert_int_equal(script.nr_exit, NR_WORKERS);
		server_free(srv);
	}
}

/* Blocked by main() here and there, for every thread, so sigwait gets it. */
static void await_sigterm(void)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	assert_int_equal(sigwait(&set, &sig), 0);
}

static void test_an_engine_that_ends_by_itself(void **state)
{
	for (int i = 0; i < NR_WORKERS; i++) {
		struct server *srv = server_new(NOBODY, i);
		int nr;

		srv->nr_moving = 1; /* a connection that was on its way to it */
		assert_int_equal(workers_start(srv, &nr), 0);
		await_sigterm();
		assert_int_equal(workers_stop(srv, nr), -EIO);
		assert_int_equal(script.nr_exit, NR_WORKERS);
		server_free(srv);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_run_and_end),
		cmocka_unit_test(test_none_runs_if_one_cannot_start),
		cmocka_unit_test(test_an_engine_that_ends_by_itself),
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
