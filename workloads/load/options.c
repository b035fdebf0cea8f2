/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "clocks.h"
#include "load.h"

const char *argp_program_version = "iolab-load " IOLAB_VERSION;

/* Longest duration, warm-up and time-out. */
#define MAX_SECONDS 86400.0

/* Largest kernel.pid_max (PID_MAX_LIMIT on 64-bit): a clock id has no room for larger numbers. */
#define MAX_PID 4194304

enum key {
	KEY_TARGET = 0x100,
	KEY_PATH,
	KEY_CONNECTIONS,
	KEY_PIPELINE,
	KEY_DURATION,
	KEY_WARMUP,
	KEY_CPU,
	KEY_TIMEOUT,
	KEY_CPU_CLOCK,
	KEY_CPU_USAGE,
	KEY_SEED,
	KEY_VERIFY,
	KEY_RCVBUF,
	KEY_SLICES,
};

static const struct argp_option option_table[] = {
	{"target", KEY_TARGET, "HOST:PORT", 0, "Server; an IPv6 address in brackets", 1},
	{"path", KEY_PATH, "/PATH", 0, "What to GET; repeat for several, asked in seeded order", 1},
	{"connections", KEY_CONNECTIONS, "N", 0, "Connections kept open", 1},
	{"pipeline", KEY_PIPELINE, "D", 0, "Requests outstanding per connection (default 1)", 1},
	{"duration", KEY_DURATION, "S", 0, "Length of the window in seconds (default 1)", 2},
	{"warmup", KEY_WARMUP, "S", 0, "Load before the window in seconds (default 0.1)", 2},
	{"timeout", KEY_TIMEOUT, "S", 0, "For a connect, a response, the drain (default 5)", 2},
	{"slices", KEY_SLICES, NULL, 0,
	 "Stay connected and run a slice per line 'slice WARMUP_MS DURATION_MS' on standard input",
	 2},
	{"cpu", KEY_CPU, "N", 0, "Run on this CPU", 3},
	{"cpu-clock", KEY_CPU_CLOCK, "PID[,PID...]", 0, "Processes whose CPU time to report", 3},
	{"cpu-usage", KEY_CPU_USAGE, "FILE", 0,
	 "Control group whose CPU time to report: its cpuacct.usage or cpu.stat", 3},
	{"seed", KEY_SEED, "N", 0, "Seed of the order of several paths (default 1)", 3},
	{"rcvbuf", KEY_RCVBUF, "BYTES", 0, "SO_RCVBUF (default: the kernel's tuning)", 3},
	{"verify", KEY_VERIFY, "FILE", 0,
	 "Compare bodies with this file instead of discarding them; one for each --path", 3},
	{0},
};

static uint64_t parse_number(struct argp_state *state, const char *name, const char *text,
			     uint64_t min, uint64_t max)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (strspn(text, "0123456789") == 0 || *end || errno || value < min || value > max)
		argp_error(state, "--%s: '%s' is not a whole number from %llu to %llu", name, text,
			   (unsigned long long)min, (unsigned long long)max);
	return value;
}

static uint64_t parse_seconds(struct argp_state *state, const char *name, const char *text,
			      double min)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !isfinite(value) || value < min || value > MAX_SECONDS)
		argp_error(state, "--%s: '%s' is not a number of seconds from %g to %g", name, text,
			   min, MAX_SECONDS);
	return (uint64_t)(value * (double)NS_PER_S);
}

/* The path goes into the request line verbatim, so it must not be able to end that line. */
static const char *parse_path(struct argp_state *state, const char *text)
{
	for (const char *at = text; *at; at++) {
		if ((unsigned char)*at <= ' ' || *at == 0x7f || *at == '#')
			argp_error(state,
				   "--path: '%s' holds a blank, a control character or '#'; "
				   "percent-encode it",
				   text);
	}
	if (text[0] != '/')
		argp_error(state, "--path: '%s' does not begin with '/'", text);
	return text;
}

static void *grow(struct argp_state *state, void *array, size_t nr, size_t size)
{
	void *bigger = realloc(array, nr * size);

	if (!bigger)
		argp_failure(state, EXIT_FAILURE, ENOMEM, "command line");
	return bigger;
}

static void append(struct argp_state *state, const char ***list, uint32_t *nr, const char *text)
{
	*list = grow(state, *list, *nr + 1, sizeof(**list));
	(*list)[(*nr)++] = text;
}

static void parse_pids(struct argp_state *state, struct options *opts, char *text)
{
	char *save = NULL;

	if (!*text)
		argp_error(state, "--cpu-clock: no process id given");
	for (char *pid = strtok_r(text, ",", &save); pid; pid = strtok_r(NULL, ",", &save)) {
		opts->pids = grow(state, opts->pids, opts->nr_pids + 1, sizeof(*opts->pids));
		opts->pids[opts->nr_pids++] =
			(pid_t)parse_number(state, "cpu-clock", pid, 1, MAX_PID);
	}
}

static void check_complete(struct argp_state *state, const struct options *opts)
{
	if (!opts->target_text)
		argp_error(state, "--target HOST:PORT is missing");
	if (!opts->nr_paths)
		argp_error(state, "--path /PATH is missing");
	if (!opts->connections)
		argp_error(state, "--connections N is missing");
	if (opts->nr_verify && opts->nr_verify != opts->nr_paths)
		argp_error(state, "--verify is given %u times for %u --path; give one for each",
			   opts->nr_verify, opts->nr_paths);
}

static void parse_target(struct argp_state *state, struct options *opts, const char *text)
{
	const char *why = target_parse(text, &opts->target);

	if (why)
		argp_error(state, "--target: '%s': %s", text, why);
	opts->target_text = text;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case KEY_TARGET:
		parse_target(state, o, arg);
		break;
	case KEY_PATH:
		append(state, &o->paths, &o->nr_paths, parse_path(state, arg));
		break;
	case KEY_CONNECTIONS:
		o->connections =
			(uint32_t)parse_number(state, "connections", arg, 1, LOAD_MAX_CONNECTIONS);
		break;
	case KEY_PIPELINE:
		o->pipeline = (uint32_t)parse_number(state, "pipeline", arg, 1, LOAD_MAX_PIPELINE);
		break;
	case KEY_DURATION:
		o->duration_ns = parse_seconds(state, "duration", arg, 0.001);
		break;
	case KEY_WARMUP:
		o->warmup_ns = parse_seconds(state, "warmup", arg, 0);
		break;
	case KEY_TIMEOUT:
		o->timeout_ns = parse_seconds(state, "timeout", arg, 0.001);
		break;
	case KEY_CPU:
		o->cpu = (int)parse_number(state, "cpu", arg, 0, CPU_SETSIZE - 1);
		break;
	case KEY_CPU_CLOCK:
		parse_pids(state, o, arg);
		break;
	case KEY_CPU_USAGE:
		o->cpu_usage = arg;
		break;
	case KEY_SEED:
		o->seed = parse_number(state, "seed", arg, 0, UINT64_MAX);
		break;
	case KEY_RCVBUF:
		o->rcvbuf_bytes = (int)parse_number(state, "rcvbuf", arg, 0, INT_MAX / 2);
		break;
	case KEY_VERIFY:
		append(state, &o->verify, &o->nr_verify, arg);
		break;
	case KEY_SLICES:
		o->slices = true;
		break;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is not an option", arg);
		break;
	case ARGP_KEY_END:
		check_complete(state, o);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

void options_parse(int argc, char **argv, struct options *opts)
{
	const struct argp argp = {
		.options = option_table,
		.parser = parse_option,
		.doc = "Closed-loop HTTP load on one thread; results as JSON on standard output."
		       "\vExit status: 0 measured (errors of the server are in the result), "
		       "1 nothing could be measured, 2 wrong usage.",
	};

	*opts = (struct options){
		.pipeline = 1,
		.duration_ns = NS_PER_S,
		.warmup_ns = NS_PER_S / 10,
		.timeout_ns = 5 * NS_PER_S,
		.seed = 1,
		.cpu = -1,
	};
	argp_err_exit_status = EXIT_USAGE;
	/* Only exits or 0 come back: every error above ends the process. */
	argp_parse(&argp, argc, argv, 0, NULL, opts);
}

void options_free(struct options *opts)
{
	free(opts->paths);
	free(opts->verify);
	free(opts->pids);
}
