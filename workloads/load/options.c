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
#include "pairs.h"

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
	KEY_RATE,
	KEY_ARRIVALS,
	KEY_DURATION,
	KEY_WARMUP,
	KEY_CPU,
	KEY_TIMEOUT,
	KEY_CPU_CLOCK,
	KEY_CPU_USAGE,
	KEY_SEED,
	KEY_VERIFY,
	KEY_HDR_LOG,
	KEY_RCVBUF,
	KEY_SLICES,
	KEY_RELAY,
	KEY_FORWARD,
	KEY_UPSTREAM,
	KEY_PAIRS,
	KEY_SIZE,
	KEY_CHUNKED,
	KEY_DIRECTION,
	KEY_CHECK,
	KEY_COUNT,
	KEY_RATE_SEND,
	KEY_RATE_RECV,
	KEY_PREFIX,
};

static const struct argp_option option_table[] = {
	{"target", KEY_TARGET, "HOST:PORT", 0, "Server; an IPv6 address in brackets", 1},
	{"path", KEY_PATH, "/PATH", 0, "What to GET; repeat for several, asked in seeded order", 1},
	{"connections", KEY_CONNECTIONS, "N", 0, "Connections kept open", 1},
	{"pipeline", KEY_PIPELINE, "D", 0, "Requests outstanding per connection (default 1)", 1},
	{"rate", KEY_RATE, "R", 0,
	 "Open loop: R requests per second in all, latency from the intended send time", 1},
	{"arrivals", KEY_ARRIVALS, "poisson|constant", 0, "Of an open loop (default poisson)", 1},
	{"duration", KEY_DURATION, "S", 0, "Length of the window in seconds (default 1)", 2},
	{"warmup", KEY_WARMUP, "S", 0, "Load before the window in seconds (default 0.1)", 2},
	{"timeout", KEY_TIMEOUT, "S", 0, "For a connect, a response, the drain (default 5)", 2},
	{"slices", KEY_SLICES, NULL, 0,
	 "Stay connected and run a slice per line 'slice WARMUP_MS DURATION_MS [/PATH] [rate=R]' "
	 "on "
	 "standard input",
	 2},
	{"hdr-log", KEY_HDR_LOG, "FILE", 0,
	 "Write the latencies of each slice to this HdrHistogram log too", 2},
	{"cpu", KEY_CPU, "N", 0, "Run on this CPU", 3},
	{"cpu-clock", KEY_CPU_CLOCK, "PID[,PID...]", 0, "Processes whose CPU time to report", 3},
	{"cpu-usage", KEY_CPU_USAGE, "FILE", 0,
	 "Control group whose CPU time to report: its cpuacct.usage or cpu.stat", 3},
	{"seed", KEY_SEED, "N", 0, "Seed of the order of several paths and of arrivals (default 1)",
	 3},
	{"rcvbuf", KEY_RCVBUF, "BYTES", 0, "SO_RCVBUF (default: the kernel's tuning)", 3},
	{"verify", KEY_VERIFY, "FILE", 0,
	 "Compare bodies with this file instead of discarding them; one for each --path", 3},
	{NULL, 0, NULL, 0, "Pairs of a sender and a receiver, instead of GETs:", 4},
	{"relay", KEY_RELAY, NULL, 0, "The server is an HTTP relay: PUT and GET of one path", 4},
	{"forward", KEY_FORWARD, NULL, 0, "The server forwards TCP to --upstream", 4},
	{"upstream", KEY_UPSTREAM, "HOST:PORT", 0, "Where to listen for what is forwarded", 4},
	{"pairs", KEY_PAIRS, "N", 0, "Pairs at a time (default 1)", 4},
	{"size", KEY_SIZE, "BYTES[k|m|g]", 0,
	 "Payload of a transfer; --forward without it streams for ever", 4},
	{"chunked", KEY_CHUNKED, NULL, 0, "Uploads in chunks, without Content-Length", 4},
	{"direction", KEY_DIRECTION, "up|down|both", 0, "With --forward (default up)", 4},
	{"check", KEY_CHECK, "none|sample|full", 0,
	 "What receivers compare: nothing, 4 KiB of each MiB and the ends, all (default sample)",
	 4},
	{"count", KEY_COUNT, "K", 0, "Transfers of each pair, measured as one window", 4},
	{"rate-send", KEY_RATE_SEND, "BYTES[k|m|g]", 0, "Limit of each sender, per second", 4},
	{"rate-recv", KEY_RATE_RECV, "BYTES[k|m|g]", 0, "Limit of each receiver, per second", 4},
	{"prefix", KEY_PREFIX, "NAME", 0, "Of the relay's paths (default: the process id)", 4},
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

/* Bytes with a suffix of powers of 1024. */
static uint64_t parse_bytes(struct argp_state *state, const char *name, const char *text,
			    uint64_t max)
{
	static const char suffixes[] = "kmg";
	size_t digits = strspn(text, "0123456789");
	const char *suffix = text[digits] ? strchr(suffixes, text[digits]) : NULL;
	unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
	uint64_t value;

	errno = 0;
	value = strtoull(text, NULL, 10);
	if (!digits || (text[digits] && (!suffix || text[digits + 1])) || errno || !value ||
	    value > max >> shift)
		argp_error(state,
			   "--%s: '%s' is not a number of bytes from 1 to %llu, with k, m or g",
			   name, text, (unsigned long long)max);
	return value << shift;
}

static uint8_t parse_word(struct argp_state *state, const char *name, const char *text,
			  const char *const *words)
{
	for (uint8_t i = 0; words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	argp_error(state, "--%s: '%s' is not allowed; allowed: %s %s %s", name, text, words[0],
		   words[1], words[2] ? words[2] : "");
	return 0;
}

static double parse_rate(struct argp_state *state, const char *text)
{
	const char *end = text;
	double rate = 0;

	if (!rate_parse(&end, "", &rate))
		argp_error(state,
			   "--rate: '%s' is not a number of requests per second from %g to %.0f",
			   text, RATE_MIN, RATE_MAX);
	return rate;
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

static void check_pairs(struct argp_state *state, const struct options *o)
{
	if (o->relay && o->forward)
		argp_error(state, "give either --relay or --forward");
	if (o->forward && !o->upstream_text)
		argp_error(state, "--forward: --upstream HOST:PORT is missing");
	if (o->relay && o->size == SIZE_ENDLESS)
		argp_error(state, "--relay: --size BYTES is missing");
	if (o->forward && o->chunked)
		argp_error(state, "--chunked: only for --relay");
	if (o->relay && o->direction != DIRECTION_UP)
		argp_error(state, "--direction: only for --forward");
	if (o->count && (o->slices || o->size == SIZE_ENDLESS))
		argp_error(state, "--count: needs --size, and no --slices");
	if (o->nr_paths || o->nr_verify)
		argp_error(state, "--path and --verify are not for pairs");
	if (o->hdr_log)
		argp_error(state, "--hdr-log: not for pairs");
	if (o->rate > 0)
		argp_error(state, "--rate: not for pairs; --rate-send and --rate-recv limit them");
}

static void check_complete(struct argp_state *state, const struct options *opts)
{
	if (!opts->target_text)
		argp_error(state, "--target HOST:PORT is missing");
	if (opts->relay || opts->forward) {
		check_pairs(state, opts);
		return;
	}
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

static void parse_upstream(struct argp_state *state, struct options *o, const char *text)
{
	const char *why = target_parse(text, &o->upstream);

	if (why)
		argp_error(state, "--upstream: '%s': %s", text, why);
	o->upstream_text = text;
}

static const char *parse_prefix(struct argp_state *state, const char *text)
{
	if (!*text || strlen(text) > 100 ||
	    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
		    strlen(text))
		argp_error(state, "--prefix: '%s' is not made of letters, digits, '-', '_', '.'",
			   text);
	return text;
}

/* Options of pairs. */
static error_t parse_pairs(int key, char *arg, struct argp_state *state)
{
	static const char *const directions[] = {"up", "down", "both", NULL};
	static const char *const checks[] = {"none", "sample", "full", NULL};
	struct options *o = state->input;

	switch (key) {
	case KEY_RELAY:
		o->relay = true;
		return 0;
	case KEY_FORWARD:
		o->forward = true;
		return 0;
	case KEY_UPSTREAM:
		parse_upstream(state, o, arg);
		return 0;
	case KEY_PAIRS:
		o->pairs = (uint32_t)parse_number(state, "pairs", arg, 1, PAIRS_MAX);
		return 0;
	case KEY_SIZE:
		o->size = parse_bytes(state, "size", arg, 100ull << 30);
		return 0;
	case KEY_CHUNKED:
		o->chunked = true;
		return 0;
	case KEY_DIRECTION:
		o->direction = parse_word(state, "direction", arg, directions);
		return 0;
	case KEY_CHECK:
		o->check = parse_word(state, "check", arg, checks);
		return 0;
	case KEY_COUNT:
		o->count = parse_number(state, "count", arg, 1, UINT32_MAX);
		return 0;
	case KEY_RATE_SEND:
		o->rate_send = parse_bytes(state, "rate-send", arg, 100ull << 30);
		return 0;
	case KEY_RATE_RECV:
		o->rate_recv = parse_bytes(state, "rate-recv", arg, 100ull << 30);
		return 0;
	case KEY_PREFIX:
		o->prefix = parse_prefix(state, arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
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
	case KEY_RATE:
		o->rate = parse_rate(state, arg);
		break;
	case KEY_ARRIVALS:
		o->arrivals = parse_word(state, "arrivals", arg, arrivals_names);
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
	case KEY_HDR_LOG:
		o->hdr_log = arg;
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
		return parse_pairs(key, arg, state);
	}
	return 0;
}

void options_parse(int argc, char **argv, struct options *opts)
{
	const struct argp argp = {
		.options = option_table,
		.parser = parse_option,
		.doc = "HTTP load on one thread, closed or open loop; results as JSON on standard "
		       "output."
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
		.pairs = 1,
		.size = SIZE_ENDLESS,
		.check = CHECK_SAMPLE,
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
