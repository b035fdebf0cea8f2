/* SPDX-License-Identifier: MIT */
/*
 * What the io_uring engines share: a ring of their worker, its receive buffers, submission. A ring
 * belongs to one thread (IORING_SETUP_SINGLE_ISSUER), which is the worker's.
 */
#ifndef IOLAB_RING_H
#define IOLAB_RING_H

#include "ring_options.h"
#include "uring_compat.h"

enum {
	RING_BUFFERS = 1024,	 /* receive buffers of a worker; a power of two */
	RING_BUFFERS_RELAY = 64, /* where they are given back as soon as they were looked at */
	RING_BUFFER_BYTES = 2048,
	RING_BGID = 0,
	RING_FILES_MAX = 1 << 17,  /* descriptors that fixed_files can register */
	RING_MEMORY_CHUNKS = 1024, /* registered buffers, see ring_memory.h */
};

/* user_data of operations whose outcome nobody waits for. */
#define RING_IGNORE 63ull

/* A receive buffer that was filled and is not yet recycled. */
struct ring_held {
	uint32_t off, len;
	uint16_t next;	/* buffer id, in the list of its connection */
	uint16_t after; /* buffer id given to the kernel next after this one: bundles go on there */
};

struct ring {
	struct io_uring uring;
	struct ring_config cfg;
	unsigned features; /* IORING_FEAT_*, of the kernel */
	struct io_uring_buf_ring *br;
	char *buffers;
	unsigned nr_buffers;
	struct ring_held held[RING_BUFFERS];
	unsigned nr_free;     /* buffers the kernel has */
	unsigned nr_recycled; /* added to the buffer ring, not yet shown to the kernel */
	uint16_t last_added;  /* to the buffer ring; valid while anything was */
	unsigned nr_files;    /* slots for registered sockets: descriptors below it */
	bool busy;	      /* the last wait brought completions */
	uint64_t alarm_ns;    /* when the last alarm set off goes off; see ring_wait() */
	struct __kernel_timespec alarm;
	struct counters *ctr;
};

/*
 * 0 or -errno; the ring is created for the calling thread, and its threads of io-wq run on the CPUs
 * that this one may use now. r is zeroed. ring_exit() also after a failure.
 */
int ring_init(struct ring *r, const struct ring_config *cfg, unsigned nr_buffers,
	      struct counters *ctr);
void ring_exit(struct ring *r);

/* The next submission entry; submits when the queue is full, so it never fails. */
struct io_uring_sqe *ring_sqe(struct ring *r);

/*
 * Sees to it that the next nr calls of ring_sqe() submit nothing: a chain of linked entries ends
 * where a submission ends (io_submit_state_end, io_uring/io_uring.c), so that its parts would run
 * at the same time. nr is 4 at most.
 */
void ring_reserve(struct ring *r, unsigned nr);

/* Submits what was prepared, without waiting. */
void ring_submit(struct ring *r);

/*
 * Submits, and waits until timeout_ns is over for one completion; while there is traffic for as
 * many as `batch` says, but no longer than `batch_wait`. now_ns is CLOCK_MONOTONIC at the last
 * wait's end. 0 or -errno.
 *
 * A timeout of its own would start and stop a timer in every wait. A long one is an operation of
 * the ring instead, submitted once for all waits until then (IORING_OP_TIMEOUT, Linux 5.4).
 */
int ring_wait(struct ring *r, uint64_t now_ns, uint64_t timeout_ns);

/*
 * True when every entry that was prepared has been taken by the kernel and no completion of them is
 * held back for want of room in the completion queue: what succeeds in line has then succeeded, and
 * what failed has its completion in the queue. Never of a ring with sqpoll.
 */
bool ring_settled(const struct ring *r);

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

/* The buffer that the kernel filled after bid, in a receive that took several. */
static inline unsigned ring_next_buffer(const struct ring *r, unsigned bid)
{
	return r->held[bid].after;
}

/*
 * fixed_files: gives the socket the slot of its descriptor's number, or takes the slot's socket
 * away. The memory of *fd must last until the next submission. The descriptor stays valid; the
 * socket is only closed when it has left its slot, too.
 */
void ring_register_socket(struct ring *r, const int *fd);
void ring_unregister_socket(struct ring *r, int fd);

/* ------------------------------------------------------------------------------ driver */

/* What a mover's completed() says besides 0 (the transfer is complete) and -errno. */
enum ring_moved {
	RING_PENDING = 1, /* more completions of this part are to come */
	RING_PART,	  /* the part is over; start() is to be called for the next */
	/* Of start(): nothing was prepared, call again when the mover advances the connection. */
	RING_WAIT,
	RING_ROOM, /* the same: call again when the socket, which refused bytes, can take more */
	RING_TURN, /* the same: call again when others have had their turn */
	RING_DONE, /* the same: the transfer is complete, by system calls of start() itself */
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
 *
 * A mover whose start() writes to the socket by system calls asks for accepted sockets that do not
 * block, and has no completed(). Operations of the ring are the same on either kind: they try
 * without waiting, and then wait by a poll (io_arm_poll_handler, io_uring/poll.c).
 */
struct ring_mover {
	bool nonblocking;
	unsigned nr_threads; /* 0: it needs none */
	unsigned options_at; /* position of RING_OPTIONS among the engine's; 0: the defaults hold */
	/* Sets what other options of the engine's say of the ring; NULL: none does. */
	void (*configure)(struct ring_config *cfg, const int64_t *opt);
	int (*prepare_socket)(int fd);
	int (*worker_init)(struct worker *w);
	void (*worker_exit)(struct worker *w); /* the ring still exists */
	int (*start)(struct conn *c);
	int (*completed)(struct conn *c, unsigned op, uint16_t dst, int res);
	void (*release)(struct conn *c);
	unsigned (*held)(const struct conn *c);
	void (*forget)(struct conn *c);
};

/* An entry for the mover of c, counted as in flight; to be tagged after it was prepared. */
struct io_uring_sqe *ring_move_sqe(struct conn *c);
void ring_move_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op);

/*
 * As ring_move_tag(), for an operation that the kernel decides in line (MSG_DONTWAIT, and
 * MSG_WAITALL, so that a short one fails): it completes without an entry in the completion queue if
 * it moved all of its `bytes`; completed() is called all the same, after the next wait
 * (IOSQE_CQE_SKIP_SUCCESS, Linux 5.17). Only where ring_may_be_quiet(), and one at a time.
 */
void ring_move_tag_quiet(struct conn *c, struct io_uring_sqe *sqe, unsigned op, uint32_t bytes);

/*
 * Whether nothing is to be done for c at the end of its transfer but to wait for input: nobody
 * loses time if that end is noticed when something else happens. Not on a ring with sqpoll, whose
 * submissions are taken at some later time.
 */
bool ring_may_be_quiet(const struct conn *c);

/* Sees to it that the next nr entries of c's ring are submitted together: before a linked chain. */
void ring_move_reserve(struct conn *c, unsigned nr);

/* Makes the prepared operation name c's socket by its slot, if it has one (fixed_files). */
void ring_use_socket(struct io_uring_sqe *sqe, const struct conn *c);

/* Whether c's socket is named by its slot, for operations that say so in flags of their own. */
bool ring_has_slot(const struct conn *c);

/* The same for an operation on destination `dst`, which cannot be freed before its completion. */
struct io_uring_sqe *ring_dst_sqe(struct conn *c, uint16_t dst);
void ring_dst_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op, uint16_t dst);

/*
 * What a send of a round of `total` bytes means for its destination: res is its completion's. False
 * when the rest of it is to be sent.
 */
bool ring_dst_served(struct conn *c, uint16_t i, int res, size_t total);

/* Every destination has its share of the round, or is gone. 0, or -EPIPE when none lives. */
int ring_end_round(struct conn *c);

/*
 * The memory pieces to every living destination, as operation op; *msg must last until the round is
 * over, *nr_sends counts what is in flight. 0, or -EPIPE when none lives.
 */
int ring_send_iov(struct conn *c, struct msghdr *msg, unsigned op, uint16_t *nr_sends);

/* A completion of that. As completed() of a ring_mover. */
int ring_iov_sent(struct conn *c, uint16_t i, int res, uint16_t *nr_sends);

/*
 * What a receive for a transfer from socket to sockets brought: true when res is a number of bytes,
 * which are due. Else nothing more comes: the end of file, where the transfer goes on until then,
 * is noted in *eof; anything else is an error, noted in *error (-errno) unless there is one.
 */
bool ring_relay_received(const struct conn *c, int res, bool *eof, int *error);

/*
 * What completed() returns of a transfer from socket to sockets, when all that can be in flight is:
 * a receive, and sends of a round. After an error (-errno) or the end of file nothing new is begun,
 * and a receive in flight is cancelled; what was received has been sent when nothing is in flight.
 */
int ring_relay_stands(struct conn *c, bool receiving, bool sending, bool eof, int error);

/* Ends what is in flight on the connection's own socket; the completions come all the same. */
void ring_stop_source(struct conn *c);

/* conn_bytes of an engine must be RING_CONN_BYTES plus its own, which are at c->mover. */
#define RING_CONN_BYTES 56

/* The worker's ring; there is one since before the mover's worker_init(). */
struct ring *drive_ring_of(const struct worker *w);

int drive_ring_init(struct worker *w, const struct ring_mover *mover);
int drive_ring_run(struct worker *w);
void drive_ring_exit(struct worker *w);

#endif
