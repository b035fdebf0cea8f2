/* SPDX-License-Identifier: MIT */
/*
 * Inside of engine io_uring_splice: the state of a transfer. io_uring_splice.c moves it to one
 * destination, io_uring_splice_fanout.c to several, io_uring_splice_own.c from memory or a file to
 * the connection's own socket.
 */
#ifndef IOLAB_IO_URING_SPLICE_H
#define IOLAB_IO_URING_SPLICE_H

#include "pipes.h"
#include "ring.h"

#include <sys/socket.h>

enum {
	OPT_PIPE = COPT_NR,
	OPT_LINKED,
	OPT_RING
};

/* What the mover tells its operations by. */
enum {
	OP_IN,	     /* socket, or file, to pipe */
	OP_OUT,	     /* pipe to socket */
	OP_POLL_IN,  /* before IN */
	OP_POLL_OUT, /* before OUT */
	OP_TEE,
	OP_IOV,
};

/* The pipe of one destination among several; the last one that lives reads the source's pipe. */
struct branch {
	struct pipe_pair pipe;
	uint32_t fits;	/* bytes of a splice that a writable socket takes at once */
	uint32_t asked; /* bytes of the splice in flight */
	int from;	/* its pipe */
	bool have;
};

/* Of a transfer, at c->mover of its source; zero between transfers, but for the own socket's fits.
 */
struct ring_splice {
	struct pipe_pair pipe;
	bool have;
	bool in_busy, eof;
	bool maybe_full; /* a splice into the pipe had EAGAIN with bytes in it */
	uint16_t nr_out; /* destinations with operations in flight; own socket: operations */
	uint16_t nr_tees;
	uint16_t last; /* of a round */
	uint16_t nr_branches;
	uint32_t in_pipe;
	uint32_t round; /* of a fan-out: bytes that every destination gets; 0 between rounds */
	uint32_t fits;	/* as a branch's, of the only destination, or the own socket */
	uint32_t asked; /* of that destination: bytes of the splice in flight */
	int error;
	bool polled;  /* own socket: writable since the last splice to it */
	bool refused; /* own socket: it was not, whatever the poll said */
	bool waiting;
	bool cut; /* own socket: a short operation has cancelled what was linked to it */
	struct branch *branch;
	union {
		struct msghdr msg;
		struct conn *next_waiting; /* own socket: for a pipe, while `waiting` */
	};
};

static inline bool fans_out(const struct conn *c)
{
	return c->xfer.nr_dst > 1;
}

/*
 * At most len bytes: what socket fd has room for when it is writable, less a part for what the
 * kernel adds to each packet (SO_SNDBUF / 4; socket(7)). *fits is the answer for that socket so
 * far, 0 at first: send buffers grow, so it is asked again until it no longer matters.
 */
uint32_t ring_splice_fitting(struct conn *c, int fd, uint32_t *fits, uint32_t len);

/*
 * Prepares a splice of at most len bytes from the pipe `from` to destination i, behind a poll of
 * its socket: linked to it, or once it has completed. The destination must live.
 */
void ring_splice_out(struct conn *c, struct ring_splice *s, uint16_t i, int from, uint32_t len);

/*
 * Sees to it that the transfer has its pipes: the source's, and of a fan-out one for each living
 * destination but the last of the list, none of which holds less than the source's does, so that
 * no tee is short. The source's must be empty. 0 or -errno.
 */
int ring_splice_take_pipes(struct conn *c, struct ring_splice *s);
int ring_splice_take_branches(struct conn *c, struct ring_splice *s);

/* When the source's pipe is filled and no round is under way: begins to give it to all. */
void ring_splice_begin_round(struct conn *c, struct ring_splice *s);

/* The completion of a tee of the round. */
void ring_splice_teed(struct conn *c, struct ring_splice *s, int res);

/* The completion of a splice to destination i; after the last one of the round it is over. */
void ring_splice_went_out(struct conn *c, struct ring_splice *s, uint16_t i, int res);

/* Gives the branch's pipe back, if it has one; empty says whether nothing is left in it. */
void ring_splice_give_branch(struct conn *c, struct branch *b, bool empty);

/*
 * Of transfers without destinations, as start() and completed() of struct ring_mover: memory, and
 * behind it a file, to the connection's own socket.
 */
int ring_splice_own_start(struct conn *c, struct ring_splice *s);
int ring_splice_own_completed(struct conn *c, struct ring_splice *s, unsigned op, int res);

/* The connection goes: it waits for a pipe no more. */
void ring_splice_own_forget(struct conn *c);

#endif
