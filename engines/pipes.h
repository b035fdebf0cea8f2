/* SPDX-License-Identifier: MIT */
/*
 * Pipes for splice(2): kernel memory and two descriptors each, so a transfer borrows one only while
 * bytes are on their way, and empty ones wait in a pool of their worker.
 */
#ifndef IOLAB_PIPES_H
#define IOLAB_PIPES_H

#include "engine.h"

struct pipe_pair {
	int rd, wr;
	uint32_t bytes; /* capacity */
};

/* The pool hangs on the worker's thread. worker_init's results; exit also without init. */
int pipes_init(struct worker *w);
void pipes_exit(struct worker *w);

/* A non-blocking, empty pipe of `bytes` (or what the kernel grants). 0 or -errno. */
int pipe_take(struct conn *c, struct pipe_pair *p, uint32_t bytes);

/*
 * Makes an empty pipe hold no more than `bytes` (F_SETPIPE_SZ, fcntl(2)), so that all it can hold
 * fits by tee(2) into an empty one of `bytes`. 0 or -errno.
 */
int pipe_shrink(struct conn *c, struct pipe_pair *p, uint32_t bytes);

/* Gives it back; one that is not empty is closed instead. */
void pipe_give(struct conn *c, struct pipe_pair *p, bool empty);

#endif
