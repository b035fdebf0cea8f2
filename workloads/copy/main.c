/* SPDX-License-Identifier: MIT */
/* iolab-copy: command line, modes, and an end without files left behind. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"
#include "describe.h"
#include "output.h"
#include "result.h"

/*
 * Signals are taken by a thread of their own. It asks the slice under way to end, takes the lock,
 * which every use of the files holds, and then nobody touches them any more: it removes them and
 * ends the process by the signal's default. The main thread keeps the lock once it closes.
 */
static struct session session;
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool ending;

static void *take_signals(void *arg)
{
	const sigset_t *set = arg;
	int sig;

	if (sigwait(set, &sig))
		return NULL;
	atomic_store(&ending, true);
	pthread_mutex_lock(&files_lock);
	house_close(&session.house);
	signal(sig, SIG_DFL);
	pthread_sigmask(SIG_UNBLOCK, set, NULL);
	raise(sig);
	_exit(128 + sig);
}

/* From here on a signal removes the files. `set` must live as long as the process. */
static int guard_files(sigset_t *set)
{
	pthread_t thread;

	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	return -pthread_create(&thread, NULL, take_signals, set);
}

static int pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* Techniques are tried in directories of their own, which a signal removes as well. */
static int run_describe(const struct session_config *cfg)
{
	char why[HOUSE_WHY_MAX];
	int res;

	pthread_mutex_lock(&files_lock);
	res = house_open(&session.house, &cfg->house, why);
	if (res < 0)
		fprintf(stderr, "iolab-copy: %s\n", why);
	else
		res = describe(&(struct copy_dirs){session.house.src_dir, session.house.dst_dir});
	house_close(&session.house);
	pthread_mutex_unlock(&files_lock);
	return res < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int slice(void *arg, FILE *out, const struct command *command)
{
	struct copy_result *res = arg;
	int written;

	if (command->path)
		return output_error(out, "a path: this program copies the files it was started "
					 "with, all of them");
	pthread_mutex_lock(&files_lock);
	session_slice(&session, command->warmup_ns, command->duration_ns, res);
	written = result_slice(out, &session, res);
	pthread_mutex_unlock(&files_lock);
	return written;
}

static int serve(const struct options *o)
{
	static struct copy_result res; /* its histogram is too large for a stack of any size */
	const struct command once = {
		.kind = COMMAND_SLICE, .warmup_ns = o->warmup_ns, .duration_ns = o->duration_ns};
	int err;

	if (!o->slices)
		return slice(&res, stdout, &once);
	err = result_ready(stdout, &session);
	return err ? err : commands_serve(stdin, stdout, slice, &res);
}

/* Opens the session; what it says on failure is also the exit status. */
static int open_session(const struct session_config *cfg)
{
	char why[HOUSE_WHY_MAX];
	bool unsupported;
	int res;

	pthread_mutex_lock(&files_lock);
	res = session_open(&session, cfg, &unsupported, why);
	if (res < 0)
		session_close(&session);
	pthread_mutex_unlock(&files_lock);
	if (!res)
		return EXIT_SUCCESS;
	fprintf(stderr, "%s: %s\n", unsupported ? "unsupported" : "iolab-copy", why);
	return unsupported ? EXIT_UNSUPPORTED : EXIT_FAILURE;
}

/* Takes the lock and keeps it: a signal must not close the session a second time. */
static void close_session(void)
{
	pthread_mutex_lock(&files_lock);
	if (atomic_load(&ending)) {
		/* The signal's thread wants the lock, removes the files and ends the process. */
		pthread_mutex_unlock(&files_lock);
		for (;;)
			pause();
	}
	session_close(&session);
}

static int run(const struct options *o, const struct session_config *cfg)
{
	int status = open_session(cfg), res;

	if (status)
		return status;
	res = o->check ? result_check(stdout, &o->spec, &session.checked) : serve(o);
	close_session();
	if (res < 0)
		fprintf(stderr, "iolab-copy: cannot write the result: %s\n", strerror(-res));
	return res < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static sigset_t signals;
	struct options o;
	int res;

	cli_parse(argc, argv, &o);
	const struct session_config cfg = {
		.spec = &o.spec,
		.house = {.dir = o.dir,
			  .to = o.to,
			  .source = o.source,
			  .size = o.check || o.describe ? 0 : o.size,
			  .files = o.files,
			  .max_bytes = o.max_bytes},
		.batch = o.batch,
		.cold = o.cold,
		.fresh = o.fresh,
		.durable = o.durable,
		.end = &ending,
		.log = stderr,
	};
	/* A reader that went away, or a file that may not grow, is an error, not a death. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	session.house.src_dir = session.house.dst_dir = -1;
	res = guard_files(&signals);
	if (!res)
		res = pin(o.cpu);
	if (res < 0) {
		fprintf(stderr, "iolab-copy: --cpu %d: %s\n", o.cpu, strerror(-res));
		return EXIT_FAILURE;
	}
	return o.describe ? run_describe(&cfg) : run(&o, &cfg);
}
