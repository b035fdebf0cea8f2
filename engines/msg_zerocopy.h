/* SPDX-License-Identifier: MIT */
/*
 * Inside of engine msg_zerocopy: the state of a connection. msg_zerocopy.c sends files,
 * msg_zerocopy_relay.c moves from socket to sockets.
 */
#ifndef IOLAB_MSG_ZEROCOPY_H
#define IOLAB_MSG_ZEROCOPY_H

#include "zc_buffer.h"
#include "zc_errqueue.h"

enum {
	OPT_BUFFER = COPT_NR,
	OPT_BUFFERS
};

struct zc_mover {
	struct zc_sends sends;	   /* of this socket as a destination */
	struct zc_pool *pool;	   /* of this socket as a source */
	struct zc_buffer *current; /* received, and not yet sent to everybody */
	size_t part_max;	   /* bytes of a send that there was room for; 0: any number */
};

static inline struct zc_sends *zc_of(const struct conn *c)
{
	return &((struct zc_mover *)c->mover)->sends;
}

/* Collects what has come for c: sends finished, or -errno. */
static inline int zc_reap(struct conn *c)
{
	return zc_sends_reap(zc_of(c), c->ctr, c->fd);
}

/* move() of a transfer with destinations. */
int zc_relay_move(struct conn *c);

/* Drops what the transfer holds; its buffers live on while sends from them are outstanding. */
void zc_relay_end(struct zc_mover *m);

#endif
