/* SPDX-License-Identifier: MIT */
/* What engines with a cache or a copy buffer share: options, how bodies are offered, the mover. */
#ifndef IOLAB_COPY_H
#define IOLAB_COPY_H

#include "queue.h"

/* Positions of the options below, behind the common ones. */
enum copy_opt {
	COPT_COPY_CACHE = COPT_NR,
	COPT_COPY_LIMIT,
	COPT_COPY_BUFFER,
	COPT_COPY_NR
};

extern const char *const copy_cache_values[];
extern const struct mover move_copy;

/* What move_copy keeps of a connection between calls: bytes on their way between sockets. */
struct copy_conn {
	struct queue queue;
};

/* engine->bodies for these options: files, or memory up to the limit with cache=memory. */
void copy_bodies(const int64_t *opt, struct body_policy *policy);

#define COPY_CACHE_OPTIONS                                                                      \
	{.name = "cache",                                                                       \
	 .type = OPT_ENUM,                                                                      \
	 .max = 1,                                                                              \
	 .values = copy_cache_values,                                                           \
	 .help = "memory: keep small files with their heads as one preformatted buffer; none: " \
		 "read the file for every response"},                                           \
	{                                                                                       \
		.name = "cache_limit", .type = OPT_SIZE, .def = 64 << 10, .max = 16 << 20,      \
		.help = "largest file that cache=memory keeps, in bytes"                        \
	}

#define COPY_OPTIONS                                                                              \
	COPY_CACHE_OPTIONS,                                                                       \
	{                                                                                         \
		.name = "buffer", .type = OPT_SIZE, .def = 64 << 10, .min = 4096, .max = 4 << 20, \
		.help = "bytes read from the file at a time"                                      \
	}

#endif
