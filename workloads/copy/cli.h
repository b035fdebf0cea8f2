/* SPDX-License-Identifier: MIT */
/* Command line of iolab-copy. */
#ifndef IOLAB_COPY_CLI_H
#define IOLAB_COPY_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "spec.h"

/* What was asked for, checked. Strings are those of argv. */
struct options {
	struct spec spec; /* technique is NULL for --describe */
	const char *dir, *to, *source;
	uint64_t size, max_bytes;
	unsigned files, batch;
	bool cold, fresh, durable;
	bool describe, check, slices;
	uint64_t warmup_ns, duration_ns;
	int cpu; /* -1: leave placement to the scheduler */
};

/* Exit status of a usage error, and of a technique that cannot do it here. */
#define EXIT_USAGE	 2
#define EXIT_UNSUPPORTED 3

/* Parses the command line. On an error, --help or --version it prints and exits (2, 0, 0). */
void cli_parse(int argc, char **argv, struct options *opts);

#endif
