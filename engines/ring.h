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
	RING_BUFFERS = 1024,	 /* receive buffers of a worker; a power of two */
	RING_BUFFERS_RELAY = 64, /* where they are given back as soon as they were looked at */
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
	unsigned nr_buffers;
	struct ring_held held[RING_BUFFERS];
	unsigned nr_free;     /* buffers the kernel has */
	unsigned nr_recycled; /* added to the buffer ring, not yet shown to the kernel */
	struct counters *ctr;
};

/* 0 or -errno; the ring is created for the calling thread. ring_exit() also after a failure. */
int ring_init(struct ring *r, unsigned nr_buffers, struct counters *ctr);
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

/*
 * At most nr threads of io-wq (a NUMA node) for operations on sockets and pipes, which else may
 * have as many as RLIMIT_NPROC allows. Linux 5.15. 0 or -errno.
 */
int ring_limit_threads(struct ring *r, unsigned nr);

/* Whether this kernel has what the engines build on. 0, or -errno and one sentence. */
int ring_probe(const int64_t *opt, char reason[REASON_MAX]);

/* ------------------------------------------------------------------------------ driver */

/* What a mover's completed() says besides 0 (the transfer is complete) and -errno. */
enum ring_moved {
	RING_PENDING = 1, /* more completions of this part are to come */
	RING_PART,	  /* the part is over; start() is to be called for the next */
};

/* Operations a mover may tell apart: 0 to RING_OPS - 1. */
#define RING_OPS 8

/* For completed(): the operation was on the connection's own socket, or on none. */
#define RING_OWN UINT16_MAX

/*
 * How the bytes of one transfer move over a ring. start() prepares the operations of the next part
 * of c->xfer: 0, or -errno with none prepared. completed() gets the result of each of them, with
 * the index of its destination or RING_OWN; once it has returned anything but RING_PENDING, none
 * may be in flight. The transfer may have been given up meanwhile (c->step is no longer STEP_XFER):
 * then nothing new may be prepared; its memory is valid until the end all the same. When no
 * destination lives, or the connection is to be closed, the driver cancels what is in flight on the
 * sockets concerned. release() drops what the parts held, after the last part or instead of the
 * next; may be NULL.
 *
 * A mover whose operations run on threads of io-wq says in nr_threads how many of them a worker may
 * have, and must see to it that none blocks for long: one transfer's thread is another one's turn.
 * prepare_socket() may set options of the listener, whose connections inherit them, and of sockets
 * that were just connected: 0 or -errno; may be NULL.
 */
struct ring_mover {
	unsigned nr_threads; /* 0: it needs none */
	int (*prepare_socket)(int fd);
	int (*worker_init)(struct worker *w);
	void (*worker_exit)(struct worker *w);
	int (*start)(struct conn *c);
	int (*completed)(struct conn *c, unsigned op, uint16_t dst, int res);
	void (*release)(struct conn *c);
};

/* An entry for the mover of c, counted as in flight; to be tagged after it was prepared. */
struct io_uring_sqe *ring_move_sqe(struct conn *c);
void ring_move_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op);

/* The same for an operation on destination `dst`, which cannot be freed before its completion. */
struct io_uring_sqe *ring_dst_sqe(struct conn *c, uint16_t dst);
void ring_dst_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op, uint16_t dst);

/* Ends what is in flight on the connection's own socket; the completions come all the same. */
void ring_stop_source(struct conn *c);

/* conn_bytes of an engine must be RING_CONN_BYTES plus its own, which are at c->mover. */
#define RING_CONN_BYTES 40

int drive_ring_init(struct worker *w, const struct ring_mover *mover);
int drive_ring_run(struct worker *w);
void drive_ring_exit(struct worker *w);

#endif
