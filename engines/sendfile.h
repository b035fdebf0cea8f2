/* SPDX-License-Identifier: MIT */
/* What the engines share that send by sendfile(2), whatever they wait by. */
#ifndef IOLAB_SENDFILE_H
#define IOLAB_SENDFILE_H

#include "copy.h"

/* Position of SENDFILE_OPTION, behind the common options and those of the cache. */
enum {
	OPT_CHUNK = COPT_COPY_LIMIT + 1,
	SENDFILE_OPTIONS_NR
};

#define SENDFILE_OPTION                                                            \
	{                                                                          \
		.name = "chunk", .type = OPT_SIZE, .def = TURN_BYTES, .min = 4096, \
		.max = TURN_BYTES, .help = "bytes asked of one sendfile(2)"        \
	}

/*
 * struct mover's move() for memory and files to the connection's own socket, which must not block:
 * the memory by one send, the file behind it by sendfile(2). MOVED_ALL, MOVED_WANT_DST, MOVED_TURN
 * or -errno.
 */
int sendfile_move(struct conn *c);

/* engine->bodies: with cache=memory a small file and its head are one file. */
void sendfile_bodies(const int64_t *opt, struct body_policy *policy);

#endif
