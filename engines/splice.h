/* SPDX-License-Identifier: MIT */
/*
 * Inside of engine splice: the state of a connection, and what its files call of each other.
 * splice.c moves from a file, or from a socket to one, splice_fanout.c from a socket to several.
 */
#ifndef IOLAB_SPLICE_H
#define IOLAB_SPLICE_H

#include "pipes.h"
#include "queue.h"

enum {
	OPT_PIPE = COPT_NR,
	OPT_POLICY,
	OPT_THRESHOLD,
	OPT_BATCH,
	OPT_CHUNK
};

/* Pipes of a transfer to several destinations: one each, but for the last that lives. */
struct tees {
	uint16_t nr;
	uint16_t last;		 /* takes the round from the source's pipe itself */
	uint32_t round;		 /* bytes of the round, 0 between rounds */
	struct pipe_pair pipe[]; /* by destination; rd 0: none */
};

struct splice_conn {
	struct pipe_pair pipe;
	bool have;	/* a pipe is borrowed */
	size_t in_pipe; /* bytes in it, not yet in the (last) socket */
	size_t run;	/* bytes since the source was last dry */
	bool lowat;	/* SO_RCVLOWAT of the source is a batch */
	struct tees *tees;
	struct queue queue; /* of policies that buffer */
};

/* What comes of the source when the pipe is empty. */
enum filled {
	FILLED,
	FILLED_EOF,
	FILLED_DRY
};

/* Bytes of a pipe, the same for all of a worker, so that any pipe of its pool will do. */
uint32_t splice_pipe_bytes(const struct worker *w);

/* Sees to it that the connection has a pipe. 0 or -errno. */
int splice_borrow(struct conn *c, struct splice_conn *s);

/* Gives the pipe back, if it has one; what is in it is lost. */
void splice_give_back(struct conn *c, struct splice_conn *s);

/* As much of the connection's socket as is there into its pipe. enum filled, or -errno. */
int splice_from_socket(struct conn *c, struct splice_conn *s);

/* From the socket to every destination, as far as it goes. As move() of struct mover. */
int splice_fan_out(struct conn *c, struct splice_conn *s);

/* Gives the pipes of the destinations back; the rest of a round is lost. */
void splice_drop_tees(struct conn *c, struct splice_conn *s);

#endif
