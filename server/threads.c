// SPDX-License-Identifier: MIT
/*
 * The threads of the workers. Either all of them run their engine or none does: a worker of a
 * server that will not be must accept nobody, and waits at the end for workers that drain (see
 * worker_finished), which one that never ran cannot.
 */
#include "server.h"

#include <numa.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void pin(struct sworker *sw)
{
	cpu_set_t set;

	if (sw->w.cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned)sw->w.cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set))
		complain("worker %d: cannot run on CPU %d", sw->w.index, sw->w.cpu);
	if (numa_available() >= 0 && sw->w.node >= 0)
		numa_set_preferred(sw->w.node); /* buffers: on the worker's own node */
}

/* An engine that ends by itself takes the server down with it, in good order. */
static int run_engine(struct sworker *sw)
{
	int res = sw->w.engine->worker_run(&sw->w);

	if (res) {
		complain("worker %d: engine %s ended: %s", sw->w.index, sw->w.engine->name,
			 strerror(-res));
		atomic_store(&sw->srv->worker_lost, true); /* before anybody drains for it */
		kill(getpid(), SIGTERM);
	}
	return res;
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) && errno == EINTR)
		;
}

/* Says whether this worker is up, and learns whether all are. */
static bool all_are_up(struct sworker *sw, int res)
{
	sw->result = res;
	sem_post(&sw->srv->initialised);
	wait_for(&sw->srv->decided);
	return sw->srv->all_up;
}

/* What to do about a worker that could not start with -errno `res`; "" where that is not known. */
static const char *remedy(int res)
{
	switch (res) {
	case -EMFILE:
		return "; raise the limit of open files (ulimit -Hn) or lower --workers";
	case -ENOMEM:
		return "; raise the limit of locked memory (ulimit -l), free memory or lower "
		       "--workers";
	default:
		return "";
	}
}

/* The role first, then the engine; says which of them failed. 0 or -errno. */
static int init(struct sworker *sw)
{
	const struct engine *engine = sw->w.engine;
	const struct role *role = sw->srv->cfg.role;
	int res = role->worker_init ? role->worker_init(sw) : 0;

	if (res) {
		complain("worker %d: role %s cannot start: %s%s", sw->w.index, role->name,
			 strerror(-res), remedy(res));
		return res;
	}
	res = engine->worker_init(&sw->w);
	if (res)
		complain("worker %d: engine %s cannot start: %s%s", sw->w.index, engine->name,
			 strerror(-res), remedy(res));
	return res;
}

static void *worker_main(void *arg)
{
	struct sworker *sw = arg;
	const struct engine *engine = sw->w.engine;
	const struct role *role = sw->srv->cfg.role;
	int res;

	pin(sw);
	worker_tick(&sw->w, clock_now_ns());
	res = init(sw);
	if (all_are_up(sw, res))
		res = run_engine(sw);
	engine->worker_exit(&sw->w);
	if (role->worker_exit)
		role->worker_exit(sw);
	sw->result = res;
	return NULL;
}

static int worker_start(struct sworker *sw)
{
	int res = -pthread_create(&sw->thread, NULL, worker_main, sw);

	if (res)
		complain("worker %d: no thread: %s; lower --workers, or raise the limits of "
			 "processes (ulimit -u) and memory (ulimit -v)",
			 sw->w.index, strerror(-res));
	return res;
}

int workers_start(struct server *srv, int *nr)
{
	int res = 0;

	sem_init(&srv->initialised, 0, 0);
	sem_init(&srv->decided, 0, 0);
	for (*nr = 0; *nr < srv->nr_workers && !res; *nr += !res)
		res = worker_start(srv->workers[*nr]);
	for (int i = 0; i < *nr; i++)
		wait_for(&srv->initialised);
	for (int i = 0; i < *nr && !res; i++)
		res = srv->workers[i]->result;
	srv->all_up = !res;
	for (int i = 0; i < *nr; i++)
		sem_post(&srv->decided);
	return res;
}

int workers_stop(struct server *srv, int nr)
{
	int res = 0;

	for (int i = 0; i < nr; i++)
		worker_drain(srv->workers[i]);
	for (int i = 0; i < nr; i++) {
		pthread_join(srv->workers[i]->thread, NULL);
		if (!res)
			res = srv->workers[i]->result;
	}
	return res;
}
