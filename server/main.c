// SPDX-License-Identifier: MIT
/* iolab-server: command line, start, signals, end. */
#include "placement.h"
#include "server.h"

#include <argp.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	EXIT_USAGE = 2,
	EXIT_UNSUPPORTED = 3
};

const char *argp_program_version = SERVER_NAME " " SERVER_VERSION;

void complain(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, SERVER_NAME ": %s\n", line);
}

/* ---------------------------------------------------------------- command line */

enum {
	KEY_ROLE = 256,
	KEY_ROOT,
	KEY_UPSTREAM,
	KEY_LISTEN,
	KEY_WORKERS,
	KEY_CPUS,
	KEY_CONTROL,
	KEY_MERGE,
	KEY_BACKLOG,
	KEY_HEADER_TIMEOUT,
	KEY_IDLE_TIMEOUT,
	KEY_SEND_TIMEOUT,
	KEY_LINGER_TIMEOUT,
	KEY_DRAIN_TIMEOUT,
	KEY_WAIT_TIMEOUT,
	KEY_CACHE_FILES,
	KEY_CACHE_VALID,
	KEY_HANDICAP,
	KEY_DESCRIBE,
};

static const struct argp_option argp_options[] = {
	{"engine", 'e', "NAME[,OPTION=VALUE...]", 0, "I/O technique; --describe lists them", 0},
	{"role", KEY_ROLE, "ROLE", 0, "what the server does: file, relay, forward", 0},
	{"root", KEY_ROOT, "DIR", 0, "file: directory whose files are served", 0},
	{"upstream", KEY_UPSTREAM, "HOST:PORT", 0, "forward: where connections go on to", 0},
	{"listen", KEY_LISTEN, "HOST:PORT", 0, "where to accept; port 0 picks one", 0},
	{"workers", KEY_WORKERS, "N", 0, "threads, one per CPU (default: one per core)", 0},
	{"cpus", KEY_CPUS, "LIST", 0, "CPUs the workers run on, as 0,2-3", 0},
	{"control", KEY_CONTROL, "PATH", 0, "UNIX socket for counters", 0},
	{"merge", KEY_MERGE, "N", 0, "pipelined responses merged into one send (1 to 16; 16)", 0},
	{"backlog", KEY_BACKLOG, "N", 0, "of each listening socket (4096)", 0},
	{"header-timeout", KEY_HEADER_TIMEOUT, "MS", 0, "for a request to arrive (10000)", 0},
	{"idle-timeout", KEY_IDLE_TIMEOUT, "MS", 0, "between requests (60000)", 0},
	{"send-timeout", KEY_SEND_TIMEOUT, "MS", 0, "without progress of a response (60000)", 0},
	{"linger-timeout", KEY_LINGER_TIMEOUT, "MS", 0, "for the peer to close (5000)", 0},
	{"drain-timeout", KEY_DRAIN_TIMEOUT, "MS", 0,
	 "for responses in flight after SIGTERM (10000)", 0},
	{"wait-timeout", KEY_WAIT_TIMEOUT, "MS", 0,
	 "relay: for a partner to come; 0 waits for ever (0)", 0},
	{"cache-files", KEY_CACHE_FILES, "N", 0, "open files kept by each worker (512)", 0},
	{"cache-valid", KEY_CACHE_VALID, "MS", 0, "until a kept file is looked at again (1000)", 0},
	{"handicap", KEY_HANDICAP, "PERCENT", 0,
	 "file: a slowdown planted to test instruments: spin for that share of each response's CPU "
	 "time (0)",
	 0},
	{"describe", KEY_DESCRIBE, NULL, 0, "print engines, options and probe results as JSON", 0},
	{0}};

static int number(struct argp_state *state, const char *name, const char *arg, int min, int max)
{
	int64_t value = parse_size(arg);

	if (value < min || value > max)
		argp_error(state, "--%s: '%s' is not allowed; allowed: %d to %d", name, arg, min,
			   max);
	return (int)value;
}

static error_t parse_timeout(int key, char *arg, struct argp_state *state)
{
	struct server_config *cfg = state->input;

	switch (key) {
	case KEY_HEADER_TIMEOUT:
		cfg->header_timeout_ms = number(state, "header-timeout", arg, 1, INT_MAX);
		return 0;
	case KEY_IDLE_TIMEOUT:
		cfg->idle_timeout_ms = number(state, "idle-timeout", arg, 1, INT_MAX);
		return 0;
	case KEY_SEND_TIMEOUT:
		cfg->send_timeout_ms = number(state, "send-timeout", arg, 1, INT_MAX);
		return 0;
	case KEY_LINGER_TIMEOUT:
		cfg->linger_timeout_ms = number(state, "linger-timeout", arg, 1, INT_MAX);
		return 0;
	case KEY_DRAIN_TIMEOUT:
		cfg->drain_timeout_ms = number(state, "drain-timeout", arg, 0, INT_MAX);
		return 0;
	case KEY_WAIT_TIMEOUT:
		cfg->wait_timeout_ms = number(state, "wait-timeout", arg, 0, INT_MAX);
		return 0;
	case KEY_CACHE_VALID:
		cfg->cache_valid_ms = number(state, "cache-valid", arg, 0, INT_MAX);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct role *find_role(const char *name)
{
	for (int i = 0; roles[i]; i++)
		if (!strcmp(roles[i]->name, name))
			return roles[i];
	return NULL;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct server_config *cfg = state->input;

	switch (key) {
	case 'e':
		if (engine_spec_parse(cfg, arg))
			exit(EXIT_USAGE);
		return 0;
	case KEY_ROLE:
		cfg->role = find_role(arg);
		if (!cfg->role)
			argp_error(state,
				   "--role: '%s' is not allowed; allowed: file, relay, forward",
				   arg);
		return 0;
	case KEY_UPSTREAM:
		cfg->upstream = arg;
		return 0;
	case KEY_ROOT:
		cfg->root = arg;
		return 0;
	case KEY_LISTEN:
		cfg->listen = arg;
		return 0;
	case KEY_CPUS:
		cfg->cpus = arg;
		return 0;
	case KEY_CONTROL:
		cfg->control = arg;
		return 0;
	case KEY_WORKERS:
		cfg->nr_workers = number(state, "workers", arg, 1, 4096);
		return 0;
	case KEY_MERGE:
		cfg->merge = number(state, "merge", arg, 1, MERGE_MAX);
		return 0;
	case KEY_BACKLOG:
		cfg->backlog = number(state, "backlog", arg, 1, INT_MAX);
		return 0;
	case KEY_CACHE_FILES:
		cfg->cache_files = number(state, "cache-files", arg, 1, 1 << 20);
		return 0;
	case KEY_HANDICAP:
		cfg->handicap_percent = number(state, "handicap", arg, 0, HANDICAP_MAX);
		return 0;
	case KEY_DESCRIBE:
		exit(describe());
	default:
		return parse_timeout(key, arg, state);
	}
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.doc = "File server and relay with interchangeable I/O engines.\vExit status: 0 after a "
	       "drain "
	       "(SIGTERM, SIGINT), 1 failure, 2 usage, 3 the engine is unsupported here.",
};

/* What argp cannot know. Exits with the remedy. */
static void check_config(const struct server_config *cfg)
{
	const char *missing = !cfg->engine   ? "--engine NAME (--describe lists them)"
			      : !cfg->role   ? "--role ROLE (file, relay, forward)"
			      : !cfg->listen ? "--listen HOST:PORT"
					     : NULL;

	if (!missing && cfg->role == &role_file && !cfg->root)
		missing = "--root DIR";
	if (!missing && cfg->role == &role_forward && !cfg->upstream)
		missing = "--upstream HOST:PORT";
	if (missing) {
		complain("%s is missing; see --help", missing);
		exit(EXIT_USAGE);
	}
	if (cfg->handicap_percent && cfg->role != &role_file) {
		complain("--handicap: a share of each response, which role %s has none of; only "
			 "for --role file",
			 cfg->role->name);
		exit(EXIT_USAGE);
	}
}

static void check_engine(const struct server_config *cfg)
{
	char reason[REASON_MAX] = "";

	if (cfg->engine->api != ENGINE_API) {
		complain("engine %s was written for contract %d, this is %d", cfg->engine->name,
			 cfg->engine->api, ENGINE_API);
		exit(EXIT_FAILURE);
	}
	if (!role_fits(cfg->role, cfg->engine)) {
		fprintf(stderr, "unsupported: engine %s cannot move what role %s needs (%s)\n",
			cfg->engine->name, cfg->role->name,
			cfg->role->relays ? "one socket's bytes to others" : "files or memory");
		exit(EXIT_UNSUPPORTED);
	}
	if (cfg->engine->check && cfg->engine->check(cfg->opt, cfg->role->relays, reason)) {
		complain("--engine %s: %s", cfg->engine->name, reason);
		exit(EXIT_USAGE);
	}
	if (cfg->engine->probe && cfg->engine->probe(cfg->opt, reason)) {
		fprintf(stderr, "unsupported: %s\n", reason);
		exit(EXIT_UNSUPPORTED);
	}
}

/* ---------------------------------------------------------------- start and end */

/* 10,000 connections need as many descriptors: take what the hard limit allows. */
static void raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

/* Big buffers stay on the heap instead of being mapped, faulted and unmapped for each response. */
static void tune_malloc(void)
{
	mallopt(M_ARENA_MAX, 4);
	mallopt(M_MMAP_THRESHOLD, 8 << 20);
	mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

static int open_listeners(struct server *srv)
{
	char name[128];

	snprintf(name, sizeof(name), "%s", srv->cfg.listen);
	for (int i = 0; i < srv->nr_workers; i++) {
		int fd = listen_open(name, srv->cfg.backlog, &srv->cfg);

		if (fd < 0) {
			complain("--listen %s: %s", name, strerror(-fd));
			return fd;
		}
		srv->workers[i]->w.listen_fd = fd;
		if (i == 0)
			listen_name(fd, name, sizeof(name)); /* with the port it got */
	}
	return 0;
}

/*
 * SO_REUSEPORT would let a second server join the port of a first one unnoticed, and share its
 * connections: a bind without it tells.
 */
static int check_port_free(const struct server_config *cfg)
{
	int fd = listen_probe(cfg->listen);

	if (fd < 0) {
		complain("--listen %s: %s", cfg->listen, strerror(-fd));
		return fd;
	}
	close(fd);
	return 0;
}

static int create_workers(struct server *srv)
{
	struct place *places = NULL;
	int nr = placement_find(srv->cfg.cpus, &places);

	if (nr <= 0) {
		complain("--cpus %s: %s", srv->cfg.cpus ? srv->cfg.cpus : "",
			 nr == -EINVAL ? "not a list of CPUs, as 0,2-3"
				       : "not a CPU this process may run on");
		return nr ? nr : -ENODEV;
	}
	srv->nr_workers = srv->cfg.nr_workers ? srv->cfg.nr_workers : nr;
	srv->workers = calloc((size_t)srv->nr_workers, sizeof(*srv->workers));
	for (int i = 0; srv->workers && i < srv->nr_workers; i++) {
		srv->workers[i] = worker_create(srv, i, places[i % nr].cpu, places[i % nr].node);
		if (!srv->workers[i]) {
			complain("worker %d: %s", i, strerror(errno));
			free(places);
			return -ENOMEM;
		}
	}
	free(places);
	return srv->workers ? 0 : -ENOMEM;
}

static int server_start(struct server *srv)
{
	int res = 0;

	srv->start_ns = clock_now_ns();
	handicap_init(&srv->handicap, (unsigned)srv->cfg.handicap_percent);
	srv->root_fd = -1;
	if (srv->cfg.role == &role_file) {
		srv->root_fd = open(srv->cfg.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		res = srv->root_fd < 0 ? -errno : 0;
		if (res)
			complain("--root %s: %s", srv->cfg.root, strerror(-res));
	} else if (srv->cfg.role == &role_forward) {
		res = upstream_resolve(srv->cfg.upstream, &srv->upstream);
		if (res)
			complain("--upstream %s: %s", srv->cfg.upstream, strerror(-res));
	}
	if (res)
		return res;
	return check_port_free(&srv->cfg) || create_workers(srv) || open_listeners(srv) ? -EINVAL
											: 0;
}

static int serve(struct server *srv, const sigset_t *signals)
{
	char name[128] = "";
	int nr, sig, res = workers_start(srv, &nr), ended;

	if (!res && srv->cfg.control) {
		res = control_start(srv, srv->cfg.control);
		if (res)
			complain("--control %s: %s", srv->cfg.control, strerror(-res));
	}
	if (!res) {
		listen_name(srv->workers[0]->w.listen_fd, name, sizeof(name));
		printf("ready %s\n", name);
		fflush(stdout);
		sigwait(signals, &sig);
	}
	ended = workers_stop(srv, nr);
	control_stop(srv->cfg.control);
	return res ? res : ended;
}

int main(int argc, char **argv)
{
	struct server srv = {.cfg = {
				     .merge = MERGE_MAX,
				     .backlog = 4096,
				     .header_timeout_ms = 10000,
				     .idle_timeout_ms = 60000,
				     .send_timeout_ms = 60000,
				     .linger_timeout_ms = 5000,
				     .drain_timeout_ms = 10000,
				     .cache_files = 512,
				     .cache_valid_ms = 1000,
			     }};
	sigset_t signals;
	int res;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &srv.cfg);
	check_config(&srv.cfg);
	check_engine(&srv.cfg);
	if (srv.cfg.role->relays)
		srv.cfg.merge = 1; /* each request may take its connection over */
	signal(SIGPIPE, SIG_IGN);  /* sendfile and splice have no MSG_NOSIGNAL */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	raise_nofile();
	tune_malloc();
	res = server_start(&srv) ? EXIT_FAILURE : serve(&srv, &signals) ? EXIT_FAILURE : 0;
	for (int i = 0; srv.workers && i < srv.nr_workers; i++)
		if (srv.workers[i])
			worker_destroy(srv.workers[i]);
	free(srv.workers);
	if (srv.upstream)
		freeaddrinfo(srv.upstream);
	return res;
}
