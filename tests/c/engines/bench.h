/* SPDX-License-Identifier: MIT */
/* A worker and a connection for movers, which are called without a driver, on real sockets. */
#ifndef IOLAB_TEST_BENCH_H
#define IOLAB_TEST_BENCH_H

#include "server.h"

struct bench {
	struct server_config cfg;
	struct worker w;
	struct counters ctr;
	struct lease lease; /* of bodies; as many references at the end as at the beginning */
	struct conn c;
	int rx;		 /* the client's end of c; -1: closed */
	size_t received; /* bytes that the client has, as the test counts them */
};

/*
 * A connection over loopback: the server's end, non-blocking, with TCP_NODELAY and, unless it is 0,
 * SO_SNDBUF; and the client's.
 */
void loopback_pair(int *tx, int *rx, int sndbuf_bytes);

/* The engine of that name. Fails the test when there is none. */
const struct engine *bench_engine(const char *name);

/* A worker with these options, whose mover is initialised. */
void bench_begin(struct bench *b, const struct engine *e, const char *options);

/* A connection of that worker, and its end. */
void bench_open(struct bench *b);
void bench_close(struct bench *b);

/* Asserts that nothing was left behind: pipes, sends, references. */
void bench_end(struct bench *b);

#endif
