/* SPDX-License-Identifier: MIT */
/*
 * What the io_uring engines share: a ring of their worker, its receive buffers, submission. A ring
 * belongs to one thread (IORING_SETUP_SINGLE_ISSUER), which is the worker's.
 */
#ifndef IOLAB_RING_H
#define IOLAB_RING_H

#include "engine.h"
#include "uring_compat.h"

enum {
	RING_ENTRIES = 1024,
	RING_BUFFERS = 1024, /* receive buffers of a worker; a power of two */
	RING_BUFFER_BYTES = 2048,
	RING_BGID = 0,
};

/* A receive buffer that was filled and is not yet recycled. */
struct ring_held {
	uint32_t off, len;
	uint16_t next; /* buffer id, in the list of its connection */
};

struct ring {
	struct io_uring uring;
	struct io_uring_buf_ring *br;
	char *buffers;
	struct ring_held held[RING_BUFFERS];
	unsigned nr_free;     /* buffers the kernel has */
	unsigned nr_recycled; /* added to the buffer ring, not yet shown to the kernel */
	struct counters *ctr;
};

/* 0 or -errno; the ring is created for the calling thread. ring_exit() also after a failure. */
int ring_init(struct ring *r, struct counters *ctr);
void ring_exit(struct ring *r);

/* The next submission entry; submits when the queue is full, so it never fails. */
struct io_uring_sqe *ring_sqe(struct ring *r);

/* Submits, and waits for a completion or until timeout_ns is over. 0 or -errno. */
int ring_wait(struct ring *r, uint64_t timeout_ns);

static inline char *ring_buffer(const struct ring *r, unsigned bid)
{
	return r->buffers + (size_t)bid * RING_BUFFER_BYTES;
}

/* Gives a buffer back; the kernel sees it after ring_recycle_flush(). */
void ring_recycle(struct ring *r, unsigned bid);
void ring_recycle_flush(struct ring *r);

/* Whether this kernel has what the engines build on. 0, or -errno and one sentence. */
int ring_probe(const int64_t *opt, char reason[REASON_MAX]);

#endif
