/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <argp.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "clocks.h"

const char *argp_program_version = "iolab-copy " IOLAB_VERSION;

#define MAX_FILES   1000000
#define MAX_SECONDS 3600.0

enum key {
	KEY_DIR = 0x100,
	KEY_TO,
	KEY_SOURCE,
	KEY_SIZE,
	KEY_FILES,
	KEY_BATCH,
	KEY_LIMIT,
	KEY_CACHE,
	KEY_FRESH,
	KEY_DURABLE,
	KEY_DURATION,
	KEY_WARMUP,
	KEY_CPU,
	KEY_SLICES,
	KEY_CHECK,
	KEY_DESCRIBE,
};

static const struct argp_option option_table[] = {
	{"technique", 't', "NAME[,OPTION=VALUE...]", 0, "How to copy; --describe lists them", 1},
	{"dir", KEY_DIR, "DIR", 0, "Where to make files; they are removed at the end", 1},
	{"to", KEY_TO, "DIR", 0, "Where to make the copies, if elsewhere", 1},
	{"source", KEY_SOURCE, "DIR", 0,
	 "Sources shared with other sessions: found there, or made "
	 "and left",
	 1},
	{"size", KEY_SIZE, "BYTES", 0, "Of each file, as 64k or 16MiB (default 64m)", 2},
	{"files", KEY_FILES, "N", 0, "How many files (default 1)", 2},
	{"batch", KEY_BATCH, "N", 0, "Files an operation copies; divides --files (default 1)", 2},
	{"limit", KEY_LIMIT, "BYTES", 0, "Sources and copies together (default 4g)", 2},
	{"cache", KEY_CACHE, "warm|cold", 0,
	 "Sources in the page cache, or dropped from it before "
	 "each operation (default warm)",
	 3},
	{"fresh", KEY_FRESH, NULL, 0, "Remove copies before each operation: they are made anew", 3},
	{"durable", KEY_DURABLE, NULL, 0, "Bring each copy to the disk (fdatasync)", 3},
	{"duration", KEY_DURATION, "S", 0, "Length of the window in seconds (default 1)", 4},
	{"warmup", KEY_WARMUP, "S", 0, "Copying before the window in seconds (default 0.1)", 4},
	{"cpu", KEY_CPU, "N", 0, "Run on this CPU", 4},
	{"slices", KEY_SLICES, NULL, 0,
	 "Take 'slice WARMUP_MS DURATION_MS' lines from standard "
	 "input",
	 5},
	{"check", KEY_CHECK, NULL, 0, "Compare copies of many sizes byte for byte, measure nothing",
	 5},
	{"describe", KEY_DESCRIBE, NULL, 0,
	 "Print techniques, options and what works in --dir as "
	 "JSON",
	 5},
	{0}};

static uint64_t size_of(struct argp_state *state, const char *name, const char *arg)
{
	int64_t value = spec_size(arg);

	if (value < 0)
		argp_error(state, "--%s: '%s' is no size; write bytes, or 64k, 16MiB, 1g", name,
			   arg);
	return (uint64_t)value;
}

static long number_of(struct argp_state *state, const char *name, const char *arg, long min,
		      long max)
{
	char *end;
	long value = strtol(arg, &end, 10);

	if (end == arg || *end || value < min || value > max)
		argp_error(state, "--%s: '%s' is not allowed; allowed: %ld to %ld", name, arg, min,
			   max);
	return value;
}

static uint64_t seconds_of(struct argp_state *state, const char *name, const char *arg)
{
	char *end;
	double value = strtod(arg, &end);

	if (end == arg || *end || !isfinite(value) || value < 0 || value > MAX_SECONDS)
		argp_error(state, "--%s: '%s' is not allowed; allowed: 0 to %g seconds", name, arg,
			   MAX_SECONDS);
	return (uint64_t)(value * (double)NS_PER_S);
}

static bool cold_of(struct argp_state *state, const char *arg)
{
	if (strcmp(arg, "warm") && strcmp(arg, "cold"))
		argp_error(state, "--cache: '%s' is not allowed; allowed: warm cold", arg);
	return !strcmp(arg, "cold");
}

static error_t parse_workload(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case KEY_SIZE:
		o->size = size_of(state, "size", arg);
		return 0;
	case KEY_LIMIT:
		o->max_bytes = size_of(state, "limit", arg);
		return 0;
	case KEY_FILES:
		o->files = (unsigned)number_of(state, "files", arg, 1, MAX_FILES);
		return 0;
	case KEY_BATCH:
		o->batch = (unsigned)number_of(state, "batch", arg, 1, MAX_FILES);
		return 0;
	case KEY_CACHE:
		o->cold = cold_of(state, arg);
		return 0;
	case KEY_FRESH:
		o->fresh = true;
		return 0;
	case KEY_DURABLE:
		o->durable = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void check(const struct options *o, struct argp_state *state)
{
	if (!o->dir)
		argp_error(state, "--dir DIR is missing: where may files be made?");
	if (!o->describe && !o->spec.technique)
		argp_error(state, "--technique NAME is missing; --describe lists them");
	if (o->files % o->batch)
		argp_error(state, "--batch: %u does not divide --files (%u)", o->batch, o->files);
	if (!o->slices && !o->duration_ns)
		argp_error(state, "--duration: a window above 0 seconds is required");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	char why[SPEC_WHY_MAX];

	switch (key) {
	case 't':
		if (spec_parse(arg, &o->spec, why) < 0)
			argp_error(state, "--technique: %s", why);
		return 0;
	case KEY_DIR:
		o->dir = arg;
		return 0;
	case KEY_TO:
		o->to = arg;
		return 0;
	case KEY_SOURCE:
		o->source = arg;
		return 0;
	case KEY_DURATION:
		o->duration_ns = seconds_of(state, "duration", arg);
		return 0;
	case KEY_WARMUP:
		o->warmup_ns = seconds_of(state, "warmup", arg);
		return 0;
	case KEY_CPU:
		o->cpu = (int)number_of(state, "cpu", arg, 0, CPU_SETSIZE - 1);
		return 0;
	case KEY_SLICES:
		o->slices = true;
		return 0;
	case KEY_CHECK:
		o->check = true;
		return 0;
	case KEY_DESCRIBE:
		o->describe = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s': there are no arguments, only options", arg);
		return EINVAL;
	case ARGP_KEY_END:
		check(o, state);
		return 0;
	default:
		return parse_workload(key, arg, state);
	}
}

static const struct argp argp = {
	.options = option_table,
	.parser = parse,
	.doc = "Copies files by one technique, again and again, and measures it.\vExit status: 0 "
	       "measured, whatever the errors; 1 failure; 2 usage; 3 the technique is unsupported "
	       "here. After SIGINT, SIGTERM or SIGHUP the files are removed as well.",
};

void cli_parse(int argc, char **argv, struct options *opts)
{
	*opts = (struct options){
		.size = 64ull << 20,
		.max_bytes = 4ull << 30,
		.files = 1,
		.batch = 1,
		.duration_ns = NS_PER_S,
		.warmup_ns = NS_PER_S / 10,
		.cpu = -1,
	};
	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, opts);
}
