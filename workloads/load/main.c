/* SPDX-License-Identifier: MIT */
/* iolab-load: command line, set-up, one slice or a series of them. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clocks.h"
#include "commands.h"
#include "hdr_log.h"
#include "load.h"
#include "options.h"
#include "output.h"

/* Descriptors beside the connections: standard streams, epoll, files for a moment. */
#define SPARE_FDS 16

#define NO_OPEN_LOOP "an open loop needs epoll_pwait2(2), Linux 5.11 or later"

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("iolab-load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* The functions below return an exit status: 0, EXIT_FAILURE or EXIT_USAGE. */

static int pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) == 0)
		return 0;
	complain("--cpu %d: %s", cpu, strerror(errno));
	return EXIT_USAGE;
}

static int raise_fd_limit(uint32_t connections)
{
	struct rlimit limit;
	rlim_t need = (rlim_t)connections + SPARE_FDS;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
		return 0;
	limit.rlim_cur = need;
	if (limit.rlim_max < need) {
		complain("--connections %u needs %llu descriptors, the hard limit is %llu; "
			 "raise it (ulimit -Hn) or use fewer connections",
			 connections, (unsigned long long)need, (unsigned long long)limit.rlim_max);
		return EXIT_FAILURE;
	}
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return 0;
	complain("cannot raise the limit of descriptors: %s", strerror(errno));
	return EXIT_FAILURE;
}

static int open_clocks(const struct options *o, clockid_t *clocks)
{
	for (uint32_t i = 0; i < o->nr_pids; i++) {
		int res = cpu_clock_open(o->pids[i], &clocks[i]);
		if (res < 0) {
			complain("--cpu-clock: process %d: %s", o->pids[i], strerror(-res));
			return EXIT_USAGE;
		}
	}
	return 0;
}

static int check_usage(const struct options *o)
{
	uint64_t ns;
	int res = o->cpu_usage ? cpu_usage_read(o->cpu_usage, &ns) : 0;

	if (res == 0)
		return 0;
	complain("--cpu-usage %s: %s", o->cpu_usage,
		 res == -EINVAL ? "neither a cpuacct.usage nor a cpu.stat" : strerror(-res));
	return EXIT_USAGE;
}

static int read_wants(const struct options *o, struct verify_want *wants)
{
	for (uint32_t i = 0; i < o->nr_verify; i++) {
		int res = verify_read_file(o->verify[i], &wants[i]);
		if (res < 0) {
			complain("--verify %s: %s", o->verify[i], strerror(-res));
			return EXIT_USAGE;
		}
	}
	return 0;
}

struct session {
	const struct options *options;
	const struct load_config *cfg;
	struct load *load;
	struct hdr_log log;
};

/* One slice; its result on `out` and in the log. Returns 0 or -errno. */
static int measure(struct session *s, FILE *out, uint64_t warmup_ns, uint64_t duration_ns)
{
	struct slice_result res;

	load_slice(s->load, warmup_ns, duration_ns, &res);
	int logged = hdr_log_append(&s->log, res.start_ns, res.window_ns, &res.latency);
	int written = output_result(out, s->cfg, &res);
	return written < 0 ? written : logged;
}

static int slice_of_load(void *arg, FILE *out, const struct command *command)
{
	struct session *s = arg;

	if (load_choose(s->load, command->path) < 0)
		return output_error(out, "the path of a slice must be one of --path");
	if (load_offer(s->load, command->rate > 0 ? command->rate : s->options->rate) < 0)
		return output_error(out, NO_OPEN_LOOP);
	return measure(s, out, command->warmup_ns, command->duration_ns);
}

/* Returns 0 or -errno of what could not be written. */
static int run(const struct options *o, struct session *s)
{
	if (!o->slices)
		return measure(s, stdout, o->warmup_ns, o->duration_ns);
	int res = output_ready(stdout, load_connected(s->load));
	return res < 0 ? res : commands_serve(stdin, stdout, slice_of_load, s);
}

static int drive(struct session *s)
{
	const struct options *o = s->options;
	const struct load_config *cfg = s->cfg;
	struct load *l;
	int res = load_open(cfg, &l);

	if (res < 0) {
		complain("nothing could be measured: %s: %s", o->target_text, strerror(-res));
		return EXIT_FAILURE;
	}
	if (o->slices && load_connected(l) < cfg->connections) {
		complain("only %u of %u connections to %s could be opened", load_connected(l),
			 cfg->connections, o->target_text);
		load_close(l);
		return EXIT_FAILURE;
	}
	if (load_offer(l, o->rate) < 0) {
		complain("--rate: %s", NO_OPEN_LOOP);
		load_close(l);
		return EXIT_FAILURE;
	}
	s->load = l;
	res = run(o, s);
	load_close(l);
	if (res < 0)
		complain("cannot write the result: %s", strerror(-res));
	return res < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---------------------------------------------------------------- pairs */

struct pairs_session {
	const struct pairs_config *cfg;
	struct pairs *pairs;
};

static int slice_of_pairs(void *arg, FILE *out, const struct command *command)
{
	struct pairs_session *s = arg;
	struct pairs_result res;

	if (command->path || command->rate > 0)
		return output_error(out, "pairs have neither paths to choose from nor a rate");
	pairs_slice(s->pairs, command->warmup_ns, command->duration_ns, &res);
	return output_pairs(out, s->cfg, &res);
}

static int run_pairs(const struct options *o, struct pairs_session *s)
{
	struct pairs_result result;
	int res;

	if (!o->slices && o->count) {
		pairs_count(s->pairs, &result);
		return output_pairs(stdout, s->cfg, &result);
	}
	if (!o->slices) {
		pairs_slice(s->pairs, o->warmup_ns, o->duration_ns, &result);
		return output_pairs(stdout, s->cfg, &result);
	}
	res = output_ready(stdout, o->pairs);
	return res < 0 ? res : commands_serve(stdin, stdout, slice_of_pairs, s);
}

static int drive_pairs(const struct options *o, const struct pairs_config *cfg)
{
	struct pairs_session session = {.cfg = cfg};
	int res = pairs_open(cfg, &session.pairs);

	if (res < 0) {
		complain("nothing could be measured: %s%s%s", o->forward ? o->upstream_text : "",
			 o->forward ? ": " : "", strerror(-res));
		return EXIT_FAILURE;
	}
	res = run_pairs(o, &session);
	pairs_close(session.pairs);
	if (res < 0)
		complain("cannot write the result: %s", strerror(-res));
	return res < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void from_options(const struct options *o, const clockid_t *clocks, struct pairs_config *cfg)
{
	*cfg = (struct pairs_config){
		.forward = o->forward,
		.host = o->target_text,
		.nr_pairs = o->pairs,
		.size = o->size,
		.chunked = o->chunked,
		.direction = o->direction,
		.check = o->check,
		.count = o->count,
		.rate_send = o->rate_send,
		.rate_recv = o->rate_recv,
		.timeout_ns = o->timeout_ns,
		.seed = o->seed,
		.cpu_clocks = clocks,
		.nr_cpu_clocks = o->nr_pids,
		.cpu_usage = o->cpu_usage,
		.log = stderr,
	};
}

static int resolve_and_drive_pairs(const struct options *o, const clockid_t *clocks)
{
	struct addrinfo *target = NULL, *upstream = NULL;
	struct pairs_config cfg;
	char prefix[24];
	int res = target_resolve(&o->target, &target), status = EXIT_FAILURE;

	if (!res && o->forward)
		res = target_resolve(&o->upstream, &upstream);
	snprintf(prefix, sizeof(prefix), "%d", getpid());
	from_options(o, clocks, &cfg);
	cfg.target = target;
	cfg.upstream = upstream;
	cfg.prefix = o->prefix ? o->prefix : prefix;
	if (res)
		complain("%s: %s", target ? o->upstream_text : o->target_text, gai_strerror(res));
	else
		status = drive_pairs(o, &cfg);
	if (target)
		freeaddrinfo(target);
	if (upstream)
		freeaddrinfo(upstream);
	return status;
}

/* Everything the configuration points to lives in main(). */
static int resolve_and_drive(const struct options *o, const struct load_config *cfg)
{
	struct load_config resolved = *cfg;
	struct session session = {.options = o, .cfg = &resolved};
	struct addrinfo *list;
	int res = target_resolve(&o->target, &list);

	if (res) {
		complain("--target %s: %s", o->target_text, gai_strerror(res));
		return EXIT_FAILURE;
	}
	resolved.addresses = list;
	res = hdr_log_open(&session.log, o->hdr_log);
	if (res < 0)
		complain("--hdr-log %s: %s", o->hdr_log, strerror(-res));
	res = res < 0 ? EXIT_USAGE : drive(&session);
	hdr_log_close(&session.log);
	freeaddrinfo(list);
	return res;
}

static int prepare(const struct options *o, clockid_t *clocks, struct verify_want *wants)
{
	int status = pin(o->cpu);

	if (!status)
		status = open_clocks(o, clocks);
	if (!status)
		status = check_usage(o);
	if (!status)
		status = read_wants(o, wants);
	return status ? status
		      : raise_fd_limit(o->relay || o->forward ? 2 * o->pairs : o->connections);
}

int main(int argc, char **argv)
{
	struct options o;

	options_parse(argc, argv, &o);
	/* A reader that went away is an error of fprintf(), not a death. */
	signal(SIGPIPE, SIG_IGN);
	clockid_t *clocks = calloc(o.nr_pids + 1, sizeof(*clocks));
	struct verify_want *wants = calloc(o.nr_verify + 1, sizeof(*wants));
	const struct load_config cfg = {
		.host = o.target_text,
		.paths = o.paths,
		.wants = o.nr_verify ? wants : NULL,
		.nr_paths = o.nr_paths,
		.connections = o.connections,
		.pipeline = o.pipeline,
		.timeout_ns = o.timeout_ns,
		.seed = o.seed,
		.rcvbuf_bytes = o.rcvbuf_bytes,
		.arrivals = o.arrivals,
		.cpu_clocks = clocks,
		.nr_cpu_clocks = o.nr_pids,
		.cpu_usage = o.cpu_usage,
		.log = stderr,
	};
	int status = clocks && wants ? prepare(&o, clocks, wants) : EXIT_FAILURE;
	if (!status && (o.relay || o.forward))
		status = resolve_and_drive_pairs(&o, clocks);
	else if (!status)
		status = resolve_and_drive(&o, &cfg);
	free(wants);
	free(clocks);
	options_free(&o);
	return status;
}
