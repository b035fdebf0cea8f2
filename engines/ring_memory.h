/* SPDX-License-Identifier: MIT */
/*
 * Memory that is registered with a ring: its pages are pinned and known to the kernel, which need
 * not look them up for each operation. It is taken in chunks that become registered buffers, and
 * given out in pieces of powers of two. Linux 5.19 (sparse tables of buffers).
 *
 * Pinned pages count against RLIMIT_MEMLOCK, unless the process has CAP_IPC_LOCK.
 */
#ifndef IOLAB_RING_MEMORY_H
#define IOLAB_RING_MEMORY_H

#include "ring.h"

/*
 * Makes registered memory for pieces of up to `largest` bytes, and offers it to the skeleton as the
 * worker's. 0, or -errno after a message.
 */
int ring_memory_open(struct worker *w, struct ring *r, size_t largest);

/* Before the ring goes. What has been given out remains valid until it is put back. */
void ring_memory_close(struct worker *w);

/* A piece of at least `bytes`, or NULL; and back, with the same `bytes`. */
void *ring_memory_get(struct worker *w, size_t bytes);
void ring_memory_put(struct worker *w, void *mem, size_t bytes);

/* The registered buffer that p lies in, or -1. */
int ring_memory_index(const struct worker *w, const void *p);

#endif
