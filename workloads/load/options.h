/* SPDX-License-Identifier: MIT */
/* Command line of iolab-load. */
#ifndef IOLAB_LOAD_OPTIONS_H
#define IOLAB_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "net.h"

/* What was asked for, checked. Strings are those of argv; the arrays are options_free()'s. */
struct options {
	const char *target_text;
	struct target target;
	const char **paths;
	uint32_t nr_paths;
	const char **verify; /* files, as many as paths, or none */
	uint32_t nr_verify;
	pid_t *pids; /* whose CPU clocks to read */
	uint32_t nr_pids;
	const char *cpu_usage; /* file of a control group, or NULL */
	uint32_t connections;
	uint32_t pipeline;
	uint64_t duration_ns;
	uint64_t warmup_ns;
	uint64_t timeout_ns;
	uint64_t seed;
	bool relay, forward; /* pairs instead of connections that GET */
	const char *upstream_text;
	struct target upstream;
	const char *prefix;
	uint32_t pairs;
	uint64_t size; /* SIZE_ENDLESS: not given */
	uint64_t count;
	uint64_t rate_send, rate_recv;
	uint8_t direction, check;
	bool chunked;
	int cpu; /* -1: leave placement to the scheduler */
	int rcvbuf_bytes;
	const char *hdr_log; /* file, or NULL */
	double rate;	     /* 0: closed loop */
	uint8_t arrivals;
	bool slices;
};

/* Exit status of a usage error. */
#define EXIT_USAGE 2

/* Parses the command line. On an error, --help or --version it prints and exits (2, 0, 0). */
void options_parse(int argc, char **argv, struct options *opts);
void options_free(struct options *opts);

#endif
